"""The annotator in front of a server: what it refuses to talk to, and what it submits."""

import copy
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.volumes import read_mask, write_mask
from fair_strategy.workflows.simulation.cohorts import first_labelled
from fair_strategy.workflows.simulation.first_models import pool_of
from fair_strategy.workflows.simulation.plan import runs
from fair_strategy.workflows.simulation.rest import play_via_rest
from tests.unit.workflows.simulation.conftest import TINY

LABEL = {"ext": ".nii.gz", "info": {}}


class FakeClient:
    """Answers as a server of a run's scans; keeps what is submitted."""

    def __init__(self, pool, labelled, folder):
        self.pool, self.folder = pool, folder
        self.labels = {i: {"final": LABEL} if i in labelled else {} for i in pool.cases}
        self.offered = {
            "models": {"caudate": {}, "caudate_uncertainty": {}},
            "trainers": {"caudate": {}},
            "strategies": {"weighted_entropy": {}, "random": {}},
        }
        self.trained, self.submitted = 0, {}

    def info(self):
        return self.offered

    def datastore(self):
        held = {"image": {"ext": ".nii.gz", "info": {}}}
        return {
            "name": "study",
            "objects": {i: {**held, "labels": copy.copy(of)} for i, of in self.labels.items()},
        }

    def train_start(self, model, params):
        self.trained += 1

    def train_status(self):
        return {"status": "DONE"}

    def next_sample(self, strategy, params):
        left = [i for i, labels in sorted(self.labels.items()) if "final" not in labels]
        return {"id": left[0], "served_by": strategy} if left else {}

    def infer(self, model, image_id, params):
        return str(self.shown(image_id)), {}

    def save_label(self, image_id, label_in, tag, params):
        assert tag == "final"
        self.labels[image_id]["final"] = LABEL
        self.submitted[image_id] = read_mask(Path(label_in)).array != 0

    def shown(self, case_id):
        """The truth, one voxel further to one side."""
        truth = read_mask(self.pool.cases[case_id].truth)
        self.folder.mkdir(exist_ok=True)
        target = self.folder / f"{case_id}.nii.gz"
        write_mask(target, np.roll(truth.array, 1, axis=0), truth.affine)
        return target


@pytest.fixture
def served(configured, tmp_path):
    """Makes (workspace, run, client), of an annotator."""

    def serve(**annotator):
        block = {"strategy": "weighted_entropy", "annotator": annotator}
        simulation, workspace = configured(arms={"weighted": block}, streams="by_run")
        (run,) = runs(simulation)
        pool = pool_of(workspace, run)
        first = first_labelled(pool, TINY["starts"]["imbalanced"], seed=run.seed)
        return workspace, run, FakeClient(pool, first, tmp_path / "shown")

    return serve


def refused(served, client, message):
    workspace, run, _ = served
    with pytest.raises(ValueError, match=message):
        play_via_rest(workspace, run, client, patience_s=1, poll_s=0)
    assert client.trained == 0
    assert client.submitted == {}


def test_a_server_of_other_scans_is_refused_before_anything_is_sent_to_it(served):
    found = served()
    client = found[2]
    client.labels["sub-010_T1w"] = {}
    refused(found, client, r"the server's 10 scans are not the 9 of run strong_imbalanced_weighted")
    del client.labels["sub-010_T1w"], client.labels["sub-009_T1w"]
    refused(found, client, r"the server's 8 scans are not the 9 .* nothing was sent to it")


def test_a_server_of_another_app_is_refused(served):
    for kind, name in (
        ("models", "caudate"),
        ("trainers", "caudate"),
        ("strategies", "weighted_entropy"),
    ):
        found = served()
        del found[2].offered[kind][name]
        refused(found, found[2], f"offers no '{name}' among its {kind}, and nothing was sent")


def test_a_state_that_was_used_is_refused_with_what_to_do(served):
    found = served()
    workspace, run, client = found
    assert len(play_via_rest(workspace, run, client, patience_s=1, poll_s=0)) == 2
    assert (client.trained, len(client.submitted)) == (2, 4)
    client.trained, client.submitted = 0, {}
    state = workspace.out / "rest" / run.name / "state"
    refused(
        found,
        client,
        f"the state was used: the server has 7 labels, of which the run starts with 3; end it and "
        f"delete {state}, or give another --out",
    )


def test_labels_of_another_run_are_refused_and_predictions_are_none(served):
    found = served()
    workspace, run, client = found
    for labels in client.labels.values():
        labels["original"] = LABEL  # what the model says of every scan
    kept = {i: dict(labels) for i, labels in client.labels.items()}
    first = next(i for i, labels in client.labels.items() if "final" in labels)
    del client.labels[first]["final"]
    refused(found, client, "the server's 2 labels are not the 3 that run .* starts with")
    client.labels = kept
    assert play_via_rest(workspace, run, client, patience_s=1, poll_s=0)


def test_an_anchoring_annotator_submits_neither_the_truth_nor_what_the_server_showed(served):
    workspace, run, client = served(kind="anchoring", corrected=0.25)
    play_via_rest(workspace, run, client, patience_s=1, poll_s=0)
    assert len(client.submitted) == 4
    for case_id, submitted in client.submitted.items():
        truth = read_mask(client.pool.cases[case_id].truth).array != 0
        shown = read_mask(client.shown(case_id)).array != 0
        wrong = (shown != truth).sum()
        assert (submitted != shown).sum() == np.ceil(0.25 * wrong)
        assert 0 < (submitted != truth).sum() == wrong - np.ceil(0.25 * wrong)


def test_a_perfect_annotator_submits_the_truth(served):
    workspace, run, client = served()
    play_via_rest(workspace, run, client, patience_s=1, poll_s=0)
    for case_id, submitted in client.submitted.items():
        truth = read_mask(client.pool.cases[case_id].truth).array != 0
        np.testing.assert_array_equal(submitted, truth)
