"""Maps: by hand on small volumes, one case in memory, every bad file refused by its name."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.volumes import VolumeError, write_image, write_mask
from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.voxelwise import qu_brats, rescale_uncertainty
from fair_strategy.workflows.audit.audit import Source, read_evidence, run_audit
from fair_strategy.workflows.audit.layout import find_cases, parse_regions
from fair_strategy.workflows.audit.maps import read_maps
from fair_strategy.workflows.audit.settings import AuditSettings
from tests import audit_tables as tables

SETTINGS = AuditSettings(draws=50)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (8, 9, 7)


def labels(seed: int) -> np.ndarray:
    """1 around 2, in a corner."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:6, 1 : 5 + seed % 3, 1:5] = 1
    array[2:4, 2:4, 2:4] = 2
    return array


def write_case(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference, predicted = labels(seed), np.roll(labels(seed), 1, axis=1)
    doubt = rng.uniform(0, 0.7, SHAPE).astype(np.float32)
    write_mask(folder / "reference.nii.gz", reference, AFFINE)
    write_mask(folder / "prediction.nii.gz", predicted, AFFINE)
    write_image(folder / "uncertainty.nii.gz", doubt, AFFINE)
    return reference, predicted, doubt


def write_cases(folder: Path, n: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [write_case(folder / name, seed) for seed, name in enumerate(tables.names(n))]


def read(folder: Path, **given):
    return read_evidence(Source(folder, **given), "segmentation", SETTINGS)


def test_regions_are_sets_of_labels_and_scores_those_of_the_plain_measures(tmp_path):
    cases = write_cases(tmp_path, 3)
    evidence = read(tmp_path, regions="whole=1+2,core=2")
    assert [target.name for target in evidence.targets] == ["whole", "core"]
    low = min(float(doubt.min()) for *_, doubt in cases)
    high = max(float(doubt.max()) for *_, doubt in cases)
    for target, values in zip(evidence.targets, ((1, 2), (2,)), strict=True):
        for place, (reference, predicted, doubt) in enumerate(cases):
            r, p = np.isin(reference, values), np.isin(predicted, values)
            assert target.named("dice").rows[place] == pytest.approx(dice(p, r))
            expected = qu_brats(p, r, rescale_uncertainty(doubt, low=low, high=high))
            assert target.named("qu_brats").rows[place] == pytest.approx(expected.score)
            assert target.named("reference_volume_mm3").rows[place] == 2.0 * r.sum()


def test_without_regions_every_label_of_the_references_is_one(tmp_path):
    write_cases(tmp_path, 2)
    assert [target.name for target in read(tmp_path).targets] == ["label 1", "label 2"]


def test_a_probability_gives_prediction_entropy_and_calibration(tmp_path):
    for name in ("a", "b"):
        reference = labels(0) == 1
        probability = np.where(reference, 0.75, 0.0625).astype(np.float32)
        write_mask(tmp_path / name / "reference.nii.gz", reference, AFFINE)
        write_image(tmp_path / name / "probability.nii.gz", probability, AFFINE)
    (target,) = read(tmp_path).targets
    assert target.named("dice").rows.tolist() == [1.0, 1.0]
    # Everything is right; the claims are .75 inside and .9375 outside.
    counts = target.counts[0]
    assert counts.observed.sum() == counts.n
    assert set(np.flatnonzero(counts.counts)) == {7, 9}
    assert target.named("overconfidence").rows[0] == pytest.approx(
        -(0.25 * counts.counts[7] + 0.0625 * counts.counts[9]) / counts.n, abs=1e-6
    )


def test_nnunet_folders_tell_the_same_as_a_folder_a_case(tmp_path):
    rng = np.random.default_rng(5)
    for name in ("a", "b"):
        logits = rng.normal(size=(3, *SHAPE)) + 3 * (np.arange(3)[:, None, None, None] == labels(0))
        probs = np.exp(logits) / np.exp(logits).sum(axis=0)
        probs = probs.astype(np.float32)
        predicted = probs.argmax(axis=0).astype(np.uint8)
        write_mask(tmp_path / "flat" / f"{name}.nii.gz", predicted, AFFINE)
        np.savez(tmp_path / "flat" / f"{name}.npz", probabilities=probs.transpose(0, 3, 2, 1))
        write_mask(tmp_path / "labels" / f"{name}.nii.gz", labels(0), AFFINE)
        case = tmp_path / "cases" / name
        write_mask(case / "prediction.nii.gz", predicted, AFFINE)
        write_mask(case / "reference.nii.gz", labels(0), AFFINE)
        write_image(case / "probability_outer.nii.gz", probs[1], AFFINE)
        write_image(case / "probability_inner.nii.gz", probs[2], AFFINE)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "outer": 1, "inner": 2}}')
    flat = read(
        tmp_path / "flat", references=tmp_path / "labels", regions=str(tmp_path / "dataset.json")
    )
    cases = read(tmp_path / "cases", regions="outer=1,inner=2")
    for one, other in zip(flat.targets, cases.targets, strict=True):
        for name in ("dice", "qu_brats", "overconfidence"):
            assert one.named(name).rows == pytest.approx(other.named(name).rows, abs=1e-6)
        assert one.uncertainty == pytest.approx(other.uncertainty)


def test_empty_masks_are_flagged_and_nothing_is_dropped(tmp_path):
    write_cases(tmp_path, 3)
    empty = np.zeros(SHAPE, np.uint8)
    write_mask(tmp_path / "c001" / "prediction.nii.gz", empty, AFFINE)
    write_mask(tmp_path / "c002" / "reference.nii.gz", empty, AFFINE)
    evidence = read(tmp_path, regions="whole=1+2")
    flags = {(flag.case_id, flag.what) for flag in evidence.flags}
    assert ("c001", "the prediction is empty") in flags
    assert ("c002", "the reference is empty") in flags
    assert ("c001", "no value of surface_distance_mm; left out of it") in flags
    assert ("c002", "no value of volume_error; left out of it") in flags
    assert evidence.targets[0].named("dice").rows[1:].tolist() == [0.0, 0.0]
    assert evidence.n == 3


def test_memory_does_not_grow_with_the_number_of_cases(tmp_path):
    shape = (48, 48, 48)
    reference = np.zeros(shape, np.uint8)
    reference[10:30, 10:30, 10:30] = 1
    doubt = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    for name in tables.names(6):
        write_mask(tmp_path / name / "reference.nii", reference, AFFINE)
        write_mask(tmp_path / name / "prediction.nii", reference, AFFINE)
        write_image(tmp_path / name / "uncertainty.nii", doubt, AFFINE)
    cases = find_cases(tmp_path)
    peaks = []
    for n in (2, 6):
        tracemalloc.start()
        read_maps(cases[:n], {"all": (1,)}, SETTINGS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Four more cases add less than the voxels of one map.
    assert peaks[1] - peaks[0] < doubt.nbytes / 4


def test_all_equal_uncertainties_are_flagged(tmp_path):
    write_cases(tmp_path, 2)
    for name in tables.names(2):
        write_image(tmp_path / name / "uncertainty.nii.gz", np.zeros(SHAPE), AFFINE)
    evidence = read(tmp_path, regions="whole=1+2")
    assert any("all uncertainties are equal" in flag.what for flag in evidence.flags)
    assert evidence.targets[0].volumes is None


def break_shape(case: Path) -> None:
    write_image(case / "uncertainty.nii.gz", np.zeros((8, 9, 6)), AFFINE)


def break_nan(case: Path) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[0, 0, 0] = np.nan
    write_image(case / "uncertainty.nii.gz", array, AFFINE)


def break_missing(case: Path) -> None:
    (case / "uncertainty.nii.gz").unlink()


def break_reference(case: Path) -> None:
    (case / "reference.nii.gz").unlink()


def break_prediction(case: Path) -> None:
    (case / "prediction.nii.gz").unlink()


def break_probability(case: Path) -> None:
    write_image(case / "probability_whole.nii.gz", np.full(SHAPE, 2.0), AFFINE)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_shape, r"c001/uncertainty.nii.gz: this map \(shape \(8, 9, 6\)"),
        (break_nan, r"c001/uncertainty.nii.gz: 1 of 504 voxels are NaN"),
        (break_missing, r"case c001 has no uncertainty, which case c000 has"),
        (break_reference, r"c001: no reference.nii.gz"),
        (break_prediction, r"c001: neither prediction.nii.gz nor probability"),
        (break_probability, r"case c000 has no probability_whole, which case c001 has"),
    ],
)
def test_bad_maps_are_refused_by_their_name(tmp_path, damage, said):
    write_cases(tmp_path, 2)
    damage(tmp_path / "c001")
    with pytest.raises((VolumeError, CohortError), match=said):
        read(tmp_path, regions="whole=1+2")


def test_probabilities_that_do_not_sum_to_one_or_leave_0_to_1_are_refused(tmp_path):
    for folder, values, said in (
        ("sum", (0.6, 0.5), r"voxel \(0, 0, 0\) sum to 1.1"),
        ("logits", (-3.0, 4.0), "give probabilities, not logits"),
    ):
        root = tmp_path / folder
        write_mask(root / "p" / "a.nii.gz", labels(0) > 0, AFFINE)
        write_mask(root / "r" / "a.nii.gz", labels(0) > 0, AFFINE)
        probs = np.stack([np.full(SHAPE[::-1], value) for value in values])
        np.savez(root / "p" / "a.npz", probabilities=probs)
        with pytest.raises(VolumeError, match=said):
            read(root / "p", references=root / "r")


def test_flat_folders_with_other_cases_are_refused(tmp_path):
    write_mask(tmp_path / "p" / "a.nii.gz", labels(0) > 0, AFFINE)
    write_mask(tmp_path / "r" / "b.nii.gz", labels(0) > 0, AFFINE)
    with pytest.raises(CohortError, match="hold different cases, such as a, b"):
        read(tmp_path / "p", references=tmp_path / "r")


@pytest.mark.parametrize("text", ["WT", "WT=a", "=1", "A=1,A=2"])
def test_regions_that_cannot_be_read_are_refused(text):
    with pytest.raises(CohortError, match="regions"):
        parse_regions(text)


def test_at_tau_100_the_curve_of_voxels_is_the_plain_dice(tmp_path):
    write_cases(tmp_path / "maps", 10)
    people = tables.participants(tmp_path, tables.groups(10))
    source = Source(tmp_path / "maps", regions="whole=1+2")
    audit = run_audit([source], "segmentation", people, ["group"], settings=SETTINGS)[0][0]
    curve = next(c for c in audit.curves if c.kind == "voxels")
    plain = next(r for r in audit.results if r.measure.name == "dice")
    for name in "AB":
        assert curve.metric.by_group[name][-1] == pytest.approx(plain.by_group[name].value)
    assert curve.gap[-1] == pytest.approx(plain.gap.value)
