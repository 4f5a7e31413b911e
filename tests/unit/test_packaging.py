"""The package imports what it should, no more, and runs where torchvision does not load."""

import configparser
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import fair_strategy

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "monai", "monailabel")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def our_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the sources: a build leaves its traces beside them."""
    work = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fair_strategy", work / "from" / "fair_strategy", ignore=skip)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "from" / name)
    options = ("--no-index", "--no-deps", "--no-build-isolation")
    pip("wheel", *options, "--wheel-dir", str(work / "wheels"), str(work / "from"))
    (wheel,) = (work / "wheels").iterdir()
    return wheel


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


def test_a_wheel_holds_every_file_of_the_package(our_wheel: Path) -> None:
    package = ROOT / "fair_strategy"
    there = {p.relative_to(ROOT).as_posix() for p in package.rglob("*") if p.is_file()}
    held = {name for name in zipfile.ZipFile(our_wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name in there if "__pycache__" not in name}


def test_a_wheel_installs_and_starts_without_the_sources(our_wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    wheels = str(our_wheel.parent)
    options = ("--no-index", "--no-deps", "--find-links", wheels, "--target", str(target))
    pip("install", *options, "fair-strategy")
    done = subprocess.run(
        [sys.executable, str(target / "bin" / "fair-strategy"), "rank", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "rank" in done.stdout) == (0, True), done.stderr
    where = "import fair_strategy; print(fair_strategy.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(target)


def test_every_folder_of_tests_is_run():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = set(settings["tool"]["pytest"]["ini_options"]["testpaths"])
    there = {path.parent.relative_to(ROOT).parts[:2] for path in ROOT.glob("tests/*/**/test_*.py")}
    assert {"/".join(parts) for parts in there} == named
