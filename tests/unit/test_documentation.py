"""What the code and the README point to exists."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fair_strategy.config import HostSettings, StudySettings

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("fair_strategy", "apps", "scripts", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
REFERENCE = re.compile(r"docs/[\w/.-]+\.md(?:#[\w-]+)?")
MAIN = 'if __name__ == "__main__":'
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)(?:#[\w-]+)?\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", h).strip().lower().replace(" ", "-") for h in headings}


def references(path: Path) -> set[str]:
    return set(REFERENCE.findall(path.read_text(encoding="utf-8")))


def test_docstrings_cite_the_method() -> None:
    cited = set().union(*(references(path) for path in SOURCES))
    assert "docs/method.md#entropy-of-a-case" in cited


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_page_and_heading_that_a_module_cites_exists(path: Path) -> None:
    for reference in references(path):
        name, _, anchor = reference.partition("#")
        page = ROOT / name
        assert page.is_file(), f"{reference}: no such page"
        assert not anchor or anchor in anchors(page), f"{reference}: no such heading"


def test_make_bench_runs_every_benchmark_that_is_a_command() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    listed = re.findall(r"^BENCHMARKS := (.+)$", makefile, flags=re.MULTILINE)[0].split()
    commands = [p.stem for p in SOURCES if p.parent.name == "benchmarks" and MAIN in p.read_text()]
    assert sorted(listed) == sorted(commands)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_file_that_a_front_page_links_to_exists(name: str) -> None:
    links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_setting_that_the_how_to_pages_use_exists() -> None:
    from fair_strategy.config import HostSettings, StudySettings

    known = {*StudySettings.model_fields, *HostSettings.model_fields}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    used = set()
    for page in pages:
        for pairs in re.findall(r'CONF="([^"]+)"', page.read_text(encoding="utf-8")):
            used |= set(pairs.split()[::2])
    assert used >= {"sensitive_feature", "rule"}
    assert used - known - {"name", "value", "NAME"} == set()


def test_the_page_of_settings_tells_each_as_it_is() -> None:
    spec = spec_from_file_location("page", ROOT / "scripts" / "make_settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / script.PAGE).read_text(encoding="utf-8")
    told = page.partition(script.START)[2].partition(script.END)[0].strip()
    assert told == script.tables(), "run python scripts/make_settings_page.py"
    assert told.count("\n| `") == len(StudySettings.model_fields) + len(HostSettings.model_fields)
