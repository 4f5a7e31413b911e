import shutil

import numpy as np
import pytest

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import read_mask, write_mask
from fair_strategy.store import cases, scores
from fair_strategy.workflows.desk import submit
from fair_strategy.workflows.intake import import_masks, prepare
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import StudyError, default_state_dir, open_study
from tests.helpers import AFFINE, blob, write_cohort, write_model


def study_of(images, tmp_path, **settings):
    return open_study(
        images,
        StudySettings(**{"validation_per_group": 0, **settings}),
        state_dir=tmp_path / "state",
        shipped_model=write_model(tmp_path / "model" / "shipped.pt"),
    )


def test_one_structure_of_a_multi_label_map_is_imported_beside_plain_masks(tmp_path):
    images = write_cohort(tmp_path / "images", "AB", labelled=1)
    folder = images / "derivatives" / "freesurfer" / "sub-02" / "anat"
    name = "sub-02_desc-aseg_dseg.nii.gz"
    write_mask(folder / name, blob(2)[1] * 11 + (1 - blob(2)[1]) * 50, AFFINE)
    study = study_of(images, tmp_path, label_value=11)
    prepare(study)
    for number in (1, 2):
        label = cases.label(study.store, f"sub-{number:02d}_T1w")
        assert np.array_equal(read_mask(label.path).array, blob(number)[1])


def test_stock_labels_are_imported_without_the_stock_store(tmp_path):
    images = tmp_path / "flat"
    write_cohort(tmp_path / "bids", "A")
    images.mkdir()
    (tmp_path / "bids/sub-01/anat/sub-01_T1w.nii.gz").rename(images / "scan1.nii.gz")
    write_mask(images / "labels/final/scan1.nii.gz", blob(1)[1], AFFINE)
    (images / "datastore_v2.json").write_text("{}")
    study = study_of(images, tmp_path)
    prepare(study)
    assert cases.labelled_ids(study.store) == ["scan1"]
    assert (images / "datastore_v2.json").read_text() == "{}"


def test_a_mask_of_another_grid_is_reported_and_the_others_come_in(tmp_path):
    images = write_cohort(tmp_path / "images", "AB", labelled=2)
    name = "sub-01_hemi-L_label-caudate_desc-manual_mask.nii.gz"
    path = images / "derivatives/labels/sub-01/anat" / name
    write_mask(path, np.ones((5, 5, 5), np.uint8), AFFINE)
    study = study_of(images, tmp_path)
    prepare(study)
    assert cases.labelled_ids(study.store) == ["sub-02_T1w"]
    from fair_strategy.data import bids

    failed = import_masks(study, bids.walk(images))
    assert "shape" in failed["sub-01_T1w"]


def test_the_start_says_that_fairness_is_off_and_which_columns_there_are(tmp_path):
    images = write_cohort(tmp_path / "images", "AB")
    (images / "participants.tsv").write_text("participant_id\tsex\tage\nsub-01\tF\t60\n")
    [note] = prepare(study_of(images, tmp_path))
    assert note.startswith("FAIRNESS WEIGHTING IS OFF")
    assert "sex" in note
    assert "age" in note


def test_the_start_counts_the_subjects_without_a_subgroup(tmp_path):
    images = write_cohort(tmp_path / "images", "AB")
    (images / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tA\n")
    assert prepare(study_of(images, tmp_path)) == ["1 of 2 subjects have no subgroup: 'unknown'"]


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_without_a_model_the_study_starts_and_says_which_file_it_missed(tmp_path, content):
    images = write_cohort(tmp_path / "images", "AB")
    study = study_of(images, tmp_path)
    study.shipped_model.unlink()
    if content is not None:
        study.shipped_model.write_bytes(content)
    [note] = prepare(study)
    assert "shipped.pt" in note


def test_what_is_no_folder_is_refused_by_name(tmp_path):
    with pytest.raises(StudyError, match="nowhere"):
        open_study(tmp_path / "nowhere", shipped_model=tmp_path / "model.pt")


def test_the_state_of_two_folders_of_one_name_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    one, two = (default_state_dir(tmp_path / parent / "scans") for parent in ("a", "b"))
    assert one != two
    assert one.parent == two.parent == tmp_path / "data" / "fair_strategy"


def test_masks_go_into_the_state_directory_where_the_scans_are_read_only(tmp_path, monkeypatch):
    images = write_cohort(tmp_path / "images", "A")
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).startswith(str(images)))
    study = study_of(images, tmp_path)
    assert study.derivatives_root == tmp_path / "state" / "derivatives" / "fair_caudate"


def test_settings_are_kept_with_the_study_in_versions(tmp_path):
    images = write_cohort(tmp_path / "images", "A")
    first = study_of(images, tmp_path)
    second = study_of(images, tmp_path, rule="softmax")
    again = open_study(images, state_dir=tmp_path / "state", shipped_model=first.shipped_model)
    assert second.settings_version == first.settings_version + 1
    assert again.settings == second.settings
    assert again.settings_version == second.settings_version


def test_masks_that_went_with_their_folder_are_imported_again_and_submitted_ones_are_missed(
    tmp_path,
):
    import shutil

    from fair_strategy.workflows.rounds import training_cases

    images = write_cohort(tmp_path / "images", "ABA", labelled=2)
    study = study_of(images, tmp_path)
    prepare(study)
    write_mask(tmp_path / "mask.nii.gz", blob(3)[1], AFFINE)
    submit(study, "sub-03_T1w", tmp_path / "mask.nii.gz", client_id="anna")
    shutil.rmtree(images / "derivatives" / "fair_caudate")
    [note] = prepare(study)
    assert note.startswith("1 submitted masks are gone")
    assert cases.label(study.store, "sub-01_T1w").path.exists()
    assert {c.subject_id for c in training_cases(study)[0]} == {"sub-01", "sub-02"}


def test_a_map_of_labels_is_no_caudate_until_somebody_says_which_value_is(tmp_path):
    images = write_cohort(tmp_path / "images", "A")
    folder = images / "derivatives" / "freesurfer" / "sub-01" / "anat"
    write_mask(folder / "sub-01_desc-aseg_dseg.nii.gz", blob(1)[1] * 50, AFFINE)
    study = study_of(images, tmp_path)
    prepare(study)
    assert cases.labelled_ids(study.store) == []


def test_a_broken_table_is_named_and_the_study_stays_up(tmp_path):
    images = write_cohort(tmp_path / "images", "AB")
    (images / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tA\nsub-01\tB\n")
    [note] = prepare(study_of(images, tmp_path))
    assert "participants.tsv" in note
    assert "sub-01" in note


def test_a_mask_that_is_submitted_again_keeps_the_one_before(tmp_path):
    images = write_cohort(tmp_path / "images", "AB")
    study = study_of(images, tmp_path)
    prepare(study)
    for number in (1, 2):
        write_mask(tmp_path / "mask.nii.gz", blob(number)[1], AFFINE)
        submit(study, "sub-01_T1w", tmp_path / "mask.nii.gz", client_id="anna")
    [kept] = (study.state_dir / "replaced").iterdir()
    assert np.array_equal(read_mask(kept).array, blob(1)[1])


def test_scores_without_their_predictions_are_made_again_at_the_next_start(tmp_path):
    study = study_of(write_cohort(tmp_path / "images", "AABB"), tmp_path)
    prepare(study)
    score_study(study)
    model = current_model(study).checksum
    before = scores.scores(study.store, model, study.settings_hash)
    (study.state_dir / "predictions" / model / "sub-02_T1w.npz").unlink()
    assert prepare(study) == ["predictions that are gone: 1; their scans are scored again"]
    assert scores.unscored(study.store, model, study.settings_hash) == ["sub-02_T1w"]
    shutil.rmtree(study.state_dir / "predictions")  # as in a backup without them
    assert prepare(study) == ["predictions that are gone: 3; their scans are scored again"]
    assert score_study(study).scored == 4
    again = scores.scores(study.store, model, study.settings_hash)
    assert {i: s.entropies for i, s in again.items()} == {i: s.entropies for i, s in before.items()}
    assert prepare(study) == []
