"""``fair-strategy synth``: a BIDS cohort of synthetic T1 with a controlled left-caudate effect."""

import os
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fair_strategy.cli.options import AsJson, answer, fail, tracked

if TYPE_CHECKING:
    from fair_strategy.data.synthetic.cohort import CohortReport, CohortSettings


class Bias(StrEnum):
    """Size of the minority's effect on the left caudate."""

    strong = "strong"
    weak = "weak"
    none = "none"


class FieldOfView(StrEnum):
    """Part of the head that an image shows."""

    brain = "brain"
    caudate = "caudate"
    head = "head"


class Contrast(StrEnum):
    """Brightness of the tissues of a head."""

    t1 = "t1"
    random = "random"


def synth(
    out: Annotated[Path, typer.Option(help="BIDS folder to write; one begun earlier is completed")],
    subjects: Annotated[int, typer.Option(min=1, help="number of subjects")],
    bias: Annotated[Bias, typer.Option(help="effect on the minority's caudate")] = Bias.strong,
    minority_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="share of group B (the minority)")
    ] = 0.35,
    seed: Annotated[int, typer.Option(min=0, help="the same seed gives the same bytes")] = 0,
    voxel_mm: Annotated[
        float | None,
        typer.Option(min=0.25, max=8, help="voxel edge in mm; default: 1, for heads any scan"),
    ] = None,
    field_of_view: Annotated[
        FieldOfView, typer.Option(help="brain, a box of 48 x 64 x 48 mm in it, or a whole head")
    ] = FieldOfView.brain,
    contrast: Annotated[
        Contrast, typer.Option(help="T1-like; or any at random (heads only)")
    ] = Contrast.t1,
    labelled: Annotated[
        int, typer.Option(min=0, help="subjects a group whose mask is given as a label")
    ] = 0,
    processes: Annotated[
        int | None, typer.Option(min=1, help="worker processes; default: one a processor")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write synthetic T1-weighted brains or heads, with left-caudate masks, as a BIDS folder.

    derivatives/reference holds every mask and each subject's parameters (the answer key);
    derivatives/labels the masks that a study may start with. An interruption leaves whole
    subjects only; the same command goes on from there.
    """
    from fair_strategy.data.synthetic.cohort import CohortSettings

    if contrast is Contrast.random and field_of_view is not FieldOfView.head:
        raise typer.BadParameter("random needs --field-of-view head", param_hint="--contrast")
    if voxel_mm is None and field_of_view is not FieldOfView.head:
        voxel_mm = 1.0
    settings = CohortSettings(
        subjects=subjects,
        bias=bias.value,
        minority_fraction=minority_fraction,
        seed=seed,
        voxel_mm=voxel_mm,
        field_of_view=field_of_view.value,
        labelled=labelled,
        contrast=contrast.value,
    )
    report = _written(out, settings, processes or os.cpu_count() or 1)
    answer(
        {
            "out": str(out),
            "written": report.written,
            "kept": report.kept,
            "labelled": report.labelled,
            "groups": settings.group_sizes(),
        },
        as_json=as_json,
    )


def _written(out: Path, settings: "CohortSettings", processes: int) -> "CohortReport":
    from fair_strategy.data.synthetic.cohort import write_cohort

    try:
        with tracked("subjects") as progress:
            return write_cohort(out, settings, processes=processes, progress=progress)
    except KeyboardInterrupt:
        fail(f"interrupted; what stands in {out} is whole, the same command goes on", code=1)
    except (ImportError, OSError, BrokenProcessPool) as error:
        fail(str(error), code=1)
