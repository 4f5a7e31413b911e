"""One synthetic subject: effect, label, grid and intensities."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import ndimage

from fair_strategy.data.synthetic import draw_parameters, generate_subject, intensity

VIEW = {"field_of_view": "caudate", "voxel_mm": 2.0}


def volume_ml(index: int, group: str, bias: str) -> float:
    subject = generate_subject(draw_parameters(5, index, group=group, bias=bias), **VIEW)
    return float(subject.label.sum()) * 2.0**3 / 1000


def test_the_same_person_has_a_smaller_caudate_the_stronger_the_minority_effect():
    means = []
    for group, bias in (("A", "strong"), ("B", "weak"), ("B", "strong")):
        means.append([volume_ml(index, group, bias) for index in range(3)])
    majority, weak, strong = np.array(means)
    assert (majority > weak).all()
    assert (weak > strong).all()
    # About 5.4, 3.4 and 2.1 ml were aimed at; one person differs from the next by some 20 %.
    np.testing.assert_allclose(np.mean(means, axis=1), [5.4, 3.4, 2.1], rtol=0.35)


def test_group_and_bias_change_nothing_but_the_effect():
    one = asdict(draw_parameters(0, 3, group="A", bias="strong"))
    other = asdict(draw_parameters(0, 3, group="B", bias="strong"))
    differing = {name for name in one if one[name] != other[name]}
    assert differing == {"group", "effect_mm"}
    assert one["effect_mm"] - other["effect_mm"] == pytest.approx(0.5 - -1.6)


def test_without_bias_the_minority_has_the_effect_of_the_majority():
    minority = draw_parameters(0, 3, group="B", bias="none")
    assert minority.effect_mm == draw_parameters(0, 3, group="A", bias="none").effect_mm


def test_effects_follow_the_stated_mean_and_sd():
    effects = [
        draw_parameters(1, index, group="B", bias="strong").effect_mm for index in range(400)
    ]
    assert np.mean(effects) == pytest.approx(-1.6, abs=0.06)
    assert np.std(effects) == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("group", ["A", "B"])
def test_the_label_is_warped_with_the_image(group):
    """Inside the label there is one tissue; the label of another person does not fit."""
    parameters = draw_parameters(11, 0, group=group, bias="strong")
    quiet = replace(parameters.intensity, noise_sd=0.0, shading_sd=0.0, blur_mm=0.0)
    own = generate_subject(replace(parameters, intensity=quiet), **VIEW)
    other = generate_subject(draw_parameters(11, 4, group=group, bias="strong"), **VIEW)
    spread = [own.image[mask > 0].std() / quiet.white_level for mask in (own.label, other.label)]
    assert spread[0] < 0.08
    assert spread[1] > 1.5 * spread[0]
    expected = quiet.grey**quiet.gamma * quiet.white_level
    assert np.median(own.image[own.label > 0]) == pytest.approx(expected, rel=0.06)


def test_the_label_is_one_structure_left_of_the_midline():
    subject = generate_subject(draw_parameters(2, 1, group="B", bias="weak"), **VIEW)
    centre = subject.affine @ [*ndimage.center_of_mass(subject.label), 1]
    assert -20 < centre[0] < -6
    sizes = np.bincount(ndimage.label(subject.label)[0].ravel())[1:]
    assert sizes.max() > 0.97 * sizes.sum()


def test_anatomy_is_the_same_in_every_grid():
    parameters = draw_parameters(2, 1, group="A", bias="strong")
    centres, volumes = [], []
    for grid in (VIEW, {"voxel_mm": 2.5}, {"voxel_mm": 1.5, "box_mm": (66.0, 84.0, 66.0)}):
        subject = generate_subject(parameters, **grid)
        centres.append((subject.affine @ [*ndimage.center_of_mass(subject.label), 1])[:3])
        volumes.append(subject.label.sum() * grid["voxel_mm"] ** 3)
    np.testing.assert_allclose(centres[1:], centres[:1] * 2, atol=0.6)
    np.testing.assert_allclose(volumes[1:], volumes[0], rtol=0.1)


def test_boxes_and_voxels_have_the_size_asked_for():
    parameters = draw_parameters(0, 0, group="A", bias="none")
    subject = generate_subject(parameters, voxel_mm=4.0, box_mm=(96, 112, 80))
    assert subject.image.shape == subject.label.shape == (24, 28, 20)
    assert (subject.image.dtype, subject.label.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(subject.affine[:3, :3], 4 * np.eye(3))
    assert generate_subject(parameters, **VIEW).image.shape == (24, 32, 24)


def test_the_same_parameters_give_the_same_voxels_and_other_people_others():
    parameters = draw_parameters(0, 0, group="A", bias="none")
    grid = {"voxel_mm": 4.0, "field_of_view": "caudate"}
    image = generate_subject(parameters, **grid).image
    np.testing.assert_array_equal(image, generate_subject(parameters, **grid).image)
    neighbour = draw_parameters(0, 1, group="A", bias="none")
    assert (image != generate_subject(neighbour, **grid).image).mean() > 0.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"voxel_mm": 0.0}, "voxel_mm: expected 0.25 to 8 mm, got 0.0"),
        ({"voxel_mm": float("nan")}, "voxel_mm: expected"),
        ({"field_of_view": "head"}, "expected one of brain, caudate, got 'head'"),
        ({"box_mm": (48, 64)}, "box_mm: expected three edges"),
        ({"box_mm": (48, 64, 0)}, "box_mm: expected three edges"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(arguments, sentence):
    parameters = draw_parameters(0, 0, group="A", bias="none")
    with pytest.raises(ValueError, match=sentence):
        generate_subject(parameters, **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"group": "A", "bias": "huge"}, "expected one of strong, weak, none, got 'huge'"),
        ({"group": "C", "bias": "weak"}, "expected one of A, B, got 'C'"),
    ],
)
def test_an_unknown_group_or_bias_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw_parameters(0, 0, **arguments)


def test_tissues_get_the_levels_of_the_scanner():
    """No noise, blur or shading, gamma 1: fluid .25, grey .70, white 1 times 160."""
    tissue = np.array([0.33, 0.70, 0.84, 0.50], dtype=np.float32).reshape(4, 1, 1)
    brain = np.array([True, True, True, False]).reshape(4, 1, 1)
    scanner = intensity.IntensityParameters(0.25, 0.70, 1.0, 160.0, 0.0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    scan = intensity.render(tissue, brain, np.zeros_like(tissue), scanner, voxel_mm=1.0, rng=rng)
    np.testing.assert_array_equal(scan.ravel(), [40, 112, 160, 0])


def test_a_scan_is_whole_numbers_up_to_255_and_zero_only_outside_the_brain(rng):
    tissue = rng.uniform(0, 1, (12, 12, 12)).astype(np.float32)
    brain = np.zeros(tissue.shape, dtype=bool)
    brain[2:10, 2:10, 2:10] = True
    scanner = intensity.IntensityParameters(0.2, 0.7, 1.0, 250.0, 0.5, 0.4, 0.3)
    shading = rng.standard_normal(tissue.shape).astype(np.float32)
    scan = intensity.render(tissue, brain, shading, scanner, voxel_mm=1.0, rng=rng)
    np.testing.assert_array_equal(scan, np.rint(scan))
    np.testing.assert_array_equal(scan > 0, brain)
    assert scan.max() == 255
