import dataclasses
import json
import time

import nibabel
import numpy as np
import pytest

from fair_strategy.data.volumes import VolumeError, read_image, read_mask, write_mask
from fair_strategy.store import cases, plans
from fair_strategy.store.errors import UnknownCaseError
from fair_strategy.workflows import review
from fair_strategy.workflows.desk import SHARED_CLIENT, next_case, submit
from fair_strategy.workflows.performance import compare_labels, study_performance
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.showing import entropy_volume, markups, original, segmentation
from tests.helpers import AFFINE, SHAPE, blob
from tests.unit.workflows.readers import assert_no_field_tells_the_group


@pytest.fixture
def study(make_study):
    study = make_study("AABB", estimator="prequential")
    score_study(study)
    make_plans(study)
    return study


def mask_file(folder, number=1, *, affine=AFFINE, suffix=".nii.gz", array=None):
    path = folder / f"submission{suffix}"
    write_mask(path, blob(number)[1] if array is None else array, affine)
    return path


def test_two_readers_never_hold_the_same_scan(study):
    held = [next_case(study, "weighted_entropy", f"reader-{i}").case_id for i in range(4)]
    assert len(set(held)) == 4
    assert next_case(study, "weighted_entropy", "reader-5") is None


def test_asking_again_skips_and_a_shared_client_id_skips_nothing(study):
    first = next_case(study, "weighted_entropy", "anna").case_id
    second = next_case(study, "weighted_entropy", "anna").case_id
    assert second != first
    assert next_case(study, "weighted_entropy", "ben").case_id == first
    shared = {next_case(study, "weighted_entropy", SHARED_CLIENT).case_id for _ in range(2)}
    assert len(shared) == 2
    assert next_case(study, "weighted_entropy", SHARED_CLIENT) is None


@pytest.mark.parametrize("jump_s", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_wall_clock_that_is_set_neither_ends_nor_prolongs_a_lease(study, monkeypatch, jump_s):
    lease_s, began, wall = 60.0 * study.settings.lease_minutes, 1000.0, time.time()
    held = next_case(study, "weighted_entropy", "anna", now=began).case_id
    monkeypatch.setattr(time, "time", lambda: wall + jump_s)
    assert review.hold(study, held, "anna", now=began + 1.0).seconds_left == lease_s - 1.0
    last = began + lease_s - 0.001
    others = {next_case(study, "weighted_entropy", f"reader-{n}", now=last) for n in range(4)}
    assert held not in {other.case_id for other in others if other is not None}
    assert not review.hold(study, held, "anna", now=began + lease_s).held
    assert next_case(study, "weighted_entropy", "ben", now=began + lease_s).case_id == held


def test_a_lease_expires_and_the_scan_is_handed_out_again(study):
    study = dataclasses.replace(
        study, settings=study.settings.model_copy(update={"lease_minutes": 1.0})
    )
    first = next_case(study, "weighted_entropy", "anna", now=1000.0)
    assert next_case(study, "weighted_entropy", "ben", now=1059.0).case_id != first.case_id
    assert next_case(study, "weighted_entropy", "carl", now=1061.0).case_id == first.case_id


def test_a_submission_is_on_disk_in_the_scans_grid_and_ends_the_lease(study, tmp_path):
    handed = next_case(study, "weighted_entropy", "anna")
    record = submit(
        study,
        handed.case_id,
        mask_file(tmp_path),
        info={"label_info": [{"name": "left_caudate", "idx": 1}]},
        client_id="anna",
    )
    written = read_mask(record.path)
    assert np.array_equal(written.array, blob(1)[1])
    assert np.allclose(written.affine, AFFINE)
    assert "derivatives/fair_caudate/sub-" in str(record.path)
    assert plans.lease_of(study.store, handed.case_id) is None
    assert handed.case_id not in cases.unlabelled_ids(study.store)


def test_a_mask_with_flipped_axes_comes_back_onto_the_scans_voxels(study, tmp_path):
    flipped = AFFINE @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] += AFFINE[:3, :3] @ [SHAPE[0] - 1, 0, 0]
    path = mask_file(tmp_path, affine=flipped, suffix=".nrrd", array=blob(1)[1][::-1])
    record = submit(study, "sub-01_T1w", path)
    assert np.array_equal(read_mask(record.path).array, blob(1)[1])


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((5, 5, 5), np.uint8), r"5.*24"),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3, "several labels"),
    ],
)
def test_a_mask_of_another_grid_or_of_two_structures_changes_nothing(
    study, tmp_path, array, sentence
):
    good = submit(study, "sub-01_T1w", mask_file(tmp_path))
    before = good.path.read_bytes()
    path = tmp_path / "bad.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), AFFINE), path)
    with pytest.raises(VolumeError, match=sentence):
        submit(study, "sub-01_T1w", path)
    assert good.path.read_bytes() == before
    assert cases.label(study.store, "sub-01_T1w") == good


def test_a_truncated_submission_is_refused_by_name(study, tmp_path):
    path = mask_file(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VolumeError, match=r"submission\.nii\.gz"):
        submit(study, "sub-01_T1w", path)
    assert cases.labelled_ids(study.store) == []


def test_a_submission_for_an_unknown_scan_is_refused(study, tmp_path):
    with pytest.raises(UnknownCaseError, match="sub-77"):
        submit(study, "sub-77_T1w", mask_file(tmp_path))


def test_the_comparison_is_with_what_the_reader_saw(study, tmp_path):
    handed = next_case(study, "weighted_entropy", "anna")
    number = int(handed.case_id[4:6])
    submit(study, handed.case_id, mask_file(tmp_path, number), client_id="anna")
    label = cases.label(study.store, handed.case_id)
    assert label.seen_model is not None
    compare_labels(study)
    predicted = read_mask(original(study, handed.case_id)).array
    expected = 2 * (predicted & blob(number)[1]).sum() / (predicted.sum() + blob(number)[1].sum())
    performance = study_performance(study)
    [seen] = [p for p in performance.values() if p.n == 1]
    assert seen.mean == pytest.approx(expected)
    assert compare_labels(study) == 0


def test_an_unchanged_submission_says_nothing_about_the_model(study):
    handed = next_case(study, "weighted_entropy", "anna")
    submit(study, handed.case_id, original(study, handed.case_id), client_id="anna")
    compare_labels(study)
    assert all(p.n == 0 for p in study_performance(study).values())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_mask_and_entropy_map_lie_on_the_scans_grid(study, suffix):
    path, described = segmentation(study, "sub-01_T1w", suffix, client_id="anna")
    mask = read_mask(path)
    assert mask.array.shape == SHAPE
    assert np.allclose(mask.affine, AFFINE, atol=1e-4)
    assert described["label_names"] == {"left_caudate": 1}
    assert described["route"] in ("localised", "sliding")
    entropy = read_image(entropy_volume(study, "sub-01_T1w", suffix))
    assert 0 < entropy.array.max() <= np.log(2) + 1e-3


def test_markups_point_at_the_places_of_highest_entropy(study):
    described = markups(study, "sub-01_T1w")
    assert json.loads(json.dumps(described)) == described
    [fiducials] = described["markups"]
    assert fiducials["coordinateSystem"] == "RAS"
    first = fiducials["controlPoints"][0]["position"]
    voxel = np.rint(np.linalg.inv(AFFINE) @ [*first, 1])[:3].astype(int)
    entropy = read_image(entropy_volume(study, "sub-01_T1w")).array
    assert entropy[tuple(voxel)] == pytest.approx(entropy.max(), abs=1e-3)


def test_nothing_handed_to_a_reader_names_a_subgroup_a_weight_or_a_utility(study):
    handed = next_case(study, "weighted_entropy", "anna")
    fields = {f.name for f in dataclasses.fields(handed)}
    assert fields == {
        "case_id",
        "strategy",
        "served_by",
        "percentile",
        "stale",
        "implausible",
        "note",
    }


def test_no_field_that_a_reader_sees_tells_the_group_better_than_the_entropy_does(make_study):
    """Area under the ROC curve of each numeric field, for the subgroup, against the entropy's."""
    study = make_study("AAAABBBB", labelled=0, rule="softmax", audit_every=0)
    score_study(study)
    with study.store.transaction() as connection:  # untrained: every prediction is implausible
        connection.execute("UPDATE scores SET flags = '[]'")
    # the strongest give-away there could be: weights far apart, utilities that are the group
    make_plans(study)
    seen = []
    for reader in range(8):
        handed = next_case(study, "weighted_entropy", f"reader-{reader}")
        visible = dataclasses.asdict(handed)
        seen.append((visible.pop("case_id"), visible))
    assert_no_field_tells_the_group(study, seen)
