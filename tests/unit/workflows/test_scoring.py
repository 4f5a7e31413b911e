import nibabel
import numpy as np
import pytest

from fair_strategy.data.volumes import read_image, read_mask
from fair_strategy.learning.inference import predict
from fair_strategy.store import cases, predictions, scores
from fair_strategy.workflows import outcomes
from fair_strategy.workflows.desk import next_case
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import ensure_prediction, score_study
from tests.helpers import AFFINE, SHAPE, blob


def test_one_run_scores_every_case_and_a_second_has_nothing_to_do(make_study):
    study = make_study("AAB")
    assert score_study(study).scored == 3
    assert score_study(study).scored == 0
    found = scores.scores(study.store, current_model(study).checksum, study.settings_hash)
    assert set(found) == {"sub-01_T1w", "sub-02_T1w", "sub-03_T1w"}


def test_every_variant_follows_from_the_stored_map(make_study):
    study = make_study("A")
    score_study(study)
    model = current_model(study).checksum
    score = scores.scores(study.store, model, study.settings_hash)["sub-01_T1w"]
    record = cases.case(study.store, "sub-01_T1w")
    stored = predictions.read_prediction(study.state_dir, model, record.case_id, record.fingerprint)
    total = stored.entropy.astype(float).sum()
    assert score.entropies["entropy_sum"] == pytest.approx(total, rel=1e-2)
    assert score.entropies["entropy"] == pytest.approx(total / np.prod(SHAPE), rel=1e-2)
    assert score.volume_mm3 == pytest.approx(stored.mask.sum() * 8.0)


def test_a_score_keeps_what_the_deepest_level_made_of_the_scan(make_study):
    study = make_study("AB", labelled=1)
    score_study(study)
    model = current_model(study)
    kept = scores.features(study.store, model.checksum, study.settings_hash)
    assert list(kept) == ["sub-01_T1w", "sub-02_T1w"]  # the labelled one too
    volume = read_image(cases.case(study.store, "sub-02_T1w").path)
    made = predict(model, volume, passes=1, seed=study.settings.seed).features
    np.testing.assert_array_equal(kept["sub-02_T1w"], made.astype(np.float16))


def test_a_run_that_was_stopped_goes_on_where_it_was(make_study):
    study = make_study("AAB")
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > 1

    assert score_study(study, stop=stop).scored == 1
    assert score_study(study).scored == 2


def test_an_unreadable_volume_is_left_out_and_the_run_goes_on(make_study):
    study = make_study("AAB")
    broken = study.images_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])

    refresh(study)
    report = score_study(study)
    assert report.scored == 2
    assert "sub-02_T1w.nii.gz" in report.unreadable["sub-02_T1w"]
    assert "sub-02_T1w" not in cases.unlabelled_ids(study.store)


def test_a_replaced_file_is_scored_again(make_study):
    from fair_strategy.data.volumes import write_image

    study = make_study("AA")
    score_study(study)
    write_image(study.images_dir / "sub-01/anat/sub-01_T1w.nii.gz", blob(99)[0], AFFINE)
    refresh(study)
    assert scores.unscored(study.store, current_model(study).checksum, study.settings_hash) == [
        "sub-01_T1w"
    ]


def test_a_prediction_made_for_one_reader_is_a_score_too(make_study):
    study = make_study("AA")
    stored = ensure_prediction(study, "sub-02_T1w")
    assert tuple(stored.shape) == SHAPE
    assert scores.unscored(study.store, stored.model, study.settings_hash) == ["sub-01_T1w"]
    assert ensure_prediction(study, "sub-02_T1w").model == stored.model


def test_masks_found_in_the_folder_become_labels_once(make_study):

    study = make_study("AAB", labelled=2)
    assert cases.labelled_ids(study.store) == ["sub-01_T1w", "sub-02_T1w"]
    imported = cases.label(study.store, "sub-01_T1w")
    assert np.array_equal(read_mask(imported.path).array, blob(1)[1])
    assert imported.info == {"imported_from": "sub-01_hemi-L_label-caudate_desc-manual_mask.nii.gz"}
    cases.delete_label(study.store, "sub-01_T1w", "final")
    refresh(study)
    assert cases.labelled_ids(study.store) == ["sub-02_T1w"]


def test_a_volume_that_the_network_cannot_take_is_left_out_and_the_run_goes_on(
    make_study, monkeypatch
):
    study = make_study("AAB")
    real = outcomes.predict
    asked = []

    def sometimes(model, volume, **options):
        asked.append(float(volume.array.sum()))
        if asked[-1] == asked[0]:  # however often it is tried
            raise RuntimeError("can't allocate memory: tried 1 TB")
        return real(model, volume, **options)

    monkeypatch.setattr(outcomes, "predict", sometimes)
    report = score_study(study)
    assert report.scored == 2
    assert "can't allocate memory" in report.unreadable["sub-01_T1w"]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((*SHAPE, 3), np.float32), "3"),
        (np.full(SHAPE, np.nan, np.float32), "NaN"),
        (np.zeros(SHAPE, np.float32), "every voxel is zero"),
    ],
)
def test_a_bad_scan_is_named_and_neither_scoring_nor_next_sample_stops(make_study, array, sentence):
    study = make_study("AAB")
    path = study.images_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    refresh(study)
    report = score_study(study)
    make_plans(study)
    assert report.scored == 2
    assert sentence in report.unreadable["sub-02_T1w"]
    assert path.name in report.unreadable["sub-02_T1w"]
    handed = {next_case(study, "weighted_entropy", f"reader-{i}").case_id for i in range(2)}
    assert handed == {"sub-01_T1w", "sub-03_T1w"}
    assert next_case(study, "weighted_entropy", "reader-3") is None


def test_progress_is_told_of_a_volume_when_its_score_is_in_the_store(make_study):
    study = make_study("AABB")
    model, told = current_model(study).checksum, []

    def progress(done: int, total: int) -> None:
        stored = len(scores.scores(study.store, model, study.settings_hash))
        told.append((done, total, stored >= done))

    assert score_study(study, progress=progress).scored == 4
    assert told == [(1, 4, True), (2, 4, True), (3, 4, True), (4, 4, True)]


def test_what_was_computed_before_an_error_is_kept(make_study, monkeypatch):
    study = make_study("AABB")
    real, left = outcomes.predict, iter(range(3))

    def fails_at_the_third(*given, **named):
        if next(left) == 2:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(outcomes, "predict", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        score_study(study)
    found = scores.scores(study.store, current_model(study).checksum, study.settings_hash)
    assert list(found) == [c.case_id for c in cases.cases(study.store)][:2]


def test_a_disk_that_cannot_be_written_ends_the_run_with_its_own_error(make_study, monkeypatch):
    study = make_study("AABB")
    written = []

    def full(state_dir, record):
        if written:
            raise OSError(28, "No space left on device")
        written.append(record.case_id)

    monkeypatch.setattr(outcomes.predictions, "write_prediction", full)
    with pytest.raises(OSError, match="No space left"):
        score_study(study)
    found = scores.scores(study.store, current_model(study).checksum, study.settings_hash)
    assert set(found) <= set(written)
