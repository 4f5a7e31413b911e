"""A real server behind a secret, the shipped nginx configuration before it, three users."""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.app import cohorts, serving
from tests.app.conftest import study  # noqa: F401
from tests.app.serving import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
NAME = "reading.example.org"
ROLES = {"anna": "reader", "bert": "reader", "clara": "lead", "dora": "admin"}
USERS = {**ROLES, "otto": ""}  # knows a password, has no role
MARKERS = (b"ZQSENSITIVE", b"73.0625")
"""Stand in every sensitive cell of participants.tsv; too long for a packed file by chance."""
OF_DEBIAN = """  ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
  ssl_ciphers DEFAULT:@SECLEVEL=0;
"""
"""What its own nginx.conf opens; and what OpenSSL's default level would close all the same."""


@dataclass
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self):
        return json.loads(self.body)


def send(url, *, method="GET", body=None, headers=None, context=None):
    """One request; a refusal is a reply like every other one."""
    asked = urllib.request.Request(url, method=method, data=body, headers=headers or {})
    handlers = [urllib.request.ProxyHandler({})]
    handlers += [urllib.request.HTTPSHandler(context=context)] if context else []
    try:
        with urllib.request.build_opener(*handlers).open(asked, timeout=120) as found:
            return Reply(found.status, found.read(), dict(found.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read(), dict(error.headers))


@dataclass
class Guarded:
    """The server, and the secret that opens it."""

    running: serving.Server
    secret: str

    def send(self, user, method, path, *, body=None, headers=None):
        """As the proxy sends it for a user; None is somebody who found the port."""
        named = {} if user is None else {
            "X-Fair-Proxy-Secret": self.secret, "X-Fair-User": user, "X-Fair-Role": USERS[user],
        }  # fmt: skip
        url = self.running.url + path
        return send(url, method=method, body=body, headers={**(headers or {}), **named})


def write_participants(studies: Path) -> None:
    """The cohort's table, every sensitive cell marked."""
    rows = ["participant_id\tgroup\tsex\tage\tethnicity"]
    for number, folder in enumerate(sorted(studies.glob("sub-*"))):
        cells = (
            f"ZQSENSITIVEGROUP{number % 2}",
            f"ZQSENSITIVESEX{number % 2}",
            "73.0625",
            "ZQSENSITIVEETHNIC",
        )
        rows.append("\t".join((folder.name, *cells)))
    (studies / "participants.tsv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("guarded")
    write_participants(cohorts.write_cohort(root / "studies", per_group=4))
    serving.application(root)
    secret = secrets.token_hex(32)
    file = root / "proxy-secret"
    file.touch(mode=0o600)
    file.write_text(secret + "\n")
    port = free_port()
    conf = ("--conf", "proxy_secret_file", str(file), "--conf", "validation_per_group", "0")
    conf += ("--conf", "max_upload_mb", "4")
    process = serving.launch(root, *conf, port=port)
    found = Guarded(serving.Server(process, f"http://127.0.0.1:{port}", root), secret)

    def up():
        assert process.poll() is None, found.running.log[-3000:]
        return found.send("anna", "GET", "/info/").status == 200

    def scored():
        stats = found.send("anna", "GET", "/datastore/").json()
        return stats["label_tags"].get("original") == stats["total"]

    try:
        wait_for(up, what="server start")
        wait_for(scored, what="scoring")
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


# ------------------------------------------------------------------ nginx


class Nginx:
    """nginx in the foreground, in a temporary folder, on high ports of loopback."""

    def __init__(self, folder: Path, guarded: Guarded, review_port: int) -> None:
        self.folder, self.guarded = folder, guarded
        self.port, self.review = free_port(), free_port()
        self.tokens = {name: secrets.token_hex(24) for name in USERS}
        self.passwords = {name: secrets.token_hex(8) for name in USERS}
        self._write_secrets()
        self._write_configuration(review_port)
        self.context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        self.context.check_hostname = False  # it is addressed by its number
        command = [str(shutil.which("nginx", path=_path())), "-p", str(folder), "-c", "nginx.conf"]
        self.process = subprocess.Popen([*command, "-g", "daemon off;"])

    def _write_secrets(self) -> None:
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        make += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
        make += ["-keyout", "tls.key", "-out", "tls.crt"]
        subprocess.run(make, cwd=self.folder, check=True, capture_output=True)
        lines = []
        for name, password in self.passwords.items():
            hashed = subprocess.run(
                ["openssl", "passwd", "-6", "-stdin"],
                input=password, capture_output=True, text=True, check=True,
            )  # fmt: skip
            lines.append(f"{name}:{hashed.stdout.strip()}\n")
        header = f'proxy_set_header X-Fair-Proxy-Secret "{self.guarded.secret}";\n'
        given = {"passwords": "".join(lines), "proxy-secret.conf": header}
        given["tokens.map"] = "".join(f"{t} {name};\n" for name, t in self.tokens.items())
        given["roles.map"] = "".join(f"{name} {role};\n" for name, role in ROLES.items())
        for name, text in given.items():
            (self.folder / name).write_text(text)

    def _write_configuration(self, review_port: int) -> None:
        text = (ROOT / "deploy" / "nginx" / "fair-strategy.conf").read_text()
        for shipped, here in {
            "/etc/fair-strategy": str(self.folder),
            "/var/log/nginx": str(self.folder),
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen 8443 ": f"listen 127.0.0.1:{self.review} ",
            "client_max_body_size 2048m": "client_max_body_size 4m",
            "http://127.0.0.1:8000": self.guarded.running.url,
            "http://127.0.0.1:8010": f"http://127.0.0.1:{review_port}",
        }.items():
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        (self.folder / "fair-strategy.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"  {kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        top = f"user {_user()};\n" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"{top}pid nginx.pid;\nworker_processes 1;\nerror_log error.log;\n"
            f"events {{}}\nhttp {{\n{temporary}{OF_DEBIAN}  include fair-strategy.conf;\n}}\n"
        )

    def send(self, user, path, *, port=None, method="GET", body=None, headers=None):
        """A request with a user's password; without one for None."""
        given = {"Host": NAME, **(headers or {})}
        if user is not None:
            pair = f"{user}:{self.passwords[user]}".encode()
            given["Authorization"] = f"Basic {b64encode(pair).decode()}"
        url = f"https://127.0.0.1:{port or self.port}{path}"
        return self.raw(url, method=method, body=body, headers=given)

    def raw(self, url, **how):
        # The name goes into the handshake too, which is refused for any other one.
        return send_named(url, context=self.context, **how)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0


def send_named(url, *, context, method="GET", body=None, headers=None):
    """`send`, by the public name in TLS, to the port of this machine."""
    at = urlsplit(url)

    class Named(HTTPSConnection):
        def connect(self):
            plain = socket.create_connection((at.hostname, at.port), 60)
            self.sock = context.wrap_socket(plain, server_hostname=NAME)

    line = Named(NAME, at.port, timeout=120)
    try:
        line.request(method, url[url.index("/", 8) :], body=body, headers=headers or {})
        found = line.getresponse()
        return Reply(found.status, found.read(), dict(found.getheaders()))
    finally:
        line.close()


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin"])


def _user() -> str:
    # Workers read the password file; in a test everything belongs to whoever runs it.
    return pwd.getpwuid(os.geteuid()).pw_name


def nginx_missing() -> str | None:
    """Why nginx cannot be tested here; None if it can."""
    missing = [name for name in ("nginx", "openssl") if shutil.which(name, path=_path()) is None]
    return f"{' and '.join(missing)}: not installed (Debian: nginx-light)" if missing else None
