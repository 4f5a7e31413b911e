"""Deformation fields against analytic solutions."""

import numpy as np
import pytest

from fair_strategy.data.synthetic.fields import (
    Field,
    exponential,
    outward_normal,
    smooth_noise,
)

ORIGIN = np.array([-15.0, -15.0, -15.0])


def lattice(size: int = 31) -> np.ndarray:
    axes = [np.arange(size, dtype=np.float32) + ORIGIN[0]] * 3
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def test_the_exponential_of_a_constant_velocity_is_a_translation():
    velocity = Field(np.full((3, 31, 31, 31), 2.0, dtype=np.float32), ORIGIN, 1.0)
    np.testing.assert_allclose(exponential(velocity).values, 2.0, atol=1e-5)


def test_the_exponential_of_a_linear_velocity_is_exponential_growth():
    """dx/dt = a x has x(1) = e^a x(0): for a = -0.2 the point at 10 mm moves to 8.187 mm."""
    velocity = Field((-0.2 * lattice()).astype(np.float32), ORIGIN, 1.0)
    moved = exponential(velocity).at(np.array([[10.0], [0.0], [-5.0]], dtype=np.float32))
    expected = (np.exp(-0.2) - 1) * np.array([10.0, 0.0, -5.0])
    np.testing.assert_allclose(moved[:, 0], expected, atol=0.01)


def test_the_exponential_of_minus_the_velocity_is_the_inverse(rng):
    noise = np.stack([smooth_noise(rng, (31, 31, 31), width=6.0) for _ in range(3)])
    points = rng.uniform(-6, 6, (3, 200)).astype(np.float32)
    there = points + exponential(Field(1.2 * noise, ORIGIN, 1.0)).at(points)
    back = there + exponential(Field(-1.2 * noise, ORIGIN, 1.0)).at(there)
    assert np.abs(there - points).max() > 1
    assert np.abs(back - points).max() < 0.05


def test_the_lattice_spacing_is_in_mm():
    """The same linear velocity on a lattice of 2 mm moves the same point by the same mm."""
    coarse = lattice()[:, ::2, ::2, ::2]
    velocity = Field((-0.2 * coarse).astype(np.float32), ORIGIN, 2.0)
    moved = exponential(velocity).at(np.array([[10.0], [0.0], [0.0]], dtype=np.float32))
    assert moved[0, 0] == pytest.approx(10 * (np.exp(-0.2) - 1), abs=0.01)


def test_a_field_is_zero_beyond_its_lattice():
    field = Field(np.ones((3, 5, 5, 5), dtype=np.float32), np.zeros(3), 1.0)
    far = np.array([[40.0], [2.0], [2.0]], dtype=np.float32)
    assert (field.at(far) == 0).all()


def test_the_normal_points_outward_and_fades_with_the_envelope():
    """On a ball of radius 8.4 mm: 1 at the surface, exp(-1/2) five mm outside, 0 at the centre.

    The surface of a ball of voxels is a staircase, which costs the unit length some 10 %.
    """
    grid = np.stack(np.meshgrid(*[np.arange(61.0) - 30] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    normal = outward_normal(radius <= 8.4, origin_mm=np.full(3, -30.0), envelope_mm=5.0)
    for direction in ([1, 0, 0], [-1, 0, 0], [0.6, 0.8, 0], [0, 0.6, -0.8]):
        points = np.outer(direction, [0.0, 8.4, 13.4]).astype(np.float32)
        velocity = normal.at(points)
        along = np.array(direction) @ velocity
        np.testing.assert_allclose(along, [0.0, 1.0, np.exp(-0.5)], atol=0.12)
        across = velocity - np.outer(direction, along)
        assert np.abs(across).max() < 0.1


def test_a_part_of_a_lattice_gives_the_same_displacement(rng):
    noise = np.stack([smooth_noise(rng, (31, 31, 31), width=3.0) for _ in range(3)])
    whole = Field(noise, ORIGIN, 1.0)
    points = rng.uniform(-3, 3, (3, 50)).astype(np.float32)
    part = whole.around(points, margin_mm=8.0)
    assert part.values.shape[1] < 26
    np.testing.assert_allclose(
        exponential(part).at(points), exponential(whole).at(points), atol=1e-5
    )


def test_smooth_noise_has_mean_0_and_sd_1_and_is_smooth(rng):
    noise = smooth_noise(rng, (24, 24, 24), width=3.0)
    assert noise.mean() == pytest.approx(0, abs=1e-4)
    assert noise.std() == pytest.approx(1, abs=1e-4)
    # A Gaussian kernel of width w leaves a correlation of exp(-1/(4 w^2)) = .97 a step away.
    assert np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1] > 0.95
