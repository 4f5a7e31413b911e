#!/usr/bin/env bash
# All runs, tables and figures of docs/results/fair-active-learning.md, into studies/ and docs/results/.
# Runs whose shards are committed are not played again; a killed one is resumed by the same command.
set -euo pipefail

take() { # shards of a folder of results into a study, and what is known of how they were played
	local from="experiments/results/$1" to="studies/$2" file
	mkdir -p "$to/shards"
	for file in run.json $(cd "$from" && ls shards/*); do
		if [[ ! -e "$to/$file" ]]; then # by a second name: what is cut off is taken again
			cp "$from/$file" "$to/.taken"
			mv "$to/.taken" "$to/$file"
		fi
	done
}
take small small
take confirmation confirmation
take final final
take longer longer
take development-again development

play() { fair-strategy simulate "experiments/$1.yaml" --out "studies/$1" --device cpu --jobs 2 --resume "${@:2}"; }
play small
play confirmation
play final
play development --stage choice
play development --stage margins
play longer

fair-strategy report studies/small --markdown docs/results/fair-active-learning-report.md
fair-strategy report studies/confirmation --markdown docs/results/confirmation-report.md
fair-strategy report studies/final --markdown docs/results/final-report.md
for bias in strong weak; do
	python scripts/composition_frontier.py experiments/small.yaml --out studies/small --bias "$bias" --seeds 3 \
		--page "docs/results/composition-$bias"
done
