"""Our routes over HTTP, in this process: what readers may send, and a study in trouble."""

import warnings

import pytest
from fastapi import FastAPI
from monailabel.endpoints import datastore as stock_datastore, info as stock_info

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette names a class of anyio by its old name
    from fastapi.testclient import TestClient

from fair_strategy.config import HostSettings
from fair_strategy.host import server
from fair_strategy.store import cases
from tests.app import cohorts
from tests.app.in_process import application, brought_up

BROKEN = "participant_id\tage\nsub-01\t431\nsub-01\t431\n"


@pytest.fixture
def app(tmp_path):
    return brought_up(tmp_path)


@pytest.fixture
def client(app, monkeypatch):
    modules = ("fair_strategy.host.routes.reader", "fair_strategy.host.routes.work")
    for module in (*modules, stock_datastore.__name__, stock_info.__name__):
        monkeypatch.setattr(f"{module}.app_instance", lambda: app)
    web = FastAPI()
    web.include_router(stock_info.router)
    web.include_router(stock_datastore.router)
    server.attach(web, HostSettings(allow_remote=True))
    return TestClient(web)


def refused(reply, *words):
    """Whether a reply is a 422 with a sentence that has these words."""
    return reply.status_code == 422 and all(word in reply.json()["detail"] for word in words)


@pytest.mark.parametrize("table", [BROKEN, "participant_id,age\nsub-01,431\n", "", None])
def test_a_table_that_breaks_while_the_server_runs_holds_up_no_reader(app, client, table):
    path = app.study.images_dir / "participants.tsv"
    path.write_bytes(b"\xff\xfe") if table is None else path.write_text(table)
    assert client.get("/info/").status_code == 200
    sample = client.post("/activelearning/weighted_entropy", json={"client_id": "a"})
    assert sample.status_code == 200
    assert sample.json()["id"].startswith("sub-")
    told = client.put("/datastore/image/info?image=sub-02_T1w", data={"info": '{"site": "a"}'})
    assert refused(told, "participants.tsv")
    assert "431" not in told.text


def test_a_sensitive_feature_that_does_not_exist_is_told_and_holds_up_no_reader(tmp_path, caplog):
    cohorts.write_cohort(tmp_path / "studies", per_group=2)
    made = application(tmp_path, sensitive_feature="handedness")
    server.bring_up(made.study)
    assert "'handedness' is no column" in caplog.text
    assert made.info()["strategies"]


def test_an_added_scan_is_there_although_the_table_is_broken(app, client, tmp_path):
    (app.study.images_dir / "participants.tsv").write_text(BROKEN)
    new = cohorts.save(tmp_path / "sub-30_T1w.nii.gz", cohorts.scan(30)[0])
    with open(new, "rb") as file:
        reply = client.put("/datastore/image", files={"file": (new.name, file)})
    assert (reply.status_code, reply.json()) == (200, {"image": "sub-30_T1w"})
    assert client.get("/datastore/image?image=sub-30_T1w").status_code == 200


def test_nothing_left_is_an_answer_with_a_note_and_without_an_id(app, client):
    left = sorted(cases.unlabelled_ids(app.study.store))
    asked = [
        client.post("/activelearning/weighted_entropy", json={"client_id": f"reader{i}"})
        for i in range(len(left) + 1)
    ]
    assert sorted(reply.json()["id"] for reply in asked[:-1]) == left
    assert asked[-1].status_code == 200
    assert list(asked[-1].json()) == ["note"]
    assert "nothing left" in asked[-1].json()["note"]


def test_nobody_can_act_as_the_import_of_masks_found_in_the_folder(app, client, tmp_path):
    reply = client.post("/activelearning/random", json={"client_id": "import"})
    assert refused(reply, "'import' is reserved")
    mask = cohorts.save(tmp_path / "mask.nii.gz", cohorts.scan(2)[1])
    with open(mask, "rb") as file:
        reply = client.put(
            "/datastore/label?image=sub-02_T1w",
            data={"params": '{"client_id": "import"}'},
            files={"label": (mask.name, file)},
        )
    assert refused(reply, "'import' is reserved")
    assert cases.label(app.study.store, "sub-02_T1w", "final") is None
    reply = client.post(
        "/infer/caudate?image=sub-02_T1w", data={"params": '{"client_id": "import"}'}
    )
    assert refused(reply, "'import' is reserved")


def test_a_scan_with_a_personal_key_is_refused_before_it_is_placed(app, client, tmp_path):
    new = cohorts.save(tmp_path / "sub-30_T1w.nii.gz", cohorts.scan(30)[0])
    with open(new, "rb") as file:
        reply = client.put(
            "/datastore/image", data={"params": '{"sex": "F"}'}, files={"file": (new.name, file)}
        )
    assert refused(reply, "'sex'", "participants.tsv")
    assert not list(app.study.images_dir.rglob("sub-30*"))


@pytest.mark.parametrize("info", ["{", "[1]", '"text"'])
@pytest.mark.parametrize("route", ["image/info?image=", "label/info?tag=final&label="])
def test_info_that_is_no_json_object_is_refused(client, route, info):
    assert refused(client.put(f"/datastore/{route}sub-01_T1w", data={"info": info}), "info", "JSON")


def test_info_is_merged_over_http(client):
    for route in ("image/info?image=", "label/info?tag=final&label="):
        url = f"/datastore/{route}sub-01_T1w"
        assert client.put(url, data={"info": '{"site": "a"}'}).status_code == 200
        assert client.put(url, data={"info": '{"quality": 2}'}).status_code == 200
        found = client.get(url).json()
        assert (found["site"], found["quality"]) == ("a", 2)


@pytest.mark.parametrize("steps", ["x", "-1", 0, "1.5", "²", 10**9])
def test_train_steps_that_are_no_number_of_steps_are_refused_at_once(client, monkeypatch, steps):
    started = []
    monkeypatch.setattr(
        "fair_strategy.host.routes.work.stock_train.run_model", lambda *a: started.append(a)
    )
    assert refused(client.post("/train/caudate", json={"train_steps": steps}), "train_steps")
    assert client.post("/train/caudate", json={"train_steps": "5"}).status_code == 200
    assert len(started) == 1
