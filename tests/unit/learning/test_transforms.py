"""Normalisation and augmentation."""

import numpy as np
import pytest
import torch

from fair_strategy.learning.transforms import augmentation, normalise


def test_normalised_intensities_do_not_depend_on_unit_or_offset():
    image = torch.from_numpy(np.random.default_rng(0).uniform(1, 2, (12, 12, 12)))
    expected = normalise(image)
    torch.testing.assert_close(normalise(image * 700 + 30), expected, atol=1e-4, rtol=0)
    assert expected.min() == 0.0
    assert expected.max() == 1.0


def test_a_ground_of_zeros_stays_zero_and_has_no_say():
    image = torch.from_numpy(np.random.default_rng(0).uniform(1, 2, (12, 12, 12)))
    padded = torch.zeros(24, 24, 24, dtype=image.dtype)
    padded[6:18, 6:18, 6:18] = image
    result = normalise(padded)
    assert not result[:6].any()
    torch.testing.assert_close(result[6:18, 6:18, 6:18], normalise(image), atol=1e-6, rtol=0)


def test_one_bright_voxel_does_not_dim_the_rest():
    image = torch.from_numpy(np.random.default_rng(0).uniform(1, 2, (12, 12, 12)))
    spiked = image.clone()
    spiked[3, 3, 3] = 1e6
    result = normalise(spiked)
    assert result[3, 3, 3] == 1.0
    result[3, 3, 3] = normalise(image)[3, 3, 3]
    torch.testing.assert_close(result, normalise(image), atol=0.05, rtol=0)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_window_is_finite(value):
    assert torch.equal(normalise(torch.full((4, 4, 4), value)), torch.full((4, 4, 4), value > 0.0))


def sample() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 24, 24, 24, generator=generator) + 0.5
    label = torch.zeros(1, 24, 24, 24)
    label[:, :8] = 1.0  # the first side of axis 0 only: the left, in RAS
    return {"both": torch.cat([image, label])}


def test_augmentation_is_a_function_of_its_seed():
    transforms = augmentation((16, 16, 16))
    first = transforms.set_random_state(5)(sample())
    again = transforms.set_random_state(5)(sample())
    other = transforms.set_random_state(6)(sample())
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])


def test_augmentation_gives_windows_of_the_asked_size_without_metadata():
    result = augmentation((16, 12, 8)).set_random_state(0)(sample())
    assert set(result) == {"image", "label"}
    assert all(result[k].shape == (1, 16, 12, 8) for k in result)


def test_augmentation_never_mirrors_left_and_right():
    transforms = augmentation((24, 24, 24), shift_voxels=2, far_voxels=0)
    for seed in range(40):
        label = transforms.set_random_state(seed)(sample())["label"][0]
        assert label[:12].sum() > label[12:].sum()


def test_the_ground_nearly_always_stays_zero():
    data = sample()
    data["both"][0, :, :, :8] = 0.0
    transforms = augmentation((24, 24, 24), shift_voxels=0, far_voxels=0, strength=0.01)
    kept = [
        not transforms.set_random_state(seed)(data)["image"][0, 6:18, 6:18, :5].any()
        for seed in range(40)
    ]
    assert 0.7 < np.mean(kept) <= 1.0
