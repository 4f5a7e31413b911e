"""The audit as a script runs it: files that come out, errors that name what is wrong."""

import csv
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from tests import audit_tables as tables

N = 24


def run(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def call(folder, table, task="classification", *more, people=None):
    path = folder / "predictions.csv"
    table.to_csv(path, index=False)
    people = people or tables.participants(folder, tables.groups(N), age=[50 + i for i in range(N)])
    return run(
        path, "--task", task, "--participants", people, "--out", folder / "out",
        "--draws", "40", *([] if "--sensitive-feature" in more else
        ["--sensitive-feature", "group"]), *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def regression_audit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    result = call(folder, tables.quantities(N, seed=1, bias=4.0), "regression", "--json")
    assert result.exit_code == 0, result.output
    return folder / "out", json.loads(result.stdout)


def test_report_tables_figures_and_json_come_out(regression_audit):
    out, answer = regression_audit
    assert answer["report"] == str(out / "report.html")
    found = json.loads((out / "audit.json").read_text())
    assert found["format"] == "fair-strategy audit, version 1"
    assert {f["measure"] for f in found["models"][0]["findings"]} >= {"mean_error"}
    tables_there = {path.stem for path in (out / "tables").iterdir()}
    assert tables_there >= {"groups", "gaps", "curves", "reliability", "cases"}
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"groups-group.png", "groups-group.svg", "selective-group.svg"} <= figures


def test_the_page_needs_nothing_else_and_tells_the_finding(regression_audit):
    out, answer = regression_audit
    page = (out / "report.html").read_text()
    assert "In subgroup B the prediction is too high" in page
    assert "data:image/svg+xml;base64," in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert any("too high" in text for text in answer["findings"]["predictions"])


def test_em_at_tau_100_is_the_plain_metric(regression_audit):
    out, _ = regression_audit
    (model,) = json.loads((out / "audit.json").read_text())["models"]
    rmse = next(m for m in model["measures"] if m["name"] == "rmse")
    for curve in model["curves"]:
        assert curve["levels"][-1] in (100.0, 1.0)
        for name in "AB":
            assert curve["em"][name][-1] == pytest.approx(rmse["subgroups"][name]["value"])
            assert curve["retained"][name][-1] == N // 2
        assert curve["em_overall"][-1] == pytest.approx(rmse["overall"]["value"])
        assert curve["fg"][-1] == pytest.approx(rmse["gap"]["value"])


def test_too_few_retained_cases_have_no_value(regression_audit):
    out, _ = regression_audit
    (model,) = json.loads((out / "audit.json").read_text())["models"]
    seen = 0
    for curve in model["curves"]:
        for name in "AB":
            for value, kept in zip(curve["em"][name], curve["retained"][name], strict=True):
                assert (value is None) == (kept < 5)
                seen += value is None
    assert seen


def test_no_table_tells_the_subgroup_of_a_case(regression_audit):
    out, _ = regression_audit
    for name in ("cases", "flags"):
        path = out / "tables" / f"{name}.csv"
        if path.exists():
            rows = list(csv.DictReader(path.read_text().splitlines()))
            assert not any({"group", "subgroup", "age"} & row.keys() for row in rows)
            assert not any(value in ("A", "B") for row in rows for value in row.values())


def drop(column):
    return lambda table: table.drop(columns=column)


def put(column, value, row=3):
    def change(table):
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("task", "damage", "said"),
    [
        ("classification", drop("reference"), "no column 'reference'"),
        ("classification", drop("p_benign"), "expected a column p_<class> for every class"),
        ("classification", put("reference", "naevus"), "line 5, case c003: reference class"),
        ("classification", put("p_benign", 1.5), "case c003: p_benign, p_malignant must sum"),
        ("classification", put("p_benign", "n/a"), "case c003: column 'p_benign' has no value"),
        ("classification", put("p_benign", "high"), "column 'p_benign' holds 'high'"),
        ("classification", put("case", "c002"), "case c002 stands there twice"),
        ("regression", put("variance", -1.0), "case c003: column 'variance' must be 0 or more"),
        ("regression", put("prediction", "inf"), "column 'prediction' holds 'inf'"),
        ("segmentation", put("dice", 87.0), "case c003: Dice must lie in [0, 1], got 87"),
        ("segmentation", drop("dice"), "no column 'dice'"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_by_line_column_and_case(tmp_path, task, damage, said):
    make = {"classification": tables.classes, "regression": tables.quantities,
            "segmentation": tables.regions}[task]  # fmt: skip
    result = call(tmp_path, damage(make(N, seed=2)), task)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert not (tmp_path / "out").exists()


def test_a_single_subgroup_and_cases_that_nobody_knows_are_refused(tmp_path):
    table = tables.quantities(N, seed=3)
    one = call(tmp_path, table, "regression", people=tables.participants(tmp_path, "A" * N))
    assert one.exit_code == 2
    assert f"all {N} cases are in 'A'" in one.output
    other = call(tmp_path, table.assign(case=[f"x{i}" for i in range(N)]), "regression")
    assert other.exit_code == 2
    assert f"none of the {N} cases is in it" in other.output


def test_regions_with_other_cases_are_refused(tmp_path):
    table = tables.regions(N, seed=4)
    both = pd.concat([table.assign(region="WT"), table[:-1].assign(region="TC")])
    result = call(tmp_path, both, "segmentation")
    assert result.exit_code == 2
    assert "region 'TC' and region 'WT' have different cases, such as c023" in result.output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--sensitive-feature", "height"), "sensitive feature 'height' is no column"),
        (("--age-bins", "0,x"), "--age-bins 0,x: expected numbers"),
        (("--draws", "3"), "draws must be 20 or more"),
        (("--regions", "WT=1"), "it takes no maps and no regions"),
    ],
)
def test_bad_options_are_refused(tmp_path, more, said):
    result = call(tmp_path, tables.quantities(N, seed=5), "regression", *more)
    assert result.exit_code == 2
    assert said in result.output


def test_a_parquet_table_and_a_tsv_tell_the_same(tmp_path):
    from fair_strategy.workflows.audit.settings import AuditSettings
    from fair_strategy.workflows.audit.tables import read_table

    pytest.importorskip("pyarrow")
    table = tables.quantities(N, seed=6)
    table.to_parquet(tmp_path / "p.parquet")
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    one, other = (
        read_table(tmp_path / name, "regression", AuditSettings())
        for name in ("p.parquet", "p.tsv")
    )
    assert one.case_ids == other.case_ids
    assert one.targets[0].risk == pytest.approx(other.targets[0].risk)


def test_two_models_are_put_side_by_side_on_the_same_cases_alone(tmp_path):
    other = tmp_path / "second.csv"
    tables.quantities(N, seed=7, bias=4.0).to_csv(other, index=False)
    result = call(tmp_path, tables.quantities(N, seed=7), "regression", "--against", other)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [model["name"] for model in found["models"]] == ["predictions", "second"]
    changes = {(c["measure"], c["group"]): c for c in found["changes"] if c["part"] == "group"}
    assert changes["mean_error", "A"]["difference"] == pytest.approx(0)
    assert changes["mean_error", "B"]["difference"] == pytest.approx(4)
    assert changes["mean_error", "B"]["named"]
    assert any("subgroup B" in sentence for sentence in found["changes_named"])
    assert (tmp_path / "out" / "tables" / "changes.csv").is_file()
    tables.quantities(N - 1, seed=7).to_csv(other, index=False)
    refused = call(tmp_path, tables.quantities(N, seed=7), "regression", "--against", other)
    assert refused.exit_code == 2
    assert "--against has other cases, such as c023" in refused.output
