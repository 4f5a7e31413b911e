"""kill -9 at random moments under load, by the hundred, with a count of what was lost.

    python -m tests.faults.soak --kind store --kills 800 --log soak.jsonl

A second call with the same --log goes on where the first stopped. Exit status: 1 if anything that
had been answered was missing after a restart.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults import server_kills, store_kills, work_kills
from tests.faults.nursery import Nursery
from tests.faults.tally import Kills, Tally, kills_in

KINDS = {
    "store": (store_kills.MODULES, store_kills.kill_writers),
    "score": (work_kills.MODULES, partial(work_kills.kill_workers, verb="score")),
    "train": (work_kills.MODULES, partial(work_kills.kill_workers, verb="train")),
    "server": ((*server_kills.MODULES, *work_kills.MODULES), server_kills.kill_servers),
}


def main() -> int:
    """Exit status: 0, or 1 if something was missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=tuple(KINDS), required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60.0, help="no kill begins after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--work", type=Path, help="an empty folder, to be kept; default: a new one")
    given = parser.parse_args()
    done = kills_in(given.log, given.kind)
    end = time.monotonic() + 60.0 * given.minutes
    kills = Kills(
        most=max(0, given.kills - done),
        seed=given.seed + done,
        over=lambda: time.monotonic() > end,
    )
    tally = Tally(given.kind, given.log)
    modules, soak = KINDS[given.kind]
    with folder(given.work) as work, Nursery(*modules) as nursery:
        soak(nursery, work, tally, kills)
    sys.stdout.write("\n".join([tally.told(), *tally.missing]) + "\n")
    return 1 if tally.missing else 0


@contextmanager
def folder(given: Path | None) -> Iterator[Path]:
    """The folder to work in; one that was not named is removed."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        yield Path(made)


if __name__ == "__main__":
    sys.exit(main())
