"""What a stock server loses while a scorer writes, by a kill, and between readers; ours beside it.

    python benchmarks/stock_faults.py [--parts infos kills readers] [--scans 400] [--out PAGE]

*infos*: label infos are submitted while another process writes scores, for stock one each so many
seconds as a stock scoring method does, for ours as fast as it really scores. *kills*: kill -9 at
random moments under submitting, then a start. *readers*: two ask for the next scan at once; five
read a pool to its end. Submitting is HTTP in all of it; a label info is counted as kept if a server
that is started afterwards tells it. --out replaces the tables in a page.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, ".")

from handing_out import (
    READERS,
    READING_S,
    asked_at_once,
    our_pool,
    read_to_the_end,
    stock_pool,
)
from killed import QUIET, SUBMITTERS, Killed, comments
from pools import numbered_mask, write_pool, write_scans
from servers import (
    STOCK_MAIN,
    Server,
    measure_parts,
    our_server,
    stock_server,
    table,
    wait_for,
    write_our_app,
    write_stock_app,
)

from tests.faults import server_kills
from tests.faults.nursery import Nursery, children, kill

OURS, STOCK = "ours", "stock"
SCORE_EACH_S = (1.0, 0.1)
SUBMIT_EACH_S = 0.25
ROUNDS, POOL = 30, 100
SCORING = '''

import time
from monailabel.interfaces.tasks.scoring import ScoringMethod


class Paced(ScoringMethod):
    """Keeps a score as `EpistemicScoring` does; only what takes the time is left out."""

    def __call__(self, request, datastore):
        for image in datastore.get_unlabeled_images()[:{count}]:
            time.sleep({each_s})
            datastore.update_image_info(image, dict(epistemic_entropy=0.5, epistemic_ts=1))


Stock.init_scoring_methods = lambda self: dict(paced=Paced("paced"))
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--scans", type=int, default=400, help="in the folder of each server")
    parser.add_argument("--submits", type=int, default=80, help="label infos of each server")
    parser.add_argument("--kills", type=int, default=20, help="of each server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to work in")
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    measure_parts(given, lambda part, root: PARTS[part](root, given))


def label_infos(root: Path, given: argparse.Namespace) -> str:
    """Label infos and scores: how many were written, and how many are told after a new start."""
    rng = np.random.default_rng(given.seed)
    rows = [_stock_infos(root, each_s, given, rng) for each_s in SCORE_EACH_S]
    rows.append(_our_infos(root / OURS, given, rng))
    names = ["server", "scores", "label infos sent", "kept", "lost", "scores written", "lost"]
    return (
        f"{given.scans} scans; label infos: one each {1000 * SUBMIT_EACH_S:.0f} ms on average. "
        f"{os.cpu_count()} cores, average load over five minutes {os.getloadavg()[1]:.1f}.\n\n"
        + table(names, rows)
    )


def _stock_infos(
    root: Path, each_s: float, given: argparse.Namespace, rng: np.random.Generator
) -> list[str]:
    root = root / f"{STOCK}-{each_s}"
    write_scans(root / "studies", given.scans, bids=False)
    # It scores for as long as is submitted, and somewhat longer.
    count = min(given.scans, round(1.5 * given.submits * SUBMIT_EACH_S / each_s))
    main = STOCK_MAIN + SCORING.format(count=count, each_s=each_s)
    with stock_server(root, root / "studies", main) as server:
        wait_for(server.scored, "scoring has begun")
        sent = _submit_slowly(server, given, rng)
        wait_for(lambda: json.loads(server.ask("GET", "/scoring/"))["status"] == "DONE", "scoring")
    with stock_server(root, root / "studies") as server:
        kept, scored = _kept(server, sent), server.scored()
    told = f"one each {each_s:g} s"
    return _infos_row(STOCK, told, (len(sent), kept), (count, scored))


def _our_infos(root: Path, given: argparse.Namespace, rng: np.random.Generator) -> list[str]:
    write_pool(root / "studies", given.scans)
    with our_server(root, root / "studies") as server:
        wait_for(server.scored, "scoring has begun")
        began, before = time.monotonic(), server.scored()
        sent = _submit_slowly(server, given, rng)
        written, took = server.scored(), time.monotonic() - began
    with our_server(root, root / "studies", **QUIET) as server:
        kept, scored = _kept(server, sent), server.scored()
    told = f"one each {took / max(1, written - before):.2f} s"
    return _infos_row(OURS, told, (len(sent), kept), (written, min(written, scored)))


def _infos_row(
    server: str, scoring: str, infos: tuple[int, int], scores: tuple[int, int]
) -> list[str]:
    cells = [[str(sent), str(kept), _lost(sent, kept)] for sent, kept in (infos, scores)]
    return [server, scoring, *cells[0], cells[1][0], cells[1][2]]


def _lost(sent: int, kept: int) -> str:
    return f"{sent - kept} ({(sent - kept) / sent:.0%})"


def _submit_slowly(
    server: Server, given: argparse.Namespace, rng: np.random.Generator
) -> dict[str, str]:
    """Scan -> the comment that was sent with its label; the scans that are scored last."""
    sent = {}
    for number, image in enumerate(sorted(server.objects())[-given.submits :]):
        time.sleep(rng.exponential(SUBMIT_EACH_S))
        sent[image] = f"comment {number}"
        server.submit(image, numbered_mask(number), "reader", comment=sent[image])
    return sent


def _kept(server: Server, sent: dict[str, str]) -> int:
    told = comments(server)
    return sum(told[image] == comment for image, comment in sent.items())


def kills(root: Path, given: argparse.Namespace) -> str:
    """How often a server did not start after kill -9, and how many label infos went with it."""
    write_scans(root / STOCK / "studies", given.scans, bids=False)
    write_stock_app(root / STOCK)
    write_pool(root / OURS / "studies", given.scans)
    write_our_app(root / OURS)
    rows = []
    with Nursery(*server_kills.MODULES) as nursery:
        killed = {kind: Killed(nursery, root / kind, given.seed) for kind in (STOCK, OURS)}
        for _ in range(given.kills):
            for server in killed.values():
                server.submit_and_kill()
        for kind, server in killed.items():
            last = server.start()
            kill(last.pid, *children(last.pid))
            counts = server.failed, server.answered, server.gone
            rows.append([kind, str(given.kills), *map(str, counts)])
    names = [
        "server",
        "kills",
        "next start failed",
        "label infos answered",
        "scans whose info was gone",
    ]
    return f"{given.scans} scans; {SUBMITTERS} readers submit.\n\n{table(names, rows)}"


def two_readers(root: Path, given: argparse.Namespace) -> str:
    """How often one scan came to two: asked for at once; and in a pool that is read to its end."""
    asked, read = [], []
    tried = [(stock_pool, STOCK, "first"), (stock_pool, STOCK, "random")]
    tried += [(our_pool, OURS, "weighted_entropy"), (our_pool, OURS, "random")]
    for pool, kind, strategy in tried:
        with pool(root / f"{kind}-{strategy}", POOL) as server:
            same = asked_at_once(server, strategy, ROUNDS)
            asked.append([kind, f"`{strategy}`", str(ROUNDS), str(same)])
            found = read_to_the_end(server, strategy)
            read.append([kind, f"`{strategy}`", *map(str, found)])
    names = ["scans left", "handed out", "while another reader held it", "submitted over a label"]
    return "\n\n".join(
        [
            f"Two readers ask at once, {POOL} scans:",
            table(["server", "strategy", "rounds", "both got the same scan"], asked),
            f"Then {READERS} readers until nothing is left, {READING_S} s a scan on average:",
            table(["server", "strategy", *names, "Next Sample failed"], read),
        ]
    )


PARTS = {"infos": label_infos, "kills": kills, "readers": two_readers}


if __name__ == "__main__":
    main()
