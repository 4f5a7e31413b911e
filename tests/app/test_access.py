"""Who asks as the proxy says, what each role may ask for, and what a body may weigh."""

import pytest

from fair_strategy.config import HostSettings, SettingsError
from fair_strategy.host.access import Proxy, caller_of, least_role
from fair_strategy.host.guard import judge
from fair_strategy.host.server import exposure
from tests.app.test_guard import request

SECRET = "a-secret-of-the-proxy-and-us"
PROXY = Proxy(SECRET)


def named(user="anna", role="reader", secret=SECRET, **how):
    headers = [("host", "reading.example"), ("x-fair-proxy-secret", secret)]
    headers += [("x-fair-user", user), ("x-fair-role", role)]
    return request(headers=[*headers, *how.pop("more", [])], **how)


def refused(scope, settings=None):
    return judge(scope, settings or HostSettings(), PROXY)


def test_the_proxy_names_the_user_under_which_a_request_acts():
    scope = named()
    assert refused(scope) is None
    caller = caller_of(scope)
    assert caller is not None
    assert (caller.name, caller.role) == ("anna", "reader")


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x", SECRET[:-1], "\xe9" * 28])
def test_a_request_without_the_secret_is_nobodys(secret):
    scope = named(secret=secret)
    refusal = refused(scope)
    assert refusal is not None
    assert refusal.status == 401
    assert caller_of(scope) is None


def test_on_loopback_too_only_the_proxy_is_answered():
    refusal = refused(request())
    assert refusal is not None
    assert refusal.status == 401


@pytest.mark.parametrize("user", ["", " ", "x" * 65, "an\tna", " anna"])
def test_a_proxy_that_names_nobody_is_refused(user):
    refusal = refused(named(user))
    assert refusal is not None
    assert refusal.status == 401


@pytest.mark.parametrize("role", ["", "Reader", "root", "reader,admin"])
def test_an_unknown_role_is_refused_and_the_roles_are_listed(role):
    refusal = refused(named(role=role))
    assert refusal is not None
    assert refusal.status == 403
    assert "reader, lead, admin" in refusal.sentence


@pytest.mark.parametrize("name", ["x-fair-user", "x-fair-role", "x-fair-proxy-secret"])
def test_a_header_that_a_client_added_beside_the_proxys_is_refused(name):
    assert refused(named(more=[(name, "admin")])) is not None


def test_without_a_proxy_its_headers_mean_nothing():
    scope = named(role="admin")
    scope["headers"][0] = (b"host", b"127.0.0.1")
    assert judge(scope, HostSettings()) is None
    assert caller_of(scope) is None


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/info/", "reader"),
        ("POST", "/activelearning/weighted_entropy", "reader"),
        ("PUT", "/datastore/label", "reader"),
        ("GET", "/reader/draft", "reader"),
        ("GET", "/train/", "reader"),
        ("POST", "/train/caudate", "lead"),
        ("DELETE", "/train/", "lead"),
        ("PUT", "/datastore/image", "lead"),
        ("PUT", "/datastore/label/info", "lead"),
        ("GET", "/fairness", "lead"),
        ("GET", "/fairness/api/summary", "lead"),
        ("GET", "/model/caudate", "lead"),
        ("GET", "/datastore/dataset", "admin"),
        ("DELETE", "/datastore/label", "admin"),
        ("DELETE", "/datastore/image", "admin"),
        ("POST", "/batch/infer/caudate", "admin"),
        ("PUT", "/model/caudate", "admin"),
        ("GET", "/logs/", "admin"),
        ("GET", "/a-route-that-nobody-has-looked-at", "admin"),
        ("GET", "/reader/../datastore/dataset", "reader"),  # no route: it ends as a 404
        ("PATCH", "/info/", "admin"),
    ],
)
def test_each_route_has_a_lowest_role(method, path, least):
    assert least_role(method, path) == least


def test_a_role_may_do_what_those_below_it_may():
    path = "/train/caudate"
    told = refused(named(path=path, method="POST"))
    assert told is not None
    assert told.status == 403
    assert "for the role lead" in told.sentence
    for role in ("lead", "admin"):
        assert refused(named(role=role, path=path, method="POST")) is None


@pytest.mark.parametrize(
    ("path", "method", "option"),
    [("/reload", "POST", "allow_reload"), ("/logs/", "GET", "allow_logs"),
     ("/model/caudate", "PUT", "allow_model_upload")],
)  # fmt: skip
def test_what_is_switched_off_is_closed_for_the_admin_too(path, method, option):
    scope = named(role="admin", path=path, method=method)
    refusal = refused(scope)
    assert refusal is not None
    assert option in refusal.sentence
    assert refused(scope, HostSettings(**{option: True})) is None


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/datastore/dataset"), ("DELETE", "/datastore/label")]
)
def test_export_and_deletion_are_the_admins_or_switched_on(method, path):
    refusal = judge(request(path, method=method), HostSettings())
    assert refusal is not None
    assert "allow_export" in refusal.sentence
    assert judge(request(path, method=method), HostSettings(allow_export=True)) is None
    assert refused(named(role="admin", path=path, method=method)) is None
    # The switch is for a server without roles.
    opened = HostSettings(allow_export=True)
    assert refused(named(role="lead", path=path, method=method), opened) is not None


@pytest.mark.parametrize("path", ["/ohif", "/ohif/..", "/proxy/dicom/qido/studies"])
def test_what_leads_to_the_pacs_is_closed_for_everybody(path):
    assert refused(named(role="admin", path=path)) is not None
    assert judge(request(path), HostSettings()) is not None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9000"])
def test_a_foreign_page_is_refused_also_with_the_proxys_or_any_address(origin):
    through = named(more=[("origin", origin)])
    remote = request(headers=[("host", "10.0.0.5:8000"), ("origin", origin)])
    for refusal in (refused(through), judge(remote, HostSettings(allow_remote=True))):
        assert refusal is not None
        assert refusal.status == 403
    assert refused(named(more=[("origin", "https://reading.example")])) is None


def test_a_line_break_in_a_path_makes_no_second_line_in_the_log():
    refusal = refused(named(path="/logs/\nWARNING forged"))
    assert refusal is not None
    assert "\n" not in refusal.sentence


@pytest.mark.parametrize(
    ("kind", "size", "status"),
    [("application/json", 2**20, None), ("application/json", 2**20 + 1, 413),
     ("multipart/form-data; boundary=x", 2**20 + 1, None),
     ("multipart/form-data; boundary=x", 3 * 2**20, 413), ("application/json", "-1", 400)],
)  # fmt: skip
def test_a_body_has_a_largest_size_by_its_kind(kind, size, status):
    headers = [("host", "127.0.0.1"), ("content-type", kind), ("content-length", str(size))]
    refusal = judge(request(method="PUT", headers=headers), HostSettings(max_upload_mb=2))
    assert (refusal and refusal.status) == status


# ------------------------------------------------------------------ the secret's file


def secret_file(folder, text=SECRET, mode=0o600):
    file = folder / "secret"
    file.write_text(text)
    file.chmod(mode)
    return HostSettings(proxy_secret_file=file)


def test_the_secret_is_read_from_a_file_and_blanks_around_it_do_not_count(tmp_path):
    proxy = Proxy.of(secret_file(tmp_path, f"{SECRET}\n"))
    assert proxy is not None
    assert judge(named(), HostSettings(), proxy) is None
    assert Proxy.of(HostSettings()) is None


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [(SECRET, 0o644, "chmod"), ("short", 0o600, "24 characters"), ("", 0o600, "openssl rand"),
     (f"{SECRET}\n{SECRET}", 0o600, "one line"), ("é" * 30, 0o600, "cannot be read")],
)  # fmt: skip
def test_a_secret_that_is_none_ends_the_start_with_what_to_do(tmp_path, text, mode, told):
    with pytest.raises(SettingsError, match=told):
        Proxy.of(secret_file(tmp_path, text, mode))


def test_a_missing_secret_is_no_open_server(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Proxy.of(HostSettings(proxy_secret_file=tmp_path / "none"))


# ------------------------------------------------------------------ where it listens

START = ["start_server", "--app", "apps/fair_caudate", "--studies", "x"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_on_loopback_warns_of_nothing(host):
    assert exposure([*START, "--host", host], HostSettings()) is None


@pytest.mark.parametrize("options", [[], ["-i", "0.0.0.0"], ["--host", "10.0.0.5"]])
def test_a_server_that_others_reach_warns_unless_a_proxy_is_in_front(options, tmp_path):
    alone = exposure([*START, *options], HostSettings())
    assert alone is not None
    assert "answers this machine alone" in alone
    opened = exposure([*START, *options], HostSettings(allow_remote=True))
    assert opened is not None
    assert "asks nobody who they are" in opened
    behind = exposure([*START, *options], secret_file(tmp_path))
    assert behind is not None
    assert "let the proxy run here" in behind
