"""Splits by subject: nobody in two parts, sizes as asked for, strata in proportion."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.cohort import CohortError
from fair_strategy.workflows.tasks.cases import Case, make_splits, sizes
from fair_strategy.workflows.tasks.settings import SETTINGS, SplitBlock
from fair_strategy.workflows.tasks.training import chosen_for

PARTS = ("training", "validation", "test")


def people(counts, *, scans=(1,), strata=("",)):
    """Subjects of each group, with so many scans each in turn."""
    cases = []
    for group, count in counts.items():
        for number in range(count):
            name = f"{group} {number}"
            for scan in range(scans[number % len(scans)]):
                stratum = strata[number % len(strata)]
                cases.append(Case(f"{name} {scan}", name, group, stratum, {}, (Path("x"),), 0))
    return cases


def persons(cases, numbers):
    return {cases[number].subject_id for number in numbers}


@pytest.mark.parametrize("seed", range(10))
def test_no_subject_is_in_two_parts_and_no_case_in_none(seed):
    cases = people({"A": 40, "B": 17}, scans=(1, 3, 2))
    for folds in (1, 5):
        for split in make_splits(cases, SplitBlock(validation=0.15, folds=folds), seed=seed):
            found = [persons(cases, getattr(split, part)) for part in PARTS]
            assert len(set.union(*found)) == sum(map(len, found))
            every = [number for part in PARTS for number in getattr(split, part)]
            assert sorted(every) == list(range(len(cases)))


def test_sizes_are_those_asked_for_where_a_subject_has_one_scan():
    cases = people({"A": 40, "B": 17})
    asked = SplitBlock(validation={"A": 6, "B": 0.2}, test=5)
    (split,) = make_splits(cases, asked, seed=1)
    told = sizes(cases, split)
    assert told["test"] == {"A": 5, "B": 5}
    assert told["validation"] == {"A": 6, "B": 3}  # .2 x 17 = 3.4
    assert told["training"] == {"A": 29, "B": 9}


def test_a_part_is_never_larger_than_asked_for():
    cases = people({"A": 30}, scans=(2, 3))
    (split,) = make_splits(cases, SplitBlock(validation=4, test=11), seed=2)
    assert 9 <= len(split.test) <= 11
    assert 2 <= len(split.validation) <= 4


def test_every_subject_is_tested_once_by_the_folds():
    cases = people({"A": 33, "B": 12}, scans=(1, 2))
    splits = make_splits(cases, SplitBlock(folds=5, validation=3), seed=3)
    tested = [name for split in splits for name in persons(cases, split.test)]
    assert len(splits) == 5
    assert Counter(tested) == Counter(persons(cases, range(len(cases))))
    for split in splits:
        own = Counter(name[0] for name in persons(cases, split.test))
        assert own["A"] in (6, 7)
        assert own["B"] in (2, 3)


def test_the_parts_hold_the_strata_in_proportion():
    cases = people({"A": 120, "B": 60}, strata=("x", "x", "y"))
    (split,) = make_splits(cases, SplitBlock(validation=0.2, test=0.25), seed=4)
    for numbers in (split.test, split.validation):
        own = Counter(cases[number].stratum for number in numbers)
        assert own["y"] / own.total() == pytest.approx(1 / 3, abs=0.07)


def test_a_seed_gives_one_split_and_another_another():
    cases = people({"A": 30})
    first, again, other = (make_splits(cases, SplitBlock(), seed=seed) for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (SplitBlock(test={"C": 3}), "sizes for 'C', but the subgroups are 'A', 'B'"),
        (SplitBlock(test=20), "20 cases of subgroup 'B' wanted, 6 are there"),
        (SplitBlock(test=3, validation=3), "subgroup 'B', 6 cases, nothing is left for training"),
        (SplitBlock(test=0), "nothing is left for the test"),
    ],
)
def test_impossible_sizes_are_refused_by_name_and_number(split, said):
    with pytest.raises(CohortError, match=said):
        make_splits(people({"A": 40, "B": 6}), split, seed=0)


@pytest.mark.parametrize(
    ("task", "groups", "training"),
    [
        ("isic", {"60 and over": 10805, "under 60": 14109}, (7938, 10912)),
        ("brats", {"above 7000 mm3": 206, "up to 7000 mm3": 54}, (168, 30)),
        ("adni", {"70 and over": 606, "under 70": 259}, (440, 163)),
    ],
)
def test_the_default_sizes_are_the_published_ones(task, groups, training):
    """Training sizes of Mehta, Shui and Arbel 2023; ADNI as one split."""
    settings = SETTINGS[task]()
    one = settings.split.model_copy(update={"folds": 1})
    cases = people(groups)
    (split,) = make_splits(cases, one, seed=0)
    assert tuple(sizes(cases, split)["training"].values()) == training


def test_balanced_takes_one_subsample_with_equal_classes():
    cases = people({"A": 30, "B": 8}, strata=("x", "y"))
    chosen = chosen_for("balanced", cases, seed=0)
    counts = Counter((case.subgroup, case.stratum) for case in chosen)
    assert set(counts.values()) == {4}
    assert [c.case_id for c in chosen] == [c.case_id for c in chosen_for("balanced", cases, seed=0)]
    assert len(chosen_for("group_dro", cases, seed=0)) == len(cases)


def test_shuffling_does_not_follow_the_order_of_the_table():
    cases = people({"A": 200})
    (split,) = make_splits(cases, SplitBlock(test=0.5), seed=7)
    assert abs(float(np.mean(split.test)) - 99.5) < 20
