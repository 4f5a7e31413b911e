"""Plans of strategies that nobody had followed: made when asked for, as the round would have."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fair_strategy.acquisition.strategies import NEEDS_FEATURES, STRATEGIES
from fair_strategy.store import plans
from fair_strategy.workflows import late_plans
from fair_strategy.workflows.desk import next_case
from fair_strategy.workflows.late_plans import plan_if_missing
from fair_strategy.workflows.performance import compare_labels
from fair_strategy.workflows.plan_basis import Basis
from fair_strategy.workflows.planning import ALWAYS_MADE, make_plans, offered, plan_is_stale, replay
from fair_strategy.workflows.rounds import train_round
from fair_strategy.workflows.scoring import score_study


def scored(study):
    score_study(study)
    compare_labels(study)
    make_plans(study)
    return study


def head(study, strategy):
    return plans.plan_head(study.store, strategy)


def order(study, plan_id):
    return [row.case_id for row in plans.rows(study.store, plan_id)]


def digests(study, *strategies):
    newest = [str(head(study, name).plan_id) for name in strategies]
    rows = study.store.read().execute(
        f"SELECT DISTINCT inputs_digest FROM plans WHERE plan_id IN ({', '.join(newest)})"
    )
    return {row[0] for row in rows}


def half_a_round(study, monkeypatch):
    """A new model, all scored, and a round of plans that is killed before its last."""
    train_round(study, steps=1, track=False)
    score_study(study)
    real = Basis.write_plan

    def killed_before_the_last(basis, study, strategy):
        if strategy == ALWAYS_MADE:
            raise KeyboardInterrupt
        return real(basis, study, strategy)

    monkeypatch.setattr(Basis, "write_plan", killed_before_the_last)
    with pytest.raises(KeyboardInterrupt):
        make_plans(study)


def test_a_round_plans_what_is_in_use_and_a_reader_who_asks_brings_a_strategy_into_use(make_study):
    study = scored(make_study("AAABBB", labelled=1))
    planned = [name for name in STRATEGIES if head(study, name)]
    assert planned == ["weighted_entropy", "balanced_random"]
    handed = next_case(study, "entropy", "anna")
    assert (handed.served_by, handed.stale, handed.note) == ("entropy", False, "")
    first = head(study, "entropy")
    make_plans(study)
    later = head(study, "entropy")
    assert later.plan_id > first.plan_id
    assert later.note == first.note == head(study, ALWAYS_MADE).note
    assert head(study, "masked_entropy") is None
    assert plan_if_missing(study, "entropy") is None


def test_it_is_the_plan_that_the_round_would_have_made(make_study):
    study = scored(make_study("A" * 8 + "B" * 8, labelled=2))
    made = {name: plan_if_missing(study, name) for name in offered(study.settings)}
    assert [name for name, plan_id in made.items() if plan_id is None] == [
        "weighted_entropy",
        "balanced_random",
    ]
    for number, name in enumerate(offered(study.settings)):
        next_case(study, name, f"reader-{number}")
    make_plans(study)
    for name, plan_id in made.items():
        again = head(study, name).plan_id
        if plan_id is not None:
            assert again != plan_id
            assert order(study, again) == order(study, plan_id)
            assert (
                plans.plan(study.store, again).weights == plans.plan(study.store, plan_id).weights
            )


def test_one_that_a_round_left_out_is_made_of_that_round_before_it_serves(make_study):
    study = scored(make_study("AAABBB", labelled=1))
    plan_if_missing(study, "entropy")  # made, and followed by nobody
    before = head(study, "entropy")
    train_round(study, steps=1, track=False)
    scored(study)
    assert head(study, "entropy") == before
    handed = next_case(study, "entropy", "anna")
    assert (handed.served_by, handed.stale) == ("entropy", False)
    assert head(study, "entropy").note == head(study, ALWAYS_MADE).note != before.note
    assert replay(study, plans.decisions(study.store)[0].decision_id)["same"] is True


def test_scores_of_half_a_pool_make_no_plan(make_study):
    study = make_study("AAAABBBB")
    make_plans(study)
    score_study(study, limit=1)
    for strategy in ("weighted_entropy", "entropy", "core_set"):
        handed = next_case(study, strategy, f"asks-for-{strategy}")
        assert handed.served_by == ALWAYS_MADE
        assert handed.note == "drawn at random: no scores yet"


def test_until_a_new_model_has_scored_the_last_rounds_scores_serve_and_are_said_to_be_old(
    make_study,
):
    study = scored(make_study("AAABBB", labelled=1))
    train_round(study, steps=1, track=False)
    handed = next_case(study, "entropy", "anna")
    assert (handed.served_by, handed.stale) == ("entropy", True)


def test_a_table_that_cannot_be_read_meanwhile_is_not_needed(make_study):
    study = scored(make_study("AABB"))
    (study.images_dir / "participants.tsv").write_text("nonsense\n")
    assert next_case(study, "entropy", "anna").served_by == "entropy"


def test_readers_who_ask_for_a_strategy_at_once_get_one_plan_and_a_scan_each(make_study):
    study = scored(make_study("AAAABBBB", labelled=1))
    readers = [f"reader-{n}" for n in range(6)]
    with ThreadPoolExecutor(len(readers)) as threads:
        handed = list(threads.map(lambda reader: next_case(study, "entropy", reader), readers))
    assert {found.served_by for found in handed} == {"entropy"}
    assert len({found.case_id for found in handed}) == len(readers)
    assert len({d.plan_id for d in plans.decisions(study.store)}) == 1


def test_a_round_that_another_process_ends_meanwhile_is_the_one_that_counts(
    make_study, monkeypatch
):
    study = scored(make_study("AAABBB", labelled=1))
    real, rounds = Basis.write_plan, []

    def overtaken(basis, *given):
        if not rounds:
            rounds.append(basis.stamp)
            train_round(study, steps=1, track=False)
            scored(study)
        return real(basis, *given)

    monkeypatch.setattr(Basis, "write_plan", overtaken)
    plan_if_missing(study, "entropy")
    assert head(study, "entropy").note == head(study, ALWAYS_MADE).note != rounds[0]


def test_what_a_round_being_made_has_written_already_is_not_replaced_by_the_last_rounds(
    make_study, monkeypatch
):
    study = scored(make_study("AAABBB", labelled=1))
    next_case(study, "entropy", "anna")
    half_a_round(study, monkeypatch)
    newer = head(study, "entropy")
    assert plan_if_missing(study, "entropy") is None
    assert head(study, "entropy") == newer
    assert plan_is_stale(study)  # so the round is made again


def test_between_a_rounds_first_plan_and_its_last_the_round_before_serves(make_study, monkeypatch):
    study = scored(make_study("AAABBB", labelled=1))
    before = head(study, "weighted_entropy")
    half_a_round(study, monkeypatch)
    assert head(study, "weighted_entropy").model != before.model
    handed = next_case(study, "masked_entropy", "anna")
    assert (handed.served_by, handed.stale) == ("masked_entropy", True)
    assert head(study, "masked_entropy").model == before.model
    assert head(study, "masked_entropy").note == before.note


def test_a_plan_of_an_ended_round_is_made_anew_even_if_it_was_written_after_the_last_one(
    make_study,
):
    study = scored(make_study("AAABBB", labelled=1))
    ended = late_plans._last_round(study)
    train_round(study, steps=1, track=False)
    scored(study)
    late_plans._basis_of(study, ended).write_plan(study, "entropy")
    assert head(study, "entropy").plan_id > head(study, ALWAYS_MADE).plan_id
    assert not next_case(study, "entropy", "anna").stale
    assert head(study, "entropy").note == head(study, ALWAYS_MADE).note


def test_features_of_other_settings_are_not_mixed_into_a_round(make_study):
    study = scored(make_study("AAABBB", labelled=1))
    later = replace(study, settings_version=study.settings_version + 1)
    assert plan_if_missing(later, "core_set") is None
    assert plan_if_missing(study, "core_set") is not None


def test_plans_over_one_pool_share_its_snapshot(make_study):
    study = scored(make_study("AAABBB", labelled=1))
    for name in offered(study.settings):
        plan_if_missing(study, name)
    assert len(digests(study, *set(offered(study.settings)) - NEEDS_FEATURES)) == 1
    assert len(digests(study, *offered(study.settings))) == 2  # and one with features


def test_the_weights_that_a_rule_builds_on_are_those_of_rounds(make_study):
    study = make_study("ABABABAB", labelled=6, rule="exponentiated", estimator="labelled")
    scored(study)
    train_round(study, steps=1, track=False)
    scored(study)
    before = plans.latest_plan(study.store, "weighted_entropy").weights
    plan_if_missing(study, "entropy")
    make_plans(study)
    assert plans.latest_plan(study.store, "weighted_entropy").weights == before
    assert not np.isclose(before["A"], 1.0)
