"""What scoring a scan costs, by ours and by stock scoring, and how far their rankings agree.

    python benchmarks/scoring_methods.py [--cohort sample-data/cohort] [--scans 12] [--heads 8]
        [--work DIR] [--out PAGE]

On the same scans and the same network, CPU seconds of all threads: reading and decoding, the bare
passes of the networks, and `score_study` as the service runs it, prediction files and database
included, on one thread, on two, and by two processes of one thread (scoring_parts.py); for scans of
a cohort, and for whole heads of 1 mm, rendered into --work and kept there. Then, on the cohort,
stock `epistemic_v2` with five passes of the segmenter over the whole scan, and our MC dropout of 5
and of 20 passes. Each ranking is compared with that of one deterministic pass by Spearman's
correlation. --out replaces the tables in a page.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from scipy.stats import bootstrap, spearmanr
from scoring_parts import (
    SHIPPED,
    Spent,
    link_heads,
    link_scans,
    measure_parts,
    new_study,
    parts_table,
    per_scan,
    scored,
)
from servers import check_page, flush_ms, replace_measured, table
from stock_scoring import stock_scores

from fair_strategy.learning.checkpoint import load_model
from fair_strategy.store import scores
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.study import masked_score

PASSES = (5, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5, help="of which the median counts")
    parser.add_argument("--work", type=Path, help="folder to work in; its disk is measured")
    parser.add_argument("--without-stock", action="store_true")
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    check_page(given.out, "scoring")
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        root, heads = Path(folder) / "cohort", Path(folder) / "heads"
        paths = link_scans(given.cohort, root / "studies", given.scans)
        rendered = link_heads(given.work or heads, heads / "studies", given.heads)
        parts = measure_parts(root, paths, given.turns)
        whole_heads = measure_parts(heads, rendered, given.turns)
        torch.set_num_threads(1)
        methods, rankings = measure_methods(root, paths, stock=not given.without_stock)
        waited = flush_ms(root)
    text = "\n\n".join(
        [
            f"Median of {given.turns} turns. One flush of 4 KiB to this disk takes {waited:.1f} "
            f"ms. {os.cpu_count()} cores; average load over five minutes {os.getloadavg()[1]:.1f}.",
            f"{len(rendered)} whole heads of 256 x 256 x 176 voxels of 1 mm:",
            parts_table(whole_heads),
            f"{len(paths)} scans of the sample cohort:",
            parts_table(parts),
            methods_tables(methods, rankings, len(paths)),
        ]
    )
    print(text)
    if given.out:
        replace_measured(given.out, text, "scoring")


def measure_methods(
    root: Path, paths: list[Path], *, stock: bool
) -> tuple[dict[str, Spent], dict[str, list[float]]]:
    """Cost and scores, by scan, of each method on one thread."""
    spent: dict[str, Spent] = {}
    rankings: dict[str, list[float]] = {}
    for passes in (1, *PASSES):
        name = "one pass" if passes == 1 else f"MC dropout x {passes}"
        study = new_study(root, f"passes-{passes}", passes=passes)
        with per_scan(len(paths)) as spent[name]:
            scored(study, len(paths))
        found = scores.scores(study.store, current_model(study).checksum, study.settings_hash)
        records = [found[case_id] for case_id in sorted(found)]
        wanted = masked_score(study.settings)
        rankings[f"{name}, entropy in the ROI"] = [r.entropies[wanted] for r in records]
        rankings[f"{name}, entropy of the whole"] = [r.entropies["entropy"] for r in records]
        if passes > 1:
            rankings[f"{name}, mutual information"] = [
                r.entropies["mutual_information"] for r in records
            ]
    if stock:
        model = load_model(SHIPPED)
        with per_scan(len(paths)) as spent["stock `epistemic_v2` x 5"]:
            rankings["stock `epistemic_v2` x 5"] = stock_scores(model, paths, root / "stock")
    return spent, rankings


def methods_tables(
    methods: Mapping[str, Spent], rankings: Mapping[str, list[float]], count: int
) -> str:
    """Markdown: CPU seconds a scan of each method, correlations of the rankings."""
    base = methods["one pass"].cpu
    first = rankings["one pass, entropy in the ROI"]
    return "\n\n".join(
        [
            table(
                ["method, one thread", "CPU-s a scan", "x one pass"],
                [[n, f"{s.cpu:.3f}", f"{s.cpu / base:.1f}"] for n, s in methods.items()],
            ),
            f"Spearman's correlation with one pass, entropy in the ROI, over {count} scans:",
            table(
                ["ranking", "correlation", "95 % interval, bootstrap over scans"],
                [[n, *_correlation(first, found)] for n, found in rankings.items()],
            ),
        ]
    )


def _correlation(first: Sequence[float], found: Sequence[float]) -> tuple[str, str]:
    if list(first) == list(found):
        return "1", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of one scan alone has no correlation
        drawn = bootstrap(
            (first, found),
            lambda one, other: spearmanr(one, other).statistic,
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=2000,
            rng=0,
        ).confidence_interval
    return f"{spearmanr(first, found).statistic:.2f}", f"{drawn.low:.2f} to {drawn.high:.2f}"


if __name__ == "__main__":
    main()
