import numpy as np
import pytest

from fair_strategy.acquisition.pool import Pool
from fair_strategy.acquisition.strategies import NEEDS_FEATURES, STRATEGIES
from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import write_mask
from fair_strategy.store import cases, plans, scores
from fair_strategy.workflows.desk import next_case, pending_work, submit
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.late_plans import plan_if_missing
from fair_strategy.workflows.performance import (
    compare_labels,
    count_comparisons,
    study_performance,
)
from fair_strategy.workflows.planning import make_plans, offered, plan_is_stale, replay
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import StudyError
from tests.helpers import AFFINE, blob, write_cohort


def scored(study):
    score_study(study)
    compare_labels(study)
    make_plans(study)
    return study


def test_before_any_score_the_next_scan_is_drawn_at_random_and_says_so(make_study):
    study = make_study("AABB")
    make_plans(study)
    handed = next_case(study, "weighted_entropy", "reader-1")
    assert handed.served_by == "balanced_random"
    assert handed.note == "drawn at random: no scores yet"
    assert handed.percentile is None


def test_weights_come_from_the_labelled_cases_and_are_not_all_one(make_study):
    study = scored(make_study("AAAABB", labelled=3, estimator="labelled"))
    plan = plans.latest_plan(study.store, "weighted_entropy")
    assert plan.performance["A"]["n"] == 3
    assert plan.performance["B"]["n"] == 0
    assert np.isnan(plan.performance["B"]["mean"])
    assert np.mean(list(plan.weights.values())) == pytest.approx(1)


def test_a_decision_is_replayed_from_what_the_plan_kept(make_study):
    study = scored(make_study("AAAABBBB", labelled=2, estimator="labelled"))
    handed = next_case(study, "weighted_entropy", "reader-1")
    decision = plans.decisions(study.store)[0]
    result = replay(study, decision.decision_id)
    assert result["same"] is True
    assert result["replayed"] == result["case_id"] == handed.case_id
    with pytest.raises(LookupError, match="999"):
        replay(study, 999)


def test_a_decision_of_every_strategy_is_replayed(make_study):
    study = scored(make_study("AAAAABBBBB", labelled=2, passes=2, region="volume"))
    for name in STRATEGIES:
        assert next_case(study, name, f"reader-{name}").served_by == name
    decisions = plans.decisions(study.store)
    assert len(decisions) == len(STRATEGIES)
    for decision in decisions:
        assert replay(study, decision.decision_id)["same"] is True


def test_only_a_plan_that_needs_features_keeps_them(make_study):
    study = scored(make_study("AAABBB", labelled=1))
    for name in offered(study.settings):
        plan_if_missing(study, name)
        inputs = plans.latest_plan(study.store, name).inputs
        assert ("features" in inputs) == (name in NEEDS_FEATURES)
    kept = Pool.from_json(plans.latest_plan(study.store, "core_set").inputs)
    assert kept.features.case_ids == tuple(c.case_id for c in kept.cases)
    assert kept.labelled_features.case_ids == ("sub-01_T1w",)


def test_the_validation_set_covers_nothing_for_the_core_set(make_study):
    study = scored(make_study("AAAABBBB", labelled=4, validation_per_group=2))
    frozen = {f"{subject}_T1w" for subject in cases.splits(study.store)}
    plan_if_missing(study, "core_set")
    kept = Pool.from_json(plans.latest_plan(study.store, "core_set").inputs)
    trained = {f"sub-0{n}_T1w" for n in range(1, 5)} - frozen
    assert set(kept.labelled_features.case_ids) == trained
    assert trained
    assert frozen.intersection(cases.labelled_ids(study.store))


def test_scores_of_an_earlier_release_have_no_features_and_the_core_set_is_random_then(make_study):
    study = make_study("AABB")
    score_study(study)
    with study.store.transaction() as connection:
        connection.execute("UPDATE scores SET features = NULL")
    make_plans(study)
    assert next_case(study, "core_set", "anna").served_by == "balanced_random"
    assert next_case(study, "stochastic_batches", "bert").served_by == "stochastic_batches"


def test_bald_is_offered_where_the_study_makes_several_passes(make_study):
    study = scored(make_study("AABB"))
    assert "bald" not in offered(study.settings)
    assert plans.latest_plan(study.store, "bald") is None
    with pytest.raises(StudyError, match="this study makes 1: set passes to 2 or more"):
        next_case(study, "bald", "anna")
    assert offered(StudySettings(passes=2)) == tuple(STRATEGIES)


def test_the_region_of_the_weighted_entropy_is_a_setting(make_study):
    study = scored(make_study("AABB", region="volume", reduction="sum"))
    plan = plans.latest_plan(study.store, "weighted_entropy")
    found = scores.scores(study.store, plan.model, study.settings_hash)
    for row in plans.rows(study.store, plan.plan_id):
        assert row.score == found[row.case_id].entropies["entropy_sum"]
    plan_if_missing(study, "masked_entropy")
    plan = plans.latest_plan(study.store, "masked_entropy")
    for row in plans.rows(study.store, plan.plan_id):
        assert row.score == pytest.approx(found[row.case_id].entropies["masked_sum"], nan_ok=True)


def test_replay_tells_a_plan_that_was_tampered_with(make_study):
    study = scored(make_study("AAAA"))
    next_case(study, "weighted_entropy", "reader-1")
    with study.store.transaction() as connection:
        connection.execute("UPDATE plan_rows SET case_id = 'sub-01_T1w' WHERE position = 0")
        connection.execute("UPDATE plan_rows SET case_id = 'sub-02_T1w' WHERE position = 1")
        connection.execute("UPDATE plan_rows SET case_id = 'sub-01_T1w' WHERE position = 2")
    assert replay(study, plans.decisions(study.store)[0].decision_id)["same"] is False


def test_labels_and_leases_leave_a_plan_as_it_is_and_new_scans_do_not(make_study, tmp_path):
    study = scored(make_study("AABB"))
    handed = next_case(study, "weighted_entropy", "reader-1")
    number = int(handed.case_id[4:6])
    mask = tmp_path / "mask.nii.gz"
    write_mask(mask, blob(number)[1], AFFINE)
    submit(study, handed.case_id, mask, client_id="reader-1")
    assert not plan_is_stale(study)
    write_cohort(study.images_dir, "A", first=9)
    refresh(study)
    assert plan_is_stale(study)


def test_an_empty_pool_has_no_next_scan(make_study):
    study = scored(make_study("AB", labelled=2))
    assert next_case(study, "weighted_entropy", "reader-1") is None
    assert pending_work(study) == {
        "model": scores.current_model(study.store).checksum,
        "unscored": 0,
        "uncompared": 0,
        "train_due": False,
        "plan_stale": False,
    }


def test_an_unknown_strategy_is_refused_and_the_good_ones_are_named(make_study):
    with pytest.raises(StudyError, match="weighted_entropy"):
        next_case(make_study("A"), "fairest", "reader-1")


def test_validation_subjects_are_frozen_labelled_first_and_half_of_them_selects(make_study):
    study = make_study("AAAAAABBBBBB", labelled=1, validation_per_group=2)
    splits = cases.splits(study.store)
    assert splits["sub-01"] in ("select", "audit")
    assert sorted(splits.values()) == ["audit", "audit", "select", "select"]
    assert sum(s <= "sub-06" for s in splits) == 2
    refresh(study)
    from fair_strategy.workflows.intake import freeze_validation

    freeze_validation(study)
    assert cases.splits(study.store) == splits


def test_validation_subjects_are_handed_out_before_all_others(make_study):
    study = scored(make_study("AAAABBBB", validation_per_group=1))
    first = {next_case(study, "weighted_entropy", f"reader-{i}").case_id[:6] for i in range(2)}
    assert first == set(cases.splits(study.store))


def test_only_the_select_half_feeds_the_weights(make_study):
    study = scored(make_study("AAAABBBB", labelled=8, validation_per_group=2))
    performance = study_performance(study)
    assert {name: p.n for name, p in performance.items()} == {"A": 1, "B": 1}


def test_without_a_chosen_feature_every_subject_is_unknown_and_weighs_the_same(make_study):
    study = make_study("AABB")
    (study.images_dir / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\n")
    scored(study)
    assert plans.latest_plan(study.store, "weighted_entropy").weights == {"unknown": 1.0}
    assert scores.count_scores(study.store, ["none"], study.settings_hash) == 0


def test_a_changed_table_of_participants_makes_the_plan_stale(make_study):
    study = scored(make_study("AABB"))
    assert not plan_is_stale(study)
    table = study.images_dir / "participants.tsv"
    table.write_text(table.read_text().replace("sub-04\tB", "sub-04\tA"))
    assert plan_is_stale(study)
    make_plans(study)
    plan = plans.latest_plan(study.store, "weighted_entropy")
    assert [row.subgroup for row in plans.rows(study.store, plan.plan_id)].count("A") == 3


def submit_truth(study, case_ids, tmp_path):
    for case_id in case_ids:
        path = tmp_path / "truth.nii.gz"
        write_mask(path, blob(int(case_id[4:6]))[1], AFFINE)
        submit(study, case_id, path, client_id="anna")


def test_labels_of_the_validation_set_bring_the_first_weights(make_study, tmp_path):
    study = scored(make_study("AAAABBBB", validation_per_group=2))
    assert plans.latest_plan(study.store, "weighted_entropy").weights == {"A": 1.0, "B": 1.0}
    submit_truth(study, [f"{s}_T1w" for s in cases.splits(study.store)], tmp_path)
    compare_labels(study)
    assert pending_work(study)["plan_stale"]
    make_plans(study)
    assert plans.latest_plan(study.store, "weighted_entropy").weights["A"] != 1.0
    assert not pending_work(study)["plan_stale"]


def test_a_renamed_scan_makes_the_plan_stale_though_the_counts_are_the_same(make_study):
    study = scored(make_study("AABB"))
    folder = study.images_dir / "sub-04" / "anat"
    (folder / "sub-04_T1w.nii.gz").rename(folder / "sub-04_run-2_T1w.nii.gz")
    refresh(study)
    score_study(study)
    assert plan_is_stale(study)


def test_one_damaged_mask_stops_neither_comparison_nor_plan(make_study):
    study = make_study("AABB", labelled=2, estimator="labelled")
    cases.label(study.store, "sub-01_T1w").path.write_bytes(b"no mask")
    scored(study)
    assert study_performance(study)["A"].n == 1
    assert plans.latest_plan(study.store, "weighted_entropy") is not None


@pytest.mark.parametrize("estimator", ["validation", "labelled"])
def test_comparisons_are_counted_as_performance_counts_them(make_study, estimator):
    study = make_study("AAAABBBB", labelled=8, validation_per_group=2, estimator=estimator)
    trained = [
        s for s in sorted(f"sub-0{n}" for n in range(1, 9)) if s not in cases.splits(study.store)
    ]
    cases.label(study.store, f"{trained[0]}_T1w").path.write_bytes(b"no mask")
    scored(study)
    (study.images_dir / trained[-1] / "anat" / f"{trained[-1]}_T1w.nii.gz").unlink()
    refresh(study)
    counted = {name: p.n for name, p in study_performance(study).items() if p.n}
    assert count_comparisons(study) == counted
    assert sum(counted.values()) == 2


def test_exponentiated_weights_move_once_a_model_and_not_once_a_plan(make_study):
    study = scored(make_study("AABB", labelled=3, estimator="labelled", rule="exponentiated"))
    first = plans.latest_plan(study.store, "weighted_entropy").weights
    make_plans(study)
    assert plans.latest_plan(study.store, "weighted_entropy").weights == first


def test_counts_weigh_where_no_performance_is_needed(make_study):
    study = make_study("AAABB", labelled=2, rule="inverse_frequency")
    make_plans(study)
    # 2 labels of A, none of B: 1/2 and 1/1, mean 3/4
    plan = plans.latest_plan(study.store, "balanced_random")
    assert plan.weights == pytest.approx({"A": 2 / 3, "B": 4 / 3})


def test_a_table_that_breaks_while_the_study_runs_leaves_plan_and_other_work_alone(make_study):
    study = scored(make_study("AABB"))
    (study.images_dir / "participants.tsv").write_text("participant_id\nsub-01\nsub-01\n")
    assert pending_work(study)["plan_stale"] is False
    assert next_case(study, "weighted_entropy", "anna").served_by == "weighted_entropy"
