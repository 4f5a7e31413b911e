"""The package imports what it should, no more, and runs where torchvision does not load."""

import configparser
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fair_strategy

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "monai", "monailabel")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def our_modules() -> list[str]:
    found = pkgutil.walk_packages(fair_strategy.__path__, "fair_strategy.", onerror=lambda _: None)
    return sorted(m.name for m in found)


def loaded_after(statement: str, names: tuple[str, ...]) -> set[str]:
    done = run(f"import sys\n{statement}\nprint(*[n for n in {names!r} if n in sys.modules])")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    pairs = (re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*(.*)", line) for line in lines if line)
    return {m[1].lower().replace("_", "-"): m[2] for m in pairs if m}


@pytest.mark.parametrize("name", HEAVY)
def test_importing_the_package_loads_no_framework(name: str) -> None:
    assert name not in loaded_after("import fair_strategy", HEAVY)


@pytest.mark.parametrize("package", ["metrics", "acquisition", "data", "store"])
def test_importing_a_low_layer_loads_no_framework(package: str) -> None:
    modules = [m for m in our_modules() if m.startswith(f"fair_strategy.{package}")]
    assert modules, f"fair_strategy.{package} has no modules"
    statement = "\n".join(f"import {module}" for module in modules)
    assert loaded_after(statement, (*HEAVY, "pandas")) == set()


def test_the_check_would_see_a_framework() -> None:
    assert loaded_after("import torch", HEAVY) == {"torch"}


def test_every_dependency_has_a_tested_version() -> None:
    parser = setup_cfg()
    wanted = requirements(parser["options"]["install_requires"])
    for extra in parser["options.extras_require"]:
        wanted |= requirements(parser["options.extras_require"][extra])
    tested = requirements((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert set(wanted) - set(tested) == set()


def test_tested_versions_lie_within_the_caps() -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    parser = setup_cfg()
    tested = requirements((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    outside = {
        name: tested[name]
        for name, caps in requirements(parser["options"]["install_requires"]).items()
        if tested[name].removeprefix("==") not in specifiers.SpecifierSet(caps)
    }
    assert outside == {}


def test_constraints_hold_exact_public_versions() -> None:
    tested = requirements((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert {n: v for n, v in tested.items() if not re.fullmatch(r"==[\w.]+", v)} == {}


def test_every_folder_of_tests_is_run():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = set(settings["tool"]["pytest"]["ini_options"]["testpaths"])
    there = {path.parent.relative_to(ROOT).parts[:2] for path in ROOT.glob("tests/*/**/test_*.py")}
    assert {"/".join(parts) for parts in there} == named
