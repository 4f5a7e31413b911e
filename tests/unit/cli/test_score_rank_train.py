"""The offline commands, run as a script runs them."""

import json

import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.workflows.tables import COLUMNS, read_scores
from tests.helpers import write_cohort, write_model


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture
def images(tmp_path):
    return write_cohort(tmp_path / "images", "AAB", labelled=3)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def score(images, model_file, out, *more):
    return run("score", "--images", images, "--model", model_file, "--out", out, *more)


def test_a_folder_becomes_a_table_with_every_variant(images, model_file, tmp_path):
    out = tmp_path / "scores.tsv"
    result = score(images, model_file, out, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["scored"], answer["kept"], answer["unreadable"]) == (3, 0, {})
    rows = read_scores(out)
    assert [row["subgroup"] for row in rows] == ["A", "A", "B"]
    assert {row["model"] for row in rows} == {answer["model"]}
    for row in rows:
        assert 0 < float(row["masked_mean"]) <= 0.6932
        assert float(row["entropy"]) <= float(row["masked_mean"])


def test_a_second_run_keeps_what_is_known_and_other_settings_score_anew(
    images, model_file, tmp_path
):
    out = tmp_path / "scores.tsv"
    score(images, model_file, out)
    lines = out.read_text().splitlines()
    out.write_text("\n".join(lines[:2]) + "\n" + lines[2][:40])  # killed in the third line
    again = json.loads(score(images, model_file, out, "--json").stdout)
    assert (again["scored"], again["kept"]) == (2, 1)
    assert sorted(out.read_text().splitlines()) == sorted(lines)
    other = score(images, model_file, out, "--json", "-o", "margin_mm=2")
    assert json.loads(other.stdout)["scored"] == 3


def test_an_unreadable_volume_is_listed_and_the_exit_code_says_so(images, model_file, tmp_path):
    broken = images / "sub-02/anat/sub-02_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:300])
    out = tmp_path / "scores.tsv"
    result = score(images, model_file, out, "--json")
    assert result.exit_code == 1
    assert list(json.loads(result.stdout)["unreadable"]) == ["sub-02_T1w"]
    assert len(read_scores(out)) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sensitive-feature", "ethnicity"], "ethnicity"),
        (["-o", "margin=2"], "unknown option 'margin'"),
        (["-o", "margin_mm"], "NAME=VALUE"),
        (["--age-bins", "young"], "age_bins"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    images, model_file, tmp_path, arguments, sentence
):
    result = score(images, model_file, tmp_path / "out.tsv", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")


def test_a_file_that_is_no_model_is_named(images, tmp_path):
    wrong = tmp_path / "model.pt"
    wrong.write_text("not a model")
    result = score(images, wrong, tmp_path / "out.tsv")
    assert result.exit_code == 2
    assert "model.pt" in result.stderr.replace("\n", "")


def scores_file(folder):
    """Two A of entropy .6 and .5, two B of .4 and .1."""
    values = {"a1": ("A", 0.6), "a2": ("A", 0.5), "b1": ("B", 0.4), "b2": ("B", 0.1)}
    rows = []
    for case_id, (subgroup, entropy) in values.items():
        row = dict.fromkeys(COLUMNS, "n/a")
        row |= {"case_id": case_id, "subgroup": subgroup, "masked_mean": str(entropy)}
        rows.append("\t".join(row[c] for c in COLUMNS))
    path = folder / "scores.tsv"
    path.write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")
    return path


def test_ranking_multiplies_weight_and_entropy(tmp_path):
    performance = tmp_path / "performance.json"
    performance.write_text('{"A": 0.9, "B": 0.7}')
    result = run(
        *("rank", "--scores", scores_file(tmp_path), "--performance", performance, "--json"),
        *("-o", "quota_batch=0", "-o", "audit_every=0"),
    )
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    # 1 - D: .1 and .3; mean .2, so the weights are .5 and 1.5
    assert answer["weights"] == pytest.approx({"A": 0.5, "B": 1.5})
    assert [row["case_id"] for row in answer["order"]] == ["b1", "a1", "a2", "b2"]
    assert answer["order"][0]["utility"] == pytest.approx(0.6)


def test_performance_is_read_from_a_table_too_and_text_shows_the_order(tmp_path):
    performance = tmp_path / "performance.tsv"
    performance.write_text("subgroup\tmean\tn\nA\t0.8\t5\nB\tn/a\t0\n")
    result = run(
        *("rank", "--scores", scores_file(tmp_path), "--performance", performance),
        *("--rule", "softmax"),
    )
    assert result.exit_code == 0, result.output
    assert "weights: A 1, B 1" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--scores"),
        (["--replay", "1"], "--studies"),
        (["--scores", "{table}", "--performance", "{table}"], "subgroup and mean"),
        (["--scores", "{good}", "--performance", "{good}"], "expected a table of scores"),
    ],
)
def test_ranking_without_what_it_needs_says_what(tmp_path, arguments, sentence):
    table = scores_file(tmp_path)
    good = tmp_path / "performance.json"
    good.write_text('{"A": 0.9}')
    result = run("rank", *(a.format(table=table, good=good) for a in arguments))
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")


@pytest.mark.filterwarnings("ignore")  # of mlflow and its dependencies
def test_training_offline_publishes_a_model_that_scores(images, model_file, tmp_path):
    out = tmp_path / "training"
    result = run(
        *("train", "--images", images, "--out", out, "--steps", 1, "--json"),
        *("--model", model_file, "-o", "validation_per_group=0"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["training_cases"] == 3
    [model] = (out / "models").glob("*.pt")
    scored = score(images, model, tmp_path / "scores.tsv", "--json")
    assert json.loads(scored.stdout)["model"] == model.stem


def test_training_without_masks_says_so(tmp_path):
    images = write_cohort(tmp_path / "images", "AB")
    result = run("train", "--images", images, "--out", tmp_path / "out", "--steps", 1)
    assert result.exit_code == 1
    assert "nothing to train on" in result.stderr.replace("\n", " ")
