#!/usr/bin/env bash
# Rebuild sample-data/cohort. Needs the extra `synthetic`; takes about two minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")"
# Made beside the old one, which goes only when the new one is whole.
fair-strategy synth --out cohort.new --subjects 28 --bias strong --minority-fraction 0.36 \
    --seed 31 --voxel-mm 1.5 --field-of-view brain --labelled 6
rm -rf cohort
mv cohort.new cohort
