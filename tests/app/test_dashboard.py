"""The study lead's routes, in this process: who gets in, what is told, what is never told."""

import json
import os
import re
from dataclasses import asdict

import pytest

from fair_strategy.config import HostSettings, SettingsError, parse_settings
from fair_strategy.host import lead as access
from fair_strategy.store import cases, scores
from fair_strategy.workflows.study_audit import StudyAudit
from tests.app.in_process import brought_up, client_of

TOKEN = "a-token-of-the-lead"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FIGURES = (
    "summary", "performance", "weights", "work", "agreement", "leases", "decisions", "training",
)  # fmt: skip


@pytest.fixture
def app(tmp_path):
    return brought_up(tmp_path, per_group=6)


@pytest.fixture
def client(app, monkeypatch):
    return client_of(app, monkeypatch, lead_token=TOKEN)


@pytest.mark.parametrize("figure", [*FIGURES, "decisions/1"])
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é"},
                {"Cookie": f"fairness_lead_80={TOKEN}"}],
)  # fmt: skip
def test_without_the_token_no_figure_is_told(client, figure, headers):
    encoded = {name: text.encode("latin-1") for name, text in headers.items()}
    reply = client.get(f"/fairness/api/{figure}", headers=encoded)
    assert reply.status_code == 401
    assert "study lead" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["decisions/1/replay", "reopen"])
def test_without_the_token_nothing_is_changed(client, path):
    assert client.post(f"/fairness/api/{path}", json={"image": "sub-01_T1w"}).status_code == 401


@pytest.mark.parametrize("figure", FIGURES)
def test_with_the_token_each_figure_is_told(client, figure):
    reply = client.get(f"/fairness/api/{figure}", headers=BEARER)
    assert reply.status_code == 200
    assert reply.json()
    assert "no-store" in client.get("/fairness/", headers=BEARER).headers["cache-control"]


def test_every_figure_is_documented_with_its_fields(client):
    paths = client.get("/openapi.json").json()["paths"]
    for figure in (*FIGURES, "decisions/{decision_id}"):
        told = paths[f"/fairness/api/{figure}"]["get"]
        assert told["summary"]
        assert "$ref" in told["responses"]["200"]["content"]["application/json"]["schema"]
        assert told["security"] == [{"HTTPBearer": []}]
    assert {"/fairness/api/reopen", "/fairness/api/decisions/{decision_id}/replay"} <= set(paths)


def test_the_address_with_the_token_is_exchanged_for_a_cookie_that_is_not_the_token(client):
    reply = client.get(f"/fairness/?token={TOKEN}")
    assert (reply.status_code, reply.headers["location"]) == (303, "/fairness/")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/fairness" in cookie
    page = client.get("/fairness/")
    assert page.status_code == 200
    assert client.get("/fairness/api/summary").status_code == 200
    for told in (reply, page, client.get("/fairness/api/summary"), client.get("/info/")):
        assert TOKEN not in told.text + str(dict(told.headers))


@pytest.mark.parametrize("how", ["address", "field"])
def test_a_wrong_token_gets_the_field_again_with_a_sentence(client, how):
    reply = (
        client.get("/fairness/?token=wrong")
        if how == "address"
        else client.post("/fairness/login", data={"token": "wrong"})
    )
    assert reply.status_code == 401
    assert "not this server&#x27;s token" in reply.text
    assert "set-cookie" not in reply.headers


def test_the_field_takes_the_token(client):
    asked = client.get("/fairness/")
    assert (asked.status_code, "<input" in asked.text) == (401, True)
    assert client.post("/fairness/login", data={"token": TOKEN}).status_code == 303
    assert client.get("/fairness/").status_code == 200


def test_another_start_of_the_server_has_another_cookie_and_another_token():
    first, second = access.LeadAccess(), access.LeadAccess()
    drawn = re.search(r"token=(\S+)", first.announcement(8000))[1]
    assert len(drawn) >= 32
    assert first.accepts(drawn)
    assert not second.accepts(drawn)
    assert first._session != second._session


def test_a_given_token_is_not_printed():
    told = access.LeadAccess(TOKEN).announcement(8000)
    assert TOKEN not in told
    assert "http://127.0.0.1:8000/fairness/" in told


def test_a_short_token_is_refused_and_not_echoed_and_a_good_one_not_shown():
    with pytest.raises(SettingsError, match="lead_token") as refused:
        parse_settings(HostSettings, {"lead_token": "sesame"})
    assert "sesame" not in str(refused.value)
    assert TOKEN not in repr(parse_settings(HostSettings, {"lead_token": TOKEN}))


@pytest.mark.parametrize(
    ("query", "left"),
    [(f"token={TOKEN}", ""), (f"a=1&token={TOKEN}&b=%20", "a=1&b=+"), ("a=1", "a=1")],
)
def test_the_token_is_out_of_the_address_before_anything_can_log_it(query, left):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)

    scope = {"type": "http", "path": "/fairness/", "query_string": query.encode()}
    coroutine = access.TokenFromAddress(app)(scope, None, None)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert scope["query_string"] == seen["query_string"] == left.encode()


def test_the_page_may_fetch_nothing_from_elsewhere(client):
    policy = client.get("/fairness/", headers=BEARER).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "*" not in policy
    page = client.get("/fairness/", headers=BEARER).text
    assert re.findall(r'(?:src|href)="(https?:|//)', page) == []


def test_the_files_of_the_page_are_served_and_no_others(client):
    for name in ("dashboard.css", "dashboard.js", "charts.js", "elements.js", "api.js"):
        assert client.get(f"/fairness/page/{name}").status_code == 200
    for name in ("__init__.py", "lead.py", "..%2Flead.py", "dashboard.html"):
        assert client.get(f"/fairness/page/{name}").status_code == 404


def test_the_charts_script_comes_from_the_installed_package(client):
    reply = client.get("/fairness/page/plotly.min.js")
    assert reply.headers["content-type"].startswith("text/javascript")
    assert len(reply.content) > 1e6


def test_a_decision_is_told_with_candidates_weights_and_seed_and_replayed(app, client):
    handed = client.post("/activelearning/random", json={"client_id": "ann"}).json()["id"]
    (lease,) = client.get("/fairness/api/leases", headers=BEARER).json()["leases"]
    assert (lease["image"], lease["client_id"]) == (handed, "ann")
    assert 0 < lease["seconds_left"] <= 3600
    (listed,) = client.get("/fairness/api/decisions", headers=BEARER).json()["decisions"]
    told = client.get(f"/fairness/api/decisions/{lease['decision']}", headers=BEARER).json()
    assert told["decision"] == listed
    assert told["total"] == len(told["candidates"]) == 10
    assert [c["image"] for c in told["candidates"] if c["chosen"]] == [handed]
    assert [w["subgroup"] for w in told["weights"]] == ["A", "B"]
    assert told["seed"] >= 0
    replayed = client.post(
        f"/fairness/api/decisions/{lease['decision']}/replay", headers=BEARER
    ).json()
    assert (replayed["same"], replayed["replayed"]) == (True, handed)


def test_a_decision_that_does_not_exist_is_404_with_a_sentence(client):
    for call in (client.get, client.post):
        end = "/replay" if call == client.post else ""
        reply = call(f"/fairness/api/decisions/77{end}", headers=BEARER)
        assert (reply.status_code, "no decision 77" in reply.json()["detail"]) == (404, True)


def test_an_exclusion_is_undone_by_the_lead(app, client):
    cases.exclude(app.study.store, "sub-02_T1w", "motion", by="ann")
    told = client.get("/fairness/api/summary", headers=BEARER).json()
    assert told["excluded"] == [
        {"image": "sub-02_T1w", "reason": "motion", "by": "ann", "reopens": True}
    ]
    body = {"image": "sub-02_T1w"}
    assert client.post("/fairness/api/reopen", json=body, headers=BEARER).json() == body
    assert "sub-02_T1w" in cases.unlabelled_ids(app.study.store)
    again = client.post("/fairness/api/reopen", json=body, headers=BEARER)
    assert (again.status_code, "not excluded" in again.json()["detail"]) == (422, True)
    unknown = client.post("/fairness/api/reopen", json={"image": "sub-99"}, headers=BEARER)
    assert unknown.status_code == 404


def test_a_table_that_breaks_is_a_sentence_without_what_it_holds(app, client):
    (app.study.images_dir / "participants.tsv").write_text("participant_id\tage\nsub-01\t431\n")
    (app.study.images_dir / "participants.tsv").write_text("participant_id,age\nsub-01,431\n")
    reply = client.get("/fairness/api/performance", headers=BEARER)
    assert reply.status_code == 422
    assert "participants.tsv" in reply.json()["detail"]
    assert "431" not in reply.text


def test_the_report_of_the_last_audit_is_for_the_lead(app, client):
    assert client.get("/fairness/audit", headers=BEARER).status_code == 404
    current = scores.current_model(app.study.store)
    audit = StudyAudit(
        model=current.checksum,
        made_at=0.0,
        cases=12,
        sentence="",
        findings=(),
        left_out=(),
        folder=app.study.state_dir / "audits" / current.checksum,
    )
    audit.folder.mkdir(parents=True)
    (audit.folder / "report.html").write_text("<p>newest</p>")
    told = {name: value for name, value in asdict(audit).items() if name != "folder"}
    summary = audit.folder / "summary.json"
    summary.write_text(json.dumps(told))
    assert client.get("/fairness/audit").status_code == 401
    assert "newest" in client.get("/fairness/audit", headers=BEARER).text
    assert client.get("/fairness/api/summary", headers=BEARER).json()["audit_report"] is True
    summary.write_text(json.dumps(told | {"sentence": "too few"}))
    assert client.get("/fairness/audit", headers=BEARER).status_code == 404


def test_no_log_line_holds_token_or_subgroup(client, caplog):
    with caplog.at_level("DEBUG"):
        client.get(f"/fairness/?token={TOKEN}")
        client.get("/fairness/?token=wrong")
        for figure in FIGURES:
            client.get(f"/fairness/api/{figure}", headers=BEARER)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("fair_strategy")]
    assert any("token is another one" in line for line in ours)
    assert TOKEN not in "\n".join(ours)
    assert not any(re.search(r"\b(group|[AB])\b", line) for line in ours)


def test_the_log_that_may_be_opened_has_stars_for_the_token(client, tmp_path, monkeypatch):
    from monailabel.config import settings

    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(tmp_path))
    file = tmp_path / "logs" / "app.log"
    file.parent.mkdir()
    file.write_text(f"conf: {{'lead_token': '{TOKEN}'}}\nnext\n")
    assert client.get("/logs/").status_code == 403
    client.app.middleware_stack.app.settings = HostSettings(allow_remote=True, allow_logs=True)
    for lines in (0, 300):
        told = client.get("/logs/", params={"lines": lines, "html": False}).text
        assert "lead_token': '*******************'" in told
        assert told.endswith("next\n")
    access.blank_log(client.app.state.lead, file)
    assert TOKEN not in file.read_text()
    assert file.read_text().endswith("next\n")


def test_what_monai_label_hands_to_its_processes_has_no_token(monkeypatch):
    from fair_strategy.host import app as host_app

    conf = {"lead_token": TOKEN, "rule": "softmax"}
    monkeypatch.setattr(host_app.monailabel_settings, "MONAI_LABEL_APP_CONF", dict(conf))
    monkeypatch.setenv("MONAI_LABEL_APP_CONF", json.dumps(conf))
    host_app.forget_token()
    assert host_app.monailabel_settings.MONAI_LABEL_APP_CONF == {"rule": "softmax"}
    assert json.loads(os.environ["MONAI_LABEL_APP_CONF"]) == {"rule": "softmax"}
