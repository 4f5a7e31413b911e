"""From several readers' masks of one scan to one mask, and how far the readers agree."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.config import ConsensusName
from fair_strategy.metrics.checks import as_mask, bounding_box

STAPLE_MARGIN = 5
"""Voxels around all masks that STAPLE sees: what is far from them would only tell of emptiness."""

_TIE = 1e-6  # STAPLE of two readers gives one half, give or take rounding, where they differ


def consensus(masks: Sequence[ArrayLike], method: ConsensusName) -> NDArray[np.uint8]:
    """One mask of several, by `majority` or by `staple`; masks that are all equal stay as they are.

    A voxel on which neither side prevails is background: of two readers both rules leave what both
    drew.

    Args:
        masks: one (I, J, K) mask a reader, 0 and 1 or boolean, at least one.
        method: see `majority` and `staple`.
    Returns:
        (I, J, K), 0 and 1; it does not depend on the order of the masks.
    Raises:
        ValueError: if there is no mask, if shapes differ, or for other values.
    """
    read = [as_mask(mask, ndim=3) for mask in masks]
    if not read:
        raise ValueError("no masks: expected at least one reader's")
    if len({mask.shape for mask in read}) > 1:
        raise ValueError(f"masks differ in shape: {', '.join(str(m.shape) for m in read)}")
    if all(np.array_equal(mask, read[0]) for mask in read[1:]):
        return read[0].astype(np.uint8)
    return {"majority": majority, "staple": staple}[method](read).astype(np.uint8)


def majority(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Where more than half of the readers drew."""
    votes: NDArray[np.bool_] = 2 * np.sum(masks, axis=0, dtype=np.int64) > len(masks)
    return votes


def staple(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Where the structure is more likely than not, each reader weighted by how reliable they are.

    STAPLE estimates sensitivity and specificity of each reader together with the structure. It sees
    the box around all masks and `STAPLE_MARGIN` voxels more, since its prior is the share of
    foreground in what it sees.

    References:
        Warfield et al. 2004, doi:10.1109/TMI.2004.828354; by SimpleITK.
    """
    import SimpleITK as sitk

    drawn = np.any(masks, axis=0)
    found = np.zeros(drawn.shape, dtype=np.bool_)
    if not drawn.any():
        return found
    box = bounding_box(drawn, pad=(STAPLE_MARGIN,) * 3)
    estimator = sitk.STAPLEImageFilter()
    estimator.SetForegroundValue(1.0)
    images = [sitk.GetImageFromArray(mask[box].astype(np.uint8)) for mask in masks]
    found[box] = sitk.GetArrayFromImage(estimator.Execute(images)) > 0.5 + _TIE
    return found
