"""Storage order to RAS and back, and one grid onto another: nothing resampled, nothing moved."""

import itertools
import pickle

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fair_strategy.data.grids import (
    Shape,
    VolumeError,
    check_extent,
    checked_affine,
    match_grid,
    spacing_mm,
    to_ras,
)

CODES = [
    "".join(code)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for code in itertools.product(*order)
]
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def affine_of(code: str, tilt_degrees: float = 0.0) -> NDArray[np.float64]:
    """Storage axes of 0.8, 1.1 and 2.5 mm pointing to `code`, tilted around a slanting axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0.0
    for axis, (letter, length) in enumerate(zip(code, (0.8, 1.1, 2.5), strict=True)):
        row, sign = DIRECTIONS[letter]
        matrix[row, axis] = sign * length
    slant = np.array([1.0, 2.0, -1.5]) / np.linalg.norm([1.0, 2.0, -1.5])
    tilt = Rotation.from_rotvec(np.radians(tilt_degrees) * slant).as_matrix()
    matrix[:3, :3] = tilt @ matrix[:3, :3]
    matrix[:3, 3] = (-71.3, 90.0, 12.75)
    return matrix


def numbered(shape: tuple[int, int, int] = (3, 4, 5)) -> NDArray[np.int16]:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def places(array: NDArray[np.int16], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS position of each value 0, 1, 2, .., whatever the order in which they are stored."""
    where = np.argsort(array, axis=None)
    indices = np.stack(np.unravel_index(where, array.shape), axis=1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def test_there_are_48_orientations() -> None:
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("tilt", [0.0, 20.0])
@pytest.mark.parametrize("code", CODES)
def test_to_ras_moves_no_voxel_in_space_and_undo_restores_the_storage(
    code: str, tilt: float
) -> None:
    array, affine = numbered(), affine_of(code, tilt)
    kept = array.copy(), affine.copy()
    turned, turned_affine, undo = to_ras(array, affine)
    assert "".join(nib.aff2axcodes(turned_affine)) == "RAS"
    np.testing.assert_allclose(places(turned, turned_affine), places(array, affine), atol=1e-9)
    np.testing.assert_array_equal(undo(turned), array)
    assert turned.dtype == undo(turned).dtype == array.dtype
    assert turned.flags.c_contiguous
    assert undo(turned).flags.c_contiguous
    np.testing.assert_array_equal(array, kept[0])
    np.testing.assert_array_equal(affine, kept[1])


@pytest.mark.parametrize("seed", range(25))
def test_to_ras_holds_for_any_oblique_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * rng.uniform(0.3, 3.0, 3)
    affine[:3, 3] = rng.normal(0.0, 100.0, 3)
    shape = tuple(int(size) for size in rng.integers(1, 7, 3))
    array = numbered((shape[0], shape[1], shape[2]))
    turned, turned_affine, undo = to_ras(array, affine)
    np.testing.assert_allclose(places(turned, turned_affine), places(array, affine), atol=1e-9)
    np.testing.assert_array_equal(undo(turned), array)
    assert "".join(nib.aff2axcodes(turned_affine)) == "RAS"


def test_to_ras_of_an_las_volume_by_hand() -> None:
    # Two voxels along x, stored from right to left: value 7 lies at x = 0, value 9 at x = -2.
    array = np.array([7, 9]).reshape(2, 1, 1)
    turned, affine, undo = to_ras(array, np.diag([-2.0, 1.0, 1.0, 1.0]))
    assert turned.ravel().tolist() == [9, 7]
    assert affine.tolist() == [[2, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert undo(turned).ravel().tolist() == [7, 9]


def test_the_way_back_can_be_sent_to_another_process() -> None:
    array = numbered()
    turned, _, undo = to_ras(array, affine_of("PIR"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(undo))(turned), array)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
@pytest.mark.parametrize("code", CODES)
def test_a_mask_from_a_flipped_and_permuted_grid_comes_back_voxel_by_voxel(
    code: str, tilt: float
) -> None:
    image, image_affine = numbered(), affine_of("LIP", tilt)
    # The same grid stored as `code`: over RAS there, and from RAS to `code` by nibabel.
    turned, turned_affine, _ = to_ras(image, image_affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(code))
    )
    mask = nib.orientations.apply_orientation(turned, turn)
    mask_affine = turned_affine @ nib.orientations.inv_ornt_aff(turn, turned.shape)
    assert "".join(nib.aff2axcodes(mask_affine)) == code
    back = match_grid(mask, mask_affine, image.shape, image_affine)
    np.testing.assert_array_equal(back, image)
    assert back.dtype == image.dtype
    assert back.flags.c_contiguous


def test_match_grid_bears_the_rounding_of_a_float32_header() -> None:
    image, affine = numbered(), affine_of("RAS", 20.0)
    back = match_grid(image, affine.astype(np.float32), image.shape, affine)
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("code", CODES)
def test_a_mask_on_the_images_very_grid_is_what_a_hair_beside_it_makes(code: str) -> None:
    # The first is answered at once, the second by way of axes and corners.
    image, affine = np.asfortranarray(numbered()), affine_of(code, 20.0)
    for own in (affine, moved(affine, 1e-9)):
        back = match_grid(image, own, image.shape, affine)
        np.testing.assert_array_equal(back, image)
        assert back.dtype == image.dtype
        assert back.flags.c_contiguous


@pytest.mark.parametrize("own", [np.eye(4), np.diag([0.0, 1.0, 1.0, 1.0])])
def test_equal_grids_that_are_none_of_a_volume_are_refused(own: NDArray[np.float64]) -> None:
    with pytest.raises(VolumeError, match="not usable" if own[0, 0] == 0 else "not on the image"):
        match_grid(np.ones((2, 2)), own, (2, 2), own)


def moved(affine: NDArray[np.float64], x_mm: float) -> NDArray[np.float64]:
    return affine + np.array([[0, 0, 0, x_mm], [0] * 4, [0] * 4, [0] * 4])


def test_match_grid_allows_a_twentieth_of_a_millimetre_and_no_more() -> None:
    image, affine = numbered(), affine_of("RAS")
    np.testing.assert_array_equal(
        match_grid(image, moved(affine, 0.049), image.shape, affine), image
    )
    with pytest.raises(VolumeError, match=r"corners of the two lie up to 0.051 mm apart"):
        match_grid(image, moved(affine, 0.051), image.shape, affine)
    with pytest.raises(VolumeError, match=r"up to 0.049 mm apart"):
        match_grid(image, moved(affine, 0.049), image.shape, affine, tolerance_mm=1e-3)


def test_a_mask_of_another_shape_is_refused_with_both_shapes_and_spacings() -> None:
    with pytest.raises(VolumeError) as caught:
        match_grid(numbered((3, 4, 6)), affine_of("RAS"), (3, 4, 5), affine_of("RAS"))
    sentence = str(caught.value)
    assert "(3, 4, 6), spacing 0.8 x 1.1 x 2.5 mm" in sentence
    assert "(3, 4, 5), spacing 0.8 x 1.1 x 2.5 mm" in sentence
    assert "the shapes differ" in sentence


def test_a_cube_stored_along_other_axes_is_not_taken_for_the_same_order() -> None:
    # All sides are equal, so the shape alone can't tell; only the affine does.
    image = numbered((3, 3, 3))
    steps = np.diag([1.0, 1.0, 1.0, 1.0])
    swapped = steps[:, [1, 0, 2, 3]]
    np.testing.assert_array_equal(
        match_grid(image, swapped, (3, 3, 3), steps), image.transpose(1, 0, 2)
    )


@pytest.mark.parametrize(
    "other",
    [
        np.diag([1.0, 1.0, 1.1, 1.0]),
        np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 0], [0, 0.6, -0.8, 0], [0, 0.8, 0.6, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0.9, 0, 0], [0.9, 1, 0.95, 0], [0.0, 0.95, 1, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["spacing", "shifted by a voxel", "rotated", "sheared"],
)
def test_a_mask_of_the_same_shape_on_another_grid_is_refused(other: NDArray[np.float64]) -> None:
    with pytest.raises(VolumeError, match="is not on the image's grid"):
        match_grid(numbered((4, 4, 4)), other, (4, 4, 4), np.eye(4))


def test_spacing_is_the_length_of_the_columns() -> None:
    # 3-4-5 in the first column; the others along one axis.
    affine = np.array([[3.0, 0, 0, 9], [4.0, 2, 0, 9], [0, 0, -0.5, 9], [0, 0, 0, 1]])
    assert spacing_mm(affine) == (5.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("affine", "sentence"),
    [
        (np.eye(3), "must be 4 x 4"),
        (np.ones((4, 4)), "last row"),
        (np.diag([1.0, 1.0, 1.0, np.nan]), "last row"),
        (np.diag([1.0, 0.0, 1.0, 1.0]), "voxel sides"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "not usable"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_an_unusable_affine_is_refused_by_the_name_given(
    affine: NDArray[np.float64], sentence: str
) -> None:
    with pytest.raises(VolumeError, match=rf"^scan.nii: .*{sentence}"):
        checked_affine(affine, name="scan.nii")


WHOLE_BODY, HEAD = (600, 600, 2000), (256, 256, 170)


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        (HEAD, np.diag([4e-4, 1, 1, 1])),  # edge of a voxel
        (HEAD, np.diag([1, 1, 1.2e4, 1])),  # 256 mm x 256 mm x 2 km
        ((1261, 1261, 1261), np.eye(4)),  # 1.261 m cubed is 2.005 m3
        (HEAD, np.array([[1.0, 0, 0, 2e6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        # Each side is short, the box around the slanted volume is not: 2 m x 2 m x 0.6 m.
        ((2000, 2, 600), np.array([[1.0, 0.9, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
    ],
)
def test_an_extent_that_no_scan_has_is_refused_by_the_name_given(
    shape: Shape, affine: NDArray[np.float64]
) -> None:
    with pytest.raises(VolumeError, match=r"^scan.nii: voxels of .* mm in a box of .* mm"):
        check_extent(shape, affine.astype(np.float64), name="scan.nii")


@pytest.mark.parametrize("shape", [HEAD, WHOLE_BODY, (1, 1, 1), (1259, 1259, 1259)])
def test_the_extent_of_a_head_and_of_a_whole_body_is_accepted(shape: Shape) -> None:
    check_extent(shape, np.eye(4), name="scan.nii")


def test_small_voxels_are_not_taken_for_a_singular_affine() -> None:
    np.testing.assert_array_equal(
        checked_affine(np.diag([1e-3, 1e-3, 1e-3, 1.0]), name="micro"),
        np.diag([1e-3, 1e-3, 1e-3, 1.0]),
    )


def test_to_ras_refuses_what_has_not_three_axes() -> None:
    with pytest.raises(VolumeError, match=r"3 axes, got shape \(2, 2, 2, 2\)"):
        to_ras(np.zeros((2, 2, 2, 2)), np.eye(4))
