"""A reader who works through the scans of a PACS, and what the server offered meanwhile."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from servers import Server, multipart, timed

from tests.pacs.orthanc import Orthanc

NEXT = "Next Sample"
PHASES = FIRST, FURTHER, RESTARTED, LOST = (
    "each submitted", "further", "after a restart", "with a new state directory",
)  # fmt: skip
AGAIN, OPEN, NOTHING, FAILED = "segmented", "open", "nothing", "failed"
FETCH, INFER, SUBMIT, FOUND = "scan fetched", "infer", "Submit answered", "Submit until found"
TIMES = (f"{NEXT}, {FIRST}", FETCH, INFER, SUBMIT, FOUND, f"{NEXT}, {FURTHER}")
FOUND_EACH_S, FOUND_WITHIN_S = 0.005, 120.0
PAUSE_S = 1.0


@dataclass
class Reading:
    """What came of one server.

    Attributes:
        scans: in the archive.
        done: ids of scans whose segmentation the PACS listed after their submission.
        offers: name of a phase -> how many offers of a kind.
        taken: milliseconds of each request.
        segmented: scans with a segmentation in the PACS at the end of the first phase.
        left_machine: attempts to reach another machine.
    """

    scans: int
    done: set[str] = field(default_factory=set)
    offers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    segmented: int = 0
    left_machine: int = 0

    def has(self, case_id: str) -> bool:
        """Whether a segmentation of the scan lies in the PACS; a new study has new names."""
        return case_id in self.done or self.segmented == self.scans

    def again(self) -> int:
        """How often a scan was offered whose segmentation lay in the PACS."""
        return sum(offers[AGAIN] for offers in self.offers.values())

    def count_cells(self) -> list[str]:
        """Cells: scans segmented; for each phase how many offers of each kind."""
        cells = [f"{self.segmented} of {self.scans}"]
        for phase in PHASES:
            offers = self.offers[phase]
            told = " / ".join(str(offers[which]) for which in (AGAIN, OPEN, NOTHING, FAILED))
            cells.append(told if offers else "–")
        return cells

    def time_cells(self, stood_in: bool) -> list[str]:
        """Cells: milliseconds of each request; none of what a stand-in wrote."""
        cells = []
        for name in TIMES:
            ms = self.taken[name]
            told = f"{statistics.median(ms):.0f} ({max(ms):.0f})" if ms else "–"
            cells.append("stand-in" if stood_in and name in (SUBMIT, FOUND) else told)
        return cells


def read(
    server: Server, archive: Orthanc, strategy: str, found: Reading, masks: Mapping[str, bytes]
) -> None:
    """As many scans as there are: take the next, fetch, segment, submit, wait for the PACS.

    Where scans bear their own SeriesInstanceUID, the mask is that of `masks`; else the server's.
    """
    for _ in range(found.scans):
        case_id = next_scan(server, strategy, found, FIRST)
        if case_id is None:
            continue
        fetch = partial(server.ask, "GET", f"/datastore/image?image={case_id}")
        found.taken[FETCH].append(timed(fetch))
        if (mask := masks.get(case_id)) is None:
            taken, mask = clocked(partial(segmented, server, case_id))
            found.taken[INFER].append(taken)
        submit(server, archive, case_id, mask, found)


def ask_further(server: Server, strategy: str, found: Reading, phase: str) -> None:
    """The next scan twice as often as there are scans, without a submission.

    Stock `random` fails if every scan left was handed out within the second; hence a pause.
    """
    for _ in range(2 * found.scans):
        if next_scan(server, strategy, found, phase) is not None:
            time.sleep(PAUSE_S)


def next_scan(server: Server, strategy: str, found: Reading, phase: str) -> str | None:
    """The id that Next Sample tells; counted by whether the scan is segmented already."""
    offers = found.offers[phase]
    try:
        taken, answer = clocked(lambda: server.next_sample(strategy, "reader"))
    except ValueError:
        offers[FAILED] += 1
        return None
    found.taken[f"{NEXT}, {phase}"].append(taken)
    case_id: str | None = answer.get("id")
    offers[NOTHING if case_id is None else AGAIN if found.has(case_id) else OPEN] += 1
    return case_id


def segmented(server: Server, case_id: str) -> bytes:
    """The mask of a scan by our model, as .nii."""
    body, kind = multipart({"params": '{"result_extension": ".nii"}'}, {})
    path = f"/infer/caudate?image={case_id}&output=image"
    return server.ask("POST", path, body, **{"Content-Type": kind})


def submit(server: Server, archive: Orthanc, case_id: str, mask: bytes, found: Reading) -> None:
    """Submit, and wait until the PACS lists one segmentation more."""
    wanted = len(segmentations(archive)) + 1
    started = time.perf_counter()
    server.submit(case_id, mask, "reader")
    found.taken[SUBMIT].append(1000 * (time.perf_counter() - started))
    while len(segmentations(archive)) < wanted:
        if time.perf_counter() > started + FOUND_WITHIN_S:
            raise TimeoutError(f"no segmentation within {FOUND_WITHIN_S} s of its submission")
        time.sleep(FOUND_EACH_S)
    found.taken[FOUND].append(1000 * (time.perf_counter() - started))
    found.done.add(case_id)


def clocked(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds by the clock that a call takes, and its result."""
    started = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - started), result


def segmentations(archive: Orthanc) -> list[dict[str, Any]]:
    """What QIDO tells of each series of DICOM SEG."""
    return archive.ask("/dicom-web/series?Modality=SEG")


def sources(archive: Orthanc) -> set[str]:
    """SeriesInstanceUID of every scan to which a segmentation in the PACS refers."""
    found = set()
    for listed in segmentations(archive):
        study, series = (listed[tag]["Value"][0] for tag in ("0020000D", "0020000E"))
        (header,) = archive.ask(f"/dicom-web/studies/{study}/series/{series}/metadata")
        found.add(header["00081115"]["Value"][0]["0020000E"]["Value"][0])
    return found
