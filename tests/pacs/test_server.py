"""`monailabel start_server --studies http://..`: readers at work on a real archive, no way out."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.volumes import read_image, read_mask
from tests.app.serving import ROOT, Server, application, free_port, wait_for
from tests.pacs.conftest import scan_series, stored_scan
from tests.pacs.test_study import earlier_segmentation, held_by, voxels

OFFLINE = Path(__file__).parent / "offline"


def launch(root: Path, url: str) -> Server:
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
        "PYTHONPATH": os.pathsep.join([str(OFFLINE), str(ROOT)]),
        "OFFLINE_NOTES": str(root / "offline.txt"),
        "XDG_DATA_HOME": str(root / "data"),
        "MONAI_LABEL_SESSION_PATH": str(root / "sessions"),
        "OMP_NUM_THREADS": "1",
    }
    options = {
        "state_dir": root / "state", "validation_per_group": 0, "sensitive_feature": "sex",
        "pacs_timeout_s": 5, "pacs_poll_s": 2, "pacs_keep_gb": 1e-6, "enable_background": "false",
    }  # fmt: skip
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(root / "app"), "--studies", f"{url}/dicom-web/"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *(part for name, value in options.items() for part in ("--conf", name, str(value))),
    ]
    with open(root / "server.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=root)
    server = Server(process, f"http://127.0.0.1:{port}", root)

    def up():
        assert process.poll() is None, server.log[-3000:]
        return server.client("probe").info()

    wait_for(up, what="server start")
    return server


def stop(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=60) == 0, server.log[-3000:]


def next_id(server: Server, client: str) -> str | None:
    return server.client(client).next_sample("random", {}).get("id")


def download(server: Server, case_id: str) -> bytes:
    url = f"{server.url}/datastore/image?image={case_id}"
    with urllib.request.urlopen(url, timeout=60) as reply:
        return reply.read()


@pytest.fixture
def archive(orthanc):
    """Two series; the second has been segmented before. The headers of the first."""
    _, headers = scan_series(1)
    done_before = scan_series(2)[1]
    orthanc.store([*headers, *done_before, earlier_segmentation(done_before, 2)])
    return headers


def test_an_attempt_to_leave_this_machine_fails_and_is_noted(tmp_path):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    environment = {"PYTHONPATH": str(OFFLINE), "OFFLINE_NOTES": str(tmp_path / "notes")}
    command = [sys.executable, "-c", code]
    tried = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert b"offline: socket" in tried.stderr
    assert "192.0.2.1" in (tmp_path / "notes").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_reader_walks_from_next_sample_to_a_segmentation_in_the_archive(
    archive, orthanc, proxy, tmp_path
):
    application(tmp_path)
    server = launch(tmp_path, proxy.url)
    try:
        anna = server.client("anna")
        counts = anna.info()["datastore"]
        assert (counts["total"], counts["completed"]) == (2, 1)
        case_id = next_id(server, "anna")
        assert next_id(server, "ben") is None  # one is leased, one was segmented before

        proxy.spoil("refuse", "/studies/")
        with pytest.raises(urllib.error.HTTPError) as told:
            download(server, case_id)
        with told.value as reply:
            assert reply.code == 503
            said = json.loads(reply.read())["detail"]
        assert "does not send a series: it answers 503; nothing is lost, try again" in said

        proxy.spoil("")
        (tmp_path / "scan.nii.gz").write_bytes(download(server, case_id))
        np.testing.assert_array_equal(read_image(tmp_path / "scan.nii.gz").array, stored_scan(1))
        assert "removed to keep 0.00 GB; 0.00 GB beyond it are in use" in server.log
        file, params = anna.infer("caudate", case_id, {"result_extension": ".nrrd"})
        assert params["label_names"] == {"left_caudate": 1}

        proxy.spoil("refuse", "/studies$")  # the label is taken although it cannot be sent yet
        anna.save_label(case_id, file, "final", {"label_info": []})
        wait_for(lambda: "1 labels wait to be sent" in server.log, what="an attempt to send")
        assert orthanc.count("SEG") == 1
        proxy.spoil("")
        wait_for(lambda: orthanc.count("SEG") == 2, what="the label in the archive")
    finally:
        stop(server)
    ours = [seg for seg in held_by(orthanc) if seg.get("ManufacturerModelName") == "fair_caudate"]
    drawn = {seg.PatientID: seg for seg in ours}["H-0001"]
    np.testing.assert_array_equal(voxels(drawn, archive), read_mask(Path(file)).array)

    orthanc.stop()
    server = launch(tmp_path, orthanc.url)  # without the archive, as after a night's outage
    try:
        assert server.client("anna").info()["datastore"]["completed"] == 2
        assert next_id(server, "ben") is None
    finally:
        stop(server)
    assert "cannot be reached" in server.log
    assert not (tmp_path / "offline.txt").exists(), (tmp_path / "offline.txt").read_text()
    for secret in ("Nobody", "H-0001", "063Y", str(archive[0].SeriesInstanceUID)):
        assert secret not in server.log
