"""The simulated annotators, the first labelled scans, the time left."""

import numpy as np
import pytest

from fair_strategy.workflows.simulation.annotator import annotate, corrected
from fair_strategy.workflows.simulation.cohorts import POOL, first_labelled, known_cohort
from fair_strategy.workflows.simulation.progress import Progress
from fair_strategy.workflows.simulation.settings import AnnotatorBlock


@pytest.fixture
def masks(rng):
    truth = np.zeros((12, 12, 12), dtype=bool)
    truth[3:9, 3:9, 3:9] = True
    return np.roll(truth, 2, axis=0), truth  # 2 x 2 x 36 = 144 wrong voxels


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 144), (0.25, 108), (0.5, 72), (1.0, 0)])
def test_an_anchored_mask_keeps_the_share_of_errors_that_was_not_corrected(masks, share, wrong):
    shown, truth = masks
    before = shown.copy()
    found = corrected(shown, truth, share=share, rng=np.random.default_rng(3))
    assert (found != truth).sum() == wrong
    # What was right stays right.
    assert (found[shown == truth] == truth[shown == truth]).all()
    np.testing.assert_array_equal(shown, before)


def test_a_mask_that_is_right_already_stays_as_it_is(masks, rng):
    _, truth = masks
    np.testing.assert_array_equal(corrected(truth, truth, share=0.5, rng=rng), truth)


def test_the_same_seed_corrects_the_same_voxels_and_another_one_others(masks):
    first, again, other = (
        corrected(*masks, share=0.5, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_perfect_annotator_does_not_look_at_what_the_model_shows(tiny_cohorts, tmp_path):
    case = next(iter(pool(tiny_cohorts).cases.values()))

    def shown():
        raise AssertionError("looked")

    found = annotate(AnnotatorBlock(), case, shown=shown, seed=0, folder=tmp_path)
    assert found == case.truth


def pool(root):
    return known_cohort(root, POOL, bias="strong", field_of_view="caudate")


def test_the_first_scans_are_a_draw_of_the_seed_and_a_larger_start_holds_a_smaller_one(
    tiny_cohorts,
):
    cohort = pool(tiny_cohorts)
    groups = {i: case.subgroup for i, case in cohort.cases.items()}
    small = first_labelled(cohort, {"A": 2, "B": 1}, seed=4)
    assert sorted(groups[i] for i in small) == ["A", "A", "B"]
    assert first_labelled(cohort, {"B": 1, "A": 2}, seed=4) == small
    assert set(small) < set(first_labelled(cohort, {"A": 4, "B": 3}, seed=4))
    drawn = {tuple(first_labelled(cohort, {"A": 2, "B": 1}, seed=s)) for s in range(8)}
    assert len(drawn) > 4


def test_given_scans_must_be_in_the_pool(tiny_cohorts):
    assert first_labelled(pool(tiny_cohorts), ("sub-002_T1w",), seed=0) == ["sub-002_T1w"]
    with pytest.raises(ValueError, match="the pool has no scan sub-099_T1w"):
        first_labelled(pool(tiny_cohorts), ("sub-099_T1w",), seed=0)


def test_the_time_left_is_that_of_this_calls_pace():
    now, said = [0.0], []
    progress = Progress(total=10, done=4, say=said.append, clock=lambda: now[0])
    assert progress.seconds_left() is None
    now[0] = 600.0
    progress.moved(6)  # two rounds in 600 s: four more take 1200 s
    assert progress.seconds_left() == 1200.0
    assert said == ["6 of 10 rounds, 10 min gone, 20 min left"]
    now[0] = 610.0
    progress.moved(7)
    assert len(said) == 1  # not every second
    now[0] = 9000.0
    progress.moved(10)
    assert said[-1] == "10 of 10 rounds, 2.5 h gone, 0 s left"
