"""From any grid and back: routes, sums, stochastic passes, obliqueness."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fair_strategy.acquisition.entropy import mutual_information, predictive_entropy
from fair_strategy.data.volumes import Volume
from fair_strategy.learning import steps
from fair_strategy.learning.inference import predict
from fair_strategy.learning.localisation import Location, locate, overview
from fair_strategy.learning.steps import aim, finish, localise, look, segment

from .conftest import blob, tiny_model


class Threshold(nn.Module):
    """A network whose foreground is what is bright: logit sharpness x (intensity - level)."""

    def __init__(self, sharpness: float = 8.0, level: float = 0.5) -> None:
        super().__init__()
        self.level = level
        self.sharpness = nn.Parameter(torch.tensor(sharpness), requires_grad=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logit = self.sharpness * (image - self.level)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def bright(*, localiser: bool = False, window=(24, 24, 24)):
    model = dataclasses.replace(tiny_model(window=window), network=Threshold())
    if localiser:
        arguments = tiny_model().network_arguments
        model = dataclasses.replace(
            model, localiser=Threshold(40.0, 0.75), localiser_arguments=arguments
        )
    return model


def batched(model, volumes):
    """Predictions of several scans that went through the network together."""
    looked = [look(model, volume) for volume in volumes]
    found = localise(model, looked)
    aimed = [aim(model, *each) for each in zip(looked, found, strict=True)]
    maps = segment(model, aimed)
    return [finish(model, *each) for each in zip(aimed, maps, strict=True)]


def whole_mask(prediction) -> np.ndarray:
    mask = np.zeros(prediction.shape, dtype=bool)
    mask[prediction.box] = prediction.probability >= 0.5
    return mask


def turned(degrees: float, spacing: float = 1.0) -> np.ndarray:
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x * spacing
    affine[:3, 3] = (40.0, -20.0, 7.0)
    return affine


def test_a_volume_that_fits_one_window_needs_no_localiser():
    image, label = blob()
    prediction = predict(bright(), image)
    assert (prediction.route, prediction.trust) == ("sliding", 1.0)
    assert np.array_equal(whole_mask(prediction), label.array > 0)


def test_without_a_localiser_the_window_slides_over_the_volume():
    image, label = blob()
    rod, rod_label = (np.concatenate([x.array[8:12]] * 20) for x in (image, label))
    prediction = predict(bright(), Volume(rod, image.affine))
    assert (prediction.route, prediction.trust) == ("sliding", 0.0)
    expected = rod_label[prediction.box] > 0
    assert expected.sum() > 1000
    assert np.array_equal(prediction.probability >= 0.5, expected)


def test_a_slid_prediction_keeps_one_window_where_most_of_the_probability_lies():
    image, label = blob(shape=(90, 20, 20), centre=(70, 10, 10))
    model = bright()
    model.network.sharpness.fill_(60.0)
    image.array[:40] = 0.0
    image.array[:, :2, :2] = 1.0  # thin, and in every window, so that none is all noise
    prediction = predict(model, image)
    assert prediction.route == "sliding"
    assert prediction.box[0].start >= 50
    assert whole_mask(prediction)[label.array > 0].all()


def test_a_trusted_place_gets_one_window():
    image, label = blob(shape=(60, 50, 40), centre=(44, 12, 20), radius=8)
    prediction = predict(bright(localiser=True), image)
    assert prediction.route == "localised"
    assert prediction.trust >= 0.5
    assert all(s.stop - s.start <= 25 for s in prediction.box)
    assert np.array_equal(whole_mask(prediction), label.array > 0)


def test_scans_of_one_batch_come_out_as_each_one_alone():
    one_window = [blob(seed=n, radius=4.0 + n, affine=turned(9.0 * n))[0] for n in range(3)]
    found = blob(shape=(60, 50, 40), centre=(44, 12, 20), radius=8)[0]
    lost = Volume(np.concatenate([one_window[0].array[8:12]] * 20), one_window[0].affine)
    scans = [one_window[0], lost, found, *one_window[1:]]
    model = bright(localiser=True)
    alone = [predict(model, scan) for scan in scans]
    together = batched(model, scans)
    assert [p.route for p in together] == [p.route for p in alone]
    assert {p.route for p in together} == {"sliding", "localised"}
    for ours, expected in zip(together, alone, strict=True):
        assert (ours.box, ours.trust) == (expected.box, expected.trust)
        np.testing.assert_allclose(ours.probability, expected.probability, atol=1e-5)


def test_one_batch_is_one_forward_pass_and_each_scan_keeps_its_own_features():
    model = tiny_model(window=(24, 24, 24))
    scans = [blob(seed=n, radius=3.0 + n)[0] for n in range(3)]
    empty = Volume(np.zeros((20, 20, 20), np.float32), np.eye(4))
    calls = []
    model.network.register_forward_hook(lambda *a: calls.append(len(a[2])))
    together = batched(model, [scans[0], empty, *scans[1:]])
    assert calls == [3]
    assert together[1].features is None
    assert not together[1].whole_mask().any()
    for ours, scan in zip([together[0], *together[2:]], scans, strict=True):
        np.testing.assert_allclose(ours.features, predict(model, scan).features, atol=1e-5)


def test_overviews_of_one_size_are_one_batch_and_each_scan_keeps_its_own_place():
    model = bright(localiser=True)
    centres = [(15, 20, 30), (45, 40, 30), (30, 20, 45)]
    scans = [blob(shape=(64, 64, 64), centre=centre, radius=8)[0] for centre in centres]
    scans.insert(1, blob(shape=(64, 64, 80), centre=(30, 30, 60), radius=8)[0])
    calls = []
    model.localiser.register_forward_hook(lambda *a: calls.append(len(a[2])))
    together = batched(model, scans)
    assert sorted(calls) == [1, 3]
    for ours, scan in zip(together, scans, strict=True):
        alone = predict(model, scan)
        assert (ours.route, ours.box) == (alone.route, alone.box)


def test_what_a_batch_overflows_is_segmented_alone():
    class Overflowing(Threshold):
        """What half precision does to a batch, where nobody waits to see it."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = super().forward(image)
            return logits if len(image) == 1 else logits.log()

    model = dataclasses.replace(tiny_model(window=(24, 24, 24)), network=Overflowing())
    scans = [blob(seed=n, radius=3.0 + n)[0] for n in range(3)]
    aimed = [aim(model, look(model, scan), None) for scan in scans]
    assert not any(found.arrived()[0].isfinite().all() for found in segment(model, aimed))
    for ours, scan in zip(batched(model, scans), scans, strict=True):
        np.testing.assert_array_equal(ours.probability, predict(model, scan).probability)


@pytest.mark.parametrize("away_mm", [40.0, 19.0])
def test_a_sure_localiser_is_overruled_by_a_window_that_does_not_show_the_structure(
    monkeypatch, away_mm
):
    image, label = blob(shape=(70, 50, 40), centre=(20, 25, 20), radius=8)
    wrong = image.affine[:3, :3] @ [20.0 + away_mm, 25.0, 20.0] + image.affine[:3, 3]
    monkeypatch.setattr(steps, "_route", lambda *_: (Location(wrong, 0.95), "localised"))
    model = bright(localiser=True)
    model.network.sharpness.fill_(60.0)
    black = (label.array > 0).astype(np.float32)
    black[0, 0, 0] = black[-1, -1, -1] = 1.0  # the content spans many windows
    prediction = predict(model, Volume(black, image.affine))
    assert (prediction.route, prediction.trust) == ("sliding", 0.95)
    assert np.array_equal(whole_mask(prediction), label.array > 0)


def test_two_candidates_are_not_trusted():
    one, _ = blob(shape=(80, 50, 40), centre=(12, 25, 20), radius=8)
    other, _ = blob(shape=(80, 50, 40), centre=(68, 25, 20), radius=8)
    both = Volume(np.maximum(one.array, other.array), one.affine)
    model = bright(localiser=True)
    seen = {
        name: locate(overview(v.array, v.affine), model.localiser).trust
        for name, v in (("one", one), ("both", both))
    }
    assert seen["both"] < 0.6 * seen["one"]
    assert predict(model, both).route == "sliding"


def test_the_place_is_the_structures_middle_in_world_space():
    image, _ = blob(shape=(60, 50, 40), centre=(44, 12, 20), radius=8, affine=turned(25))
    seen = overview(image.array, image.affine)
    expected = image.affine[:3, :3] @ [44, 12, 20] + image.affine[:3, 3]
    found = locate(seen, Threshold(40.0, 0.75)).centre_mm
    assert np.linalg.norm(found - expected) < 2.0


def test_entropy_belongs_to_the_probability_that_is_returned():
    image, _ = blob()
    prediction = predict(bright(), image)
    p = prediction.probability.astype(np.float64)
    expected = predictive_entropy(np.stack([1 - p, p])[None])
    np.testing.assert_allclose(prediction.entropy, expected, atol=1e-5)
    assert prediction.mutual_information is None


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SLP"])
def test_storage_order_does_not_matter(codes):
    image, _ = blob(shape=(20, 24, 18), centre=(7, 12, 9))
    expected = predict(bright(), image).probability
    order = {"LAS": (0, 1, 2), "PIR": (1, 2, 0), "SLP": (2, 0, 1)}[codes]
    flips = [a for a, code in enumerate(codes) if code in "LPI"]
    stored = np.flip(image.array.transpose(order), flips)
    affine = image.affine[:, [*order, 3]]
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (stored.shape[axis] - 1)
        affine[:3, axis] *= -1
    prediction = predict(bright(), Volume(stored, affine))
    assert prediction.shape == stored.shape
    back = np.flip(prediction.probability, flips).transpose(np.argsort(order))
    np.testing.assert_allclose(back, expected, atol=1e-4)


@pytest.mark.parametrize("spacing", [1.0, 0.8, 1.5])
def test_an_oblique_scan_gets_its_mask_in_its_own_grid(spacing):
    # the window reaches beyond the scan, whose outermost voxels are drawn out
    image, label = blob(shape=(22, 22, 22), radius=8, affine=turned(20, spacing))
    mask = whole_mask(predict(bright(window=(40, 40, 40)), image))
    overlap = 2 * (mask & (label.array > 0)).sum() / (mask.sum() + label.array.sum())
    assert overlap > 0.93


def test_a_black_ground_around_the_content_changes_nothing_inside():
    image, label = blob()
    padded = np.zeros((80, 80, 80), dtype=np.float32)
    padded[30:50, 30:50, 30:50] = image.array
    prediction = predict(bright(), Volume(padded, np.eye(4)))
    expected = np.zeros_like(padded, dtype=bool)
    expected[30:50, 30:50, 30:50] = label.array
    assert prediction.trust == 1.0
    assert np.array_equal(whole_mask(prediction), expected)


def test_passes_are_repeatable_and_their_spread_is_the_mutual_information():
    image, _ = blob()
    model = tiny_model(window=(24, 24, 24))
    first = predict(model, image, passes=5, seed=3)
    again = predict(model, image, passes=5, seed=3)
    other = predict(model, image, passes=5, seed=4)
    assert np.array_equal(first.probability, again.probability)
    assert not np.array_equal(first.probability, other.probability)
    assert (first.mutual_information >= 0).all()
    assert 0 < first.mutual_information.max() <= np.log(2)


def test_mutual_information_agrees_with_the_definition(monkeypatch):
    image, _ = blob()
    drawn = [torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    monkeypatch.setattr("fair_strategy.learning.steps.foreground_maps", lambda *_, **__: drawn)
    prediction = predict(bright(), image, passes=2)
    p = np.stack([d[0, 2:22, 2:22, 2:22].numpy() for d in drawn]).astype(np.float64)
    expected = mutual_information(np.stack([1 - p, p], axis=1))
    np.testing.assert_allclose(prediction.mutual_information, expected, atol=1e-5)


def test_stochastic_passes_leave_torchs_generator_and_the_model_alone():
    image, _ = blob()
    model = tiny_model(window=(24, 24, 24))
    before = predict(model, image).probability
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    predict(model, image, passes=2)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(predict(model, image).probability, before)


def test_sliding_works_with_passes_too():
    image, _ = blob(shape=(40, 20, 20))
    prediction = predict(tiny_model(window=(16, 16, 16)), image, passes=2)
    assert prediction.route == "sliding"
    assert prediction.mutual_information.shape == prediction.probability.shape


def test_an_empty_volume_has_no_foreground():
    prediction = predict(tiny_model(), Volume(np.zeros((40, 40, 40), np.float32), np.eye(4)))
    assert not prediction.probability.any()
    assert not prediction.entropy.any()


def test_the_scan_is_not_changed():
    image, _ = blob()
    before = image.array.copy()
    predict(bright(), image)
    assert np.array_equal(image.array, before)


def test_a_read_only_or_strided_array_is_fine():
    image, label = blob()
    image.array.setflags(write=False)
    assert np.array_equal(whole_mask(predict(bright(), image)), label.array > 0)


def test_the_head_centre_is_known_for_a_whole_head_only():
    head = np.zeros((40, 50, 40), dtype=np.float32)
    head[6:34, 6:44, 6:34] = 1.0  # 112 x 152 x 112 mm at 4 mm
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    seen = overview(head, affine)
    np.testing.assert_allclose(seen.head_centre_mm, [78.0, 98.0, 78.0], atol=2.5)
    part = overview(head[:, :20], affine)
    assert part.head_centre_mm is None


@pytest.mark.parametrize(
    ("shape", "passes", "match"),
    [((4, 4, 4), 0, "at least 1, got 0"), ((4, 4, 4, 2), 1, "3 axes, got shape")],
)
def test_bad_arguments_are_refused(shape, passes, match):
    volume = SimpleNamespace(array=np.ones(shape, np.float32), affine=np.eye(4))
    with pytest.raises(ValueError, match=match):
        predict(tiny_model(), volume, passes=passes)
