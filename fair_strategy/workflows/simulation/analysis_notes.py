"""What is missing from a simulation, a sentence each."""

from collections.abc import Iterator

import pandas as pd

from fair_strategy.workflows.simulation.analysis_settings import (
    HEADLINE,
    REFERENCES,
    Setting,
    in_order,
)
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL, Tables


def notes_on(tables: Tables, measures: pd.DataFrame, settings: list[Setting]) -> Iterator[str]:
    """Of each setting first, then of the simulation; nothing where nothing is missing."""
    for setting in settings:
        yield from _setting_notes(setting, measures)
    if not tables.run:
        yield "run.json is missing: configuration, hardware and versions are not stated."
    yield from tables.run.get("notes", ())


def _setting_notes(setting: Setting, measures: pd.DataFrame) -> Iterator[str]:
    name = f"{setting.bias} bias, {setting.start} start"
    own = measures[(measures.bias == setting.bias) & (measures.start == setting.start)]
    own = own[own["round"] >= 0]
    started = own.groupby("arm").seed.nunique()
    ended = setting.final.groupby("arm").seed.nunique().reindex(started.index).fillna(0).astype(int)
    going = [arm for arm in in_order(started.index) if ended[arm] < started[arm]]
    if going:
        counts = ", ".join(f"{arm} {ended[arm]} of {started[arm]}" for arm in going)
        yield f"{name}: runs that have not reached the final budget are left out ({counts})."
    main = [arm for arm in dict.fromkeys(setting.roles.values()) if arm in started.index]
    most = int(started.max())
    fewer = [arm for arm in main if started[arm] < most]
    if fewer:
        counts = ", ".join(f"{arm} {started[arm]} of {most}" for arm in fewer)
        yield f"{name}: fewer seeds than elsewhere ({counts}); compared in the shared ones."
    present = set(setting.final.arm)
    for role in ("headline", *REFERENCES):
        if setting.roles.get(role) not in present:
            which = HEADLINE if role == "headline" else role
            yield f"{name}: no finished run of {which}, so nothing is said about it."
    if WHOLE_POOL not in present:
        yield f"{name}: no model trained on the whole pool, so no floor and no excess gap."
    elif setting.final[setting.final.arm != WHOLE_POOL].excess.isna().any():
        yield f"{name}: some seeds have no whole-pool model; excess gaps are of the others."
    if setting.drawn is None:
        yield f"{name}: no test cases of the final budget in cases.csv, so no bootstrap intervals."
    if most < 2:
        yield f"{name}: one seed only, so no interval and no test means anything."
