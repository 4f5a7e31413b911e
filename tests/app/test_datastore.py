"""The study's datastore beside MONAI Label's own: what Slicer reads is the same."""

import json
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

from fair_strategy.data.volumes import read_mask
from fair_strategy.host.datastore import StudyDatastore
from fair_strategy.host.uploads import suffix_of
from fair_strategy.store import cases
from fair_strategy.workflows.scoring import ensure_prediction
from tests.app import cohorts


@pytest.fixture
def datastore(study):
    return StudyDatastore(study)


@pytest.fixture
def mask(tmp_path):
    return cohorts.save(tmp_path / "mask.nii.gz", cohorts.scan(2)[1])


@pytest.fixture
def local(tmp_path, study):
    """MONAI Label's LocalDatastore with the same scans and labels, in its flat folder."""
    flat = tmp_path / "flat"
    (flat / "labels" / "final").mkdir(parents=True)
    for record in cases.cases(study.store):
        shutil.copy(record.path, flat)
    for record in cases.labels(study.store):
        shutil.copy(record.path, flat / "labels" / "final" / f"{record.case_id}.nii.gz")
    return LocalDatastore(str(flat), extensions=("*.nii.gz", "*.nii"))


def test_json_has_the_stock_shape(datastore, local):
    ours, stock = datastore.json(), json.loads(json.dumps(local.json()))
    assert ours.keys() == stock.keys()
    assert ours["objects"].keys() == stock["objects"].keys()
    for case_id, theirs in stock["objects"].items():
        mine = ours["objects"][case_id]
        assert mine["image"]["ext"] == theirs["image"]["ext"]
        assert mine["image"]["info"]["name"] == theirs["image"]["info"]["name"]
        assert mine["labels"].keys() == theirs["labels"].keys()
        for tag in theirs["labels"]:
            assert mine["labels"][tag].keys() == theirs["labels"][tag].keys()


def test_lists_and_counts_are_those_of_the_stock_datastore(datastore, local):
    assert sorted(datastore.list_images()) == sorted(local.list_images())
    assert sorted(datastore.get_labeled_images()) == sorted(local.get_labeled_images())
    assert sorted(datastore.get_unlabeled_images()) == sorted(local.get_unlabeled_images())
    assert datastore.status() == local.status()


def test_a_scan_and_its_label_are_found_as_in_the_stock_datastore(datastore, local):
    case_id = local.get_labeled_images()[0]
    for store in (datastore, local):
        assert Path(store.get_image_uri(case_id)).is_file()
        assert Path(store.get_label_uri(case_id, "final")).is_file()
        assert store.get_label_by_image_id(case_id, "final") == case_id
        assert store.get_labels_by_image_id(case_id) == {"final": case_id}
    pairs = {Path(p["image"]).name: p["label"] for p in datastore.datalist()}
    assert pairs.keys() == {Path(p["image"]).name for p in local.datalist()}


@pytest.mark.parametrize("ask", ["get_image_uri", "get_image_info", "get_labels_by_image_id"])
def test_an_unknown_scan_is_empty_as_in_the_stock_datastore(datastore, local, ask):
    assert getattr(datastore, ask)("nobody") == getattr(local, ask)("nobody")


def test_an_unknown_label_is_empty_as_in_the_stock_datastore(datastore, local):
    for tag in ("final", "original"):
        assert datastore.get_label_uri("sub-02_T1w", tag) == ""
        assert local.get_label_uri("sub-02_T1w", tag) == ""
        assert datastore.get_label_info("sub-02_T1w", tag) == {}


def test_the_prediction_appears_as_original_on_the_scans_own_grid(datastore, study):
    ensure_prediction(study, "sub-02_T1w")
    info = datastore.json()["objects"]["sub-02_T1w"]["labels"]["original"]["info"]
    assert info["params"]["label_names"] == {"left_caudate": 1}
    written = nib.load(datastore.get_label_uri("sub-02_T1w", "original"))
    scan = nib.load(datastore.get_image_uri("sub-02_T1w"))
    assert written.shape == scan.shape
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-4)
    assert set(np.unique(written.get_fdata())) <= {0, 1}


def test_the_entropy_map_can_be_fetched_as_a_label(datastore, study):
    ensure_prediction(study, "sub-02_T1w")
    entropy = nib.load(datastore.get_label_uri("sub-02_T1w", "uncertainty")).get_fdata()
    assert entropy.shape == cohorts.SHAPE
    assert 0 <= entropy.min() <= entropy.max() <= np.log(2) + 1e-3


def test_a_submitted_mask_is_stored_with_its_info(datastore, mask):
    info = {"client_id": "alice", "label_info": [{"name": "left_caudate", "idx": 1}]}
    assert datastore.save_label("sub-02_T1w", str(mask), "final", info) == "sub-02_T1w"
    stored = datastore.get_label_info("sub-02_T1w", "final")
    assert stored["client_id"] == "alice"
    assert stored["label_info"] == info["label_info"]
    written = read_mask(Path(datastore.get_label_uri("sub-02_T1w", "final")))
    np.testing.assert_array_equal(written.array, cohorts.scan(2)[1])
    assert "sub-02_T1w" in datastore.get_labeled_images()


@pytest.mark.parametrize("case_id", ["../x", "/etc/passwd", ".hidden", "a/b", ""])
def test_an_id_that_leaves_the_folder_is_refused(datastore, mask, case_id):
    with pytest.raises(HTTPException) as refused:
        datastore.save_label(case_id, str(mask), "final", {})
    assert refused.value.status_code == 422


@pytest.mark.parametrize("tag", ["../../x", "a/b", "", "fi nal", "original", "uncertainty"])
def test_a_tag_that_leaves_the_folder_or_belongs_to_the_model_is_refused(datastore, mask, tag):
    with pytest.raises(HTTPException) as refused:
        datastore.save_label("sub-02_T1w", str(mask), tag, {})
    assert refused.value.status_code == 422


def test_a_mask_on_another_grid_is_refused_with_both_shapes_and_nothing_is_stored(
    datastore, tmp_path
):
    other = cohorts.save(tmp_path / "other.nii.gz", np.ones((5, 6, 7), np.uint8))
    with pytest.raises(HTTPException, match=r"5, 6, 7") as refused:
        datastore.save_label("sub-02_T1w", str(other), "final", {})
    assert refused.value.status_code == 422
    assert "36, 40, 32" in refused.value.detail
    assert datastore.get_label_uri("sub-02_T1w", "final") == ""


def test_a_mask_for_an_unknown_scan_is_a_404(datastore, mask):
    with pytest.raises(HTTPException) as refused:
        datastore.save_label("sub-99_T1w", str(mask), "final", {})
    assert refused.value.status_code == 404


def test_scans_are_never_deleted(datastore):
    with pytest.raises(HTTPException, match="never deleted"):
        datastore.remove_image("sub-02_T1w")
    assert Path(datastore.get_image_uri("sub-02_T1w")).is_file()


def test_a_removed_label_opens_its_scan_again_and_its_file_is_kept(datastore, study):
    written = Path(datastore.get_label_uri("sub-01_T1w", "final"))
    content = written.read_bytes()
    datastore.remove_label("sub-01_T1w", "final")
    assert "sub-01_T1w" in datastore.get_unlabeled_images()
    assert not written.exists()
    kept = list((study.state_dir / "removed").iterdir())
    assert [f.read_bytes() for f in kept] == [content]


def test_info_is_merged_not_replaced(datastore):
    datastore.update_image_info("sub-02_T1w", {"site": "a"})
    datastore.update_image_info("sub-02_T1w", {"quality": 2})
    info = datastore.get_image_info("sub-02_T1w")
    assert (info["site"], info["quality"]) == ("a", 2)
    datastore.update_label_info("sub-01_T1w", "final", {"checked": True})
    assert datastore.get_label_info("sub-01_T1w", "final")["imported_from"]


@pytest.mark.parametrize("key", ["sex", "Group", "AGE"])
def test_a_personal_attribute_never_gets_into_image_info(datastore, key):
    with pytest.raises(HTTPException, match=r"participants\.tsv"):
        datastore.update_image_info("sub-02_T1w", {key: "x"})
    assert key not in datastore.get_image_info("sub-02_T1w")


def test_no_answer_of_the_datastore_holds_an_attribute(datastore, study):
    ensure_prediction(study, "sub-02_T1w")
    text = json.dumps([datastore.json(), datastore.status(), datastore.datalist()]).lower()
    for word in ('"group"', '"sex"', '"age"', "subgroup", "weight", "utility"):
        assert word not in text.replace("t1-weighted", "")


def test_the_encoded_answer_is_made_again_only_after_a_change(datastore, mask, monkeypatch):
    made = []
    original = StudyDatastore.json
    monkeypatch.setattr(StudyDatastore, "json", lambda self: made.append(1) or original(self))
    first = datastore.json_bytes()
    assert datastore.json_bytes() is first
    assert len(made) == 1
    datastore.save_label("sub-02_T1w", str(mask), "final", {})
    assert "final" in json.loads(datastore.json_bytes())["objects"]["sub-02_T1w"]["labels"]
    assert len(made) == 2


def test_an_uploaded_scan_finds_its_place_in_a_bids_folder_and_is_taken_up(datastore, tmp_path):
    new = cohorts.save(tmp_path / "upload.nii.gz", cohorts.scan(30)[0])
    assert datastore.add_image("sub-30_ses-2_T1w", str(new), {}) == "sub-30_ses-2_T1w"
    path = Path(datastore.get_image_uri("sub-30_ses-2_T1w"))
    assert path.parts[-4:-1] == ("sub-30", "ses-2", "anat")
    assert path.read_bytes() == new.read_bytes()


@pytest.mark.parametrize(
    ("case_id", "sentence"), [("sub-02_T1w", "never overwritten"), ("mine", "BIDS name")]
)
def test_an_upload_neither_overwrites_a_scan_nor_breaks_the_layout(
    datastore, tmp_path, case_id, sentence
):
    new = cohorts.save(tmp_path / "upload.nii.gz", cohorts.scan(30)[0])
    before = cohorts.scan(2)[0]
    with pytest.raises(HTTPException, match=sentence):
        datastore.add_image(case_id, str(new), {})
    kept = nib.load(datastore.get_image_uri("sub-02_T1w")).get_fdata()
    np.testing.assert_array_equal(kept, before)


def test_an_uploaded_file_that_is_no_scan_is_refused(datastore, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a scan")
    with pytest.raises(HTTPException) as refused:
        datastore.add_image("sub-31_T1w", str(broken), {})
    assert refused.value.status_code == 422
    assert datastore.get_image_uri("sub-31_T1w") == ""


def test_the_archive_holds_scans_labels_and_the_listing(datastore):
    path = datastore.get_dataset_archive(None)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    Path(path).unlink()
    assert sum(n.startswith("image/") for n in names) == 2
    assert sum(n.startswith("label/") for n in names) == 2
    assert "metadata.json" in names


def test_no_datastore_v2_json_is_written(datastore, study, mask):
    datastore.save_label("sub-02_T1w", str(mask), "final", {})
    assert not list(study.images_dir.rglob("datastore_v2.json"))


def test_name_and_description_can_be_given(datastore):
    assert datastore.name() == "studies"
    datastore.set_name("memory clinic")
    datastore.set_description("baseline scans")
    assert (datastore.name(), datastore.description()) == ("memory clinic", "baseline scans")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("/tmp/x.y.NRRD", ".nrrd"),
        ("s.seg.nrrd", ".seg.nrrd"),
        ("a.exe", ""),
    ],
)
def test_the_type_of_a_file_is_read_from_its_end(name, suffix):
    assert suffix_of(name) == suffix
