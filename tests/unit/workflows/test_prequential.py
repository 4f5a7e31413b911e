"""The estimator `prequential`: which labels count, with which model's prediction, and which not."""

import numpy as np
import pytest

from fair_strategy.data.volumes import write_mask
from fair_strategy.store import cases, plans, scores
from fair_strategy.store.predictions import prune
from fair_strategy.workflows import review
from fair_strategy.workflows.desk import submit
from fair_strategy.workflows.double_reading import settle_all
from fair_strategy.workflows.performance import compare_labels, estimator_comparisons
from fair_strategy.workflows.rounds import train_round
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.showing import segmentation
from tests.helpers import AFFINE, blob
from tests.unit.workflows.readers import ready, submit_own, take, with_readers


def current(study):
    return scores.current_model(study.store).checksum


def trained(study, **options):
    """A model that learnt the labels of today and has scored all scans."""
    train_round(study, steps=1, track=False, **options)
    score_study(study)
    return current(study)


def counted(study):
    """(case, model) of the comparisons that make the estimate."""
    compare_labels(study)
    chosen = estimator_comparisons(study, scores.current_model(study.store))
    return [(c.case_id, c.model) for c in chosen]


def submit_blob(study, case_id, number, folder, client_id="anna"):
    path = folder / "other.nii.gz"
    write_mask(path, blob(number)[1], AFFINE)
    return submit(study, case_id, path, client_id=client_id)


# ---------------------------------------------------------------- corrected labels


@pytest.mark.parametrize("same", [True, False], ids=["the same mask", "another mask"])
def test_a_corrected_label_is_no_evidence_on_a_model_that_learnt_the_first(audited, tmp_path, same):
    case_id, untaught = take(audited), current(audited)
    label = submit_own(audited, case_id, tmp_path)
    assert counted(audited) == [(case_id, untaught)]
    assert trained(audited) != untaught
    review.reopen(audited, "anna", case_id)
    number = int(case_id[4:6])
    again = submit_blob(audited, case_id, number if same else number + 5, tmp_path)
    assert (again.digest == label.digest) == same
    assert again.seen_model is None
    assert counted(audited) == [(case_id, untaught)]


def test_a_prediction_seen_after_a_reopening_is_no_evidence_on_its_model(study, tmp_path):
    case_id = take(study)
    submit_own(study, case_id, tmp_path)
    taught = trained(study)
    review.reopen(study, "anna", case_id)
    segmentation(study, case_id, ".nii.gz", client_id="anna")
    again = submit_blob(study, case_id, int(case_id[4:6]) + 5, tmp_path)
    assert again.seen_model == taught
    assert counted(study) == []


def test_a_corrected_import_is_no_evidence_on_a_model_that_learnt_it(make_study, tmp_path):
    study = ready(make_study("AABB", labelled=1, estimator="prequential", audit_every=0))
    case_id, untaught = "sub-01_T1w", current(study)
    taught = trained(study)
    for number, model, expected in ((9, untaught, [(case_id, untaught)]), (10, taught, [])):
        plans.set_seen_model(study.store, case_id, "anna", model)
        submit_blob(study, case_id, number, tmp_path)
        assert counted(study) == expected


# ---------------------------------------------------------------- labels around a training


def test_hidden_labels_around_a_training_count_with_the_model_before(audited, tmp_path):
    before = current(audited)
    first, second = take(audited), take(audited, "ben")
    submit_own(audited, first, tmp_path)

    def submit_meanwhile(step, steps):
        submit_own(audited, second, tmp_path, "ben")

    assert trained(audited, progress=submit_meanwhile) != before
    assert sorted(counted(audited)) == sorted((c, before) for c in (first, second))
    assert compare_labels(audited) == 0


def test_hidden_labels_count_that_came_during_trainings_without_a_score_between(audited, tmp_path):
    before, clients = current(audited), ("anna", "ben", "carl")
    first, second, third = (take(audited, client) for client in clients)
    submit_own(audited, first, tmp_path)
    for steps, case_id, client in ((1, second, "ben"), (2, third, "carl")):

        def submit_meanwhile(step, steps, *, case_id=case_id, client=client):
            if cases.label(audited.store, case_id) is None:
                submit_own(audited, case_id, tmp_path, client)

        train_round(audited, steps=steps, track=False, progress=submit_meanwhile)
    score_study(audited)
    assert not (audited.state_dir / "predictions" / before).exists()
    assert sorted(counted(audited)) == sorted((c, before) for c in (first, second, third))


def test_a_hidden_label_whose_earlier_prediction_is_gone_is_not_looked_for(audited, tmp_path):
    submit_own(audited, take(audited), tmp_path)
    prune(audited.state_dir, keep=set())
    trained(audited)
    assert counted(audited) == []
    assert compare_labels(audited) == 0


# ---------------------------------------------------------------- several readers


@pytest.mark.parametrize("asked", [True, False])
def test_a_final_label_is_hidden_if_it_was_from_all_readers_whoevers_mask_it_equals(
    make_study, tmp_path, asked
):
    options = {"audit_every": 1, "quota_batch": 0, "readers_per_case": 2}
    study = ready(make_study("AABB", estimator="prequential", **options))
    case_id = take(study)
    submit_own(study, case_id, tmp_path)
    assert take(study, "ben") == case_id
    if asked:
        review.reveal(study, case_id, "ben")
    reading = submit_own(study, case_id, tmp_path, "ben")
    final = cases.label(study.store, case_id)
    assert (final.digest, final.seen_model) == (reading.digest, None)
    assert counted(study) == ([] if asked else [(case_id, current(study))])


def test_what_a_reader_saw_is_kept_until_the_scan_has_its_final_label(make_study, tmp_path):
    options = {"estimator": "prequential", "audit_every": 0, "readers_per_case": 2}
    study = ready(make_study("AABB", labelled=1, **options))
    case_id, before = take(study), current(study)
    submit_own(study, case_id, tmp_path)
    for steps in (1, 2):
        train_round(study, steps=steps, track=False)
        score_study(study)
    assert (study.state_dir / "predictions" / before).exists()
    study = with_readers(study, 1)
    assert settle_all(study) == 1
    assert counted(study) == [(case_id, before)]
    train_round(study, steps=3, track=False)
    assert not (study.state_dir / "predictions" / before).exists()


# ---------------------------------------------------------------- comparisons that do not count


def test_the_hidden_label_of_an_excluded_scan_is_not_compared_again_and_again(audited, tmp_path):
    case_id = take(audited)
    submit_own(audited, case_id, tmp_path)
    assert compare_labels(audited) == 1
    review.exclude(audited, case_id, "anna", "wrong side")
    assert compare_labels(audited) == 0


def test_comparisons_that_failed_take_no_place_among_the_newest(audited, tmp_path):
    case_id, model = take(audited), current(audited)
    submit_own(audited, case_id, tmp_path)
    broken = take(audited, "ben")
    submit_own(audited, broken, tmp_path, "ben").path.unlink()
    assert counted(audited) == [(case_id, model)]
    found = {c.case_id: c.dice for c in scores.comparisons(audited.store, seen=False)}
    assert np.isnan(found[broken])
    assert np.isfinite(found[case_id])
    assert cases.label(audited.store, broken) is not None
