"""Who is answered, what is closed, and which names are let through."""

import pytest

from fair_strategy.config import HostSettings
from fair_strategy.host.guard import Guard, is_loopback, judge


def request(
    path="/info/",
    *,
    method="GET",
    query="",
    client=("127.0.0.1", 5),
    headers=(("host", "127.0.0.1:8000"),),
    root_path="",
):
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": query.encode(),
        "client": client,
        "headers": [(k.encode(), v.encode()) for k, v in headers],
    }


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_own_addresses_are_loopback(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "host", ""])
def test_other_addresses_are_not_loopback(address):
    assert not is_loopback(address)


def test_a_request_of_this_machine_passes():
    assert judge(request(), HostSettings()) is None


def test_another_machine_is_refused_until_remote_is_allowed():
    stranger = request(client=("192.168.1.20", 5))
    refusal = judge(stranger, HostSettings())
    assert refusal is not None
    assert refusal.status == 403
    assert "allow_remote" in refusal.sentence
    assert judge(stranger, HostSettings(allow_remote=True)) is None


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "evil.example:8000")],  # a name that was made to point to 127.0.0.1
        [("host", "127.0.0.1:8000"), ("origin", "https://evil.example")],
        [("host", "127.0.0.1:8000"), ("origin", "null")],
    ],
)
def test_a_page_of_another_site_is_refused_though_its_browser_runs_here(headers):
    refusal = judge(request(headers=headers), HostSettings())
    assert refusal is not None
    assert refusal.status == 403


def test_a_page_served_from_this_machine_is_answered():
    local = [("host", "localhost:8000"), ("origin", "http://localhost:9000")]
    assert judge(request(headers=local), HostSettings()) is None


@pytest.mark.parametrize(
    ("method", "path", "option"),
    [
        ("POST", "/reload", "allow_reload"),
        ("GET", "/logs/", "allow_logs"),
        ("GET", "/logs/gpu", "allow_logs"),
        ("PUT", "/model/caudate", "allow_model_upload"),
        ("DELETE", "/model/caudate", "allow_model_upload"),
    ],
)
def test_dangerous_routes_are_closed_until_switched_on(method, path, option):
    refusal = judge(request(path, method=method), HostSettings())
    assert refusal is not None
    assert refusal.status == 403
    assert option in refusal.sentence
    assert judge(request(path, method=method), HostSettings(**{option: True})) is None


def test_a_root_path_hides_no_closed_route():
    refusal = judge(request("/label/logs/", root_path="/label"), HostSettings())
    assert refusal is not None


def test_reading_a_model_is_not_closed():
    assert judge(request("/model/info/caudate"), HostSettings()) is None


@pytest.mark.parametrize(
    "query",
    [
        "image=../x",
        "image=..%2F..%2Fetc%2Fpasswd",
        "image=%2Fetc%2Fpasswd",
        "label=sub-01&tag=../../x",
        "tag=fi/nal",
        "id=.hidden",
        "image=ok&image=../x",
        "session_id=../../x",
    ],
)
def test_ids_and_tags_that_leave_the_folder_are_refused_on_any_route(query):
    for path in ("/datastore/label", "/infer/caudate", "/anything"):
        refusal = judge(request(path, query=query), HostSettings())
        assert refusal is not None
        assert refusal.status == 422


@pytest.mark.parametrize(
    "query", ["image=sub-01_ses-1_T1w&tag=final", "image=&session_id=", "image=true", "output=all"]
)
def test_proper_names_and_empty_ones_pass(query):
    assert judge(request("/datastore/label", query=query), HostSettings()) is None


def test_a_session_id_in_the_path_is_checked():
    assert judge(request("/session/../../x"), HostSettings()) is not None
    assert judge(request("/session/0b6f-11"), HostSettings()) is None


def _answer(scope):
    import asyncio

    sent, reached = [], []

    async def inner(scope, receive, send):
        reached.append(scope["path"])

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(Guard(inner, HostSettings())(scope, receive, send))
    return sent, reached


def test_a_refused_request_never_reaches_the_application():
    sent, reached = _answer(request("/logs/"))
    assert reached == []
    assert sent[0]["status"] == 403
    assert b"allow_logs" in sent[1]["body"]


def test_an_accepted_request_reaches_it_unchanged():
    sent, reached = _answer(request("/info/"))
    assert reached == ["/info/"]
    assert sent == []
