#!/usr/bin/env bash
# Starts MONAI Label with our application. Called by `make serve`, which sets the variables.
set -euo pipefail
python=$1
app=apps/fair_caudate
sample=studies/sample

[ -d "$app" ] || { echo "No application in $app: start from the repository's own folder." >&2; exit 1; }

# Before MONAI Label is imported: it fails with a stack where a package is too new for it.
"$python" -m fair_strategy.host.versions

if [ "$STUDIES" = "$sample" ]; then
    "$python" scripts/lay_out_sample.py sample-data/cohort "$sample"
elif [[ "$STUDIES" != http://* && "$STUDIES" != https://* && ! -d "$STUDIES" ]]; then
    echo "STUDIES=$STUDIES: no such folder. Name one that holds T1 scans (BIDS or flat), or a PACS." >&2
    exit 1
fi

# CONF="key value key value" -> --conf key value --conf key value
read -r -a words <<<"$CONF"
if [ $((${#words[@]} % 2)) = 1 ]; then
    echo "CONF=\"$CONF\": keys and values must come in pairs, for example CONF=\"rule softmax\"." >&2
    exit 1
fi
options=()
for ((i = 0; i < ${#words[@]}; i += 2)); do
    options+=(--conf "${words[i]}" "${words[i + 1]}")
done

cat <<EOF

Starting on http://$HOST:$PORT with the scans in $STUDIES.
When the server says that it is up:
  1. In 3D Slicer open the module "MONAI Label" (extension MONAILabel).
  2. Server: http://$HOST:$PORT, then the round arrow beside it.
  3. "Next Sample". Correct the outline, "Submit Label", "Next Sample" again.
How to connect: docs/how-to/connect-slicer.md. Ctrl-C stops the server.

EOF

# MONAI Label's own launcher asks for the first `python` on the path and loses spaces in arguments;
# its worker processes expect PYTHONPATH to be set.
export PYTHONPATH="${PYTHONPATH:-}"
exec "$python" -m monailabel.main start_server \
    --app "$app" --studies "$STUDIES" --host "$HOST" --port "$PORT" \
    ${options[@]+"${options[@]}"}
