"""Several readers a scan: each one's reading, and the final label that is made of them.

A scan goes to one reader after the other, never twice to the same. Once as many as the study asks
for have read it, how far they agree is kept, and their consensus becomes its final label.
"""

import logging
import sqlite3
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.grids import spacing_mm
from fair_strategy.data.volumes import Mask, read_grid, read_mask
from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.surface import average_surface_distance_mm
from fair_strategy.store import cases, readings
from fair_strategy.store.labels import FINAL, LabelRecord
from fair_strategy.store.readings import CONSENSUS, Agreement
from fair_strategy.workflows.consensus import consensus
from fair_strategy.workflows.exclusive import exclusive
from fair_strategy.workflows.masks import place_of_mask, store_mask
from fair_strategy.workflows.replacing import mask_digest, replacing
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)


def is_read_by_several(study: Study, case_id: str) -> bool:
    """Whether a label of this case is a reading: the study asks for several, or it has one already.

    The second holds where the study asked for several before: what they made is not thrown away.
    Never where a single person's label, or an imported one, is the final one: whoever corrects
    that replaces it, since nobody else is asked to read the case.
    """
    final = cases.label(study.store, case_id)
    if final is not None and final.client_id != CONSENSUS:
        return False
    return study.settings.readers_per_case > 1 or bool(readings.readings(study.store, case_id))


def due_cases(study: Study, *, now: float | None = None) -> list[str]:
    """Cases whose final label is due to be made of readings; `now` is monotonic time, s."""
    return readings.unsettled(
        study.store,
        readers=study.settings.readers_per_case,
        now=time.monotonic() if now is None else now,
    )


def settle_all(study: Study, *, now: float | None = None) -> int:
    """Make every final label that is due; how many were made. One that fails holds up no other."""
    return sum(settle(study, case_id, now=now) for case_id in due_cases(study, now=now))


def settle(study: Study, case_id: str, *, now: float | None = None) -> bool:
    """Make a case's final label if it is due; whether it was made.

    What goes wrong (a reading that cannot be read, a busy or full store) is said in the log, and
    tried again by the background: the label that has just been submitted is safe whatever comes of
    this, and its reader must not be told otherwise.
    """
    now = time.monotonic() if now is None else now
    try:
        with exclusive(study.state_dir, "consensus"):
            return case_id in due_cases(study, now=now) and _settle(study, case_id, now)
    except (OSError, ValueError, sqlite3.Error) as error:
        log.error("%s: no final label could be made of its readings: %s", case_id, error)
        return False


def agreements_of(
    records: Sequence[LabelRecord],
    masks: Sequence[NDArray[np.bool_]],
    spacing: Sequence[float],
) -> list[Agreement]:
    """Dice and mean surface distance, mm, of each pair of readers.

    Args:
        records: of one case, one a reader.
        masks: (I, J, K), theirs.
        spacing: voxel edges, mm.
    """
    pairs = sorted(zip(records, masks, strict=True), key=lambda pair: pair[0].client_id)
    return [
        Agreement(
            case_id=first.case_id,
            first_client=first.client_id,
            second_client=second.client_id,
            dice=dice(mask, other),
            surface_distance_mm=average_surface_distance_mm(mask, other, spacing),
            created_at=time.time(),
        )
        for (first, mask), (second, other) in combinations(pairs, 2)
    ]


def own_label_file(study: Study, case_id: str, client_id: str) -> Path | None:
    """The mask that a reader made of a scan, for nobody but them; None if they submitted none.

    Raises:
        UnknownCaseError: for an unknown case.
    """
    known = cases.case(study.store, case_id).case_id
    own = readings.own_label(study.store, known, client_id)
    return own.path if own is not None and own.path.exists() else None


def _settle(study: Study, case_id: str, now: float) -> bool:
    made_of = readings.readings(study.store, case_id)
    masks = [_mask_of(record) for record in made_of]
    affine = read_grid(made_of[0].path)[1]
    agreed = agreements_of(made_of, masks, spacing_mm(affine))
    agreed_mask = Mask(consensus(masks, study.settings.consensus), affine)
    try:
        with replacing(study, place_of_mask(study, case_id, FINAL)):
            path, digest = store_mask(study, case_id, agreed_mask, tag=FINAL)
            record = LabelRecord(
                case_id=case_id,
                tag=FINAL,
                path=path,
                info={"consensus": study.settings.consensus, "readers": len(made_of)},
                client_id=CONSENSUS,
                created_at=time.time(),
                digest=digest,
                seen_model=_seen_by_all(made_of),
            )
            if not readings.save_consensus(study.store, record, made_of, agreed, now=now):
                raise _ReadingChanged  # so that the mask of before is put back
    except _ReadingChanged:
        return False
    return True


def _mask_of(record: LabelRecord) -> NDArray[np.bool_]:
    """The mask of a reading's row.

    A submission changes the file before the row, and takes it back if the row cannot be written: a
    mask that is on its way counts for nothing yet.
    """
    array = read_mask(record.path).array
    if mask_digest(array) != record.digest:
        raise ValueError(
            f"{record.path.name} is not the mask that its reader submitted last; unless a "
            "submission is on its way, restore it or let its reader submit again"
        )
    return array != 0


class _ReadingChanged(Exception):
    """A reading has changed since the consensus was made of it, or somebody has the case."""


def _seen_by_all(made_of: Sequence[LabelRecord]) -> str | None:
    """The model whose prediction all readers saw; None if some saw another's, or none."""
    seen = {record.seen_model for record in made_of}
    return seen.pop() if len(seen) == 1 else None
