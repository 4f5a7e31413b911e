"""Consensus of masks whose answer is known, and STAPLE against its own formulas."""

import itertools

import numpy as np
import pytest

from fair_strategy.workflows.consensus import STAPLE_MARGIN, consensus

METHODS = ("staple", "majority")


def line(*voxels: int) -> np.ndarray:
    """A mask of 12 voxels in a row."""
    mask = np.zeros((12, 1, 1), np.uint8)
    mask[list(voxels), 0, 0] = 1
    return mask


def drawn(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask.ravel()).tolist()


def block(*slices: slice) -> np.ndarray:
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[slices] = 1
    return mask


def staple_by_its_formulas(masks: list[np.ndarray], rounds: int = 500) -> np.ndarray:
    """Warfield 2004, equations 14 to 20, on the whole array."""
    votes = np.stack([mask.ravel() != 0 for mask in masks])
    prior = votes.mean()
    sensitivity = specificity = np.full(len(masks), 0.99999)
    for _ in range(rounds):
        p, q = sensitivity[:, None], specificity[:, None]
        a = prior * np.where(votes, p, 1 - p).prod(axis=0)
        b = (1 - prior) * np.where(votes, 1 - q, q).prod(axis=0)
        weight = a / (a + b)
        sensitivity = (votes * weight).sum(axis=1) / weight.sum()
        specificity = (~votes * (1 - weight)).sum(axis=1) / (1 - weight).sum()
    return weight.reshape(masks[0].shape)


def test_majority_of_three_is_what_two_of_them_drew():
    masks = [line(2, 3, 4), line(3, 4, 5), line(4, 5, 6)]
    # Votes: 2: one, 3: two, 4: three, 5: two, 6: one.
    assert drawn(consensus(masks, "majority")) == [3, 4, 5]


def test_majority_of_four_needs_three_and_of_two_both():
    four = [line(2, 3), line(2, 3), line(3, 4), line(3, 4)]
    assert drawn(consensus(four, "majority")) == [3]
    assert drawn(consensus([line(2, 3), line(3, 4)], "majority")) == [3]


@pytest.mark.parametrize("method", METHODS)
def test_two_who_agree_outweigh_a_third(method):
    agreed, other = block(*[slice(6, 12)] * 3), block(*[slice(9, 15)] * 3)
    np.testing.assert_array_equal(consensus([agreed, other, agreed], method), agreed)


def test_staple_trusts_two_good_readers_against_three_careless_ones():
    truth = block(*[slice(5, 15)] * 3)
    rng = np.random.default_rng(3)
    good = [truth ^ (rng.random(truth.shape) < 0.01) for _ in range(2)]
    careless = [truth ^ (rng.random(truth.shape) < 0.35) for _ in range(3)]
    masks = [m.astype(np.uint8) for m in (*good, *careless)]
    errors = {method: int((consensus(masks, method) != truth).sum()) for method in METHODS}
    # Three careless votes beat two good ones: 0.35^3 of the voxels at least, some 340 of 8000.
    assert errors["majority"] > 300
    assert errors["staple"] < 160


def test_staple_is_what_its_formulas_give():
    rng = np.random.default_rng(5)
    core = block(*[slice(STAPLE_MARGIN, 20 - STAPLE_MARGIN)] * 3)
    masks = [(core ^ ((rng.random(core.shape) < rate) & (core == 1))) for rate in (0.1, 0.2, 0.3)]
    masks[2][0, 0, 0] = masks[2][-1, -1, -1] = 1  # the box around all masks is the whole array
    expected = staple_by_its_formulas(masks)
    clear = np.abs(expected - 0.5) > 1e-3
    assert clear.all()
    np.testing.assert_array_equal(consensus(masks, "staple"), expected > 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_of_two_readers_what_both_drew_is_left(method):
    first, second = block(*[slice(5, 13)] * 3), block(*[slice(7, 15)] * 3)
    inner = block(*[slice(8, 12)] * 3)
    np.testing.assert_array_equal(consensus([first, second], method), first & second)
    np.testing.assert_array_equal(consensus([first, inner], method), inner)


@pytest.mark.parametrize("method", METHODS)
def test_equal_masks_stay_and_empty_ones_are_masks_too(method):
    full, empty = block(*[slice(5, 9)] * 3), block(slice(0, 0))
    np.testing.assert_array_equal(consensus([full, full], method), full)
    assert not consensus([empty, empty, empty], method).any()
    np.testing.assert_array_equal(consensus([full], method), full)
    np.testing.assert_array_equal(consensus([full, full, empty], method), full)
    assert not consensus([full, empty], method).any()


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_readers_does_not_matter_and_the_masks_stay_as_they_are(method):
    rng = np.random.default_rng(1)
    masks = [(rng.random((9, 8, 7)) < 0.5).astype(np.uint8) for _ in range(3)]
    before = [mask.copy() for mask in masks]
    results = [consensus(order, method) for order in itertools.permutations(masks)]
    for result in results:
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_array_equal(masks, before)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_drawn_does_not_depend_on_how_much_emptiness_is_around(method):
    masks = [block(*[slice(start, start + 6)] * 3) for start in (6, 7, 8)]
    padded = [np.pad(mask, 12) for mask in masks]
    inside = (slice(12, -12),) * 3
    np.testing.assert_array_equal(consensus(padded, method)[inside], consensus(masks, method))


@pytest.mark.parametrize("method", METHODS)
def test_what_are_no_masks_of_one_scan_is_refused(method):
    with pytest.raises(ValueError, match="at least one"):
        consensus([], method)
    with pytest.raises(ValueError, match=r"differ in shape: \(12, 1, 1\), \(20, 20, 20\)"):
        consensus([line(1), block(slice(1))], method)
    with pytest.raises(ValueError, match="0 and 1 only"):
        consensus([2 * line(1), line(1)], method)
