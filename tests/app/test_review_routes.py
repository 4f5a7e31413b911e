"""The reader's routes over HTTP: what a page asks, what it is told, what it is refused."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest

from fair_strategy.host import uploads
from fair_strategy.store import cases, plans
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from tests.app import cohorts
from tests.app.in_process import brought_up, client_of
from tests.app.test_server import answer, perfect

CURRENT = "/reader/current"
PERSONAL = ["/reader/skip", "/reader/exclude", "/reader/reopen"]
NAMELESS = ["/reader/peaks", "/reader/entropy"]
ABOUT_A_SCAN = [
    ("GET", "/reader/why"), ("GET", "/reader/peaks"), ("GET", "/reader/entropy"),
    ("GET", "/reader/lease"), ("GET", "/reader/draft"), ("GET", "/reader/label"),
    ("DELETE", "/reader/draft"),
    ("GET", "/reader/draft/info"), ("PUT", "/reader/draft"), ("POST", "/reader/reveal"),
    ("POST", "/reader/renew"), ("POST", "/reader/skip"), ("POST", "/reader/exclude"),
    ("POST", "/reader/reopen"),
]  # fmt: skip


def made_app(folder):
    # Every scan that has a score is an audit slot.
    conf = {"audit_every": "1", "quota_batch": "0", "validation_per_group": "0"}
    return brought_up(folder, **conf)


@pytest.fixture
def app(tmp_path):
    return made_app(tmp_path)


@pytest.fixture
def client(app, monkeypatch):
    return client_of(app, monkeypatch)


@pytest.fixture
def audited(app, client):
    """The client of a study whose scans are scored; each one's pre-segmentation is hidden."""
    score_study(app.study)
    with app.study.store.transaction() as connection:  # untrained: all are implausible
        connection.execute("UPDATE scores SET flags = '[]'")
    make_plans(app.study)
    return client


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A client for requests that are all refused: they change nothing."""
    app = made_app(tmp_path_factory.mktemp("strict"))
    with pytest.MonkeyPatch.context() as patch:
        client = client_of(app, patch)
        before = client.get("/datastore/?output=all").json()
        yield client
        assert client.get("/datastore/?output=all").json() == before


def next_of(client, name="anna"):
    return client.post("/activelearning/weighted_entropy", json={"client_id": name}).json()["id"]


def send(client, method, path, *, image, client_id="anna", reason="not readable"):
    """The same request, as a query with a file or as a JSON body, whichever the route takes."""
    if method == "POST":
        body = {"image": image, "client_id": client_id}
        because = {"reason": reason} if path in ("/reader/skip", "/reader/exclude") else {}
        return client.post(path, json=body | because)
    query = {"image": image, "client_id": client_id}
    files = {"file": ("mask.nii.gz", b"")} if method == "PUT" else None
    return client.request(method, path, params=query, files=files)


def mask_bytes(number, array=None):
    image = nib.Nifti1Image(cohorts.scan(number)[1] if array is None else array, cohorts.AFFINE)
    return image.to_bytes()


def volume(content):
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def put_draft(client, case_id, name="anna", content=None):
    return client.put(
        "/reader/draft",
        params={"image": case_id, "client_id": name},
        files={"file": ("mask.nii", content or mask_bytes(int(case_id[4:6])))},
    )


def put_label(client, case_id, name="anna"):
    return client.put(
        f"/datastore/label?image={case_id}",
        data={"params": json.dumps({"client_id": name})},
        files={"label": ("mask.nii", mask_bytes(int(case_id[4:6])))},
    )


def test_a_page_learns_its_options(client):
    told = client.get("/reader/options").json()
    assert told["skip_reasons"] == [
        "not readable", "wrong anatomy", "ask a colleague", "another time",
    ]  # fmt: skip
    assert told["labels"] == {"left_caudate": 1}
    assert told["lease_minutes"] == 60.0
    assert told["strategies"][0] == "weighted_entropy"


def test_a_reader_walks_from_why_over_a_draft_to_submit_and_reopens(app, client):
    case_id = next_of(client)
    query = {"image": case_id, "client_id": "anna"}
    lease = client.get("/reader/lease", params=query).json()
    assert lease["held"]
    assert 0 < lease["seconds_left"] <= 3600
    assert client.post("/reader/renew", json=query).json()["held"]
    assert not client.get("/reader/lease", params=query | {"client_id": "ben"}).json()["held"]

    peaks = client.get("/reader/peaks", params={"image": case_id}).json()["peaks"]
    assert [p["entropy"] for p in peaks] == sorted((p["entropy"] for p in peaks), reverse=True)
    assert all(len(p["position"]) == 3 for p in peaks)
    reply = client.get("/reader/entropy", params={"image": case_id})
    entropy = volume(reply.content)
    assert entropy.shape == cohorts.SHAPE
    assert entropy.get_data_dtype() == np.float32
    np.testing.assert_allclose(entropy.affine, cohorts.AFFINE, atol=1e-4)

    assert client.get("/reader/draft/info", params=query).json() == {
        "image": case_id, "exists": False, "saved_at": None, "seconds_spent": None,
    }  # fmt: skip
    assert client.get("/reader/draft", params=query).status_code == 404
    saved = put_draft(client, case_id).json()
    assert saved["exists"]
    assert saved["seconds_spent"] >= 0
    assert saved["saved_at"].endswith("Z")
    back = nib.Nifti1Image.from_bytes(
        gzip.decompress(client.get("/reader/draft", params=query).content)
    )
    np.testing.assert_array_equal(back.get_fdata(), cohorts.scan(int(case_id[4:6]))[1])
    other = query | {"client_id": "ben"}
    assert client.get("/reader/draft", params=other).status_code == 404
    assert client.get("/datastore/?output=all").json()["objects"][case_id]["labels"].keys() <= {
        "original"
    }

    assert put_label(client, case_id).status_code == 200
    assert not client.get("/reader/draft/info", params=query).json()["exists"]
    progress = client.get("/reader/progress?client_id=anna").json()
    assert (progress["labelled"], progress["pool"], progress["mine"]) == (3, 1, 1)
    again = client.post("/reader/reopen", json={"client_id": "anna"}).json()
    assert again["id"] == case_id
    assert again["path"].endswith(again["name"])
    assert client.get("/reader/lease", params=query).json()["held"]
    assert cases.label(app.study.store, case_id) is not None


def test_another_browser_learns_what_its_reader_holds_and_nothing_of_others(audited):
    client, anna = audited, {"client_id": "anna"}
    nothing = {"image": None, "seconds_left": 0.0, "draft": False, "submitted": False}
    assert client.get(CURRENT, params=anna).json() == nothing
    case_id = next_of(client)
    told = client.get(CURRENT, params=anna).json()
    assert 0 < told.pop("seconds_left") <= 3600
    assert told == {"image": case_id, "draft": False, "submitted": False}
    # Asking is no way to what is hidden, and shows a colleague nothing.
    assert client.get("/reader/why", params=anna | {"image": case_id}).json()[
        "hide_presegmentation"
    ]
    assert client.get(CURRENT, params={"client_id": "ben"}).json() == nothing
    put_draft(client, case_id)
    assert client.get(CURRENT, params=anna).json()["draft"]
    put_label(client, case_id)
    assert client.get(CURRENT, params=anna).json() == nothing
    client.post("/reader/reopen", json=anna)
    told = client.get(CURRENT, params=anna).json()
    assert (told["image"], told["draft"], told["submitted"]) == (case_id, False, True)


def test_what_a_shared_name_holds_is_told_to_nobody(client):
    for shared in ("", "user-xyz"):
        reply = client.get(CURRENT, params={"client_id": shared})
        assert reply.status_code == 422
        assert "everybody shares" in reply.json()["detail"]


def test_a_reopened_scan_answers_as_next_sample_does(client):
    sample = client.post("/activelearning/balanced_random", json={"client_id": "anna"}).json()
    put_label(client, sample["id"])
    again = client.post("/reader/reopen", json={"client_id": "anna", "image": sample["id"]}).json()
    assert again.keys() == sample.keys()
    same = again.keys() - {"note"}
    assert {k: again[k] for k in same} == {k: sample[k] for k in same}


def test_a_presegmentation_is_hidden_until_it_is_asked_for(audited):
    client, case_id = audited, next_of(audited)
    query = {"image": case_id, "client_id": "anna"}
    assert client.get("/reader/why", params=query).json()["hide_presegmentation"]
    for _ in range(2):
        assert client.post("/reader/reveal", json=query).json() == {
            "image": case_id, "revealed": True,
        }  # fmt: skip
    assert not client.get("/reader/why", params=query).json()["hide_presegmentation"]


@pytest.mark.parametrize("tag", ["original", "uncertainty"])
def test_stock_slicer_which_asks_by_itself_gets_no_hidden_presegmentation(app, audited, tag):
    client, case_id = audited, next_of(audited)
    asked = f"/datastore/label?label={case_id}&tag={tag}"
    reply = client.get(asked)
    assert reply.status_code == 404
    assert "without the model" in reply.json()["detail"]
    assert plans.revealed(app.study.store, case_id, "anna") is False
    client.post("/reader/reveal", json={"image": case_id, "client_id": "anna"})
    assert client.get(asked).status_code == 200
    put_label(client, case_id)
    [work] = cases.work(app.study.store)
    assert work.revealed is True
    assert work.edited_mm3 > 0


@pytest.mark.parametrize("route", ["peaks", "entropy"])
def test_where_the_model_is_unsure_is_not_told_of_a_scan_that_hides_it(audited, route):
    client, case_id = audited, next_of(audited)
    asked = f"/reader/{route}?image={case_id}"
    said(client.get(asked), 404, case_id, "without the model")
    client.post("/reader/reveal", json={"image": case_id, "client_id": "anna"})
    assert client.get(asked).status_code == 200


@pytest.mark.parametrize("model", ["caudate", "caudate_uncertainty"])
def test_inference_on_a_scan_that_hides_the_model_is_to_be_asked_for_twice(app, audited, model):
    client, case_id = audited, next_of(audited)
    asked = {"url": f"/infer/{model}?image={case_id}&output=json"}
    mine = {"data": {"params": json.dumps({"client_id": "anna"})}}
    first = client.post(**asked, **mine)
    assert first.status_code == 409
    assert "outline this scan on your own first" in first.json()["detail"]
    assert plans.revealed(app.study.store, case_id, "anna") is False
    assert client.post(**asked, **mine).status_code == 200
    assert plans.revealed(app.study.store, case_id, "anna") is True
    assert client.post(**asked, **mine).status_code == 200


def test_a_skip_and_an_exclusion_are_kept_and_end_the_lease(app, client):
    case_id = next_of(client)
    body = {"image": case_id, "client_id": "anna", "reason": "not readable"}
    assert client.post("/reader/skip", json=body).json() == {"image": case_id, "released": True}
    assert client.post("/reader/skip", json=body).json() == {"image": case_id, "released": False}
    assert [s.reason for s in cases.skip_reasons(app.study.store)] == ["not readable"]
    mine = next_of(client)
    reply = client.post("/reader/exclude", json=body | {"image": mine, "reason": "moved"})
    assert reply.json() == {"image": mine, "excluded": True}
    assert cases.case(app.study.store, mine).excluded == "moved"
    assert client.post("/reader/reopen", json={"client_id": "anna", "image": mine}).json()["id"]


# ------------------------------------------------------------------ what is refused


def said(reply, status, *words):
    detail = reply.json()["detail"]
    assert reply.status_code == status, detail
    assert isinstance(detail, str)
    assert all(word in detail for word in words), detail


@pytest.mark.parametrize(("method", "path"), ABOUT_A_SCAN)
@pytest.mark.parametrize("image", ["../x", "/etc/passwd", "a/b", ".hidden", "x" * 200])
def test_an_id_that_leaves_the_folder_is_refused_in_queries_and_bodies(strict, method, path, image):
    said(send(strict, method, path, image=image), 422, "is no id")


@pytest.mark.parametrize(("method", "path"), ABOUT_A_SCAN)
def test_an_unknown_scan_is_not_found_and_a_missing_id_is_said(strict, method, path):
    if method != "PUT":
        said(send(strict, method, path, image="sub-77_T1w"), 404, "sub-77_T1w")
    if path != "/reader/reopen":
        said(send(strict, method, path, image=""), 422, "is no id")


@pytest.mark.parametrize("client_id", ["", "user-xyz", "  "])
@pytest.mark.parametrize(
    ("method", "path"), [r for r in ABOUT_A_SCAN if "draft" in r[1] or r[1] in PERSONAL]
)
def test_what_is_one_persons_own_needs_a_name(strict, method, path, client_id):
    reply = send(strict, method, path, image="sub-02_T1w", client_id=client_id)
    said(reply, 422, "reader's own name")


@pytest.mark.parametrize("client_id", ["x" * 65, "a\nb", "a\x00b", "\u202egnp.exe", "import"])
@pytest.mark.parametrize(
    ("method", "path"),
    [r for r in ABOUT_A_SCAN if r[1] not in NAMELESS],
)
def test_a_name_that_is_too_long_or_cannot_be_printed_is_refused(strict, method, path, client_id):
    said(send(strict, method, path, image="sub-02_T1w", client_id=client_id), 422, "client_id")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b'{"image": 5}', b'{"client_id": [], "image": "a"}',
             b'{"image": "sub-02_T1w", "client_id": "anna", "weight": 3}']
)  # fmt: skip
def test_a_malformed_body_is_refused_with_a_sentence(strict, body):
    headers = {"Content-Type": "application/json"}
    said(strict.post("/reader/skip", content=body, headers=headers), 422)


def test_a_draft_of_another_type_grid_or_size_is_refused(client, monkeypatch):
    query = {"image": "sub-02_T1w", "client_id": "anna"}
    reply = client.put("/reader/draft", params=query, files={"file": ("mask.exe", b"x")})
    said(reply, 422, "mask.exe")
    said(client.put("/reader/draft", params=query), 422, "file")
    reply = client.put("/reader/draft", params=query, files={"file": ("mask.nii.gz", b"no gzip")})
    said(reply, 422, "mask.nii.gz: ")
    assert "upload-" not in reply.text  # nothing of where the server keeps it meanwhile
    small = mask_bytes(2, np.ones((4, 4, 4), np.uint8))
    said(put_draft(client, "sub-02_T1w", content=small), 422, "4, 4, 4")
    monkeypatch.setattr(uploads, "MAX_BYTES", 100)
    said(put_draft(client, "sub-02_T1w"), 422, "too large", "100 bytes")
    said(put_label(client, "sub-02_T1w"), 422, "too large")
    assert not client.get("/reader/draft/info", params=query).json()["exists"]


def test_an_entropy_map_of_another_type_is_refused_with_the_good_ones(client):
    reply = client.get("/reader/entropy?image=sub-02_T1w&extension=.png")
    said(reply, 422, ".nii.gz", ".nrrd")
    assert client.get("/reader/entropy?image=sub-02_T1w&extension=.nrrd").content[:4] == b"NRRD"


# ------------------------------------------------------------------ documented, blind


def test_the_openapi_page_describes_each_route_each_field_and_each_refusal(client):
    schema = client.get("/openapi.json").json()
    routes = {path: found for path, found in schema["paths"].items() if "/reader/" in path}
    assert {(m.upper(), p) for p, found in routes.items() for m in found} == {
        *ABOUT_A_SCAN, ("GET", "/reader/options"), ("GET", "/reader/progress"), ("GET", CURRENT),
    }  # fmt: skip
    for path, found in routes.items():
        for operation in found.values():
            assert operation["tags"] == ["Reader"], path
            assert len(operation["description"]) > 20, path
            own = [p for p in operation.get("parameters", []) if p["name"] != "token"]
            assert all(p["description"] for p in own), path  # the token is MONAI Label's
    named = {
        ref.rpartition("/")[2]
        for ref in _refs(routes)
        if "Validation" not in ref and "Body" not in ref
    }
    short = {name.rpartition("__")[2] for name in named}  # the dashboard has a Lease of its own
    assert {"Options", "Why", "Lease", "Sample", "DraftInfo", "Progress", "Peaks"} <= short
    for name in named:
        assert schema["components"]["schemas"][name]["description"], name


def _refs(part):
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
        part = list(part.values())
    if isinstance(part, list):
        for piece in part:
            yield from _refs(piece)


def replies_of(client, case_id, name):
    """Every reply about a scan that a reader holds, re-opened at the end."""
    query = {"image": case_id, "client_id": name}
    told = {
        "why": client.get("/reader/why", params=query),
        "reveal": client.post("/reader/reveal", json=query),
        "revealed": client.get("/reader/why", params=query),
        "peaks": client.get("/reader/peaks", params=query),
        "renew": client.post("/reader/renew", json=query),
        "lease": client.get("/reader/lease", params=query),
        "draft": put_draft(client, case_id, name),
        "current": client.get(CURRENT, params={"client_id": name}),
        "info": client.get("/reader/draft/info", params=query),
        "discard": client.delete("/reader/draft", params=query),
        "progress": client.get("/reader/progress", params=query),
        "options": client.get("/reader/options"),
        "exclude": client.post("/reader/exclude", json=query | {"reason": "moved"}),
        "reopen": client.post("/reader/reopen", json=query),
        "skip": client.post("/reader/skip", json=query | {"reason": "another time"}),
    }
    assert {reply.status_code for reply in told.values()} == {200}
    return {name: reply.json() for name, reply in told.items()}


def test_no_reply_names_an_attribute_a_weight_or_a_reason(audited):
    told = replies_of(audited, next_of(audited), "anna")
    text = json.dumps(told).lower().replace("weighted_entropy", "")
    for word in ("weight", "utility", 'group"', '"sex', '"age', "subgroup", "audit", "quota"):
        assert word not in text
    named = set(told["reopen"]) | set(told["why"]) | set(told["progress"])
    assert not named & {"position", "plan_id", "decision_id", "subgroup", "reason"}


# ------------------------------------------------------------------ a real server


def ask(server, path, body=None):
    """Status and JSON; a body makes it a POST."""
    if body is None:
        return answer(server, path)
    return answer(
        server,
        path,
        method="POST",
        body=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )


def test_a_running_server_serves_the_walk_beside_the_stock_client(scored):
    client = scored.client("reviewer")
    sample = client.next_sample("weighted_entropy", {})
    query = f"image={sample['id']}&client_id=reviewer"
    status, why = ask(scored, f"/reader/why?{query}")
    assert status == 200
    assert why["percentile"] == sample["uncertainty_percentile"]
    assert len(why["model"]) == 12
    assert ask(scored, f"/reader/lease?{query}")[1]["held"]
    status, before = ask(scored, f"/reader/progress?{query}")
    client.save_label(sample["id"], perfect(scored, sample["id"]), "final", {})
    status, after = ask(scored, f"/reader/progress?{query}")
    assert (after["mine"], after["labelled"]) == (before["mine"] + 1, before["labelled"] + 1)
    status, again = ask(scored, "/reader/reopen", {"client_id": "reviewer"})
    assert (status, again["id"]) == (200, sample["id"])
    status, gone = ask(
        scored,
        "/reader/skip",
        {"image": again["id"], "client_id": "reviewer", "reason": "another time"},
    )
    assert (status, gone["released"]) == (200, True)
    assert "reviewer" not in scored.log


def test_a_running_server_documents_the_routes(scored):
    status, schema = ask(scored, "/openapi.json")
    assert status == 200
    for path in ("why", "reveal", "peaks", "entropy", "lease", "renew", "skip", "exclude"):
        assert schema["paths"][f"/reader/{path}"]
    assert set(schema["paths"]["/reader/draft"]) == {"get", "put", "delete"}


def test_many_saves_at_once_leave_one_whole_draft(app, client):
    contents = [mask_bytes(2, np.full(cohorts.SHAPE, n % 2, np.uint8)) for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda c: put_draft(client, "sub-02_T1w", content=c), contents))
    assert {reply.status_code for reply in replies} == {200}
    query = {"image": "sub-02_T1w", "client_id": "anna"}
    back = nib.Nifti1Image.from_bytes(
        gzip.decompress(client.get("/reader/draft", params=query).content)
    )
    assert len(np.unique(back.get_fdata())) == 1
    assert len([p for p in (app.study.state_dir / "drafts").rglob("*") if p.is_file()]) == 1
