"""A cohort's subject as it is written: brain, box around the caudate, or whole head."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.synthetic.head import draw_head, render_head
from fair_strategy.data.synthetic.head_tissues import CONTRASTS
from fair_strategy.data.synthetic.subject import FIELDS_OF_VIEW, SubjectParameters, generate_subject

HEAD = "head"
VIEWS = (*FIELDS_OF_VIEW, HEAD)

__all__ = ["CONTRASTS", "HEAD", "VIEWS", "Made", "make"]


class Made(NamedTuple):
    """Image, mask (uint8), affine, type that holds the image without loss, and what it is."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    dtype: type[np.integer]
    sidecar: dict[str, Any]


def make(
    parameters: SubjectParameters, *, field_of_view: str, voxel_mm: float | None, contrast: str
) -> Made:
    """One subject's image and mask, with everything that made them in the sidecar.

    Args:
        parameters: the person.
        field_of_view: one of VIEWS.
        voxel_mm: edge of cubic voxels; None (heads only) for a scan of random geometry.
        contrast: one of CONTRASTS; "random" for heads only.
    """
    if field_of_view == HEAD:
        return _make_head(parameters, voxel_mm=voxel_mm, contrast=contrast)
    edge = 1.0 if voxel_mm is None else voxel_mm
    subject = generate_subject(parameters, voxel_mm=edge, field_of_view=field_of_view)
    sidecar = asdict(parameters) | {
        "voxel_mm": edge,
        "field_of_view": field_of_view,
        "volume_mm3": _volume_mm3(subject.label, subject.affine),
    }
    return Made(subject.image, subject.label, subject.affine, np.uint8, sidecar)


def _make_head(parameters: SubjectParameters, *, voxel_mm: float | None, contrast: str) -> Made:
    drawn = draw_head(
        parameters.seed,
        parameters.index,
        contrast=contrast,
        group=parameters.group,
        bias=parameters.bias,
    )
    head = render_head(drawn, voxel_mm=voxel_mm)
    content = asdict(drawn)
    sidecar = content.pop("person") | {
        "voxel_mm": voxel_mm,
        "field_of_view": HEAD,
        "volume_mm3": _volume_mm3(head.label, head.affine),
        "head": content,
    }
    return Made(head.image, head.label, head.affine, np.int16, sidecar)


def _volume_mm3(label: NDArray[np.uint8], affine: NDArray[np.float64]) -> float:
    return round(float(label.sum()) * abs(float(np.linalg.det(affine[:3, :3]))), 3)
