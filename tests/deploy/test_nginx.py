"""The shipped nginx configuration, run for real before a real server, as several users."""

import asyncio
import http.client
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import nullcontext

import aiohttp
import pytest
from aiohttp import web

from tests.app.serving import free_port, slicer_client, wait_for
from tests.deploy.conftest import NAME, Guarded, Nginx, nginx_missing

pytestmark = pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))


class Echo:
    """Stands where the review page does: says which headers reached it, and echoes a socket."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/{path:.*}", self._headers)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _headers(self, request: web.Request) -> web.Response:
        return web.json_response([[name.lower(), value] for name, value in request.headers.items()])

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{request.headers['X-Fair-User']}: {message.data}")
        return socket

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)


@pytest.fixture(scope="module")
def nginx(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    review = Echo()
    folder = tmp_path_factory.mktemp("nginx")
    front = Nginx(folder, guarded, review.port)

    def up() -> int:
        assert front.process.poll() is None, "nginx has ended; what it said is above"
        return front.send("anna", "/info/").status

    try:
        wait_for(up, what=f"nginx in {folder}", within_s=60)
        yield front
    finally:
        front.stop()
        review.stop()


def test_the_three_roles_see_what_is_theirs(nginx):
    expected = {
        "/info/": {"anna": 200, "clara": 200, "dora": 200},
        "/fairness/api/summary": {"anna": 403, "clara": 200, "dora": 200},
        "/logs/": {"anna": 403, "clara": 403, "dora": 403},
    }
    for path, statuses in expected.items():
        for user, status in statuses.items():
            assert nginx.send(user, path).status == status, (path, user)
    assert nginx.send("anna", "/datastore/dataset").status == 403
    assert nginx.send("clara", "/datastore/dataset").status == 403
    assert nginx.send("dora", "/datastore/dataset").status in (200, 404)  # 404: nothing labelled


def test_without_a_password_or_with_a_wrong_one_nobody_gets_in(nginx):
    assert nginx.send(None, "/info/").status == 401
    nginx.passwords["nobody"] = "guess"
    assert nginx.send("nobody", "/info/").status == 401
    assert nginx.send(None, "/", port=nginx.review).status == 401


def test_a_user_without_a_role_gets_in_nowhere(nginx):
    assert nginx.send("otto", "/info/").status == 403


def test_headers_that_a_client_makes_up_are_replaced(nginx):
    forged = {"X-Fair-Role": "admin", "X-Fair-User": "dora", "X-Fair-Proxy-Secret": "x"}
    assert nginx.send("anna", "/info/", headers=forged).status == 200
    assert nginx.send("anna", "/fairness/api/summary", headers=forged).status == 403
    shown = nginx.send("anna", "/any", port=nginx.review, headers=forged).json()
    assert [v for n, v in shown if n == "x-fair-user"] == ["anna"]
    assert [v for n, v in shown if n == "x-fair-role"] == ["reader"]
    assert [v for n, v in shown if n == "x-fair-proxy-secret"] == [nginx.guarded.secret]
    assert "authorization" not in [name for name, _ in shown]  # no password goes further


def test_the_server_itself_answers_nobody_who_goes_round_the_proxy(nginx):
    assert nginx.guarded.send(None, "GET", "/info/").status == 401


def test_a_token_in_the_address_lets_the_stock_slicer_client_work(nginx):
    module = slicer_client()
    url = f"https://127.0.0.1:{nginx.port}/t/{nginx.tokens['bert']}"
    context = nginx.context
    stock, module.ssl = module.ssl, _Named(context)
    module.http.client.HTTPSConnection = _by_name(context)
    try:
        client = module.MONAILabelClient(url, tmpdir=str(nginx.folder), client_id="user-xyz")
        assert client.info()["labels"] == {"left_caudate": 1}
        sample = client.next_sample("weighted_entropy", {})
        file, _ = client.infer("caudate", sample["id"], {"result_extension": ".nrrd"})
        client.save_label(sample["id"], file, "final", {"label_info": []})
    finally:
        module.ssl = stock
        del module.http.client.HTTPSConnection
    info = nginx.send("bert", f"/datastore/label/info?label={sample['id']}&tag=final").json()
    assert info["client_id"] == "bert"


class _Named:
    """In place of the module `ssl`, whose private function the stock client calls."""

    def __init__(self, context):
        self._create_unverified_context = lambda: context


def _by_name(context):
    # The certificate's name leads to no address here; the stock client would send the number.
    class Connection(http.client.HTTPSConnection):
        def __init__(self, host, port, **_):
            super().__init__(NAME, port)

        def connect(self):
            plain = socket.create_connection(("127.0.0.1", self.port), 120)
            self.sock = context.wrap_socket(plain, server_hostname=NAME)

        def __del__(self):
            self.close()

    return Connection


@pytest.mark.parametrize("path", ["/t/{}/fairness/api/summary", "/t/{}/datastore/dataset"])
def test_a_token_has_the_role_of_its_user(nginx, path):
    token = nginx.tokens["anna"]
    assert nginx.send(None, path.format(token)).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/t/" + "0" * 48 + "/info/",
        "/t//info/",
        "/t/short/info/",
        "/t/../t/x/info/",
        "/t/" + "0" * 48 + "/..%2f..%2finfo/",
    ],
)
def test_a_token_that_is_nobodys_opens_nothing(nginx, path):
    assert nginx.send(None, path).status in (400, 401, 404)


def test_a_line_break_behind_a_token_makes_no_header(nginx):
    path = f"/t/{nginx.tokens['anna']}/info/%0d%0aX-Fair-Role:%20admin"
    assert nginx.send(None, path).status in (400, 403, 404)


def test_another_name_than_the_studys_is_not_even_greeted(nginx):
    context = ssl.create_default_context(cafile=str(nginx.folder / "tls.crt"))
    context.check_hostname = False
    for port in (nginx.port, nginx.review):
        with (
            socket.create_connection(("127.0.0.1", port), 30) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="evil.example")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_protocol_that_debian_leaves_on_is_refused(nginx):
    context = ssl.create_default_context(cafile=str(nginx.folder / "tls.crt"))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    for port in (nginx.port, nginx.review):
        for version, refused in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_1, True)):
            context.maximum_version = version
            with (
                socket.create_connection(("127.0.0.1", port), 30) as plain,
                pytest.raises(ssl.SSLError) if refused else nullcontext(),
                context.wrap_socket(plain, server_hostname=NAME) as wrapped,
            ):
                assert wrapped.version() == "TLSv1.2"


def test_a_foreign_page_with_the_browsers_password_is_refused(nginx):
    reply = nginx.send("anna", "/info/", headers={"Origin": "https://evil.example"})
    assert reply.status == 403
    own = nginx.send("anna", "/info/", headers={"Origin": f"https://{NAME}"})
    assert own.status == 200


def test_an_upload_beyond_the_limit_ends_at_the_proxy(nginx):
    body = bytes(5 * 2**20)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    path = "/reader/draft?image=sub-02_T1w"
    assert nginx.send("anna", path, method="PUT", body=body, headers=kind).status == 413
    assert nginx.send("anna", "/info/").status == 200


def test_the_review_pages_socket_passes_with_the_users_name(nginx):
    async def talk():
        pair = f"bert:{nginx.passwords['bert']}".encode()
        headers = {"Authorization": f"Basic {b64encode(pair).decode()}"}
        url = f"https://{NAME}:{nginx.review}/ws"
        connector = aiohttp.TCPConnector(resolver=_Here(), ssl=nginx.context)
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
            session.ws_connect(url) as line,
        ):
            await line.send_str("hello")
            said = (await line.receive(timeout=30)).data
            socket = line.get_extra_info("socket")
        # aiohttp closes TLS in the background; a loop that ends before leaves the socket open.
        async with asyncio.timeout(30):
            while socket.fileno() != -1:
                await asyncio.sleep(0.01)
        return said

    assert asyncio.run(talk()) == "bert: hello"


class _Here(aiohttp.abc.AbstractResolver):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0,
                 "flags": 0}]  # fmt: skip

    async def close(self):
        pass


def test_no_log_of_the_proxy_holds_a_token_a_password_or_the_secret(nginx):
    written = (nginx.folder / "fair-strategy.log").read_text()
    assert " anna " in written
    for word in (*nginx.tokens.values(), *nginx.passwords.values(), nginx.guarded.secret):
        assert word not in written
