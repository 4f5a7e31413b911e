"""Figures and pages of a simulation: what they say, that they need nothing else, and are stable."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.workflows.reporting.figures import apart
from fair_strategy.workflows.simulation.report import write_report
from tests.simulation_tables import made, write

FIGURES = [f"{kind}-imbalanced" for kind in ("gap", "dice", "final", "equity", "composition")]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    tables = made(rounds=2, n_test=10, seeds=4, arms=("weighted_entropy", "entropy", "random"))
    return write(tmp_path_factory.mktemp("simulation"), tables)


@pytest.fixture(scope="module")
def written(out):
    return write_report(out)


class Links(HTMLParser):
    """Everything in a page that a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [v for n, v in attributes if n in ("src", "href", "srcset", "data", "action")]


def test_the_page_needs_no_other_file_and_no_script(written):
    page = written.html.read_text()
    links = Links()
    links.feed(page)
    assert len(links.found) == len(FIGURES)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.found)
    assert not links.tags & {"script", "link", "iframe", "object", "embed", "base"}
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    assert "default-src 'none'" in page


def test_the_page_says_the_main_numbers_before_any_table(written):
    page = written.html.read_text()
    row = written.headline[0]
    assert (row["bias"], row["start"], row["arm"]) == ("strong", "imbalanced", "weighted_entropy")
    text = re.sub(r"<[^>]+>", " ", page[: page.index("<table>")])
    assert f"{row['gap']:.3f} under weighted entropy" in text
    reduction = f"a reduction of {100 * row['gap_reduction']:.0f}\N{NO-BREAK SPACE}%"
    assert reduction in text


def test_the_published_headline_stands_beside_ours(written):
    page = written.markdown.read_text()
    strong, weak = re.findall(r"^\| (?:strong|weak), imbalanced start \| (.*?) \|", page, re.M)[:2]
    assert (strong.replace("\xa0", " "), weak.replace("\xa0", " ")) == ("75 %", "86 %")


def test_the_page_tells_seeds_test_scans_hardware_and_command(written):
    page = written.markdown.read_text()
    for fact in ("Seeds: 4: 0, 1, 2, 3", "10 of A, 10 of B", "cores 2", "fair-strategy simulate"):
        assert fact in page, fact


def test_every_figure_is_there_twice_and_linked_from_the_markdown_page(out, written):
    assert [path.name for path in written.figures] == [
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")
    ]
    links = re.findall(r"\]\((figures/[^)]+)\)", written.markdown.read_text())
    assert [link for link in links if not (out / link).is_file()] == []
    assert len(links) == len(FIGURES)
    for path in written.figures:
        head = path.read_bytes()[:8]
        signature = b"\x89PNG" if path.suffix == ".png" else b"<?xml"
        assert head.startswith(signature), path.name


def test_a_run_that_has_not_ended_is_in_no_curve(out, tmp_path):
    tables = made(rounds=2, n_test=10, seeds=4, arms=("weighted_entropy", "entropy", "random"))
    started = {
        name: table[~((table.arm == "weighted_entropy") & (table.seed == 3) & (table["round"] > 0))]
        if "round" in table
        else table
        for name, table in tables.items()
    }
    without = {
        name: table[~((table.arm == "weighted_entropy") & (table.seed == 3))]
        for name, table in tables.items()
    }
    drawn = [
        (write(tmp_path / str(n), t), write_report(tmp_path / str(n)))[1].figures
        for n, t in enumerate((started, without))
    ]
    for one, other in zip(*drawn, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_where_several_arms_have_the_main_strategy_the_plainest_is_read(tmp_path):
    tables = made(rounds=2, n_test=10, seeds=2, arms=("weighted_entropy", "entropy"))
    for name, table in tables.items():
        if "arm" in table:
            main = table[table.arm == "weighted_entropy"]
            named = [main.assign(arm=arm) for arm in ("a_variant_of_weighted", "weighted_brain")]
            tables[name] = pd.concat([table.drop(main.index), *named], ignore_index=True)
    found = write_report(write(tmp_path, tables))
    assert {row["arm"] for row in found.headline} == {"weighted_brain"}


def test_three_subgroups_are_told_and_what_comes_from_tables_is_text_and_not_markup(tmp_path):
    tables = made(biases=("strong",), rounds=1, n_test=4, seeds=2, arms=("entropy", "random"))
    name = "<script>x</script>|"
    for part in ("rounds", "cases"):
        third = tables[part][tables[part].subgroup == "B"].assign(subgroup=name)
        if part == "cases":
            third["case_id"] = third.case_id + "c"
        tables[part] = pd.concat([tables[part], third], ignore_index=True)
    written = write_report(write(tmp_path, tables))
    assert "<script" not in written.html.read_text()
    assert "&lt;script&gt;x&lt;/script&gt;|" in written.html.read_text()
    rows = [line for line in written.markdown.read_text().splitlines() if line.startswith("|")]
    told = [row for row in rows if "script" in row]
    assert len(told) == 3  # entropy, random, whole pool
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in told} == {11}  # ten columns


def test_a_first_look_while_the_first_arm_is_running_says_what_is_missing(tmp_path):
    tables = made(
        biases=("strong",), arms=("entropy",), rounds=1, n_test=4, seeds=1, whole_pool=False
    )
    tables["scores"] = tables["scores"].iloc[:0]
    written = write_report(write(tmp_path, tables, run=None))
    text = written.html.read_text()
    for missing in ("weighted_entropy", "no floor", "one seed only", "run.json is missing"):
        assert missing in text, missing
    assert written.headline == ()


def test_labels_are_moved_apart_as_little_as_needed():
    assert apart([0.1, 0.5], least=0.1, low=0, high=1) == pytest.approx([0.1, 0.5])
    assert apart([0.5, 0.5], least=0.2, low=0, high=1) == pytest.approx([0.4, 0.6])
    assert apart([0.02, 0.0, 0.9], least=0.1, low=0, high=1) == pytest.approx([0.1, 0.0, 0.9])
    places = apart([0.3, 0.31, 0.32, 0.33], least=0.1, low=0, high=1)
    assert places == sorted(places)
    assert min(b - a for a, b in pairwise(places)) >= 0.1 - 1e-12


# -------------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(app, ["report", *(str(a) for a in arguments)])


def test_the_command_writes_the_same_bytes_again_where_it_is_told(out, written, tmp_path):
    html, page = tmp_path / "a.html", tmp_path / "fair-active-learning.md"
    kept = {path: path.read_bytes() for path in (*written.figures, *written.tables)}
    result = run(out, "--html", html, "--markdown", page, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["html"], answer["markdown"]) == (str(html), str(page))
    assert {row["bias"] for row in answer["headline"]} == {"strong", "weak"}
    assert [path.name for path, before in kept.items() if path.read_bytes() != before] == []
    assert html.read_bytes() == written.html.read_bytes()
    links = re.findall(r"\]\((fair-active-learning/[^)]+\.svg)\)", page.read_text())
    assert len(links) == len(FIGURES)
    assert all((tmp_path / link).is_file() for link in links)


def test_a_folder_without_tables_and_an_unknown_arm_are_sentences_with_exit_code_2(out, tmp_path):
    nothing = run(tmp_path)
    assert nothing.exit_code == 2
    assert "expected the table that `fair-strategy simulate` writes" in nothing.stderr
    unknown = run(out, "--arm", "best")
    assert unknown.exit_code == 2
    assert "expected one of weighted_entropy" in unknown.stderr
