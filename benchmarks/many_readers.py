"""How fast Next Sample and Submit are with 1 to 20 readers at once, and whether leases hold.

    python benchmarks/many_readers.py [--scans 120] [--readers 1 2 5 10 20] [--out PAGE]

For each number of readers a server of its own is started on a study of tiny scans, and all of them
are read by the stock client, a thread a reader, without a pause between two requests: of ten scans
eight are submitted, one is skipped, one is given back or left to its lease. The clients run on the
same cores as the server. Run it from the repository's root, with nothing else running.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from servers import check_page, replace_measured

sys.path.insert(0, ".")

from tests.app import cohorts, serving
from tests.app.reading_room import Notes, Room, books, given_twice, noted

LEASE_S = 5.0
MANNERS = {"submit": 0.8, "skip": 0.1, "hand back": 0.08, "go away": 0.02}
CONF = {
    "lease_minutes": LEASE_S / 60,
    "skip_minutes": 1 / 60,
    "validation_per_group": 0,
    "enable_background": "false",
}


@dataclass(frozen=True)
class Level:
    """What so many readers did, with counts from the store: each should be 0 but the first two."""

    readers: int
    notes: Notes
    labelled: int
    twice: int
    lost: int
    not_kept: int

    @property
    def requests_per_s(self) -> float:
        """Next Sample and Submit, until nothing was left to one of them."""
        notes = self.notes
        done = sum(at <= notes.used_up for at in notes.replies)
        return done / (notes.used_up - notes.began)


def main() -> int:
    """Exit status: 1 if a scan was given twice or lost, or a label was not kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=int, default=120)
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    asked = parser.parse_args()
    check_page(asked.out)
    levels = [measured(readers, asked.scans) for readers in asked.readers]
    table = report(levels)
    sys.stdout.write(table)
    if asked.out is not None:
        replace_measured(asked.out, table)
    return int(any(level.twice or level.lost or level.not_kept for level in levels))


def measured(readers: int, scans: int) -> Level:
    """Start a study, let it be read, and count."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cohorts.write_cohort(root / "studies", per_group=scans // 2, labelled=0)
        serving.application(root)
        words = [str(word) for pair in CONF.items() for word in ("--conf", *pair)]
        with serving.serve(root, *words) as server:
            server.client("warm-up").info()
            notes = Room(server, MANNERS, lease_s=LEASE_S).read(readers)
            found = books(server.state)
    kept, sent = found.work, Counter(notes.submitted)
    return Level(
        readers=readers,
        notes=notes,
        labelled=len(found.labelled),
        twice=len(given_twice(notes.handouts, LEASE_S)),
        lost=len(found.open)
        + ((found.handouts - noted(notes)) + (noted(notes) - found.handouts)).total(),
        not_kept=((kept - sent) + (sent - kept)).total(),
    )


def report(levels: list[Level]) -> str:
    """The tables."""
    lines = [
        "| readers | requests/s | Next Sample: median, ms | 95th percentile, ms "
        "| Submit: median, ms | 95th percentile, ms |",
        "|---|---|---|---|---|---|",
    ]
    first = levels[0]
    for level in levels:
        cells = [_against(level.requests_per_s, first.requests_per_s, digits=0)]
        for seconds, base in (
            (level.notes.next_s, first.notes.next_s),
            (level.notes.submit_s, first.notes.submit_s),
        ):
            cells += [_against(1000 * of(seconds), 1000 * of(base)) for of in (_median, _high)]
        lines.append(f"| {level.readers} | {' | '.join(cells)} |")
    lines += [
        "",
        "| readers | scans labelled | handed out | skipped or given back | left to the lease "
        "| given twice | lost | labels not kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level in levels:
        notes = level.notes
        back = sum(h.left < float("inf") for h in notes.handouts) - len(notes.submitted)
        counts = (level.labelled, len(notes.handouts), back, notes.gone,
                  level.twice, level.lost, level.not_kept)  # fmt: skip
        lines.append(f"| {level.readers} | {' | '.join(map(str, counts))} |")
    load = os.getloadavg()[1]
    lines += ["", f"{os.cpu_count()} cores; average load over five minutes {load:.1f}.", ""]
    return "\n".join(lines)


def _against(value: float, base: float, *, digits: int = 1) -> str:
    return f"{value:.{digits}f} ({value / base:.1f} x)"


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def _high(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * len(seconds))]


if __name__ == "__main__":
    sys.exit(main())
