"""How often a scan whose segmentation lies in the PACS is offered again, beside a stock server.

    python benchmarks/pacs.py [--scans 12] [--out PAGE]

For each server a fresh Orthanc on loopback, with so many heads of the sample cohort as MR series.
One reader takes the next scan, fetches it, has it segmented and submits, as often as there are
scans, and waits each time until the PACS lists a new segmentation; then asks for the next scan
twice as often, and again after a restart. The stock application has no model; the cohort's own
masks are submitted to it. No server can leave this machine. The tool that stock downloads to write
DICOM SEG is taken from PATH (`pip install dcmqi` brings it); without it a stand-in writes the
object. Run it from the repository's root, with Orthanc and its DICOMweb plugin installed, and with
nothing else running. --out replaces the tables in a page.
"""

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import nibabel as nib
import numpy as np
from monailabel.config import settings
from servers import (
    Server,
    check_page,
    multipart,
    our_server,
    replace_measured,
    stock_server,
    table,
    timed,
    wait_for,
)

sys.path.insert(0, ".")

from tests.pacs import orthanc as archives
from tests.pacs.dicom_files import Series, slices
from tests.pacs.orthanc import Orthanc

COHORT = Path("sample-data/cohort")
REFERENCE = COHORT / "derivatives" / "reference"
OFFLINE = Path("tests/pacs/offline")
OURS, STOCK = "ours", "stock"
TOOL = "itkimage2segimage"
STAND_IN = f"""#!{sys.executable}
import sys
import uuid
from pathlib import Path

from pydicom import dcmread

from fair_strategy.data.dicom.segmentation import Origin, segmentation
from fair_strategy.data.volumes import read_mask

given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
scan = Path(given["--inputDICOMDirectory"])
headers = [dcmread(path, stop_before_pixels=True) for path in scan.iterdir()]
mask = read_mask(Path(given["--inputImageList"]))
made = segmentation(mask, headers, Origin(key=str(uuid.uuid4()), model=None, version="0"))
made.save_as(given["--outputDICOM"], write_like_original=False)
"""
CONF = {"sensitive_feature": "sex", "validation_per_group": "0"}
STOCK_SETS = "MONAI_LABEL_DICOMWEB_"
NEXT = "Next Sample"
PHASES = FIRST, FURTHER, RESTARTED, LOST = (
    "each submitted", "further", "after a restart", "with a new state directory",
)  # fmt: skip
AGAIN, OPEN, NOTHING, FAILED = "segmented", "open", "nothing", "failed"
FETCH, INFER, SUBMIT, FOUND = "scan fetched", "infer", "Submit answered", "Submit until found"
TIMES = (f"{NEXT}, {FIRST}", FETCH, INFER, SUBMIT, FOUND, f"{NEXT}, {FURTHER}")
FOUND_EACH_S, FOUND_WITHIN_S = 0.005, 120.0
PAUSE_S = 1.0
FRAME = re.compile(r'File "\S*?/(monailabel/\S+)", line (\d+), in (\w+)')
RAISED = re.compile(r"^[\w.]*Error: .*", flags=re.MULTILINE)


class Kind(NamedTuple):
    """A server and how it is set up.

    Attributes:
        server: ours or stock.
        strategy: that the reader asks.
        told: what differs from the others.
        options: of ours, or of stock's environment.
    """

    server: str
    strategy: str
    told: str
    options: Mapping[str, str]


KINDS = (
    Kind(OURS, "random", "nothing scored before", {"enable_background": "false"}),
    Kind(OURS, "weighted_entropy", "all scored before", {}),
    Kind(STOCK, "first", "as it is", {}),
    Kind(STOCK, "random", "as it is", {}),
    Kind(STOCK, "random", "its lists kept for 0 s", {f"{STOCK_SETS}CACHE_EXPIRY": "0"}),
)


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


def main() -> int:
    """Exit status: 1 if our server offered a segmented scan, or did not send a segmentation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=int, default=12, help="at most 28")
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    check_page(given.out)
    if archives.command() is None or archives.plugin() is None:
        raise SystemExit("no Orthanc with DICOMweb here: apt-get install orthanc orthanc-dicomweb")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        stopped = stock_without_converter(Path(folder) / "bare")
        for number, kind in enumerate(KINDS):
            reading = measured(kind, Path(folder) / str(number), given.scans)
            found.append((kind, reading))
    text = report(found, stopped, given.scans)
    print(text, flush=True)
    if given.out:
        replace_measured(given.out, text)
    return int(any(_wrong(kind, reading) for kind, reading in found))


def measured(kind: Kind, root: Path, scans: int) -> Reading:
    """Let a reader work through an archive of so many scans, and count."""
    found = Reading(scans)
    archive = Orthanc(root / "orthanc")
    try:
        archive.start()
        masks = dict(stored(archive, number) for number in range(1, scans + 1))
        with served(kind, archive, root, "state") as server:
            if kind.strategy == "weighted_entropy":
                wait_for(lambda: server.scored() >= scans, "scores of all scans")
            read(server, archive, kind.strategy, found, masks)
            found.segmented = len(sources(archive))
            ask_further(server, kind.strategy, found, FURTHER)
        restarts = {RESTARTED: "state", LOST: "another state"}
        if f"{STOCK_SETS}CACHE_EXPIRY" in kind.options:
            restarts = {}  # a restart empties lists that are not kept anyway
        for phase, state in restarts.items():
            with served(kind, archive, root, state) as server:
                ask_further(server, kind.strategy, found, phase)
    finally:
        archive.stop()
    found.left_machine = attempts(root)
    return found


def stored(archive: Orthanc, number: int) -> tuple[str, bytes]:
    """Store one head of the sample cohort; its SeriesInstanceUID, and its caudate as .nii."""
    name = f"sub-{number:03d}"
    scan = axial(COHORT / name / "anat" / f"{name}_T1w.nii.gz")
    patient = {
        "PatientID": f"H-{number:04d}",
        "PatientName": "Nobody^Known",
        "PatientSex": "FM"[number % 2],
        "PatientAge": f"{40 + number:03d}Y",
    }
    series = Series(patient=patient)
    archive.store(slices(np.asarray(scan.dataobj).astype(np.uint16), scan.affine, series))
    mask = f"{name}_hemi-L_label-caudate_desc-reference_mask.nii.gz"
    return series.series_uid, axial(REFERENCE / name / "anat" / mask).to_bytes()


def axial(path: Path) -> nib.Nifti1Image:
    """The image with rows and columns in the order of most axial series."""
    return nib.load(path).slicer[::-1, ::-1]


@contextmanager
def served(kind: Kind, archive: Orthanc, root: Path, state: str) -> Iterator[Server]:
    """The server of a kind on an archive; what it keeps is in a folder of `root`."""
    kept = str(root / state)
    with offline(root):
        if kind.server == OURS:
            options = {**CONF, **kind.options, "state_dir": kept}
            with our_server(root, archive.dicomweb, **options) as server:
                yield server
            return
        if not shutil.which(TOOL):
            tool = root / "app" / "bin" / TOOL  # where MONAI Label keeps what it downloads
            tool.parent.mkdir(parents=True, exist_ok=True)
            tool.write_text(STAND_IN, encoding="utf-8")
            tool.chmod(0o755)
        filtered = {f"{STOCK_SETS}SEARCH_FILTER": '{"Modality": "MR"}'}
        os.environ |= {f"{STOCK_SETS}CACHE_PATH": kept, **filtered, **kind.options}
        with stock_server(root, archive.dicomweb) as server:
            yield server


@contextmanager
def offline(root: Path) -> Iterator[None]:
    """Processes that are started meanwhile cannot leave this machine; attempts are noted."""
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, (OFFLINE.resolve(), Path.cwd()))),
        "OFFLINE_NOTES": str(root / "offline.txt"),
        "no_proxy": "127.0.0.1",
    }
    with patch.dict(os.environ, environment):
        yield


def attempts(root: Path) -> int:
    """To reach another machine."""
    notes = root / "offline.txt"
    return len(notes.read_text().splitlines()) if notes.exists() else 0


def stock_without_converter(root: Path) -> tuple[str, int]:
    """Where the stock server stops that may download nothing, and its attempts to."""
    places = os.environ["PATH"].split(os.pathsep)
    bare = os.pathsep.join(place for place in places if not (Path(place) / TOOL).exists())
    archive = Orthanc(root / "orthanc")
    try:
        archive.start()
        with (
            suppress(TimeoutError),
            offline(root),
            patch.dict(os.environ, PATH=bare),
            stock_server(root, archive.dicomweb),
        ):
            return "starts", attempts(root)
    finally:
        archive.stop()
    log = (root / "server.log").read_text(errors="replace")
    place, line, function = FRAME.findall(log)[-1]
    raised = RAISED.findall(log)[-1].partition(" (Caused")[0]
    return f"`{raised}` ({place}, line {line}, `{function}`)", attempts(root)


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


def report(found: Sequence[tuple[Kind, Reading]], stopped: tuple[str, int], scans: int) -> str:
    """Markdown: starts, offers, milliseconds."""
    converter = f"`{TOOL}` of PATH" if shutil.which(TOOL) else f"a stand-in for `{TOOL}`"
    starts = [[STOCK, "nothing", stopped[0], str(stopped[1])]]
    for server, by in ((STOCK, converter), (OURS, "highdicom")):
        left = sum(reading.left_machine for kind, reading in found if kind.server == server)
        starts.append([server, by, "starts", str(left)])
    names = ["server", "strategy", ""]
    counted = [*names, "scans segmented", f"{scans} Next Samples, {FIRST}"]
    counted += [f"{2 * scans} {phase}" for phase in PHASES[1:]]
    rows = [[kind.server, f"`{kind.strategy}`", kind.told] for kind, _ in found]
    counts = [row + _counts(reading) for row, (_, reading) in zip(rows, found, strict=True)]
    times = [row + _times(*each) for row, each in zip(rows, found, strict=True)]
    return "\n\n".join(
        [
            f"{scans} scans. Stock keeps its lists for {settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY}"
            f" s unless told otherwise. {os.cpu_count()} cores, average load over five minutes "
            f"{os.getloadavg()[1]:.1f}.",
            "Without a way out of the machine:",
            table(["server", "writes DICOM SEG by", "start", "attempts to get out"], starts),
            "Answers to Next Sample: a scan with a segmentation in the PACS / one without / nothing"
            " / an error:",
            table(counted, counts),
            "Milliseconds, median (largest):",
            table([*names, *TIMES], times),
        ]
    )


def _counts(reading: Reading) -> list[str]:
    cells = [f"{reading.segmented} of {reading.scans}"]
    for phase in PHASES:
        offers = reading.offers[phase]
        told = " / ".join(str(offers[which]) for which in (AGAIN, OPEN, NOTHING, FAILED))
        cells.append(told if offers else "–")
    return cells


def _times(kind: Kind, reading: Reading) -> list[str]:
    stood_in = kind.server == STOCK and not shutil.which(TOOL)
    cells = []
    for name in TIMES:
        ms = reading.taken[name]
        told = f"{statistics.median(ms):.0f} ({max(ms):.0f})" if ms else "–"
        cells.append("stand-in" if stood_in and name in (SUBMIT, FOUND) else told)
    return cells


def _wrong(kind: Kind, reading: Reading) -> bool:
    again = sum(offers[AGAIN] for offers in reading.offers.values())
    return kind.server == OURS and (again > 0 or reading.segmented < reading.scans)


if __name__ == "__main__":
    sys.exit(main())
