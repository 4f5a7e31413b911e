"""Who annotates in a simulation: somebody who knows the truth, or leans on what is shown."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.volumes import read_mask, write_mask
from fair_strategy.workflows.simulation.cohorts import KnownCase
from fair_strategy.workflows.simulation.settings import AnnotatorBlock

_PATCH_VOXELS = 2.0


def annotate(
    annotator: AnnotatorBlock,
    case: KnownCase,
    *,
    shown: Callable[[], Path],
    seed: int,
    folder: Path,
) -> Path:
    """The file that the annotator submits for a scan.

    Args:
        annotator: who.
        case: the scan, with its truth.
        shown: fetches the pre-segmentation; not called by who does not look at it.
        seed: of the round; which errors are corrected depends on it and the case id only.
        folder: where a new mask is written.
    """
    if annotator.kind == "perfect":
        return case.truth
    truth = read_mask(case.truth)
    rng = np.random.default_rng([seed, 1, _number(case.case_id)])
    mask = corrected(
        read_mask(shown()).array != 0, truth.array != 0, share=annotator.corrected, rng=rng
    )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{case.case_id}.nii.gz"
    write_mask(target, mask.astype(np.uint8), truth.affine)
    return target


def corrected(
    shown: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """The shown mask with a share of its wrong voxels put right, in patches.

    Args:
        shown, truth: (I, J, K).
        share: of the wrong voxels, rounded up; 0 gives `shown`, 1 gives `truth`.
        rng: where the patches lie.
    """
    wrong = np.flatnonzero(shown != truth)
    noise = ndimage.gaussian_filter(rng.standard_normal(shown.shape), _PATCH_VOXELS)
    order = np.argsort(noise.ravel()[wrong], kind="stable")
    chosen = wrong[order[: int(np.ceil(share * wrong.size))]]
    mask = shown.copy()
    mask.ravel()[chosen] = truth.ravel()[chosen]
    return mask


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
