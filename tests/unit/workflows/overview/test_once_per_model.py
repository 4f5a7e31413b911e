"""Figures by subgroup change once a model version, and never by a few cases."""

from dataclasses import replace

import pytest

from fair_strategy.config import HostSettings
from fair_strategy.store import cases
from fair_strategy.workflows.intake import freeze_validation
from fair_strategy.workflows.overview.counts import counts
from fair_strategy.workflows.overview.performance import floor_of, is_measured, performance
from fair_strategy.workflows.overview.summary import reopen, summary
from fair_strategy.workflows.study import StudyError


def table(study, min_cell=2):
    return {
        g.subgroup: (g.labelled, g.pool, g.excluded)
        for g in counts(study, min_cell=min_cell).groups
    }


def test_a_submission_changes_no_count_by_subgroup_until_the_next_model(hand_made):
    made = hand_made("AAAAAABBBBBB")
    made.publish("1", 10.0)
    made.label(*made.ids[:3], *made.ids[6:9])
    before = table(made.study)
    assert before == {"A": (3, 3, 0), "B": (3, 3, 0)}
    made.label(*made.ids[3:5])
    assert table(made.study) == before
    told = counts(made.study, min_cell=2)
    assert (told.labelled, told.pool, told.excluded) == (8, 4, 0)
    made.publish("2", 20.0)
    # A has 5 labelled and 1 left in the pool: that one is hidden with a cover of three.
    assert table(made.study) == {"A": (None, None, 0), "B": (None, None, 0)}
    assert counts(made.study, min_cell=2).refreshed.current


def test_a_model_after_one_label_leaves_the_counts_as_they_were(hand_made):
    made = hand_made("AAAAAABBBBBB")
    made.publish("1", 10.0)
    made.label(*made.ids[:3], *made.ids[6:9])
    before = table(made.study)
    made.label(made.ids[3])
    made.publish("2", 20.0)
    assert table(made.study) == before
    told = counts(made.study, min_cell=2).refreshed
    assert (told.current, told.model) == (False, "1" * 12)
    assert "fewer than 2 scans changed" in told.sentence
    made.label(made.ids[9])
    assert table(made.study) == {"A": (4, 2, 0), "B": (4, 2, 0)}


def test_an_exclusion_is_a_change_like_a_label(hand_made):
    made = hand_made("AAAAAABBBBBB")
    made.publish("1", 10.0)
    before = table(made.study)
    cases.exclude(made.study.store, made.ids[0], "motion")
    made.publish("2", 20.0)
    assert table(made.study) == before == {"A": (0, 6, 0), "B": (0, 6, 0)}
    cases.exclude(made.study.store, made.ids[6], "motion")
    cases.mark_unreadable(made.study.store, made.ids[1], "f", "no header")
    # 2 of A are out, 1 of B: hidden, covered by the pools of 4 and 5.
    assert table(made.study) == {"A": (0, None, None), "B": (0, None, None)}


def test_another_smallest_cell_makes_the_figures_anew(hand_made):
    made = hand_made("AAAABBBB")
    made.publish("1", 10.0)
    made.label(made.ids[0], made.ids[4])
    assert table(made.study, 1) == {"A": (1, 3, 0), "B": (1, 3, 0)}
    assert table(made.study, 5) == {"A": (None, None, 0), "B": (None, None, 0)}


def frozen(made):
    """All subjects are in the validation set."""
    halves = {i: ("select", "audit")[n % 2] for n, i in enumerate(made.ids)}
    cases.freeze_split(made.study.store, halves)


def means(study, min_cell=2, evidence="validation"):
    (series,) = [s for s in performance(study, min_cell=min_cell).series if s.evidence == evidence]
    return [{g.subgroup: g.mean for g in v.groups} for v in series.versions]


def last_gap(study):
    (series,) = [s for s in performance(study, min_cell=2).series if s.evidence == "validation"]
    return series.versions[-1].gap


def test_dice_is_told_for_each_model_once_all_its_labels_are_compared(hand_made):
    made = hand_made("AABB")
    frozen(made)
    one = made.publish("1", 10.0)
    made.label(*made.ids)
    assert not is_measured(made.study)
    assert means(made.study) == []
    made.compare(one, dict(zip(made.ids, (0.9, 0.7, 0.6, 0.4), strict=True)))
    assert means(made.study) == [{"A": pytest.approx(0.8), "B": pytest.approx(0.5)}]
    two = made.publish("2", 20.0)
    assert len(means(made.study)) == 1  # the second is not measured yet
    made.compare(two, dict.fromkeys(made.ids, 0.9))
    assert means(made.study)[1] == {"A": pytest.approx(0.9), "B": pytest.approx(0.9)}


def test_a_study_with_the_defaults_sees_its_gap_once_the_validation_set_is_labelled(hand_made):
    made = hand_made("A" * 12 + "B" * 12)
    freeze_validation(made.study)
    validation = sorted(cases.splits(made.study.store))
    one = made.publish("1", 10.0)
    made.label(*validation)
    made.compare(one, {i: 0.9 if int(i[4:]) <= 12 else 0.8 for i in validation})
    told = performance(made.study, min_cell=HostSettings().min_cell)
    (series,) = [s for s in told.series if s.evidence == "validation"]
    (version,) = series.versions
    assert (version.note, version.gap.worst_group) == ("", "B")
    assert version.gap.value == pytest.approx(0.1)


def test_the_audit_half_is_a_series_of_its_own_and_so_is_the_estimator_of_the_weights(hand_made):
    made = hand_made("AAAABBBB")
    frozen(made)
    one = made.publish("1", 10.0)
    made.label(*made.ids)
    made.compare(one, dict(zip(made.ids, (0.2, 0.8) * 4, strict=True)))
    assert means(made.study, evidence="estimator") == [{"A": 0.2, "B": 0.2}]  # the select half
    assert means(made.study, evidence="audit") == [{"A": 0.8, "B": 0.8}]
    assert means(made.study) == [{"A": pytest.approx(0.5), "B": pytest.approx(0.5)}]


def test_a_label_that_comes_under_a_model_moves_no_dice_before_the_next_one(hand_made):
    made = hand_made("AAABBB")
    frozen(made)
    one = made.publish("1", 10.0)
    made.label(*made.ids[:2], *made.ids[3:5])
    made.compare(one, dict.fromkeys((*made.ids[:2], *made.ids[3:5]), 0.5))
    before = means(made.study)
    made.label(made.ids[2])
    made.compare(one, {made.ids[2]: 1.0})
    assert means(made.study) == before


def test_a_version_that_one_case_sets_apart_from_the_one_before_is_withheld(hand_made):
    made = hand_made("AAABBB")
    frozen(made)
    one = made.publish("1", 10.0)
    first = (*made.ids[:2], *made.ids[3:5])
    made.label(*first)
    made.compare(one, dict.fromkeys(first, 0.5))
    assert means(made.study) == [{"A": 0.5, "B": 0.5}]
    made.label(made.ids[2])
    two = made.publish("2", 20.0)
    made.compare(two, dict.fromkeys((*first, made.ids[2]), 0.6))
    assert means(made.study) == [{"A": 0.5, "B": 0.5}, {"A": None, "B": None}]
    made.label(made.ids[5])
    three = made.publish("3", 30.0)
    made.compare(three, dict.fromkeys(made.ids, 0.7))
    assert means(made.study) == [
        {"A": 0.5, "B": 0.5},
        {"A": None, "B": None},
        {"A": pytest.approx(0.7), "B": pytest.approx(0.7)},
    ]


def test_a_label_that_is_replaced_leaves_the_dice_of_earlier_models_as_they_were(hand_made):
    made = hand_made("AAABBB")
    frozen(made)
    one = made.publish("1", 10.0)
    made.label(*made.ids)
    made.compare(one, dict.fromkeys(made.ids, 0.5))
    before = means(made.study)
    made.label(made.ids[0], digest="corrected")
    two = made.publish("2", 20.0)
    made.compare(two, dict.fromkeys(made.ids[1:], 0.6))
    made.compare(two, {made.ids[0]: 0.6}, digest="corrected")
    found = means(made.study)
    assert found[0] == before[0]
    assert found[1] == {"A": pytest.approx(0.6), "B": pytest.approx(0.6)}


def test_a_floor_is_known_where_the_settings_name_every_subgroup(hand_made):
    floor = floor_of(hand_made("AB", attainable=(("A", 0.9), ("B", 0.87))).study)
    assert floor.value == pytest.approx(0.03)
    assert "A 0.90, B 0.87" in floor.sentence


def test_a_floor_that_is_given_after_the_figures_were_kept_tells_the_excess_at_once(hand_made):
    made = hand_made("AABB")
    frozen(made)
    one = made.publish("1", 10.0)
    made.label(*made.ids)
    made.compare(one, dict(zip(made.ids, (0.9, 0.9, 0.7, 0.7), strict=True)))
    assert last_gap(made.study).excess is None
    given = made.study.settings.model_copy(update={"attainable": (("A", 0.95), ("B", 0.9))})
    assert last_gap(replace(made.study, settings=given)).excess == pytest.approx(0.2 - 0.05)


@pytest.mark.parametrize(
    ("attainable", "words"), [((), "attainable A=0.9"), ((("A", 0.9),), "names no value for B")]
)
def test_where_no_floor_is_known_it_is_said_and_how_to_give_one(hand_made, attainable, words):
    floor = floor_of(hand_made("AB", attainable=attainable).study)
    assert floor.value is None
    assert "No floor is known" in floor.sentence
    assert words in floor.sentence


def test_the_summary_counts_what_came_since_and_names_what_is_out(hand_made):
    made = hand_made("AAABBB")
    made.publish("1", 10.0)
    counts(made.study, min_cell=2)
    made.label(made.ids[0], at=2e10)
    cases.exclude(made.study.store, made.ids[1], "motion")
    cases.mark_unreadable(made.study.store, made.ids[2], "f", "no header")
    found = summary(made.study, min_cell=2)
    assert (found.labels_since, found.model_number, found.subgroups) == (1, 1, ("A", "B"))
    assert [(e.image, e.reason, e.reopens) for e in found.excluded] == [
        (made.ids[1], "motion", True),
        (made.ids[2], "no header", False),
    ]
    assert found.audit_report is False


def test_an_exclusion_is_undone_once(hand_made):
    made = hand_made("AB")
    cases.exclude(made.study.store, made.ids[0], "motion")
    reopen(made.study, made.ids[0])
    assert cases.unlabelled_ids(made.study.store) == made.ids
    with pytest.raises(StudyError, match="not excluded"):
        reopen(made.study, made.ids[0])
