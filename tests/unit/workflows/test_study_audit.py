"""The audit that a round of training leaves for the lead."""

import json
import stat

import pytest

from fair_strategy.data.volumes import read_image, read_mask
from fair_strategy.host.worker import train
from fair_strategy.learning.inference import predict
from fair_strategy.metrics.overlap import dice
from fair_strategy.store import cases, scores
from fair_strategy.workflows import models, study_audit
from fair_strategy.workflows.desk import pending_work
from fair_strategy.workflows.performance import study_performance
from fair_strategy.workflows.study_audit import audit_current_model, latest_audit

ENOUGH = {"validation_per_group": 10}


@pytest.fixture
def study(make_study):
    """Forty labelled blobs, of which five of each subgroup are in the audit half."""
    return make_study("AB" * 20, labelled=40, **ENOUGH)


def audit_half(study):
    splits = cases.splits(study.store)
    records = [c for c in cases.cases(study.store) if splits.get(c.subject_id) == "audit"]
    return {c.case_id: c for c in records}


def test_it_holds_the_current_models_dice_on_the_labelled_scans_of_the_audit_half(study):
    told = audit_current_model(study)
    assert (told.sentence, told.cases, told.left_out) == ("", 10, ())
    found = json.loads((told.folder / "audit.json").read_text())
    [feature] = found["features"]
    assert {n: s["persons"] for n, s in feature["subgroups"].items()} == {"A": 5, "B": 5}
    rows = (told.folder / "tables" / "cases.csv").read_text().splitlines()
    header, *rows = [row.split(",") for row in rows]
    model = models.current_model(study)
    half = audit_half(study)
    assert {row[header.index("case")] for row in rows} == set(half)
    for row in rows:
        case_id = row[header.index("case")]
        predicted = predict(model, read_image(half[case_id].path)).whole_mask()
        drawn = read_mask(cases.label(study.store, case_id).path).array != 0
        assert float(row[header.index("dice")]) == pytest.approx(dice(predicted, drawn), abs=1e-6)
    assert (told.folder / "report.html").is_file()
    assert {p.name for p in told.folder.iterdir()} == {
        "report.html", "audit.json", "tables", "figures", "summary.json"
    }  # fmt: skip


def test_it_is_the_owners_alone_and_the_newest_is_found(study):
    assert latest_audit(study) is None
    first = audit_current_model(study)
    assert latest_audit(study) == first
    for folder in (first.folder, first.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    train(study, steps=1)
    second = latest_audit(study)
    assert second.model == scores.current_model(study.store).checksum != first.model
    assert first.folder.is_dir()
    assert {p.name for p in first.folder.parent.iterdir()} == {first.model, second.model}


def test_an_audit_changes_neither_scores_nor_comparisons_nor_the_model(study):
    def state():
        store = study.store.read()
        tables = ("scores", "comparisons", "models", "plans")
        rows = {
            name: store.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables
        }
        performance = {g: (p.n, p.mean) for g, p in study_performance(study).items() if p.n}
        return rows, performance, scores.current_model(study.store), pending_work(study)

    before = state()
    assert audit_current_model(study).sentence == ""
    assert state() == before


def test_a_round_audits_its_model_and_tells_its_caller_no_figure_of_a_subgroup(study):
    answer = train(study, steps=1)
    assert set(answer) <= {"best_metric", "training_cases"}
    told = latest_audit(study)
    assert told.model == scores.current_model(study.store).checksum
    assert told.cases == 10


def test_too_few_labels_leave_a_sentence_in_its_place_and_the_round_goes_on(make_study):
    study = make_study("AB" * 4, labelled=8, validation_per_group=2)
    train(study, steps=1)
    told = latest_audit(study)
    assert told.model == scores.current_model(study.store).checksum
    assert told.cases == 2
    assert "5 labelled persons or more" in told.sentence
    assert "validation_per_group at 10 or more" in told.sentence
    assert [p.name for p in told.folder.iterdir()] == ["summary.json"]


def test_one_subgroup_that_is_too_small_leaves_the_sentence_too(make_study):
    study = make_study("A" * 24 + "BBBB", labelled=28, validation_per_group=20)
    told = audit_current_model(study)
    assert told.cases > 5
    assert "there are not two of them" in told.sentence
    assert [p.name for p in told.folder.iterdir()] == ["summary.json"]


def test_without_a_table_of_participants_the_sentence_says_so(study):
    (study.images_dir / "participants.tsv").unlink()
    assert "no sensitive feature is in use" in audit_current_model(study).sentence


def test_a_scan_that_cannot_be_read_is_left_out_and_told(make_study):
    study = make_study("AB" * 24, labelled=48, validation_per_group=12)
    damaged = min(audit_half(study))
    path = audit_half(study)[damaged].path
    path.write_bytes(path.read_bytes()[:400])  # the header can be read, the voxels cannot
    told = audit_current_model(study)
    assert (told.sentence, told.cases) == ("", 12)
    [sentence] = told.left_out
    assert damaged in sentence
    assert json.loads((told.folder / "audit.json").read_text())["cases"] == 11


def test_what_a_killed_audit_left_is_swept_and_a_repeated_one_replaces_the_first(study):
    first = audit_current_model(study)
    left = first.folder.with_name(".making-killed")
    (left / "maps").mkdir(parents=True)
    again = audit_current_model(study)
    assert not left.exists()
    assert again.folder == first.folder
    assert again.findings == first.findings
    assert again.made_at > first.made_at


def test_a_folder_that_cannot_be_written_does_not_fail_the_round(study, caplog):
    (study.state_dir / study_audit.FOLDER).write_text("a file in its place")
    before = scores.current_model(study.store).checksum
    train(study, steps=1)
    assert scores.current_model(study.store).checksum != before
    assert "the model was not audited" in caplog.text
