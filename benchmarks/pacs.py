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
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import nibabel as nib
import numpy as np
from monailabel.config import settings
from servers import (
    Server,
    check_page,
    our_server,
    replace_measured,
    stock_server,
    table,
    wait_for,
)

sys.path.insert(0, ".")

from pacs_reader import (
    FIRST,
    FURTHER,
    LOST,
    PHASES,
    RESTARTED,
    TIMES,
    Reading,
    ask_further,
    read,
    sources,
)

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
    counts = [row + reading.count_cells() for row, (_, reading) in zip(rows, found, strict=True)]
    times = [
        row + reading.time_cells(_stood_in(kind))
        for row, (kind, reading) in zip(rows, found, strict=True)
    ]
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


def _stood_in(kind: Kind) -> bool:
    return kind.server == STOCK and not shutil.which(TOOL)


def _wrong(kind: Kind, reading: Reading) -> bool:
    return kind.server == OURS and (reading.again() > 0 or reading.segmented < reading.scans)


if __name__ == "__main__":
    sys.exit(main())
