"""The files of a case -> its regions in memory: masks, probability, uncertainty, on one grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.entropy import predictive_entropy
from fair_strategy.data import formats
from fair_strategy.data.volumes import (
    LabelMap,
    VolumeError,
    match_grid,
    read_image,
    read_labels,
)
from fair_strategy.workflows.audit.layout import CaseFiles, Regions

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class CaseMaps:
    """One region of one case, in memory.

    Attributes:
        prediction: (I, J, K), boolean.
        reference: the same shape.
        probability: of the region, or None.
        uncertainty: on the scale of the file, or entropy of `probability`, or None.
        mask: or None.
        spacing_mm: three voxel edges.
    """

    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    uncertainty: NDArray[np.floating] | None
    mask: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]


def regions_of(case: CaseFiles, regions: Regions) -> Iterator[tuple[str, CaseMaps]]:
    """Each region of a case; its volumes are let go with the iterator."""
    reference = read_labels(case.reference)
    predicted = None if case.prediction is None else _labels(case.prediction, reference)
    mask = None if case.mask is None else _labels(case.mask, reference) != 0
    classes = _classes(case, reference, regions)
    for name, labels in regions.items():
        probability = _probability(case, name, regions, reference, classes)
        if predicted is not None:
            own = np.isin(predicted, labels)
        elif probability is not None:
            own = probability >= 0.5
        else:
            raise VolumeError(
                f"case {case.case_id}: neither a prediction nor a probability of region {name!r}"
            )
        yield (
            name,
            CaseMaps(
                own,
                np.isin(reference.array, labels),
                probability,
                _uncertainty(case, name, reference, probability),
                mask,
                reference.spacing_mm,
            ),
        )


def _labels(path: Path, reference: LabelMap) -> NDArray[np.integer]:
    found = read_labels(path)
    return _onto(path, found.array, found.affine, reference)


def _map(path: Path, reference: LabelMap) -> NDArray[np.float32]:
    found = read_image(path, allow_blank=True)
    return _onto(path, found.array, found.affine, reference)


def _onto(path: Path, array: NDArray, affine: NDArray[np.floating], reference: LabelMap) -> NDArray:
    try:
        return match_grid(array, affine, reference.array.shape, reference.affine)
    except VolumeError as error:
        raise VolumeError(
            f"{path}: {error}".replace("the mask", "this map").replace(
                "the image's grid", "the grid of the reference"
            )
        ) from None


def _classes(case: CaseFiles, reference: LabelMap, regions: Regions) -> NDArray[np.float32] | None:
    """(C, I, J, K), probabilities of all classes, where the case has them."""
    path = case.probability.get("")
    if path is None or axes_of(path) == 3:
        return None
    if path.suffix == ".npz":
        probs, affine = _nnunet_probabilities(path), reference.affine
    else:
        last, affine = formats.read(path)
        probs = np.moveaxis(last, -1, 0)
    if not np.isfinite(probs).all():
        raise VolumeError(f"{path}: probabilities hold NaN or infinite values; repair it")
    probs = np.stack([_onto(path, each, affine, reference) for each in probs])
    if probs.min() < 0 or probs.max() > 1:
        raise VolumeError(
            f"{path}: values {probs.min():g} to {probs.max():g}; give probabilities, not logits"
        )
    apart = np.abs(probs.sum(axis=0) - 1)
    if apart.max() > _SUM_TOLERANCE:
        voxel = tuple(int(i) for i in np.unravel_index(apart.argmax(), apart.shape))
        total = float(probs.sum(axis=0)[voxel])
        raise VolumeError(
            f"{path}: the probabilities of voxel {voxel} sum to {total:g}, "
            "not 1; for regions that overlap give probability_<region> maps"
        )
    highest = max(max(labels) for labels in regions.values())
    if highest >= len(probs):
        raise VolumeError(
            f"{path}: {len(probs)} classes, but a region holds label {highest}; "
            "class c must be label c"
        )
    return probs


def _nnunet_probabilities(path: Path) -> NDArray[np.float32]:
    """nnU-Net stores (C, Z, Y, X), as SimpleITK orders axes; here (C, X, Y, Z)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            probs = np.asarray(archive["probabilities"], dtype=np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise VolumeError(f"{path}: expected nnU-Net's array 'probabilities': {error}") from None
    if probs.ndim != 4:
        raise VolumeError(f"{path}: probabilities have shape {probs.shape}, not (C, Z, Y, X)")
    return probs.transpose(0, 3, 2, 1)


def _probability(
    case: CaseFiles,
    name: str,
    regions: Regions,
    reference: LabelMap,
    classes: NDArray[np.float32] | None,
) -> NDArray[np.float32] | None:
    if name in case.probability:
        path = case.probability[name]
    elif classes is not None:
        # Of a sum of float32 probabilities a rounding error above 1 is left.
        return np.minimum(classes[list(regions[name])].sum(axis=0), np.float32(1))
    elif "" in case.probability:
        path = case.probability[""]
        if len(regions) > 1:
            raise VolumeError(
                f"{path}: one probability, but {len(regions)} regions ({', '.join(regions)}); give "
                "probability_<region> maps, or one map of all classes"
            )
    else:
        return None
    probability = _map(path, reference)
    if probability.min() < 0 or probability.max() > 1:
        raise VolumeError(
            f"{path}: values {probability.min():g} to {probability.max():g}; a probability lies "
            "in [0, 1]"
        )
    return probability


def _uncertainty(
    case: CaseFiles, name: str, reference: LabelMap, probability: NDArray[np.float32] | None
) -> NDArray[np.floating] | None:
    path = case.uncertainty.get(name) or case.uncertainty.get("")
    if path is not None:
        return _map(path, reference)
    if probability is None:
        return None
    return predictive_entropy(np.stack([1 - probability, probability])[None])


def axes_of(path: Path) -> int:
    """3 for a map, 4 for a map of all classes; axes of length 1 at the end do not count."""
    if path.suffix == ".npz":
        return 4
    shape = list(formats.read_grid(path)[0])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return len(shape)
