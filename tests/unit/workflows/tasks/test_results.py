"""Objectives side by side: the tables say what the audits say, pairs are of the same cases."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from fair_strategy.data.cohort import CohortError
from fair_strategy.workflows.tasks.results import paired_changes, read_runs
from fair_strategy.workflows.tasks.results_page import BEGIN, END, write_page
from fair_strategy.workflows.tasks.results_tables import gaps_table, paper_table, training_table
from fair_strategy.workflows.tasks.run import run_task
from fair_strategy.workflows.tasks.settings import BratsSettings, IsicSettings

COMMON = {"ensemble": {"networks": 1, "passes": 2}, "audit": {"draws": 20, "minimum": 2}}
SETTINGS = {
    "isic": IsicSettings(
        image_size=32,
        network={"channels": (4, 4, 4, 4), "blocks": (1, 1, 1, 1)},
        split={"validation": 0.1, "test": 0.5},
        training={"epochs": 1, "batch_size": 16},
        **COMMON,
    ),
    "brats": BratsSettings(
        patch=(16, 16, 16),
        overlap=0,
        network={"channels": (4, 8), "strides": (2,), "residual_units": 0},
        split={"validation": 1, "test": 2},
        training={"epochs": 1, "batch_size": 4},
        **COMMON,
    ),
}


@pytest.fixture(scope="module")
def folders(lookalikes, tmp_path_factory):
    """Finished runs of two tasks, by ERM and by GroupDRO."""
    root = tmp_path_factory.mktemp("runs")
    for task, settings in SETTINGS.items():
        for objective in ("group_dro", "erm"):
            run_task(settings, lookalikes[task], objective, root / f"{task}-{objective}")
    return sorted(root.iterdir())


def audit_of(folder):
    return json.loads((folder / "audit" / "audit.json").read_text())


def test_the_papers_table_holds_group_0_group_1_and_fg_of_every_objective(folders):
    runs = read_runs(folders)
    assert list(runs) == ["isic", "brats"]
    assert [run.objective for run in runs["isic"]] == ["erm", "group_dro"]
    table = paper_table(runs["brats"])
    assert table.header[1:4] == ("Dice WT", "Dice TC", "Dice ET")
    assert table.header[4] == "QU-BraTS score WT"
    for row, run in zip(table.rows, runs["brats"], strict=True):
        measures = audit_of(run.folder)["models"][0]["measures"]
        dice = next(m for m in measures if (m["name"], m["target"]) == ("dice", "TC"))
        groups = ("above 7000 mm3", "up to 7000 mm3")
        wanted = [dice["subgroups"][group]["value"] for group in groups] + [dice["gap"]["value"]]
        assert [float(x) for x in row[2].rstrip("*").split(" / ")] == pytest.approx(
            [100 * value for value in wanted], abs=0.051
        )


def test_only_gaps_that_passed_their_test_have_a_star(folders):
    (run, _) = read_runs(folders)["isic"]
    accuracy = run.measure("accuracy", "")
    for p, star in ((0.04, True), (0.06, False), (None, False)):
        accuracy["gap"]["p_holm"] = p
        assert paper_table([run]).rows[0][2].endswith("*") is star
        assert gaps_table([run]).rows[1][4] == ("not tested" if p is None else f"{p:g}")


def test_paired_differences_are_those_of_the_two_audits(folders):
    first, second = read_runs(folders)["isic"]
    [changes] = paired_changes((first, second)).values()
    assert {change.feature for change in changes} == {"age_group"}
    for change in changes:
        if (change.measure.name, change.part) == ("accuracy", "group"):
            values = [
                run.measure("accuracy", "")["subgroups"][change.group]["value"]
                for run in (first, second)
            ]
            assert change.difference == pytest.approx(values[1] - values[0])
            break
    else:
        pytest.fail("no difference in accuracy")


def test_what_was_trained_is_told_with_q_of_group_dro_alone(folders):
    rows = training_table(read_runs(folders)).rows
    assert [row[1] for row in rows] == ["Baseline (erm)", "GroupDRO"] * 2
    assert [re.fullmatch(r"0\.\d\d to 0\.\d\d", row[4]) is not None for row in rows] == [
        False, True, False, True
    ]  # fmt: skip


def test_the_page_keeps_what_stands_around_its_marks_and_links_to_what_is_there(folders, tmp_path):
    page = tmp_path / "results" / "objectives.md"
    page.parent.mkdir()
    page.write_text(f"# By hand\n\n{BEGIN}\nstale\n{END}\n\nBelow.\n")
    written = write_page(folders, page)
    text = page.read_text()
    assert text.startswith(f"# By hand\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nBelow.\n")
    assert "stale" not in text
    linked = re.findall(r"\]\((\S+\.svg)\)", text)
    assert {page.parent / name for name in linked} == {p for p in written if p.suffix == ".svg"}
    assert {p.stem for p in written if p.suffix == ".png"} == {
        "isic", "brats-wt", "brats-tc", "brats-et"
    }  # fmt: skip
    with (page.parent / "objectives" / "groups.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["task"], row["objective"]) for row in rows} == {
        (task, objective) for task in SETTINGS for objective in ("erm", "group_dro")
    }
    again = text
    write_page(folders, page)
    assert page.read_text() == again


def test_a_page_without_the_marks_and_folders_of_other_things_are_refused(folders, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# By hand\n")
    with pytest.raises(CohortError, match="expected the lines"):
        write_page(folders, page)
    assert page.read_text() == "# By hand\n"
    with pytest.raises(CohortError, match=r"expected run.json and audit/audit.json"):
        read_runs([tmp_path])


def test_runs_that_are_not_of_the_same_cases_or_objective_are_refused(folders, tmp_path):
    erm, dro = (f for f in folders if f.name.startswith("isic"))
    copy = shutil.copytree(erm, tmp_path / "copy")
    with pytest.raises(CohortError, match="are both isic by erm"):
        read_runs([erm, copy])
    other = shutil.copytree(dro, tmp_path / "other")
    lines = (other / "splits.csv").read_text().splitlines()
    (other / "splits.csv").write_text("\n".join(np.roll(lines, 1)))
    with pytest.raises(CohortError, match="other settings or other cases"):
        read_runs([erm, other])
