"""What a review page can do, what it learns, and what the study learns from it."""

import dataclasses

import numpy as np
import pytest

from fair_strategy.data.volumes import read_image, read_mask
from fair_strategy.store import UnknownCaseError, cases, plans, scores
from fair_strategy.workflows import review
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.performance import compare_labels, study_performance
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.rounds import labels_since_model, training_cases
from fair_strategy.workflows.showing import original, segmentation
from fair_strategy.workflows.study import StudyError
from tests.helpers import AFFINE, SHAPE, blob, write_cohort
from tests.unit.workflows.readers import (
    STRATEGY,
    assert_no_field_tells_the_group,
    ready,
    submit_own,
    take,
)


def work(study):
    [row] = cases.work(study.store)
    return row


# ---------------------------------------------------------------- what a label cost


def test_the_edited_volume_is_what_differs_from_the_prediction_that_was_seen(study, tmp_path):
    case_id = take(study)
    predicted = read_mask(original(study, case_id)).array
    submit_own(study, case_id, tmp_path)
    different = np.count_nonzero(predicted != blob(int(case_id[4:6]))[1])
    assert different > 0
    assert work(study).edited_mm3 == pytest.approx(8.0 * different)  # voxels of 2 mm
    assert 0 <= work(study).seconds < 600
    assert work(study).revealed is None


def test_a_prediction_submitted_as_it_was_is_no_edited_volume(study):
    case_id = take(study)
    submit(study, case_id, original(study, case_id), client_id="anna")
    assert work(study).edited_mm3 == 0.0


def test_who_saw_no_prediction_edited_none(study, tmp_path):
    submit_own(study, "sub-01_T1w", tmp_path)
    assert (work(study).edited_mm3, work(study).seconds) == (None, None)


@pytest.mark.parametrize("change", ["damaged", "of another file"])
def test_a_prediction_that_cannot_be_compared_with_tells_of_no_edit(study, tmp_path, change):
    case_id = take(study)
    [path] = study.state_dir.glob(f"predictions/*/{case_id}.npz")
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        with study.store.transaction() as connection:
            connection.execute("UPDATE cases SET fingerprint = '1' WHERE case_id = ?", (case_id,))
    submit_own(study, case_id, tmp_path)
    assert work(study).edited_mm3 is None
    assert path.exists() == (change != "damaged")


# ---------------------------------------------------------------- hidden pre-segmentations


def test_an_audit_slot_hides_its_presegmentation_until_its_reader_asks(audited):
    case_id = take(audited)
    assert review.why(audited, case_id, "anna").hide_presegmentation
    assert "hidden" in review.why(audited, case_id, "anna").note
    assert plans.holder_saw(audited.store, case_id, "anna") is None
    for _ in range(2):
        review.reveal(audited, case_id, "anna")
    assert not review.why(audited, case_id, "anna").hide_presegmentation
    assert plans.holder_saw(audited.store, case_id, "anna") is not None
    assert not review.why(audited, case_id, "ben").hide_presegmentation


def test_other_scans_hide_nothing_and_record_no_reveal(study):
    case_id = take(study)
    assert not review.why(study, case_id, "anna").hide_presegmentation
    review.reveal(study, case_id, "anna")
    assert study.store.read().execute("SELECT count(*) FROM reveals").fetchone()[0] == 0


def test_a_prediction_is_withheld_while_its_reader_has_not_asked_for_it(audited):
    case_id = take(audited)
    assert review.is_withheld(audited, case_id)
    others = {c.case_id for c in cases.cases(audited.store)} - {case_id}
    assert not any(review.is_withheld(audited, other) for other in others)
    review.reveal(audited, case_id, "anna")
    assert not review.is_withheld(audited, case_id)
    # The next reader of the same scan is asked anew, and only while they hold it.
    review.skip(audited, case_id, "anna", "another time")
    assert not review.is_withheld(audited, case_id)
    assert take(audited, "ben") == case_id
    assert review.is_withheld(audited, case_id)


def test_what_is_not_hidden_is_not_withheld(study):
    assert not review.is_withheld(study, take(study))


@pytest.mark.parametrize("how", ["reveal", "infer"])
def test_a_hidden_presegmentation_that_was_shown_in_any_way_is_seen(audited, tmp_path, how):
    case_id = take(audited)
    if how == "reveal":
        review.reveal(audited, case_id, "anna")
    else:
        segmentation(audited, case_id, ".nii.gz", client_id="anna")
    label = submit_own(audited, case_id, tmp_path)
    assert work(audited).revealed is True
    assert work(audited).edited_mm3 > 0
    assert label.seen_model == scores.current_model(audited.store).checksum


def test_a_reveal_waits_for_the_disk_since_the_label_after_it_would_count_as_drawn_unseen(audited):
    case_id, statements = take(audited), []
    audited.store.read().set_trace_callback(statements.append)
    review.reveal(audited, case_id, "anna")
    audited.store.read().set_trace_callback(None)
    assert statements.index("PRAGMA synchronous = FULL") < statements.index("COMMIT")


def test_a_hidden_presegmentation_that_nobody_asked_for_is_not_seen(audited, tmp_path):
    case_id = take(audited)
    label = submit_own(audited, case_id, tmp_path)
    assert label.seen_model is None
    assert (work(audited).revealed, work(audited).edited_mm3) == (False, None)


def counted(study):
    compare_labels(study)
    return sum(p.n for p in study_performance(study).values())


def test_a_label_drawn_without_the_presegmentation_counts_even_if_it_equals_it(audited):
    case_id = take(audited)
    submit(audited, case_id, original(audited, case_id), client_id="anna")
    assert counted(audited) == 1
    [mean] = [p.mean for p in study_performance(audited).values() if p.n]
    assert mean == 1.0


def test_a_label_that_equals_the_revealed_presegmentation_says_nothing(audited):
    case_id = take(audited)
    review.reveal(audited, case_id, "anna")
    submit(audited, case_id, original(audited, case_id), client_id="anna")
    assert counted(audited) == 0


def test_a_changed_label_after_a_reveal_counts_once(audited, tmp_path):
    case_id = take(audited)
    review.reveal(audited, case_id, "anna")
    submit_own(audited, case_id, tmp_path)
    assert counted(audited) == 1


def test_a_label_that_the_current_model_may_have_learnt_is_no_evidence_on_it(audited, tmp_path):
    submit_own(audited, take(audited), tmp_path)
    assert counted(audited) == 1
    with audited.store.transaction() as connection:  # published after the label came
        connection.execute("UPDATE models SET created_at = created_at + 1e6")
    assert counted(audited) == 0


def test_an_unseen_label_of_no_audit_slot_is_no_prequential_evidence(study, tmp_path):
    submit_own(study, "sub-01_T1w", tmp_path)
    assert counted(study) == 0


# ---------------------------------------------------------------- leases, skip, exclude


def test_a_lease_is_told_to_its_holder_alone_and_renewed_while_it_runs(study):
    handed = next_case(study, STRATEGY, "anna", now=1000.0).case_id
    lease_s = 60.0 * study.settings.lease_minutes
    assert review.hold(study, handed, "anna", now=1060.0) == review.Hold(True, lease_s - 60.0)
    assert review.hold(study, handed, "ben", now=1060.0) == review.Hold(False, 0.0)
    assert review.renew(study, handed, "ben", now=1060.0) == review.Hold(False, 0.0)
    assert review.renew(study, handed, "anna", now=1060.0) == review.Hold(True, lease_s)
    end = 1060.0 + lease_s
    assert review.hold(study, handed, "anna", now=end) == review.Hold(False, 0.0)
    assert review.renew(study, handed, "anna", now=end) == review.Hold(False, 0.0)


def test_a_skip_frees_the_scan_for_others_and_keeps_the_reason(study):
    case_id = take(study)
    assert review.skip(study, case_id, "anna", "ask a colleague")
    assert [s.reason for s in cases.skip_reasons(study.store)] == ["ask a colleague"]
    assert take(study) != case_id
    assert take(study, "ben") == case_id
    assert not review.skip(study, case_id, "anna", "not readable")


def test_a_skip_for_a_reason_of_ones_own_is_refused_with_the_list(study):
    case_id = take(study)
    with pytest.raises(StudyError, match="not readable, wrong anatomy"):
        review.skip(study, case_id, "anna", "boring")
    assert review.hold(study, case_id, "anna").held


def test_an_excluded_scan_is_offered_to_nobody_until_its_reader_reopens_it(study):
    case_id = take(study)
    review.exclude(study, case_id, "anna", "  moved\n a lot ")
    record = cases.case(study.store, case_id)
    assert (record.excluded, record.excluded_by) == ("moved a lot", "anna")
    assert {take(study, f"reader-{n}") for n in range(3)} == set(study.subgroups()) - {case_id}
    assert next_case(study, STRATEGY, "ben") is None
    with pytest.raises(StudyError, match="excluded by somebody else"):
        review.reopen(study, "ben", case_id)
    assert review.reopen(study, "anna", case_id).case_id == case_id
    assert review.hold(study, case_id, "anna").held
    assert cases.case(study.store, case_id).excluded is None


def test_excluding_twice_keeps_the_first_reason_and_its_author(study):
    case_id = take(study)
    review.exclude(study, case_id, "anna", "moved")
    review.exclude(study, case_id, "ben", "other")
    record = cases.case(study.store, case_id)
    assert (record.excluded, record.excluded_by) == ("moved", "anna")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "a\x00b"])
def test_an_exclusion_without_a_proper_reason_is_refused(study, reason):
    case_id = take(study)
    with pytest.raises(StudyError, match="1 to 200 printable"):
        review.exclude(study, case_id, "anna", reason)
    assert cases.case(study.store, case_id).excluded is None


def test_nobody_excludes_what_is_not_theirs(study, tmp_path):
    case_id = take(study)
    with pytest.raises(StudyError, match="colleague is working"):
        review.exclude(study, case_id, "ben", "moved")
    assert review.skip(study, case_id, "anna", "another time")
    with pytest.raises(StudyError, match="came to you"):
        review.exclude(study, case_id, "ben", "moved")
    submit_own(study, case_id, tmp_path, "ben")
    with pytest.raises(StudyError, match="has submitted it"):
        review.exclude(study, case_id, "anna", "moved")
    review.exclude(study, case_id, "ben", "moved")
    assert cases.case(study.store, case_id).excluded == "moved"


def test_the_label_of_an_excluded_scan_is_neither_trained_on_nor_counted(study, tmp_path):
    case_id = take(study)
    submit_own(study, case_id, tmp_path)
    assert (len(training_cases(study)[0]), labels_since_model(study), counted(study)) == (1, 1, 1)
    review.exclude(study, case_id, "anna", "wrong side")
    assert (len(training_cases(study)[0]), labels_since_model(study), counted(study)) == (0, 0, 0)
    cases.exclude(study.store, case_id, None)
    assert (len(training_cases(study)[0]), labels_since_model(study), counted(study)) == (1, 1, 1)


# ---------------------------------------------------------------- re-open


def test_the_last_submission_comes_back_and_its_label_stays_until_the_next(study, tmp_path):
    first, second = take(study), None
    submit_own(study, first, tmp_path)
    second = take(study)
    label = submit_own(study, second, tmp_path)
    handed = review.reopen(study, "anna")
    assert handed.case_id == second
    assert "stays" in handed.note
    assert handed.strategy == STRATEGY
    assert cases.label(study.store, second) == label
    assert review.hold(study, second, "anna").held
    assert review.reopen(study, "anna", first).case_id == first
    assert not review.hold(study, second, "anna").held
    newer = submit(study, first, original(study, first), client_id="anna")
    assert cases.label(study.store, first).digest == newer.digest
    assert not review.hold(study, first, "anna").held


def test_nobody_reopens_a_colleagues_scan_nor_one_that_nobody_did(study, tmp_path):
    case_id = take(study)
    for sentence, scan in (("submitted nothing yet", None), ("only what you", case_id)):
        with pytest.raises(StudyError, match=sentence):
            review.reopen(study, "anna", scan)
    submit_own(study, case_id, tmp_path)
    with pytest.raises(StudyError, match="only what you"):
        review.reopen(study, "ben", case_id)
    with pytest.raises(UnknownCaseError, match="sub-77"):
        review.reopen(study, "anna", "sub-77_T1w")


def test_a_scan_that_was_opened_by_hand_cannot_be_reopened(study, tmp_path):
    submit_own(study, "sub-01_T1w", tmp_path)
    with pytest.raises(StudyError, match="never came to you by Next Sample"):
        review.reopen(study, "anna")


# ---------------------------------------------------------------- why, peaks, entropy


def test_a_reader_learns_percentile_model_and_route(study):
    handed = next_case(study, STRATEGY, "anna")
    found = review.why(study, handed.case_id, "anna")
    assert found.percentile == handed.percentile
    assert found.model == scores.current_model(study.store).checksum
    assert found.trained_at is None  # as it was shipped
    assert found.route in ("localised", "sliding")
    assert 0 <= found.trust <= 1
    assert not found.stale
    assert review.why(study, handed.case_id, "ben") == found


def test_before_the_first_score_there_is_little_to_say(make_study):
    study = make_study("AB")
    make_plans(study)
    found = review.why(study, next_case(study, STRATEGY, "anna").case_id, "anna")
    assert found == review.Why(
        percentile=None,
        implausible=(),
        model=None,
        trained_at=None,
        stale=False,
        note="not scored yet",
        hide_presegmentation=found.hide_presegmentation,
        revealed=False,
        route=None,
        trust=None,
    )


def test_a_scan_scored_by_an_earlier_model_is_stale_and_tells_when_that_was_trained(study):
    case_id = take(study)
    with study.store.transaction() as connection:
        connection.execute("UPDATE models SET origin = 'trained', created_at = 5.0, current = 0")
    newer = scores.ModelRecord("e" * 64, study.shipped_model, "trained", 6.0, {})
    scores.add_model(study.store, newer)
    scores.publish(study.store, newer.checksum)
    found = review.why(study, case_id, "anna")
    assert found.stale
    assert "earlier model" in found.note
    assert found.trained_at == 5.0


def test_peaks_and_entropy_of_a_scan_that_was_never_scored_are_made_at_once(make_study):
    study = make_study("AB")
    found = review.peaks(study, "sub-01_T1w")
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    entropy = read_image(review.entropy_file(study, "sub-02_T1w", ".nrrd"))
    assert entropy.array.shape == SHAPE
    assert np.allclose(entropy.affine, AFFINE)
    assert 0 < entropy.array.max() <= np.log(2) + 1e-3


@pytest.mark.parametrize("ask", [review.why, review.hold, review.renew, review.reveal])
def test_an_unknown_scan_is_an_error_by_its_name(study, ask):
    with pytest.raises(UnknownCaseError, match="sub-77"):
        ask(study, "sub-77_T1w", "anna")


# ---------------------------------------------------------------- blindness


def test_progress_counts_the_whole_study_and_ones_own(study, tmp_path):
    assert cases.progress(study.store, "anna") == (0, 4, 0)
    submit_own(study, take(study), tmp_path)
    review.exclude(study, take(study, "ben"), "ben", "moved")
    assert cases.progress(study.store, "anna") == (1, 2, 1)
    assert cases.progress(study.store, "ben") == (1, 2, 0)


def everything_said(study):
    """What each route's function says of each scan, to a reader who holds none."""
    said = {}
    for case_id in sorted(study.subgroups()):
        why = dataclasses.asdict(review.why(study, case_id, "curious"))
        said[case_id] = [why, review.peaks(study, case_id)]
        said[case_id].append(read_image(review.entropy_file(study, case_id, ".nrrd")).array.sum())
    return said


def weights_of(study):
    return plans.latest_plan(study.store, STRATEGY).weights


def test_what_is_said_of_a_scan_is_the_same_whatever_its_group(make_study):
    """Groups are dealt anew among the same images: no reply may change, none can tell a group."""
    options = {"rule": "softmax", "estimator": "labelled", "audit_every": 0}
    study = ready(make_study("AABABBAB", labelled=3, **options))
    before, weights = everything_said(study), weights_of(study)
    write_cohort(study.images_dir, "BAABBABA", labelled=3)  # the same scans, other tags
    refresh(study)
    study = ready(study)
    assert len({*weights.values(), *weights_of(study).values()}) == 4
    assert everything_said(study) == before


def test_no_field_of_any_reply_tells_the_group_better_than_the_entropy_does(make_study):
    """Area under the ROC curve of what depends on the plan, against the entropy's."""
    options = {"rule": "softmax", "estimator": "labelled", "audit_every": 0}
    study = ready(make_study("ABAAAABBBB", labelled=2, **options))
    assert len(set(weights_of(study).values())) == 2
    seen = []
    for reader in (f"reader-{n}" for n in range(8)):
        case_id = take(study, reader)
        told = dataclasses.asdict(review.why(study, case_id, reader))
        of_the_image = {"route", "trust", "implausible"}  # held by the test above
        visible = {key: told[key] for key in told.keys() - of_the_image}
        visible["held"] = review.hold(study, case_id, reader).held
        review.exclude(study, case_id, reader, "to re-open it")
        again = dataclasses.asdict(review.reopen(study, reader, case_id))
        visible |= {f"again_{key}": again[key] for key in again.keys() - {"case_id"}}
        seen.append((case_id, visible))
    assert_no_field_tells_the_group(study, seen)


def test_what_is_hidden_tells_no_group_when_every_subgroup_is_drawn_alike(make_study):
    """Audit draws follow the sizes of the subgroups, whatever the weights: with equal sizes half
    of them are of each."""
    study = ready(make_study("A" * 8 + "B" * 8, rule="softmax", audit_every=2, quota_batch=8))
    subgroups = study.subgroups()
    hidden = []
    for reader in (f"reader-{n}" for n in range(16)):
        case_id = take(study, reader)
        if review.why(study, case_id, reader).hide_presegmentation:
            hidden.append(subgroups[case_id])
    assert len(hidden) >= 6
    assert abs(hidden.count("A") - hidden.count("B")) <= 2


def test_the_fields_of_a_reply_name_no_group_weight_or_reason(study):
    fields = {f.name for f in dataclasses.fields(review.Why)}
    assert fields == {
        "percentile", "implausible", "model", "trained_at", "stale", "note",
        "hide_presegmentation", "revealed", "route", "trust",
    }  # fmt: skip
