"""``fair-strategy rank``: weights, utilities and order, from tables; or a decision replayed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fair_strategy.cli.options import AsJson, Settings, answer, fail, study_of, study_settings

if TYPE_CHECKING:
    from fair_strategy.acquisition.selection import RankedCase
    from fair_strategy.config import StudySettings


def rank(
    scores: Annotated[Path | None, typer.Option(help="table that `score` wrote")] = None,
    performance: Annotated[
        Path | None, typer.Option(help="subgroup and mean (TSV), or JSON {subgroup: mean}")
    ] = None,
    rule: Annotated[str, typer.Option(help="from performance to weights")] = "error_proportional",
    strategy: Annotated[str, typer.Option(help="order of the candidates")] = "weighted_entropy",
    labelled_counts: Annotated[
        Path | None,
        typer.Option(help="for inverse_frequency: subgroup and labelled (TSV), or JSON"),
    ] = None,
    replay: Annotated[
        int | None, typer.Option(help="rebuild the plan behind this decision of a server")
    ] = None,
    studies: Annotated[
        Path | None, typer.Option(help="with --replay: the image folder of the server")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="with --replay: state directory, if it is not the default")
    ] = None,
    option: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Rank scored scans by weight of the subgroup x uncertainty.

    With --replay: rebuild the plan that a decision was taken from and compare; exit code 1 if it
    comes out differently.
    """
    if replay is not None:
        _replay(replay, studies, state_dir, as_json)
        return
    if scores is None or performance is None:
        fail("rank needs --scores and --performance, or --replay and --studies", code=2)
    settings = _checked(strategy, option, rule, labelled_counts)
    weights, order = _ranked(scores, performance, labelled_counts, settings, strategy)
    answer(
        {"rule": settings.rule, "strategy": strategy, "weights": weights, "order": order},
        as_json=as_json,
    )


def _checked(
    strategy: str, option: list[str] | None, rule: str, labelled_counts: Path | None
) -> "StudySettings":
    """The settings, if strategy and tables fit them."""
    from fair_strategy.acquisition.strategies import STRATEGIES

    if strategy not in STRATEGIES:
        fail(f"strategy {strategy!r}: expected one of {', '.join(STRATEGIES)}", code=2)
    settings = study_settings(option, rule=rule)
    if settings.rule == "inverse_frequency" and labelled_counts is None:
        fail(
            "rule inverse_frequency needs --labelled-counts: "
            "a table of scores does not tell how many scans of each subgroup are labelled",
            code=2,
        )
    return settings


def _ranked(
    scores: Path,
    performance: Path,
    labelled_counts: Path | None,
    settings: "StudySettings",
    strategy: str,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Weight of each subgroup, and the scans in order, from the tables."""
    from fair_strategy.workflows.tables import (
        rank_table,
        read_labelled_counts,
        read_performance,
        read_scores,
    )

    weights, ranked = rank_table(
        read_scores(scores),
        read_performance(performance),
        settings,
        strategy=strategy,
        labelled_counts=read_labelled_counts(labelled_counts) if labelled_counts else None,
    )
    return weights, [_row(position, case) for position, case in enumerate(ranked)]


def _row(position: int, case: "RankedCase") -> dict[str, Any]:
    return {
        "position": position,
        "case_id": case.case_id,
        "subgroup": case.subgroup,
        "case_entropy": case.case_entropy,
        "weight": case.weight,
        "utility": case.utility,
        "reason": case.reason,
    }


def _replay(decision: int, studies: Path | None, state_dir: Path | None, as_json: bool) -> None:
    from fair_strategy.workflows.planning import replay

    if studies is None:
        fail("--replay needs --studies, the image folder of the server", code=2)
    study = study_of(studies, state_dir)
    try:
        result = replay(study, decision)
    except LookupError as error:
        fail(str(error), code=2)
    answer(result, as_json=as_json)
    if not result["same"]:
        raise typer.Exit(1)
