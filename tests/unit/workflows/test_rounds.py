import dataclasses
import json

import numpy as np
import pytest

from fair_strategy.data.volumes import write_mask
from fair_strategy.learning.objectives import ObjectiveSettings
from fair_strategy.store import cases, plans, scores
from fair_strategy.workflows import models
from fair_strategy.workflows.desk import next_case, pending_work, submit
from fair_strategy.workflows.intake import freeze_validation, prepare
from fair_strategy.workflows.performance import compare_labels, study_performance
from fair_strategy.workflows.planning import make_plans, plan_is_stale, weights_of
from fair_strategy.workflows.rounds import train_round, training_cases, training_settings
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.showing import original
from fair_strategy.workflows.study import StudyError
from tests.helpers import AFFINE, blob


def test_a_round_publishes_another_model_and_makes_the_old_plan_stale(make_study):
    study = make_study("AAABBB", labelled=4)
    score_study(study)
    make_plans(study)
    before = scores.current_model(study.store)
    statistics = train_round(study, steps=2, track=False)
    after = scores.current_model(study.store)
    assert after.checksum != before.checksum
    assert after.path == study.state_dir / "models" / f"{after.checksum}.pt"
    assert statistics["training_cases"] == 4
    handed = next_case(study, "weighted_entropy", "anna")
    assert handed.stale
    assert "earlier model" in handed.note
    assert pending_work(study)["unscored"] == 6
    score_study(study)
    make_plans(study)
    assert not next_case(study, "weighted_entropy", "ben").stale
    assert not plan_is_stale(study)


def test_the_objective_of_the_study_trains_and_its_figures_are_kept_for_the_lead(make_study):
    study = make_study("AAABBB", labelled=4, objective="group_dro", objective_eta=0.5)
    settings = training_settings(study, steps=2)
    assert settings.objective == ObjectiveSettings("group_dro", eta=0.5)
    train_round(study, steps=2, track=False)
    model = scores.current_model(study.store)
    told = model.statistics["objective"]
    assert (told["name"], told["cases"]) == ("group_dro", {"A": 3, "B": 1})
    [row] = told["history"]
    assert row["step"] == 2
    assert (row["q"]["A"] > row["q"]["B"]) == (row["loss"]["A"] > row["loss"]["B"])
    assert json.loads(model.path.with_suffix(".json").read_text()) == model.statistics


def test_validation_subjects_are_never_trained_on(make_study):
    study = make_study("AAAABBBB", labelled=8, validation_per_group=2)
    training, validation = training_cases(study)
    splits = cases.splits(study.store)
    assert {c.subject_id for c in training}.isdisjoint(splits)
    assert {splits[c.subject_id] for c in validation} == {"select"}
    assert (len(training), len(validation)) == (4, 2)


def test_without_a_training_label_the_sentence_says_what_to_do(make_study):
    with pytest.raises(StudyError, match="validation_per_group 0"):
        train_round(make_study("AABB"), steps=1, track=False)


def test_training_is_due_after_so_many_new_labels_and_not_after_imports(make_study, tmp_path):
    study = make_study("AABB", labelled=2, train_every=2)
    assert not pending_work(study)["train_due"]
    for number in (3, 4):
        path = tmp_path / "mask.nii.gz"
        write_mask(path, blob(number)[1], AFFINE)
        submit(study, f"sub-{number:02d}_T1w", path, client_id="anna")
    assert pending_work(study)["train_due"]
    train_round(study, steps=1, track=False)
    assert not pending_work(study)["train_due"]


def test_cross_validation_compares_each_case_with_a_model_that_did_not_see_it(make_study):
    study = make_study("AAABBB", labelled=6, estimator="cross_validated")
    train_round(study, steps=1, track=False)
    performance = study_performance(study)
    assert {name: p.n for name, p in performance.items()} == {"A": 3, "B": 3}
    folds = scores.current_model(study.store).statistics["folds"]
    assert len(folds) == 3
    compared = [{c.case_id for c in scores.comparisons(study.store, model=f)} for f in folds]
    assert sum(map(len, compared)) == len(set.union(*compared)) == 6


def test_audit_draws_alone_count_once_every_subgroup_has_some(make_study, tmp_path):
    study = make_study("A" * 8 + "B" * 8, estimator="prequential", audit_every=2, quota_batch=0)
    score_study(study)
    with study.store.transaction() as connection:  # untrained: every prediction is implausible
        connection.execute("UPDATE scores SET flags = '[]'")
    make_plans(study)
    for reader in range(16):
        handed = next_case(study, "weighted_entropy", f"reader-{reader}")
        path = tmp_path / "mask.nii.gz"
        write_mask(path, blob(int(handed.case_id[4:6]))[1], AFFINE)
        submit(study, handed.case_id, path, client_id=f"reader-{reader}")
    compare_labels(study)
    drawn = plans.random_draws(study.store)
    counted = study_performance(study)
    assert 4 <= len(drawn) < 16
    subgroups = study.subgroups()
    per_group = {g: sum(subgroups[i] == g for i in drawn) for g in "AB"}
    expected = per_group if min(per_group.values()) >= 4 else {"A": 8, "B": 8}
    assert {g: p.n for g, p in counted.items()} == expected
    assert np.isfinite([p.mean for p in counted.values()]).all()


def test_what_was_said_before_a_label_came_counts_on_after_a_training(make_study, tmp_path):
    study = make_study("A" * 12 + "B" * 4, labelled=2, estimator="prequential", audit_every=0)
    score_study(study)
    make_plans(study)

    def submit_next(number):
        for _ in range(number):
            handed = next_case(study, "weighted_entropy", "anna")
            path = tmp_path / "mask.nii.gz"
            write_mask(path, blob(int(handed.case_id[4:6]))[1], AFFINE)
            submit(study, handed.case_id, path, client_id="anna")
        compare_labels(study)

    submit_next(14)
    before = study_performance(study)
    assert {name: p.n for name, p in before.items()} == {"A": 8, "B": 4}  # of A the newest 8 of 10+
    first = scores.current_model(study.store).checksum
    train_round(study, steps=1, track=False)
    assert scores.current_model(study.store).checksum != first
    after = study_performance(study)
    assert after == before  # the new model has met no label yet, and the old ones count on
    assert len({round(w, 6) for w in weights_of(study, after, ["A", "B"]).values()}) == 2


def test_a_label_that_comes_while_a_round_trains_counts_for_the_next(make_study, tmp_path):
    study = make_study("AABB", labelled=2, train_every=1)

    def submit_meanwhile(step, steps):
        path = tmp_path / "mask.nii.gz"
        write_mask(path, blob(3)[1], AFFINE)
        submit(study, "sub-03_T1w", path, client_id="anna")

    train_round(study, steps=1, track=False, progress=submit_meanwhile)
    assert pending_work(study)["train_due"]


def test_until_the_new_model_has_scored_a_scan_its_last_prediction_is_shown(make_study):
    study = make_study("AABB", labelled=2)
    score_study(study)
    make_plans(study)
    before = scores.current_model(study.store).checksum
    train_round(study, steps=1, track=False)
    handed = next_case(study, "weighted_entropy", "anna")
    assert original(study, handed.case_id) is not None
    assert plans.holder_saw(study.store, handed.case_id, "anna") == before


def test_whoever_was_trained_on_never_joins_the_validation_set(make_study):
    study = make_study("AABB", labelled=4)
    train_round(study, steps=1, track=False)
    grown = dataclasses.replace(
        study, settings=study.settings.model_copy(update={"validation_per_group": 2})
    )
    freeze_validation(grown)
    assert cases.splits(study.store) == {}


def test_a_damaged_mask_is_left_out_of_training(make_study):
    study = make_study("AABB", labelled=2)
    cases.label(study.store, "sub-01_T1w").path.write_bytes(b"no mask")
    assert [c.subject_id for c in training_cases(study)[0]] == ["sub-02"]


def test_a_trained_model_that_went_missing_gives_way_to_the_shipped_one(make_study):
    study = make_study("AABB", labelled=2)
    shipped = scores.current_model(study.store).checksum
    train_round(study, steps=1, track=False)
    scores.current_model(study.store).path.unlink()
    models._load.cache_clear()
    prepare(study)
    assert scores.current_model(study.store).checksum == shipped
