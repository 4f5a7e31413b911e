"""Writes docs/results/fairness-and-uncertainty.md: objectives side by side, from task folders.

    python scripts/make_objectives_page.py isic-erm isic-balanced isic-group_dro brats-erm ... \
        [--page docs/results/fairness-and-uncertainty.md]

Each folder is one run of `fair-strategy task`. Tables and figures replace what stands between two
marks of the page; the text around them is written by hand.
"""

import argparse
from pathlib import Path

from fair_strategy.workflows.tasks.results_page import write_page

PAGE = Path("docs/results/fairness-and-uncertainty.md")


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    for path in write_page(given.folders, given.page):
        print(path)


if __name__ == "__main__":
    main()
