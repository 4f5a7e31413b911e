"""The shipped systemd units: they say what the documentation says, and systemd takes them."""

import configparser
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fair_strategy.cli.review import review
from fair_strategy.config import HostSettings

ROOT = Path(__file__).resolve().parents[2]
SERVER, PAGE = "fair-strategy", "fair-review"
PROGRAMS = (".venv/bin/python", ".venv/bin/fair-strategy")


class Unit(configparser.RawConfigParser):
    """A unit file: names keep their case, the last of several lines counts."""

    optionxform = staticmethod(str)


def text_of(name: str) -> str:
    return (ROOT / "deploy" / f"{name}.service").read_text()


def service_of(name: str) -> configparser.SectionProxy:
    parser = Unit(strict=False)
    parser.read_string(text_of(name).replace("\\\n", " "))
    assert set(parser.sections()) == {"Unit", "Service", "Install"}
    return parser["Service"]


@pytest.fixture(params=[SERVER, PAGE])
def name(request) -> str:
    return request.param


def test_the_service_listens_on_loopback_and_reads_the_proxys_secret_from_a_credential(name):
    service = service_of(name)
    command = service["ExecStart"].split()
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert service["ExecStart"].count("${CREDENTIALS_DIRECTORY}/proxy-secret") == 1
    assert service["LoadCredential"].startswith("proxy-secret:")


def test_the_servers_options_exist_and_name_the_secret():
    options = re.findall(r"--conf (\S+) (\S+)", service_of(SERVER)["ExecStart"])
    assert {option for option, _ in options} <= set(HostSettings.model_fields)
    assert dict(options)["proxy_secret_file"] == "${CREDENTIALS_DIRECTORY}/proxy-secret"


def test_the_pages_options_exist_and_lead_from_the_proxy_to_the_server():
    command = service_of(PAGE)["ExecStart"]
    options = dict(re.findall(r"--(\S+) (\S+)", command))
    assert {option.replace("-", "_") for option in options} <= set(
        inspect.signature(review).parameters
    )
    assert options["proxy-secret-file"] == "${CREDENTIALS_DIRECTORY}/proxy-secret"
    listens = f"http://{options['host']}:{options['port']}"
    configuration = (ROOT / "deploy" / "nginx" / "fair-strategy.conf").read_text()
    assert f"proxy_pass {listens};" in configuration
    assert f"server_name {options['public-host']};" in configuration
    served = re.search(r"--host (\S+) --port (\d+)", service_of(SERVER)["ExecStart"])
    assert served is not None
    assert options["server"] == f"http://{served[1]}:{served[2]}"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("NoNewPrivileges", "yes"), ("CapabilityBoundingSet", ""), ("ProtectSystem", "strict"),
     ("ProtectHome", "yes"), ("PrivateTmp", "yes"), ("PrivateDevices", "yes"), ("UMask", "0077"),
     ("StateDirectoryMode", "0700"), ("RestrictSUIDSGID", "yes"), ("IPAddressDeny", "any"),
     ("IPAddressAllow", "localhost"), ("User", "fair"), ("KillSignal", "SIGINT")],
)  # fmt: skip
def test_the_service_may_do_little(name, setting, value):
    assert service_of(name)[setting] == value


def test_the_service_has_a_home_that_it_may_write_to(name):
    service = service_of(name)
    assert f"HOME=/var/lib/{service['StateDirectory']}" in text_of(name)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit(name, tmp_path):
    # The programs of an installation are not there; everything else is checked as shipped.
    text = text_of(name).replace("file:/opt", "https://example.org")
    for program in PROGRAMS:
        text = text.replace(f"/opt/fair-strategy/{program} ", "/bin/true ")
    unit = tmp_path / f"{name}.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if name in line]
    assert not said, done.stderr
