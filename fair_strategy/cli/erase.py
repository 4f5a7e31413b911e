"""``fair-strategy erase``: one person taken out of a study."""

from pathlib import Path
from typing import Annotated

import typer

from fair_strategy.cli.options import AsJson, answer, study_of


def erase(
    subject: Annotated[str, typer.Argument(help="the person, such as sub-01")],
    studies: Annotated[str, typer.Option(help="the image folder, or the PACS, of the server")],
    state_dir: Annotated[
        Path | None, typer.Option(help="state directory, if it is not the default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove what a study holds of one person: rows, masks, drafts, predictions, backups.

    Stop the server, take the scans and the row of participants.tsv away (in a PACS: the series),
    then run this; run it again if it was cut off. Weights of models that were trained on the
    person's labels cannot forget: train anew.
    """
    from fair_strategy.workflows.erasure import erase_subject

    erased = erase_subject(study_of(studies, state_dir), subject)
    answer(
        {"scans": erased.scans, "files": erased.files, "models_since": erased.models},
        as_json=as_json,
    )
