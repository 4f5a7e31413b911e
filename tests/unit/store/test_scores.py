"""Models, scores and comparisons; above all, that nothing stale is served."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.store import cases, scores
from fair_strategy.store.scores import ComparisonRecord, ModelRecord, ScoreRecord


def score(case_id: str = "c0", **changes) -> ScoreRecord:
    made = ScoreRecord(
        case_id=case_id,
        fingerprint="10-1",
        model="model-a",
        settings_hash="margin 5",
        entropies={"roi": 0.25, "whole": math.nan},
        volume_mm3=4000.0,
        flags=("volume", "place"),
        created_at=2.0,
    )
    return replace(made, **changes)


def comparison(case_id: str = "c0", **changes) -> ComparisonRecord:
    made = ComparisonRecord(
        case_id=case_id,
        model="model-a",
        label_digest=f"digest of {case_id}",
        dice=0.9,
        surface_distance_mm=0.4,
        seen=True,
        unchanged=False,
        selection_probability=None,
        created_at=4.0,
    )
    return replace(made, **changes)


def served(study, model: str = "model-a", settings_hash: str = "margin 5") -> list[str]:
    return list(scores.scores(study.store, model, settings_hash))


def test_a_score_comes_back_as_it_was_added(study):
    scores.add_score(study.store, score(entropies={"roi": np.float32(0.25)}))
    assert scores.scores(study.store, "model-a", "margin 5") == {
        "c0": score(entropies={"roi": 0.25})
    }


def test_nan_survives_in_entropy_and_volume(study):
    scores.add_score(study.store, score(volume_mm3=math.nan))
    found = scores.scores(study.store, "model-a", "margin 5")["c0"]
    assert math.isnan(found.entropies["whole"])
    assert math.isnan(found.volume_mm3)


def test_a_score_of_another_model_or_other_settings_is_not_served(study):
    scores.add_score(study.store, score())
    assert served(study) == ["c0"]
    assert served(study, model="model-b") == []
    assert served(study, settings_hash="margin 6") == []


def test_a_replaced_file_is_not_served_its_old_score_and_wants_a_new_one(study):
    ids = [f"c{n}" for n in range(6)]
    for case_id in ids:
        scores.add_score(study.store, score(case_id))
    assert scores.unscored(study.store, "model-a", "margin 5") == []
    cases.sync(study.store, [*study.scans(*ids[1:]), *study.scans("c0", fingerprint="10-2")])
    assert served(study) == ids[1:]
    assert scores.unscored(study.store, "model-a", "margin 5") == ["c0"]
    scores.add_score(study.store, score(fingerprint="10-2", volume_mm3=1.0))
    assert scores.scores(study.store, "model-a", "margin 5")["c0"].volume_mm3 == 1.0


def test_a_score_that_was_made_while_its_file_was_replaced_is_never_served(study):
    cases.sync(study.store, study.scans("c0", fingerprint="10-2"))
    scores.add_score(study.store, score(fingerprint="10-1"))
    assert served(study) == []


def test_scoring_a_case_again_replaces_its_score(study):
    scores.add_score(study.store, score())
    scores.add_score(study.store, score(flags=()))
    assert scores.scores(study.store, "model-a", "margin 5")["c0"].flags == ()
    assert scores.count_scores(study.store, ["model-a"], "margin 5") == 1


def test_a_case_that_several_models_scored_counts_once_and_only_while_it_is_there(study):
    for case_id, model in (("c0", "model-a"), ("c0", "model-b"), ("c1", "model-b")):
        scores.add_score(study.store, score(case_id, model=model))
    both = (study.store, ["model-a", "model-b"], "margin 5")
    assert scores.count_scores(*both) == 2
    told = hashlib.sha256(b"c0\nc1").hexdigest()
    assert scores.digest_of_scored(study.store, "model-b", "margin 5") == told
    study.sync("c0")
    assert scores.count_scores(*both) == 1
    assert [scores.count_scores(*both, case_id=c) for c in ("c0", "c1", "c2")] == [1, 1, 0]
    assert scores.count_scores(study.store, [], "margin 5") == 0


def test_features_come_back_in_half_precision_and_only_where_there_are_any(study):
    scores.add_score(study.store, score("c0"), features=np.array([0.1, -2.5, 1e6], np.float32))
    scores.add_score(study.store, score("c1"))
    found = scores.features(study.store, "model-a", "margin 5")
    assert list(found) == ["c0"]
    assert found["c0"].dtype == np.float16
    # 0.1 has no exact half: the nearest is 1638 / 2^14; 65504 is the largest there is.
    assert found["c0"].tolist() == [1638 / 2**14, -2.5, 65504.0]
    assert scores.features(study.store, "model-b", "margin 5") == {}


def test_features_of_a_replaced_file_are_not_served(study):
    scores.add_score(study.store, score("c0"), features=[1.0])
    scores.add_score(study.store, score("c1"), features=[2.0])
    cases.sync(study.store, [*study.scans("c1"), *study.scans("c0", fingerprint="10-2")])
    assert list(scores.features(study.store, "model-a", "margin 5")) == ["c1"]


def test_a_case_that_is_scored_again_without_features_has_none(study):
    scores.add_score(study.store, score(), features=[1.0])
    scores.add_score(study.store, score())
    assert scores.features(study.store, "model-a", "margin 5") == {}


def test_unscored_are_the_cases_that_can_be_read_labelled_or_not(study):
    study.save("c0")
    cases.mark_unreadable(study.store, "c1", "10-1", "truncated")
    cases.exclude(study.store, "c2", "artefact")
    scores.add_score(study.store, score("c3"))
    cases.sync(study.store, study.scans("c0", "c1", "c2", "c3", "c4"))
    assert scores.unscored(study.store, "model-a", "margin 5") == ["c0", "c4"]
    assert scores.unscored(study.store, "model-b", "margin 5") == ["c0", "c3", "c4"]
    assert scores.count_unscored(study.store, "model-b", "margin 5") == 3


def test_only_scores_of_present_cases_are_counted(study):
    for case_id in ("c0", "c1"):
        scores.add_score(study.store, score(case_id))
    cases.sync(study.store, study.scans("c1", "c2"))
    assert scores.count_scores(study.store, ["model-a"], "margin 5") == 1


def model(checksum: str, created_at: float = 1.0) -> ModelRecord:
    path = Path(f"/models/{checksum}.pt")
    return ModelRecord(checksum, path, "trained", created_at, {"dice": {"a": 0.9}})


def test_the_published_model_is_current_and_there_is_only_one(empty):
    assert scores.current_model(empty.store) is None
    for record in (model("b", 2.0), model("a", 1.0)):
        scores.add_model(empty.store, record)
    assert scores.current_model(empty.store) is None
    scores.publish(empty.store, "a")
    scores.publish(empty.store, "b")
    assert scores.current_model(empty.store) == model("b", 2.0)
    assert scores.models(empty.store) == [model("a", 1.0), model("b", 2.0)]


def test_publishing_an_unknown_model_is_an_error_and_the_current_one_stays(empty):
    scores.add_model(empty.store, model("a"))
    scores.publish(empty.store, "a")
    with pytest.raises(LookupError, match="model b is not in the store"):
        scores.publish(empty.store, "b")
    assert scores.current_model(empty.store) == model("a")


def test_adding_a_known_model_again_moves_its_path_only(empty):
    scores.add_model(empty.store, model("a"))
    scores.publish(empty.store, "a")
    moved = replace(model("a"), path=Path("/new.pt"), statistics={}, created_at=9.0)
    scores.add_model(empty.store, moved)
    assert scores.current_model(empty.store) == replace(model("a"), path=Path("/new.pt"))


def test_a_label_whose_reader_saw_a_prediction_waits_for_its_comparison(study):
    study.save("c0", seen_model="model-a")
    study.save("c1", seen_model=None)
    study.save("c2", tag="original", seen_model="model-a")
    assert scores.uncompared(study.store) == [("c0", "model-a", "digest of c0")]
    # What another model would have said, or an unseen comparison, does not stand for it.
    scores.add_comparison(study.store, comparison(model="model-b"))
    scores.add_comparison(study.store, comparison(seen=False))
    assert len(scores.uncompared(study.store)) == 1
    scores.add_comparison(study.store, comparison())
    assert scores.uncompared(study.store) == []


def test_a_corrected_label_is_compared_anew_and_the_old_comparison_is_left_out(study):
    study.save("c0", seen_model="model-a")
    scores.add_comparison(study.store, comparison())
    study.save("c0", seen_model="model-a", digest="corrected")
    assert scores.uncompared(study.store) == [("c0", "model-a", "corrected")]
    assert scores.comparisons(study.store) == []


def test_every_label_that_a_case_had_is_known_by_its_digest(study):
    study.save("c0", digest="compared")
    scores.add_comparison(study.store, comparison("c0", label_digest="compared"))
    cases.save_label(study.store, study.label("c0", digest="reader's"), by_reader=True)
    study.save("c0", digest="today's")
    study.save("c1", tag="original", digest="no final label")
    found = [("c0", "compared"), ("c0", "reader's"), ("c0", "today's")]
    assert scores.label_digests(study.store) == found
    cases.delete_label(study.store, "c0", "final")
    assert scores.label_digests(study.store) == found[:2]


def test_labels_that_the_current_model_has_scored_wait_for_a_comparison_with_it(study):
    for case_id in ("c0", "c1", "c2"):
        study.save(case_id)
    for case_id in ("c0", "c1", "c3"):
        scores.add_score(study.store, score(case_id))
    scores.add_score(study.store, score("c2", fingerprint="of a file replaced since"))
    waiting = [("c0", "model-a", "digest of c0"), ("c1", "model-a", "digest of c1")]
    assert scores.uncompared_with(study.store, "model-a") == waiting
    assert scores.uncompared_with(study.store, "model-b") == []
    scores.add_comparison(study.store, comparison("c0", seen=True))
    assert scores.uncompared_with(study.store, "model-a") == waiting
    scores.add_comparison(study.store, comparison("c0", seen=False))
    assert scores.uncompared_with(study.store, "model-a") == waiting[1:]


def test_comparisons_come_back_as_added_by_model_and_by_whether_they_were_seen(study):
    for case_id in ("c0", "c1"):
        study.save(case_id)
    first = comparison("c1", created_at=1.0, selection_probability=0.25, unchanged=True)
    second = comparison("c0", created_at=2.0, seen=False)
    third = comparison("c0", created_at=3.0, model="model-b")
    for record in (third, second, first):
        scores.add_comparison(study.store, record)
    assert scores.comparisons(study.store) == [first, second, third]
    assert scores.comparisons(study.store, model="model-a") == [first, second]
    assert scores.comparisons(study.store, seen=True) == [first, third]
    assert scores.comparisons(study.store, model="model-a", seen=False) == [second]


def test_an_undefined_surface_distance_stays_nan(study):
    study.save("c0")
    scores.add_comparison(study.store, comparison(dice=0.0, surface_distance_mm=math.nan))
    found = scores.comparisons(study.store)[0]
    assert math.isnan(found.surface_distance_mm)
    assert found.dice == 0.0
