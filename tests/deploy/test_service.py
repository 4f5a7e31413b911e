"""The shipped systemd unit: it says what the documentation says, and systemd takes it."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fair_strategy.config import HostSettings

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "fair-strategy.service"


class Unit(configparser.RawConfigParser):
    """A unit file: names keep their case, the last of several lines counts."""

    optionxform = staticmethod(str)


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    parser = Unit(strict=False)
    parser.read_string(UNIT.read_text().replace("\\\n", " "))
    assert set(parser.sections()) == {"Unit", "Service", "Install"}
    return parser["Service"]


def test_the_service_listens_on_loopback_behind_the_proxys_secret(service):
    command = service["ExecStart"].split()
    assert command[command.index("--host") + 1] == "127.0.0.1"
    options = re.findall(r"--conf (\S+) (\S+)", " ".join(command))
    assert {name for name, _ in options} <= set(HostSettings.model_fields)
    assert dict(options)["proxy_secret_file"] == "${CREDENTIALS_DIRECTORY}/proxy-secret"
    assert service["LoadCredential"].startswith("proxy-secret:")


@pytest.mark.parametrize(
    ("name", "value"),
    [("NoNewPrivileges", "yes"), ("CapabilityBoundingSet", ""), ("ProtectSystem", "strict"),
     ("ProtectHome", "yes"), ("PrivateTmp", "yes"), ("PrivateDevices", "yes"), ("UMask", "0077"),
     ("StateDirectoryMode", "0700"), ("RestrictSUIDSGID", "yes"), ("IPAddressDeny", "any"),
     ("User", "fair"), ("KillSignal", "SIGINT")],
)  # fmt: skip
def test_the_service_may_do_little(service, name, value):
    assert service[name] == value


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit(tmp_path):
    # The programs of an installation are not there; everything else is checked as shipped.
    text = UNIT.read_text().replace("/opt/fair-strategy/.venv/bin/python", "/bin/true")
    text = text.replace("file:/opt", "https://example.org")
    unit = tmp_path / "fair-strategy.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if "fair-strategy" in line]
    assert not said, done.stderr
