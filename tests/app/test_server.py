"""A real server on loopback, driven by the client that the stock Slicer plugin ships."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import read_image, read_mask
from fair_strategy.host.worker import NICENESS
from fair_strategy.workflows.planning import offered
from tests.app import cohorts
from tests.app.serving import ROOT, application, launch, serve, wait_for

SHOWN = {
    "id", "path", "name", "PatientID", "strategy", "served_by",
    "uncertainty_percentile", "stale", "implausible", "note",
}  # fmt: skip


def answer(server, path, *, method="GET", body=None, headers=None):
    """Status and JSON of a bare request."""
    request = urllib.request.Request(
        server.url + path, method=method, data=body, headers=headers or {}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def refusal(call, *arguments):
    """What the stock client tells its user when the server refuses."""
    exceptions = sys.modules[type(call.__self__).__module__]
    with pytest.raises(exceptions.MONAILabelClientException) as refused:
        call(*arguments)
    return refused.value.msg


def perfect(server, case_id):
    """A mask file that a reader might send for a scan."""
    number = int(case_id[4:6])
    return str(cohorts.save(server.root / f"{case_id}.nii.gz", cohorts.scan(number)[1]))


def test_slicer_learns_models_strategies_and_labels_in_their_order(server):
    info = server.client("slicer").info()
    assert info["labels"] == {"left_caudate": 1}
    assert list(info["strategies"]) == list(offered(StudySettings()))
    assert "bald" not in info["strategies"]  # this study makes one pass
    assert next(iter(info["strategies"])) == "weighted_entropy"
    assert list(info["models"]) == ["caudate", "caudate_uncertainty"]
    assert info["models"]["caudate"]["labels"] == {"left_caudate": 1}
    assert list(info["trainers"]) == ["caudate"]
    assert set(info["scoring"]) == {"weighted_entropy", "entropy", "group_performance"}
    assert "config" not in info  # the plugin would ask for an upgrade


def test_a_strategy_that_needs_other_settings_is_refused_with_what_it_needs(scored):
    said = refusal(scored.client("anna").next_sample, "bald", {})
    assert "passes to 2 or more" in said
    assert "expected one of" in refusal(scored.client("anna").next_sample, "fairest", {})


def test_a_reader_walks_from_next_sample_to_submit(scored):
    client = scored.client("walker")
    sample = client.next_sample("weighted_entropy", {})
    assert sample.keys() == SHOWN
    assert sample["served_by"] == "weighted_entropy"
    assert sample["PatientID"].startswith(f"{sample['id']} | uncertainty p")
    assert Path(sample["path"]).name == sample["name"]

    status, listing = answer(scored, "/datastore/?output=all")
    assert status == 200
    described = listing["objects"][sample["id"]]["labels"]["original"]["info"]
    assert described["params"]["label_names"] == {"left_caudate": 1}
    original = read_mask(Path(client.download_label(sample["id"], "original")))

    file, params = client.infer("caudate", sample["id"], {"result_extension": ".nrrd"})
    assert file.endswith(".nrrd")
    assert params["label_names"] == {"left_caudate": 1}
    inferred = read_mask(Path(file))
    np.testing.assert_array_equal(inferred.array, original.array)

    saved = client.save_label(sample["id"], file, "final", {"label_info": []})
    assert saved == {"image": sample["id"], "label": sample["id"]}
    kept = read_mask(Path(client.download_label(sample["id"], "final")))
    np.testing.assert_array_equal(kept.array, original.array)
    following = client.next_sample("weighted_entropy", {})
    assert following["id"] != sample["id"]


def test_the_peaks_of_uncertainty_arrive_as_markups_inside_the_scan(scored):
    file, _ = scored.client("marks").infer("caudate_uncertainty", "sub-03_T1w", {})
    assert file.endswith(".mrk.json")
    points = json.loads(Path(file).read_text())["markups"][0]["controlPoints"]
    assert 1 <= len(points) <= 3
    to_voxel = np.linalg.inv(cohorts.AFFINE)
    for point in points:
        voxel = (to_voxel @ [*point["position"], 1])[:3]
        assert ((voxel > -1) & (voxel < cohorts.SHAPE)).all()


def test_an_inference_leaves_what_the_study_keeps_in_place(scored):
    before = sorted((scored.state / "predictions").rglob("*.npz"))
    for _ in range(2):
        scored.client("again").infer("caudate", "sub-03_T1w", {})
    assert before
    assert sorted((scored.state / "predictions").rglob("*.npz")) == before


def test_a_client_that_shares_the_servers_temporary_folder_keeps_its_result(scored):
    client = scored.client("again")
    client._tmpdir = tempfile.gettempdir()
    file, _ = client.infer("caudate", "sub-03_T1w", {})
    time.sleep(0.5)  # the server deletes its own copy after the reply
    assert Path(file).exists()
    Path(file).unlink()


def test_a_scan_that_is_sent_along_is_segmented_on_its_own_grid(scored):
    path = cohorts.save(scored.root / "mine.nii.gz", cohorts.scan(40)[0][:, ::-1][2:])
    file, params = scored.client("guest").infer("caudate", "", {}, file=str(path))
    assert read_mask(Path(file)).array.shape == read_image(path).array.shape
    assert params["label_names"] == {"left_caudate": 1}


def test_clients_that_click_at_once_never_hold_the_same_scan(scored):
    def click(name):
        return scored.client(name).next_sample("weighted_entropy", {})["id"]

    names = [f"reader{i}" for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(click, names))
    assert len(set(held)) == 4


def test_a_request_cannot_change_the_study_and_the_log_names_the_key_alone(scored):
    told = refusal(scored.client("sly").next_sample, "weighted_entropy", {"rule": "v4lue-of-mine"})
    assert "422" in told
    assert "'rule'" in told
    assert "tried to set rule" in scored.log
    assert "v4lue-of-mine" not in scored.log


def test_training_options_that_belong_to_the_study_are_refused_at_once(scored):
    told = refusal(scored.client("sly").train_start, "caudate", {"seed": 5})
    assert "422" in told
    assert "'seed'" in told


def test_a_mask_of_another_shape_is_refused_with_a_sentence_and_nothing_changes(scored):
    wrong = cohorts.save(scored.root / "wrong.nii.gz", np.ones((4, 4, 4), np.uint8))
    before = answer(scored, "/datastore/?output=all")[1]["objects"]["sub-04_T1w"]
    told = refusal(scored.client("sloppy").save_label, "sub-04_T1w", str(wrong), "final", {})
    assert "422" in told
    assert "4, 4, 4" in told
    assert answer(scored, "/datastore/?output=all")[1]["objects"]["sub-04_T1w"] == before


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/datastore/label?label=sub-02_T1w&tag=../../x", "GET", 422),
        ("/datastore/image?image=..%2F..%2Fetc%2Fpasswd", "GET", 422),
        ("/datastore/image?image=nobody", "GET", 404),
        ("/datastore/image?id=sub-02_T1w", "DELETE", 403),
        ("/logs/", "GET", 403),
        ("/reload", "POST", 403),
        ("/model/caudate", "DELETE", 403),
        ("/activelearning/first", "POST", 404),
        ("/train/nothing", "POST", 404),
    ],
)
def test_what_is_refused_is_refused_with_a_sentence_and_the_server_stays_up(
    server, path, method, status
):
    code, said = answer(server, path, method=method)
    assert code == status
    assert len(said["detail"]) > 10
    assert answer(server, "/info/")[0] == 200


def test_an_upload_under_a_tag_or_id_outside_of_the_folder_writes_nothing(server):
    mask = perfect(server, "sub-05_T1w")
    client = server.client("intruder")
    before = {p for p in server.root.rglob("*") if p.is_file() and "app" not in p.parts}
    for case_id, tag in (("../x", "final"), ("sub-05_T1w", "../../x"), ("sub-05_T1w", "original")):
        assert "422" in refusal(client.save_label, case_id, mask, tag, {})
    after = {p for p in server.root.rglob("*") if p.is_file() and "app" not in p.parts}
    assert not {p for p in after - before if "state" not in p.parts}


@pytest.mark.parametrize("image", ["/etc/passwd", "../studies/participants.tsv"])
def test_inference_reads_no_file_that_a_client_names(server, image):
    client = server.client("intruder")
    assert "422" in refusal(client.infer, "caudate", image, {})
    # The stock server lets the form overwrite the image.
    told = refusal(client.infer, "caudate", "", {"image": image})
    assert "422" in told


def test_a_request_that_a_foreign_page_sends_is_refused(server):
    code, said = answer(server, "/info/", headers={"Origin": "https://evil.example"})
    assert code == 403
    assert "allow_remote" in said["detail"]


def test_nothing_that_readers_see_names_an_attribute_a_weight_or_a_group_figure(scored):
    client = scored.client("curious")
    seen = [client.info(), answer(scored, "/datastore/?output=all")[1]]
    seen += [client.next_sample(name, {}) for name in offered(StudySettings())]
    seen += [answer(scored, "/datastore/image/info?image=sub-02_T1w")[1]]
    text = json.dumps(seen).lower().replace("t1-weighted", "").replace("weighted_entropy", "")
    text = text.replace("weighted by how badly its kind of scan is segmented today", "")
    for word in ("weight", "utility", 'group"', '"sex', '"age', "subgroup", "validation", "audit"):
        assert word not in text.replace("group_performance", "")


def test_logs_hold_no_attribute_weight_or_group_figure(scored):
    logs = scored.log + (scored.state / "worker.log").read_text()
    for line in logs.lower().splitlines():
        for word in ("utility", "'weights'", "subgroup a", "group a", "group=b", "'b':", '"b":'):
            assert word not in line


def test_scoring_also_runs_as_a_process_of_monai_labels_own(scored):
    code, started = answer(
        scored,
        "/scoring/group_performance",
        method="POST",
        body=b"{}",
        headers={"Content-Type": "application/json"},
    )
    assert code == 200
    assert started["request"]["method"] == "group_performance"

    def ended():
        status = answer(scored, "/scoring/")[1]
        return status if status["status"] not in ("SUBMITTED", "RUNNING") else None

    done = wait_for(ended, what="group_performance")
    assert done["status"] == "DONE", done
    assert any('Result: {"compared"' in line for line in done["details"])


def niceness_beside(server):
    """Of the processes that MONAI Label has started for its server."""
    found = set()
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "monailabel.interfaces.utils.app" in process.cmdline():
                found.add(process.nice())
    return found


def test_a_training_click_publishes_a_model_that_readers_are_then_served_by(scored):
    client = scored.client("trainer")
    for case_id in ("sub-06_T1w", "sub-14_T1w"):
        client.save_label(case_id, perfect(scored, case_id), "final", {})
    before = model_of(scored)
    client.train_start("caudate", {"train_steps": 1})
    niceness = set()

    def ended():
        niceness.update(niceness_beside(scored))
        status = client.train_status()
        return status if status["status"] not in ("SUBMITTED", "RUNNING") else None

    done = wait_for(ended, what="training")
    assert done["status"] == "DONE", done
    assert model_of(scored) != before
    assert max(niceness) == NICENESS, "readers come first"
    text = json.dumps([done, client.info()["train_stats"]]).lower()
    assert "by_group" not in text
    assert '"b":' not in text
    # for the lead alone: the audit half of this study is too small, and a sentence says so
    [told] = (scored.state / "audits").glob("*/summary.json")
    assert told.parent.name == model_of(scored)
    assert "5 labelled persons" in json.loads(told.read_text())["sentence"]

    def rescored():
        stats = client.info()["datastore"]
        return stats["label_tags"].get("original") == stats["total"]

    wait_for(rescored, what="scores of the new model, without a click")


def test_a_second_server_on_the_same_study_is_refused(server):
    second = launch(server.root, "--log_level", "info")
    assert second.wait(timeout=200) != 0
    assert "one study has one server" in server.log
    assert answer(server, "/info/")[0] == 200


SUPERVISOR = """
import multiprocessing, sys, time
from pathlib import Path

def worker(root):
    from fair_strategy.host.server import take_hold
    from fair_strategy.workflows.study import open_study
    take_hold(open_study(root / "studies", state_dir=root / "state", shipped_model=root / "none"))

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=worker, args=(Path(sys.argv[1]),))
    child.start()
    time.sleep(200)
"""


def test_several_workers_are_refused_with_a_sentence_and_their_supervisor_ends(tmp_path):
    # As `--workers 2` does it: the server is a child of a supervisor that would start it again.
    cohorts.write_cohort(tmp_path / "studies", per_group=1)
    script = tmp_path / "supervisor.py"
    script.write_text(SUPERVISOR)
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=190,
    )
    assert done.returncode == -signal.SIGTERM
    assert "--workers 2 or more: one study has one server with one worker" in done.stderr


def test_what_a_server_has_loaded_is_kept_out_of_garbage_collection(tmp_path):
    cohorts.write_cohort(tmp_path / "studies", per_group=1)
    main = application(tmp_path) / "main.py"
    note = "import atexit, gc\nfrom pathlib import Path\n"
    note += "atexit.register(lambda: Path('kept').write_text(str(gc.get_freeze_count())))\n"
    main.write_text(main.read_text() + note)
    with serve(tmp_path, "--conf", "enable_background", "false"):
        pass
    assert int((tmp_path / "kept").read_text()) > 200_000


def test_an_unknown_option_ends_the_start_and_lists_the_good_ones(tmp_path):
    cohorts.write_cohort(tmp_path / "studies", per_group=1)
    application(tmp_path)
    assert launch(tmp_path, "--conf", "sensitive_featur", "sex").wait(timeout=240) != 0
    log = (tmp_path / "server.log").read_text()
    assert "unknown option 'sensitive_featur'" in log
    assert "sensitive_feature," in log


def model_of(server) -> str:
    with sqlite3.connect(server.state / "state.sqlite3") as connection:
        return connection.execute("SELECT checksum FROM models WHERE current = 1").fetchone()[0]
