"""Whole heads: layers around the brain, label, grids, determinism, contrast, cohort on disk."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from scipy import ndimage

from fair_strategy.data.synthetic import draw_head, generate_head, render_head
from fair_strategy.data.synthetic.cohort import CohortSettings, write_cohort
from fair_strategy.data.synthetic.head import HeadParameters
from fair_strategy.data.synthetic.head_render import Renderer
from fair_strategy.data.synthetic.head_shapes import Ellipsoid, Rod, smooth_minimum, union_distance
from fair_strategy.data.synthetic.head_template import brain_maps, hull_distance
from fair_strategy.data.synthetic.head_tissues import LEAST_CONTRAST, draw_tissues

VOXEL = 4.0
WHOLE = ((-110.0, 110.0), (-130.0, 125.0), (-150.0, 115.0))


def quiet(index: int, *, contrast: str = "t1") -> HeadParameters:
    """A head whose scan is whole, upright, without noise and inhomogeneity."""
    drawn = draw_head(4, index, contrast=contrast)
    scanner = replace(drawn.person.intensity, noise_sd=0.0, shading_sd=0.0, white_level=1000.0)
    person = replace(
        drawn.person, intensity=scanner, rotation_deg=(0.0, 0.0, 0.0), shift_mm=(0.0, 0.0, 0.0)
    )
    scan = replace(
        drawn.scan,
        field_mm=WHOLE,
        oblique_deg=(0.0, 0.0, 0.0),
        spacing_mm=(1.0, 1.0, 1.0),
        dark_neck=0.0,
    )
    return replace(drawn, person=person, scan=scan)


def centre_mm(label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return (affine @ [*ndimage.center_of_mass(label), 1])[:3]


def test_the_same_seed_and_index_give_the_same_voxels_and_others_do_not():
    one, again, other = (generate_head(4, index, voxel_mm=VOXEL) for index in (0, 0, 1))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.label, again.label)
    assert one.image.shape != other.image.shape or (one.image != other.image).mean() > 0.3


def test_contrast_changes_the_image_and_not_the_anatomy():
    t1, random = (generate_head(4, 0, contrast=c, voxel_mm=VOXEL) for c in ("t1", "random"))
    np.testing.assert_array_equal(t1.label, random.label)
    inside = (t1.image > 0) & (random.image > 0)
    assert abs(np.corrcoef(t1.image[inside], random.image[inside])[0, 1]) < 0.98
    assert replace(
        t1.parameters, tissues=random.parameters.tissues, person=random.parameters.person
    ) == (random.parameters)


@pytest.mark.parametrize("index", [0, 3])
def test_a_ray_to_the_side_meets_brain_skull_and_scalp_in_this_order(index):
    """From the middle of the brain to the left: bone is dark between brain and bright fat."""
    parameters = quiet(index)
    level = dict(parameters.tissues.level) | {"fat": 1.4, "bone": 0.05}
    parameters = replace(parameters, tissues=replace(parameters.tissues, level=level))
    head = render_head(parameters, voxel_mm=1.0, box_mm=(200, 6, 6), centre_mm=(0, -15, 35))
    ray = head.image.mean(axis=(1, 2))[:100][::-1] / 1000
    outer = np.flatnonzero(ray > 0.3).max()
    scalp = ray[outer - 8 : outer + 1].max()
    skull = ray[outer - 18 : outer - 2].min()
    assert ray[20:45].mean() > 0.6
    assert scalp > 0.8
    assert skull < 0.45
    assert ray[outer + 4 :].max() < 0.1
    assert 55 < outer < 95


def test_a_head_holds_about_twice_the_volume_of_its_brain():
    parameters = quiet(1)
    head = render_head(parameters, voxel_mm=VOXEL)
    brain = render_head(replace(parameters, skull=False), voxel_mm=VOXEL)
    volumes = [(i.image > 60).sum() * VOXEL**3 / 1e6 for i in (brain, head)]
    assert 1.1 < volumes[0] < 2.1
    assert 1.6 < volumes[1] / volumes[0] < 3.5
    assert head.image.shape == brain.image.shape
    np.testing.assert_array_equal(head.label, brain.label)


def test_the_brain_is_the_same_with_and_without_skull_away_from_its_rim():
    parameters = quiet(1)
    box = {"voxel_mm": 2.0, "box_mm": (30.0, 30.0, 30.0)}
    head = render_head(parameters, **box)
    brain = render_head(replace(parameters, skull=False), **box)
    np.testing.assert_allclose(head.image, brain.image, atol=1)


def test_the_label_is_the_same_body_in_every_grid_and_storage_order():
    parameters = draw_head(4, 2)
    scan = replace(parameters.scan, oblique_deg=(10.0, -8.0, 5.0), field_mm=((-40, 40),) * 3)
    parameters = replace(parameters, scan=scan)
    box = render_head(parameters, voxel_mm=1.5, box_mm=(60, 80, 60))
    expected = centre_mm(box.label, box.affine)
    volume = box.label.sum() * 1.5**3
    for orientation, spacing in (("RAS", (2.0, 2.0, 2.0)), ("PIR", (2.0, 2.0, 4.0))):
        own = replace(scan, orientation=orientation, spacing_mm=spacing)
        stored = render_head(replace(parameters, scan=own))
        assert "".join(aff2axcodes(stored.affine)) == orientation
        edges = np.linalg.norm(stored.affine[:3, :3], axis=0)
        np.testing.assert_allclose(sorted(edges), sorted(spacing), atol=1e-4)
        np.testing.assert_allclose(centre_mm(stored.label, stored.affine), expected, atol=0.8)
        found = stored.label.sum() * np.prod(spacing)
        assert found == pytest.approx(volume, rel=0.15)


def test_the_label_lies_on_grey_matter_beside_white_matter():
    parameters = quiet(2)
    head = render_head(parameters, voxel_mm=1.0, box_mm=(60, 80, 60))
    grey = parameters.tissues.level["grey"] ** parameters.person.intensity.gamma
    inside = ndimage.binary_erosion(head.label)
    assert np.median(head.image[inside]) / 1000 == pytest.approx(grey, rel=0.08)
    lateral = np.roll(head.label, -8, axis=0).astype(bool) & ~ndimage.binary_dilation(head.label)
    assert np.percentile(head.image[lateral], 75) / 1000 > grey + 0.1


def test_the_label_moves_with_the_head():
    parameters = quiet(2)
    box = {"voxel_mm": 2.0, "box_mm": (90.0, 100.0, 90.0), "centre_mm": (-12.0, 5.0, 10.0)}
    before = render_head(parameters, **box)
    person = replace(parameters.person, shift_mm=(6.0, -4.0, 8.0))
    after = render_head(replace(parameters, person=person), **box)
    moved = centre_mm(after.label, after.affine) - centre_mm(before.label, before.affine)
    np.testing.assert_allclose(moved, (6, -4, 8), atol=0.3)
    person = replace(parameters.person, rotation_deg=(0.0, 0.0, 20.0))
    turned = render_head(replace(parameters, person=person), **box)
    x, y, z = centre_mm(before.label, before.affine)
    c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    expected = (c * x - s * y, s * x + c * y, z)
    np.testing.assert_allclose(centre_mm(turned.label, turned.affine), expected, atol=0.6)


def test_the_effect_of_the_group_is_in_heads_as_in_brains():
    volumes = []
    for group in ("A", "B"):
        drawn = draw_head(4, 0, group=group, bias="strong")
        head = render_head(drawn, voxel_mm=2.0, box_mm=(60, 80, 60))
        volumes.append(head.label.sum() * 8 / 1000)
    assert volumes[0] > 1.5 * volumes[1] > 1.0


def test_the_caudate_is_in_every_field_of_view():
    for index in range(40):
        drawn = draw_head(9, index)
        renderer = Renderer(drawn)
        affine = np.eye(4)
        affine[:3, 3] = renderer.caudate_mm - 20
        assert renderer.in_field((41, 41, 41), affine).mean() > 0.97


def test_beyond_the_field_of_view_there_is_nothing():
    parameters = quiet(0)
    cut = replace(parameters.scan, field_mm=((-110, 110), (-130, 125), (-60, 50)))
    low, high = Renderer(replace(parameters, scan=cut)).field_mm
    head = render_head(
        replace(parameters, scan=cut), voxel_mm=VOXEL, box_mm=(40, 40, 240), centre_mm=(0, 0, 0)
    )
    z = head.affine[2, 3] + VOXEL * np.arange(head.image.shape[2])
    seen = head.image.max(axis=(0, 1)) > 0
    assert not seen[(z < low[2]) | (z > high[2])].any()
    assert seen[(z > low[2]) & (z < high[2])].all()


def test_thick_slices_repeat_along_their_axis_alone():
    parameters = quiet(0)
    thick = replace(parameters.scan, spacing_mm=(1.0, 1.0, 8.0))
    thin, coarse = (
        render_head(replace(parameters, scan=scan), voxel_mm=2.0, box_mm=(50, 50, 50)).image
        for scan in (parameters.scan, thick)
    )
    change = [np.abs(np.diff(a, 2, axis=axis)).mean() for a in (thin, coarse) for axis in (0, 2)]
    assert change[3] / change[2] < 0.7 * change[1] / change[0]


def test_random_contrast_keeps_the_caudate_apart_from_fluid_and_white_matter():
    for index in range(60):
        level = draw_tissues(np.random.default_rng(index), "random").level
        assert abs(level["grey"] - level["white"]) >= LEAST_CONTRAST
        assert abs(level["grey"] - level["csf"]) >= LEAST_CONTRAST


def test_tissue_shares_add_up_and_the_caudate_is_among_them():
    maps = brain_maps(coarse=True)
    total = maps.tissues.astype(int).sum(axis=0)
    assert np.abs(total - 255).max() <= 5  # nine roundings
    assert maps.tissues[3].max() == 255


def test_hull_distance_is_a_distance_around_the_brain():
    hull = hull_distance()
    points = np.array([[0, -20, 35], [0, 0, 110], [0, 0, 100]], np.float32).T
    centre, far, near = hull.at(points)[0]
    assert centre < -35
    assert far - near == pytest.approx(10, abs=0.6)


def test_distances_of_bodies_worked_by_hand():
    points = np.array([[0, 0, 0], [10, 0, 0], [0, 0, 7]], np.float32).T
    ball = Ellipsoid((0.0, 0.0, 0.0), (4.0, 4.0, 4.0))
    np.testing.assert_allclose(ball.distance(points)[1:], [6, 3], atol=1e-5)
    # The nearest point of the axis (0, 0, -5)-(0, 0, 5): (0, 0, 0) and (0, 0, 5).
    rod = Rod((0.0, 0.0, -5.0), (0.0, 0.0, 5.0), 1.0, 1.0)
    np.testing.assert_allclose(rod.distance(points), [-1, 9, 1], atol=1e-5)
    np.testing.assert_allclose(union_distance([ball, rod], points)[1:], [6, 1], atol=1e-5)
    # Two equal distances melt by a quarter of the width.
    one = np.array([2.0], np.float32)
    assert smooth_minimum(one, one, 8.0)[0] == pytest.approx(2 - 8 / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contrast": "t3"}, "contrast: expected one of t1, random"),
        ({"voxel_mm": 20.0}, "voxel_mm: expected 0.25 to 8"),
        ({"box_mm": (9, 9, 9)}, "together with voxel_mm"),
        ({"voxel_mm": 2.0, "box_mm": (9, 1, 9)}, "box_mm: expected three edges"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_head(0, 0, **arguments)


def test_random_contrast_is_refused_for_brains():
    with pytest.raises(ValueError, match="contrast: expected one of t1 with field of view brain"):
        CohortSettings(2, contrast="random")


def test_a_cohort_of_heads_is_the_same_for_any_number_of_processes(tmp_path):
    settings = CohortSettings(
        2, seed=3, voxel_mm=6.0, field_of_view="head", contrast="random", labelled=1
    )
    for processes in (1, 2):
        write_cohort(tmp_path / str(processes), settings, processes=processes)
    files = sorted(p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*.*"))
    assert sum(path.name.endswith("_T1w.nii.gz") for path in files) == 2
    for path in files:
        if (tmp_path / "1" / path).is_file():
            assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes(), (
                path
            )
    image = nib.load(tmp_path / "1" / "sub-001" / "anat" / "sub-001_T1w.nii.gz")
    drawn = generate_head(3, 0, contrast="random", voxel_mm=6.0)
    assert image.get_data_dtype() == np.int16
    assert image.shape == drawn.image.shape
