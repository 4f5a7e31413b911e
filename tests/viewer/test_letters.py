"""The letters at the edges of a slice."""

import numpy as np
import pytest

from fair_strategy.viewer.letters import edges, side


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "R"), ((-2, 0, 0), "L"), ((0, 1, 0), "A"), ((0, -1, 0), "P"),
        ((0, 0, 3), "S"), ((0, 0, -1), "I"),
        # cos 17 = 0.956, sin 17 = 0.292 < 0.3; cos 18 = 0.951, sin 18 = 0.309 > 0.3.
        ((0.956, 0.292, 0), "R"), ((0.951, 0.309, 0), "RA"), ((0.309, -0.951, 0), "PR"),
    ],
)  # fmt: skip
def test_a_direction_has_the_letters_of_the_sides_that_it_points_to(direction, letters):
    assert side(direction) == letters


def test_opposite_directions_have_opposite_letters(rng):
    opposite = str.maketrans("RLAPSI", "LRPAIS")
    for direction in rng.normal(size=(200, 3)):
        assert side(-direction) == side(direction).translate(opposite)


def test_an_axial_slice_in_radiological_convention_has_the_patients_right_at_the_screens_left():
    axial = np.diag([-1.0, 1.0, 1.0, 1.0])  # the screen's right is the patient's left
    assert edges(axial) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


def test_a_view_that_is_turned_by_ninety_degrees_has_its_letters_turned():
    turned = np.array([[0.0, -1, 0, 5], [-1, 0, 0, 7], [0, 0, -1, 9], [0, 0, 0, 1]])
    assert edges(turned) == {"left": "A", "right": "P", "top": "L", "bottom": "R"}


def test_a_direction_without_length_is_refused():
    with pytest.raises(ValueError, match="length 0"):
        side((0, 0, 0))
