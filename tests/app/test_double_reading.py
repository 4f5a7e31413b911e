"""Two readers a scan over HTTP: neither learns by any route what the other made of an open scan."""

import fcntl
import gzip
import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI
from monailabel.endpoints import datastore as stock_datastore, info as stock_info

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette names a class of anyio by its old name
    from fastapi.testclient import TestClient

from fair_strategy.config import HostSettings
from fair_strategy.host import server
from fair_strategy.store import cases, readings
from fair_strategy.store.readings import reading_tag
from fair_strategy.workflows.double_reading import due_cases
from tests.app import cohorts
from tests.app.in_process import brought_up
from tests.app.reading_room import marked_mask

CASE = "sub-02_T1w"
ANNAS = marked_mask(5)
BENS = marked_mask(9)
TOKEN = "a-token-of-the-lead"
ROUTES = ("reader", "review", "work", "lead", "lead_figures")


@pytest.fixture
def app(tmp_path):
    return brought_up(tmp_path, readers_per_case="2", validation_per_group="0")


@pytest.fixture
def client(app, monkeypatch):
    modules = [f"fair_strategy.host.routes.{name}" for name in ROUTES]
    for module in (*modules, stock_datastore.__name__, stock_info.__name__):
        monkeypatch.setattr(f"{module}.app_instance", lambda: app)
    web = FastAPI()
    web.include_router(stock_info.router)
    web.include_router(stock_datastore.router)
    server.attach(web, HostSettings(allow_remote=True, allow_export=True, lead_token=TOKEN))
    return TestClient(web, raise_server_exceptions=False)


@pytest.fixture
def hand_in(client, tmp_path):
    def call(name, mask, tag="final"):
        path = cohorts.save(tmp_path / "mask.nii.gz", mask)
        return client.put(
            f"/datastore/label?image={CASE}&tag={tag}",
            data={"params": json.dumps({"client_id": name, "note": f"by {name}"})},
            files={"label": ("mask.nii.gz", path.read_bytes())},
        )

    return call


def voxels(content):
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)


def test_by_no_route_does_a_reader_get_what_another_made_of_an_open_scan(client, hand_in):
    assert hand_in("anna", ANNAS).status_code == 200
    secrets = [ANNAS.tobytes(order="F"), b"anna", reading_tag("anna").encode()]
    tags = ("final", "original", reading_tag("anna"))
    asked = 0
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        if path.startswith("/fairness") or path == "/datastore/dataset":  # the lead's, the admin's
            continue
        for method in {"get", "head"} & methods.keys():
            for tag in tags:
                query = {"image": CASE, "label": CASE, "tag": tag, "output": "all",
                         "client_id": "ben", "label_tag": tag}  # fmt: skip
                reply = client.request(method.upper(), path, params=query)
                asked += 1
                body = reply.content
                packed = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else b""
                for secret in secrets:
                    assert secret not in body + packed, (method, path, tag)
    assert asked > 40
    mine = client.get("/reader/label", params={"image": CASE, "client_id": "anna"})
    assert ANNAS.tobytes(order="F") in gzip.decompress(mine.content)  # what the walk looked for


@pytest.mark.parametrize("tag", ["final", reading_tag("anna")])
def test_a_label_of_an_open_scan_is_neither_there_nor_changed_for_others(client, hand_in, tag):
    hand_in("anna", ANNAS)
    query = {"label": CASE, "image": CASE, "tag": tag}
    assert client.get("/datastore/label", params=query).status_code == 404
    assert client.head("/datastore/label", params=query).status_code == 404
    assert not client.get("/datastore/label/info", params=query).json()
    changed = client.put("/datastore/label/info", params=query, data={"info": '{"a": 1}'})
    assert changed.status_code == 404
    assert client.get("/datastore/?output=stats").json()["label_tags"].keys() <= {"final"}


def test_nobody_submits_under_the_tag_of_another_reader(client, hand_in):
    hand_in("anna", ANNAS)
    refused = hand_in("ben", BENS, tag=reading_tag("anna"))
    assert refused.status_code == 422
    assert "submit as 'final'" in refused.json()["detail"]
    refused = hand_in("user-xyz", BENS)
    assert refused.status_code == 422
    assert "client id of your own" in refused.json()["detail"]
    refused = hand_in("consensus", BENS)
    assert refused.status_code == 422
    assert "reserved" in refused.json()["detail"]


def test_once_two_have_read_it_all_is_there_until_one_opens_it_again(app, client, hand_in):
    sample = {"client_id": "anna"}
    while client.post("/activelearning/random", json=sample).json()["id"] != CASE:
        pass
    hand_in("anna", ANNAS)
    hand_in("ben", BENS)
    final = client.get("/datastore/label", params={"label": CASE, "tag": "final"})
    np.testing.assert_array_equal(voxels(final.content), ANNAS & BENS)
    told = client.get("/datastore/?output=all").json()["objects"][CASE]["labels"]
    assert told.keys() == {"final", reading_tag("anna"), reading_tag("ben")}
    assert told["final"]["info"]["consensus"] == "staple"
    assert client.post("/reader/reopen", json={**sample, "image": CASE}).status_code == 200
    for tag in told:
        query = {"label": CASE, "tag": tag}
        assert client.get("/datastore/label", params=query).status_code == 404
    assert (
        CASE not in client.get("/datastore/?output=all").json()["objects"]
        or not (client.get("/datastore/?output=all").json()["objects"][CASE]["labels"])
    )
    mine = client.get("/reader/label", params={"image": CASE, "client_id": "anna"})
    np.testing.assert_array_equal(voxels(mine.content), ANNAS)


def test_a_final_label_taken_out_opens_the_scan_for_all_again(app, client, hand_in):
    hand_in("anna", ANNAS)
    hand_in("ben", BENS)
    gone = client.delete("/datastore/label", params={"id": CASE, "tag": "final"})
    assert gone.status_code == 200
    assert [r for r in cases.labels(app.study.store) if r.case_id == CASE] == []
    assert readings.agreements(app.study.store) == []
    assert CASE in cases.unlabelled_ids(app.study.store)
    assert len(list((app.study.state_dir / "removed").iterdir())) == 3


def test_a_final_label_is_taken_out_with_its_readings_before_it_could_be_made_again(
    app, client, hand_in, monkeypatch
):
    hand_in("anna", ANNAS)
    hand_in("ben", BENS)
    seen, move = [], shutil.move

    def watched(source, target):
        lock = app.study.state_dir / "consensus.lock"
        with open(lock, "rb+") as file, pytest.raises(BlockingIOError):  # the background waits
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append(due_cases(app.study))
        return move(source, target)

    monkeypatch.setattr(shutil, "move", watched)
    gone = client.delete("/datastore/label", params={"id": CASE, "tag": "final"})
    assert gone.status_code == 200
    assert seen == [[], [], []]


def test_one_reading_taken_out_takes_the_final_label_with_it(app, client, hand_in):
    hand_in("anna", ANNAS)
    hand_in("ben", BENS)
    client.delete("/datastore/label", params={"id": CASE, "tag": reading_tag("ben")})
    left = [r.client_id for r in cases.labels(app.study.store) if r.case_id == CASE]
    assert left == ["anna"]
    assert CASE in cases.unlabelled_ids(app.study.store)
    hand_in("ben", ANNAS)
    assert cases.label(app.study.store, CASE).info["readers"] == 2


def test_agreement_is_told_to_the_lead_by_subgroup_once_there_is_enough(app, client, hand_in):
    def told():
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        return client.get("/fairness/api/agreement", headers=bearer).json()

    assert client.get("/fairness/api/agreement").status_code == 401
    hand_in("anna", ANNAS)
    hand_in("ben", BENS)
    found = told()
    assert (found["readers_per_case"], found["consensus"], found["groups"]) == (2, "staple", [])
    assert found["refreshed"]["sentence"].startswith("There is no figure yet")
