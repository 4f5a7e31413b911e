"""Damaged and hostile files are refused by a sentence: nothing else is raised, nothing is read.

`FUZZ_INPUTS` sets the number of files of each kind; docs/results/reliability.md has a long run.
"""

import gzip
import io
import json
import os
import resource
from pathlib import Path

import nrrd
import numpy as np
import pytest

from fair_strategy.data.cohort import CohortError, load_cohort
from fair_strategy.data.formats import encode
from fair_strategy.data.volumes import VolumeError, read_grid, read_image, read_labels, read_mask
from tests.app import cohorts
from tests.fuzz.hostile import mutated

COUNT = int(os.environ.get("FUZZ_INPUTS", "300"))
MASK = np.zeros((6, 7, 5), np.uint8)
MASK[2:4, 2:5, 1:3] = 1
FILES = {name: encode(Path(name), MASK, cohorts.AFFINE) for name in ("a.nii", "a.nii.gz", "a.nrrd")}
PACKED = {**FILES, "b.nii.gz": FILES["a.nii"]}
"""The last one is packed after it was damaged, so that its checksum is right."""
TABLE = b"participant_id\tgroup\tsex\tage\nsub-01\tA\tF\t40\nsub-02\tB\tM\t71\nsub-03\tA\tn/a\t\n"


@pytest.mark.filterwarnings("ignore")  # nibabel and pynrrd warn of what they then refuse
@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("read", [read_grid, read_image, read_mask, read_labels])
def test_a_damaged_volume_is_read_or_refused_by_a_sentence(tmp_path, name, read):
    path = tmp_path / name
    refused = 0
    for content in mutated(PACKED[name], count=COUNT, seed=11):
        path.write_bytes(gzip.compress(content) if name.startswith("b") else content)
        try:
            read(path)
        except VolumeError:
            refused += 1
    assert 0 < refused < COUNT  # some are harmless, some are not


def test_a_damaged_table_is_read_or_refused_by_a_sentence(tmp_path):
    path = tmp_path / "participants.tsv"
    refused = 0
    for content in mutated(TABLE, count=COUNT, seed=12):
        path.write_bytes(content)
        try:
            load_cohort(path, sensitive_feature=("group", "sex"), age_bins=(0, 60, 200))
        except CohortError:
            refused += 1
    assert 0 < refused < COUNT


@pytest.fixture
def little_memory():
    """At most 1.5 GiB more than now: what unpacks without bounds fails here."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def zeros(start: bytes, *, mebibytes: int) -> bytes:
    """A gzip file of 1/1000 of the size that it unpacks to."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(mebibytes):
            file.write(bytes(2**20))
    return packed.getvalue()


@pytest.mark.usefixtures("little_memory")
def test_a_nifti_file_that_unpacks_to_2_gib_of_zeros_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(zeros(FILES["a.nii"], mebibytes=2048))
    assert path.stat().st_size < 3 * 2**20
    with pytest.raises(VolumeError, match="unpacks to more than"):
        read_mask(path)


@pytest.mark.usefixtures("little_memory")
def test_a_nrrd_file_that_unpacks_to_2_gib_of_zeros_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.nrrd"
    head = FILES["a.nrrd"].partition(b"\n\n")[0]
    path.write_bytes(head + b"\n\n" + zeros(b"", mebibytes=2048))
    with pytest.raises(VolumeError, match="unpacks to more than"):
        read_mask(path)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_tells_of_30000_voxels_a_side_reserves_no_memory(tmp_path, name):
    content = bytearray(FILES["a.nii"])
    content[42:48] = np.array([30000] * 3, "<i2").tobytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(content)) if name.endswith("gz") else bytes(content))
    with pytest.raises(VolumeError, match="27000000000000 bytes"):
        read_image(path)


@pytest.mark.usefixtures("little_memory")
def test_a_nrrd_header_that_tells_of_30000_voxels_a_side_reserves_no_memory(tmp_path):
    path = tmp_path / "large.nrrd"
    path.write_bytes(FILES["a.nrrd"].replace(b"sizes: 6 7 5", b"sizes: 30000 30000 30000"))
    with pytest.raises(VolumeError, match="27000000000000 bytes"):
        read_image(path)


def test_a_nrrd_file_of_another_packing_is_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    header = {"space": "left-posterior-superior", "space directions": np.eye(3)}
    header |= {"space origin": np.zeros(3), "encoding": "bzip2"}
    nrrd.write(str(path), MASK, header)
    with pytest.raises(VolumeError, match="'bzip2' is not read"):
        read_mask(path)


def test_damaged_json_is_a_sentence_and_never_an_error_of_the_server(study, monkeypatch):
    from tests.app.test_review_routes import client_of

    class App:
        """What the routes ask of the application."""

        def __init__(self):
            self.study = study

    client = client_of(App(), monkeypatch)
    good = json.dumps({"image": "sub-02_T1w", "client_id": "anna", "reason": "another time"})
    statuses = set()
    for content in mutated(good.encode(), count=COUNT, seed=13):
        for path in ("/reader/skip", "/reader/renew", "/reader/reveal", "/reader/reopen"):
            reply = client.post(path, content=content, headers={"Content-Type": "application/json"})
            statuses.add(reply.status_code)
            assert reply.status_code in (200, 400, 404, 422), (path, content, reply.text)
            if reply.status_code != 200:
                assert len(reply.json()["detail"]) > 3
    assert {200, 422} <= statuses
