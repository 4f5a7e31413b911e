"""Another MONAI Label app, with another network and label, gets fair strategies in three lines."""

import json
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from monai.networks.nets import UNet
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    EnsureChannelFirstd,
    LoadImaged,
    ScaleIntensityd,
    SqueezeDimd,
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.infer.basic_infer import BasicInferTask
from scipy.special import entr, softmax

from fair_strategy.acquisition.strategies import STRATEGIES
from fair_strategy.host.fairness import Fairness
from fair_strategy.host.network_output import predict_with, probabilities
from fair_strategy.store import plans, scores
from fair_strategy.workflows.performance import study_performance
from tests.app import cohorts

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MONAI Label's and MONAI's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Spleen(BasicInferTask):
    def __init__(self, *, out_channels=2):
        torch.manual_seed(1)
        network = UNet(3, 1, out_channels, channels=(4, 8), strides=(2,))
        super().__init__(None, network, "segmentation", {"spleen": 1}, 3, "spleen", roi_size=None)

    def pre_transforms(self, data=None):
        return [LoadImaged("image"), EnsureChannelFirstd("image"), ScaleIntensityd("image")]

    def post_transforms(self, data=None):
        return [
            Activationsd("pred", softmax=True),
            AsDiscreted("pred", argmax=True),
            SqueezeDimd("pred", dim=0),
        ]


class OtherApp(MONAILabelApp):
    def init_infers(self):
        return {"spleen": Spleen()}

    def init_strategies(self):
        self.fair = Fairness(self, segment=self._infers["spleen"], activation="softmax")
        return self.fair.strategies()

    def init_scoring_methods(self):
        return self.fair.scoring_methods()


@pytest.fixture
def flat(tmp_path):
    """MONAI Label's flat folder: six scans of two groups."""
    studies = tmp_path / "studies"
    rows = ["participant_id\tgroup"]
    for number in range(1, 7):
        cohorts.save(studies / f"s{number}.nii.gz", cohorts.scan(number)[0])
        rows.append(f"s{number}\t{'AB'[number > 3]}")
    (studies / "participants.tsv").write_text("\n".join(rows) + "\n")
    return studies


def other_app(flat, **conf):
    conf = {"state_dir": str(flat.parent / "state"), "skip_scoring": "false", **conf}
    return OtherApp(app_dir=str(flat.parent / "app"), studies=str(flat), conf=conf)


@pytest.fixture
def app(flat, monkeypatch):
    from monailabel.config import settings

    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTO_UPDATE_SCORING", False)
    return other_app(flat)


def submit(app, case_id, tmp_path):
    mask = cohorts.save(tmp_path / f"{case_id}.nii.gz", cohorts.scan(int(case_id[1:]))[1])
    app.datastore().save_label(case_id, str(mask), "final", {})


def test_three_lines_give_every_strategy_and_scoring_method(app):
    # Those that need the network's features, or several passes, are the own application's.
    own = {"bald", "core_set"}
    assert list(app.info()["strategies"]) == [name for name in STRATEGIES if name not in own]
    assert list(app.info()["scoring"]) == ["weighted_entropy", "entropy", "group_performance"]


def test_before_any_score_scans_are_handed_out_at_random_and_it_says_so(app):
    first = app.next_sample({"strategy": "weighted_entropy", "client_id": "a"})
    assert Path(first["path"]).is_file()
    assert first["served_by"] == "balanced_random"
    assert "no scores" in first["note"]


def test_scoring_then_next_sample_walks_from_the_most_to_the_least_uncertain(app, tmp_path):
    done = app.scoring({"method": "weighted_entropy"})
    assert done == {"scored": 6, "unreadable": 0, "compared": 0, "plans": 2}
    handed = []
    for _ in range(6):
        sample = app.next_sample({"strategy": "masked_entropy", "client_id": "a"})
        assert sample["served_by"] == "masked_entropy"
        handed.append((sample["uncertainty_percentile"], sample["id"]))
        submit(app, sample["id"], tmp_path)
    assert len({i for _, i in handed}) == 6
    assert handed == sorted(handed, reverse=True)
    assert app.next_sample({"strategy": "masked_entropy", "client_id": "a"}) == {}


def test_a_second_scoring_run_scores_nothing_and_a_new_model_scores_everything(app):
    app.scoring({"method": "entropy"})
    assert app.scoring({"method": "entropy"})["scored"] == 0
    with torch.no_grad():
        next(app._infers["spleen"].network.parameters()).add_(0.1)
    app.fair._hashed = None  # a network without a file is hashed once a process
    app._infers["spleen"].clear_cache()
    assert app.scoring({"method": "entropy"})["scored"] == 6


def test_labels_submitted_after_the_score_tell_how_well_each_group_is_segmented(app, tmp_path):
    app.scoring({"method": "weighted_entropy"})
    for case_id in ("s1", "s2", "s5"):
        submit(app, case_id, tmp_path)
    assert app.scoring({"method": "group_performance"}) == {"compared": 3}
    study = app.fair.take_up()
    performance = study_performance(study)
    assert {name: p.n for name, p in performance.items()} == {"A": 2, "B": 1}
    network = app._infers["spleen"]
    predicted = predict_with(
        network, Path(app.datastore().get_image_uri("s5")), activation="softmax"
    )
    mask, truth = predicted.probability > 0.5, cohorts.scan(5)[1].astype(bool)
    expected = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert performance["B"].mean == pytest.approx(expected, abs=1e-6)


def test_two_clients_never_hold_the_same_scan(app):
    app.scoring({"method": "weighted_entropy"})
    held = [
        app.next_sample({"strategy": "weighted_entropy", "client_id": name})["id"]
        for name in ("a", "b", "c")
    ]
    assert len(set(held)) == 3


def test_the_stock_datastore_is_left_alone_and_readers_see_no_group(app):
    before = json.dumps(app.datastore().json(), default=str)
    app.scoring({"method": "weighted_entropy"})
    sample = app.next_sample({"strategy": "weighted_entropy", "client_id": "a"})
    assert json.dumps(app.datastore().json(), default=str) == before
    assert not {"weight", "utility", "group", "subgroup"} & sample.keys()


def test_an_unreadable_scan_is_left_out_and_the_rest_is_scored(app, flat):
    (flat / "s3.nii.gz").write_bytes(b"broken")
    done = app.scoring({"method": "weighted_entropy"})
    assert (done["scored"], done["unreadable"]) == (5, 1)


def test_a_task_that_fails_on_every_scan_is_an_error_not_an_empty_run(app, monkeypatch):
    def broken(self, data=None):
        raise RuntimeError("the app's own fault")

    monkeypatch.setattr(Spleen, "pre_transforms", broken)
    with pytest.raises(RuntimeError, match="own fault"):
        app.scoring({"method": "weighted_entropy"})


def test_scores_are_the_entropy_of_the_networks_softmax(app):
    app.scoring({"method": "entropy"})
    study = app.fair.take_up()
    current = scores.current_model(study.store)
    found = scores.scores(study.store, current.checksum, study.settings_hash)["s2"]
    image = cohorts.scan(2)[0]
    scaled = (image - image.min()) / (image.max() - image.min())
    with torch.no_grad():
        logits = app._infers["spleen"].network.eval()(torch.from_numpy(scaled)[None, None])[0]
    expected = entr(softmax(logits.numpy().astype(np.float64), axis=0)).sum(axis=0).mean()
    assert found.entropies["entropy"] == pytest.approx(expected, rel=1e-3)


def test_leases_are_renewed_once_by_the_first_click_on_a_started_server(app, monkeypatch):
    renewed = []
    real = plans.renew_all
    monkeypatch.setattr(plans, "renew_all", lambda *a, **k: renewed.append(1) or real(*a, **k))
    app.scoring({"method": "weighted_entropy"})
    assert renewed == []  # MONAI Label scores in a process of its own, beside the server
    for name in ("a", "b"):
        app.next_sample({"strategy": "weighted_entropy", "client_id": name})
    assert renewed == [1]


def test_a_lease_of_a_clock_that_is_gone_does_not_hold_a_scan_for_ever(app, flat):
    held = app.next_sample({"strategy": "random", "client_id": "a"})["id"]
    store = app.fair.take_up().store
    with store.transaction() as connection:  # the machine had been up for a year
        connection.execute("UPDATE leases SET expires_at = expires_at + 3e7")
    again = other_app(flat)
    again.next_sample({"strategy": "random", "client_id": "b"})
    lease = plans.lease_of(store, held)
    assert lease.expires_at <= time.monotonic() + 3600


def test_a_table_that_cannot_be_used_is_told_to_readers_without_its_values(app, flat, caplog):
    (flat / "participants.tsv").write_text("participant_id\tage\ns1\t431\ns1\t431\n")
    with pytest.raises(HTTPException, match=r"participants\.tsv cannot be used") as refused:
        app.next_sample({"strategy": "random", "client_id": "a"})
    assert refused.value.status_code == 422
    assert "participants.tsv line 3" in caplog.text
    assert "431" not in caplog.text + refused.value.detail


def test_a_scoring_run_that_the_table_stops_shows_none_of_its_values(app, flat):
    app.next_sample({"strategy": "random", "client_id": "a"})
    (flat / "participants.tsv").write_text("sub-01,431\nsub-02,431\n")
    with pytest.raises(ValueError, match="separated by tabs") as stopped:
        app.scoring({"method": "weighted_entropy"})
    assert "431" not in "".join(traceback.format_exception(stopped.value))


def test_an_activation_that_is_not_stated_right_is_an_error_and_never_guessed(flat):
    with pytest.raises(ValueError, match="softmax, sigmoid, none"):
        Fairness(other_app(flat), segment=Spleen(), activation="guess")


def test_an_estimator_that_cannot_be_trusted_here_is_refused(flat):
    with pytest.raises(ValueError, match="prequential, labelled"):
        other_app(flat, estimator="validation")


def test_softmax_of_a_single_channel_is_refused():
    with pytest.raises(ValueError, match="sigmoid"):
        probabilities(np.zeros((1, 2, 2, 2), np.float32), activation="softmax")


def test_sigmoid_channels_leave_the_background_what_none_claims():
    # sigmoid(0) = 0.5, sigmoid(ln 3) = 3/4: the surest claims 0.75, the background keeps 0.25
    logits = np.array([0.0, np.log(3.0)], np.float32).reshape(2, 1, 1, 1)
    probs = probabilities(logits, activation="sigmoid")
    assert probs.ravel().tolist() == pytest.approx([0.25, 0.75])


def test_probabilities_are_taken_as_they_are_and_logits_under_none_are_an_error(flat):
    given = np.array([0.2, 0.8], np.float32).reshape(2, 1, 1, 1)
    np.testing.assert_array_equal(probabilities(given, activation="none"), given)
    with pytest.raises(ValueError, match="probs"):
        predict_with(Spleen(), flat / "s1.nii.gz", activation="none")
