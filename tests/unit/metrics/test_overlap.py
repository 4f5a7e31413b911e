"""Dice and volume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from fair_strategy.metrics.overlap import dice, volume_mm3

MASKS = arrays(np.bool_, (3, 4, 2))


def test_dice_of_four_and_two_voxels_that_share_one_is_a_third():
    prediction = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    reference = np.array([0, 0, 0, 1, 1, 0], dtype=bool)
    # 2 * 1 / (4 + 2)
    assert dice(prediction, reference) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [([0, 0], [0, 0], 1.0), ([1, 0], [0, 0], 0.0), ([0, 0], [1, 1], 0.0), ([1, 0], [0, 1], 0.0)],
)
def test_dice_is_defined_for_empty_and_disjoint_masks(prediction, reference, expected):
    assert dice(np.array(prediction), np.array(reference)) == expected


@given(MASKS, MASKS)
@settings(deadline=None, max_examples=50)
def test_dice_is_symmetric_and_between_zero_and_one(a, b):
    assert dice(a, b) == dice(b, a)
    assert 0 <= dice(a, b) <= 1
    assert dice(a, a) == 1


@given(MASKS, MASKS)
@settings(deadline=None, max_examples=30)
def test_dice_agrees_with_scikit_learns_f1(a, b):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.f1_score(b.ravel(), a.ravel(), zero_division=1.0)
    assert dice(a, b) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_dice_agrees_with_monai():
    monai_metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    metric = monai_metrics.DiceMetric(include_background=True, ignore_empty=False)
    for _ in range(5):
        a, b = rng.random((2, 4, 5, 6)) < 0.4
        metric(*(torch.as_tensor(m[None, None].astype(np.float32)) for m in (a, b)))
        assert dice(a, b) == pytest.approx(metric.aggregate().item(), rel=1e-6)
        metric.reset()


def test_a_label_map_is_refused_instead_of_multiplied():
    with pytest.raises(ValueError, match="prediction must be boolean or hold 0 and 1 only"):
        dice(np.array([0, 2, 2]), np.array([0, 1, 1]))


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(3, 2\)"):
        dice(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_nan_in_a_mask_is_refused():
    with pytest.raises(ValueError, match="hold 0 and 1 only"):
        dice(np.array([0.0, np.nan]), np.array([0, 1]))


def test_volume_of_three_voxels_of_one_by_two_by_half_a_millimetre_is_three():
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0, 0, :] = mask[1, 1, 1] = 1
    assert volume_mm3(mask, (1.0, 2.0, 0.5)) == pytest.approx(3.0)
    assert volume_mm3(np.zeros((2, 2, 2), bool), (1, 1, 1)) == 0


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, np.nan)])
def test_a_spacing_that_is_not_three_positive_numbers_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing_mm must be three positive numbers"):
        volume_mm3(np.ones((2, 2, 2), bool), spacing)
