"""BraTS: a brain tumour's three regions from four MRI contrasts."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import nn

from fair_strategy.acquisition.entropy import predictive_entropy
from fair_strategy.data.cohort import CohortError
from fair_strategy.data.volumes import LabelMap, match_grid, read_image, read_labels, write_image
from fair_strategy.learning.uncertainty import Sampling, sampled_probabilities
from fair_strategy.workflows.tasks.cases import Case, Reading
from fair_strategy.workflows.tasks.recipe import Row, device_of
from fair_strategy.workflows.tasks.settings import BratsSettings

CONTRASTS = ("t1", "t1ce", "t2", "flair")
LABELS = (0, 1, 2, 4)
"""Background, necrosis, oedema, enhancing tumour."""
REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
_KEPT_CASES = 64
_KEPT_VOXELS = 64**3
"""Volumes up to this size are kept in memory between two uses, some of them."""


@dataclass(frozen=True, eq=False)
class Brats:
    """See Recipe.

    Attributes:
        weights: of the classes in the first epoch, the smallest 1.
    """

    settings: BratsSettings
    weights: tuple[float, ...] = (1.0,) * len(LABELS)
    kind = "segmentation"
    regions = ",".join(f"{name}={'+'.join(map(str, own))}" for name, own in REGIONS.items())
    _kept: OrderedDict[Path, Any] = field(default_factory=OrderedDict, repr=False)

    @property
    def features(self) -> tuple[str, ...]:
        """The audit looks at one feature alone: their intersections would be empty."""
        return (self.settings.feature,)

    def read(self, data: Path) -> Reading:
        """Every folder of four contrasts and labels; its subgroup by enhancing volume or centre."""
        folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not folders:
            raise CohortError(f"{data}: expected folders <case> with <case>_t1.nii.gz and so on")
        return Reading(tuple(self._case(folder) for folder in folders))

    def _case(self, folder: Path) -> Case:
        files = tuple(_file(folder, name) for name in CONTRASTS)
        label = _file(folder, "seg")
        labels = read_labels(label)
        unknown = sorted(set(np.unique(labels.array).tolist()) - set(LABELS))
        if unknown:
            raise CohortError(
                f"{label}: label {', '.join(f'{value:g}' for value in unknown)}; "
                f"expected {', '.join(map(str, LABELS))}"
            )
        volume = float((labels.array == LABELS[-1]).sum() * np.prod(labels.spacing_mm))
        edge = self.settings.volume_edge_mm3
        parts = folder.name.split("_")
        features = {
            "enhancing_volume": f"{'above' if volume > edge else 'up to'} {edge:g} mm3",
            "centre": parts[1] if len(parts) > 2 else "n/a",
        }
        group = features[self.settings.feature]
        if group == "n/a":
            raise CohortError(
                f"{folder.name}: no {self.settings.feature} in its name; expected "
                "BraTS19_<centre>_<patient>_<number>, or choose feature enhancing_volume"
            )
        return Case(folder.name, folder.name, group, "", features, files, label)

    def fitted(self, training: Sequence[Case]) -> "Brats":
        """With class weights inverse to the number of voxels, the smallest weight 1."""
        counts = np.zeros(len(LABELS))
        for case in training:
            labels = read_labels(case.target).array
            counts += [np.count_nonzero(labels == label) for label in LABELS]
        weights = counts.max() / np.maximum(counts, 1)
        return replace(self, weights=tuple(float(weight) for weight in weights))

    def network(self) -> nn.Module:
        """A 3D U-Net with instance normalisation."""
        own = self.settings.network
        return UNet(
            spatial_dims=3,
            in_channels=len(CONTRASTS),
            out_channels=len(LABELS),
            channels=own.channels,
            strides=own.strides,
            num_res_units=own.residual_units,
            norm="INSTANCE",
            dropout=own.dropout,
        )

    def row(self, case: Case, rng: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """A patch: in training anywhere, two of three around a tumour voxel; else the middle."""
        image, classes, _ = self._volumes(case)
        image, classes = _padded(image, classes, self.settings.patch)
        patch, shape = np.array(self.settings.patch), np.array(classes.shape)
        start = (shape - patch) // 2
        if rng is not None:
            start = _start(classes, patch, rng)
        box = tuple(slice(a, a + n) for a, n in zip(start, patch, strict=True))
        image, classes = image[:, *box], classes[box]
        if rng is not None:
            for axis in np.flatnonzero(rng.integers(2, size=3)):
                image, classes = np.flip(image, axis + 1), np.flip(classes, axis)
        return (
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(np.ascontiguousarray(classes)).long(),
        )

    def loss(self, epoch: int) -> Callable[[Any, Any], torch.Tensor]:
        """Class-weighted cross entropy; each weight w is 1 + (w - 1) x decay ** epoch."""
        decayed = self.settings.class_weight_decay**epoch
        weights = [1 + (weight - 1) * decayed for weight in self.weights]
        return partial(_weighted_cross_entropy, weights=weights)

    def predict(
        self, networks: Sequence[nn.Module], cases: Sequence[Case], sampling: Sampling, out: Path
    ) -> list[Row]:
        """Maps of every case, in its own grid: labels, and probability and doubt of each region."""
        for case in cases:
            image, _, labels = self._volumes(case)
            probs = self._probabilities(networks, image, case.case_id, sampling)
            _write_maps(out / case.case_id, probs, labels)
        return []

    def _probabilities(
        self,
        networks: Sequence[nn.Module],
        image: NDArray[np.float32],
        case_id: str,
        sampling: Sampling,
    ) -> NDArray[np.float32]:
        """(4, I, J, K), mean over samples and over overlapping patches."""
        whole, patch = image.shape[1:], self.settings.patch
        image, _ = _padded(image, np.zeros(whole, np.uint8), patch)
        step = tuple(max(1, round(side * (1 - self.settings.overlap))) for side in patch)
        places = dense_patch_slices(image.shape[1:], patch, step)
        weight = compute_importance_map(patch, mode="gaussian").numpy()
        total = np.zeros((len(LABELS), *image.shape[1:]), np.float32)
        norm = np.zeros(image.shape[1:], np.float32)
        for number, place in enumerate(places):
            window = torch.from_numpy(np.ascontiguousarray(image[:, *place]))[None]
            found = sampled_probabilities(
                networks,
                window.to(device_of(networks)),
                cases=[f"{case_id}/{number}"],
                sampling=sampling,
            )
            total[:, *place] += found.mean[0] * weight
            norm[place] += weight
        inner = tuple(slice(0, side) for side in whole)
        return (total / norm)[:, *inner]

    def _volumes(self, case: Case) -> tuple[NDArray[np.float32], NDArray[np.uint8], LabelMap]:
        """(4, I, J, K) normalised, class numbers, and the labels as drawn."""
        if case.target in self._kept:
            kept: tuple[NDArray[np.float32], NDArray[np.uint8], LabelMap] = self._kept[case.target]
            return kept
        labels = read_labels(case.target)
        image = np.stack([_contrast(path, labels) for path in case.files])
        classes = np.zeros(labels.array.shape, np.uint8)
        for number, label in enumerate(LABELS):
            classes[labels.array == label] = number
        if classes.size <= _KEPT_VOXELS:
            self._kept[case.target] = (image, classes, labels)
            if len(self._kept) > _KEPT_CASES:
                self._kept.popitem(last=False)
        return image, classes, labels


def _file(folder: Path, name: str) -> Path:
    for suffix in (".nii.gz", ".nii"):
        path = folder / f"{folder.name}_{name}{suffix}"
        if path.is_file():
            return path
    raise CohortError(
        f"{folder}: no {folder.name}_{name}.nii.gz; a case needs "
        f"{', '.join(f'_{each}' for each in (*CONTRASTS, 'seg'))}"
    )


def _contrast(path: Path, labels: LabelMap) -> NDArray[np.float32]:
    """A contrast, the brain at mean 0 and SD 1, outside 0."""
    found = read_image(path)
    array = match_grid(found.array, found.affine, labels.array.shape, labels.affine)
    brain = array != 0
    inside = array[brain]
    scaled = (array - inside.mean()) / max(float(inside.std()), 1e-6)
    return np.where(brain, scaled, 0).astype(np.float32)


def _padded(
    image: NDArray[np.float32], classes: NDArray[np.uint8], patch: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """With background behind the last voxels, so that a patch fits in."""
    lack = [(0, max(0, side - own)) for side, own in zip(patch, classes.shape, strict=True)]
    if not any(after for _, after in lack):
        return image, classes
    return np.pad(image, [(0, 0), *lack]), np.pad(classes, lack)


def _start(
    classes: NDArray[np.uint8], patch: NDArray[np.int_], rng: np.random.Generator
) -> NDArray[np.int_]:
    room = np.array(classes.shape) - patch
    start = rng.integers(0, room + 1)
    tumour = np.flatnonzero(classes)
    if tumour.size and rng.random() < 2 / 3:
        voxel = np.unravel_index(int(rng.choice(tumour)), classes.shape)
        start = np.clip(np.array(voxel) - rng.integers(0, patch), 0, room)
    return np.asarray(start)


def _weighted_cross_entropy(
    outputs: torch.Tensor, targets: torch.Tensor, *, weights: Sequence[float]
) -> torch.Tensor:
    weight = torch.tensor(weights, dtype=outputs.dtype, device=outputs.device)
    return nn.functional.cross_entropy(outputs, targets, weight=weight)


def _write_maps(folder: Path, probs: NDArray[np.float32], labels: LabelMap) -> None:
    drawn = np.array(LABELS)[probs.argmax(axis=0)]
    for name, array in (("reference", labels.array), ("prediction", drawn)):
        write_image(folder / f"{name}.nii.gz", array, labels.affine, dtype=np.uint8)
    for name, probability in _region_probabilities(probs):
        write_image(folder / f"probability_{name}.nii.gz", probability, labels.affine)
        doubt = predictive_entropy(np.stack([1 - probability, probability])[None])
        write_image(folder / f"uncertainty_{name}.nii.gz", doubt, labels.affine)


def _region_probabilities(
    probs: NDArray[np.float32],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, own in REGIONS.items():
        total = sum(probs[LABELS.index(label)] for label in own)
        yield name, np.clip(total, 0, 1).astype(np.float32)
