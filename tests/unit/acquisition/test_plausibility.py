"""Implausible predictions."""

import numpy as np
import pytest

from fair_strategy.acquisition.plausibility import PlausibleRange, implausibilities

# 1 mm voxels; voxel (10, 10, 10) is the RAS origin.
AFFINE = np.array([[1.0, 0, 0, -10], [0, 1, 0, -10], [0, 0, 1, -10], [0, 0, 0, 1]])
CENTRE = (0.0, 0.0, 0.0)
EXPECTED = PlausibleRange(
    volume_mm3=(8.0, 64.0),
    offset_mm=((-8.0, -1.0), (-3.0, 3.0), (-3.0, 3.0)),
    max_components=1,
    min_component_mm3=2.0,
)


def cube(centre_mm, edge=3):
    """A cube of odd edge about a RAS position in mm."""
    mask = np.zeros((21, 21, 21), bool)
    low = [int(c) + 10 - edge // 2 for c in centre_mm]
    mask[tuple(slice(a, a + edge) for a in low)] = True
    return mask


def flags(mask, *, affine=AFFINE, head_centre_mm=CENTRE, expected=EXPECTED):
    return implausibilities(mask, affine=affine, head_centre_mm=head_centre_mm, expected=expected)


def test_a_cube_on_the_left_is_plausible():
    assert flags(cube((-5, 0, 0))) == ()


def test_an_empty_mask_is_empty_and_nothing_else():
    assert flags(np.zeros((4, 4, 4), bool)) == ("empty",)


@pytest.mark.parametrize(("edge", "expected"), [(1, ("volume",)), (3, ()), (5, ("volume",))])
def test_volumes_of_one_and_of_a_hundred_and_twenty_five_mm3_are_outside(edge, expected):
    loose = PlausibleRange(volume_mm3=(8.0, 64.0))
    assert flags(cube((-5, 0, 0), edge), expected=loose) == expected


def test_both_ends_of_the_volume_range_belong_to_it():
    assert flags(cube((-5, 0, 0)), expected=PlausibleRange(volume_mm3=(27.0, 27.0))) == ()


def test_the_right_side_is_the_wrong_one_for_a_left_structure_and_right_for_a_right_one():
    anywhere = {"volume_mm3": (0.0, 1000.0)}
    right = cube((5, 0, 0))
    assert flags(right) == ("side", "place")
    assert flags(right, expected=PlausibleRange(**anywhere)) == ("side",)
    assert flags(right, expected=PlausibleRange(**anywhere, side="right")) == ()
    assert flags(right, expected=PlausibleRange(**anywhere, side=None)) == ()
    assert flags(cube((0, 0, 0)), expected=PlausibleRange(**anywhere)) == ()  # on the midline


def test_a_mask_too_far_up_is_out_of_place():
    assert flags(cube((-5, 0, 6))) == ("place",)


def test_place_is_judged_from_the_heads_centre_and_not_from_the_scanners_origin():
    moved = AFFINE.copy()
    moved[:3, 3] += (100.0, -40.0, 7.0)
    assert flags(cube((-5, 0, 0)), affine=moved, head_centre_mm=(100.0, -40.0, 7.0)) == ()
    assert flags(cube((-5, 0, 0)), affine=moved) == ("side", "place")


def test_the_order_in_which_a_volume_is_stored_does_not_matter():
    to_las = np.diag([-1.0, 1.0, 1.0, 1.0])
    to_las[0, 3] = 20
    for mask in (cube((-5, 0, 0)), cube((5, 0, 0)), cube((-5, 0, 6))):
        assert flags(mask[::-1], affine=AFFINE @ to_las) == flags(mask)


def test_without_a_heads_centre_neither_side_nor_place_is_judged():
    assert flags(cube((5, 0, 6)), head_centre_mm=None) == ()
    assert flags(cube((5, 0, 6), 5), head_centre_mm=None) == ("volume",)


def test_two_large_components_are_too_many_and_specks_do_not_count():
    mask = cube((-5, 0, 0))
    mask[0, 0, 0] = True  # 1 mm3, below the 2 mm3 of a component
    assert flags(mask) == ()
    mask[0, 0, 1] = True
    assert flags(mask) == ("components",)
    two = PlausibleRange(volume_mm3=(8, 64), max_components=2)
    assert flags(mask, expected=two) == ()


def test_voxels_that_touch_at_a_corner_are_one_component():
    mask = cube((-5, 0, 0))
    corner = np.argwhere(mask).max(axis=0) + 1
    mask[tuple(corner)] = True
    strict = PlausibleRange(volume_mm3=(8, 64), min_component_mm3=0)
    assert flags(mask, expected=strict) == ()


def test_the_volume_is_in_millimetres():
    affine = AFFINE @ np.diag([2.0, 1.0, 0.5, 1.0]) @ np.diag([1.5, 1, 1, 1])
    # 27 voxels of 1.5 mm3.
    expected = PlausibleRange(volume_mm3=(40.0, 41.0), side=None)
    assert flags(cube((-5, 0, 0)), affine=affine, expected=expected) == ()


def test_specks_alone_are_implausible_by_volume():
    mask = np.zeros((5, 5, 5), bool)
    mask[0, 0, 0] = True
    assert flags(mask, head_centre_mm=None) == ("volume",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume_mm3": (5, 1)}, r"volume_mm3 must be \(low, high\), got \(5, 1\)"),
        ({"volume_mm3": (np.nan, 1)}, "volume_mm3 must be"),
        ({"volume_mm3": (0, 1), "offset_mm": ((0, 1), (0, 1))}, "must hold three ranges"),
        ({"volume_mm3": (0, 1), "offset_mm": ((1, 0),) * 3}, "offset_mm must be"),
        ({"volume_mm3": (0, 1), "max_components": 0}, "max_components must be 1 or more, got 0"),
        ({"volume_mm3": (0, 1), "side": "top"}, "side must be 'left', 'right' or None, got 'top'"),
    ],
)
def test_a_range_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PlausibleRange(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affine": np.eye(3)}, "affine must be a finite 4x4 matrix"),
        ({"affine": np.zeros((4, 4))}, "affine must be invertible"),
        ({"head_centre_mm": (0, 0)}, "head_centre_mm must be three numbers or None"),
        ({"head_centre_mm": (0, 0, np.nan)}, "head_centre_mm must be three numbers or None"),
    ],
)
def test_bad_geometry_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flags(cube((-5, 0, 0)), **options)


def test_a_label_map_is_refused():
    with pytest.raises(ValueError, match="mask must be boolean or hold 0 and 1 only"):
        flags(np.full((2, 2, 2), 11))
