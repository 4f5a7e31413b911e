"""The offline commands, run as a script runs them."""

import json

import pytest
import torch
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.store.errors import StoreError
from fair_strategy.workflows import outcomes, tables
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
    other = score(images, model_file, out, "--json", "-o", "margin_mm=3")
    assert json.loads(other.stdout)["scored"] == 3


def test_a_second_run_tells_the_subgroups_of_kept_rows_anew(images, model_file, tmp_path):
    out, table = tmp_path / "scores.tsv", tmp_path / "other.tsv"
    score(images, model_file, out)
    before = read_scores(out)
    table.write_text("participant_id\tsite\nsub-01\tX\nsub-02\tY\nsub-03\tY\n")
    again = score(
        images, model_file, out, "--json", "--participants", table, "--sensitive-feature", "site"
    )
    assert json.loads(again.stdout)["kept"] == 3
    rows = read_scores(out)
    assert [row["subgroup"] for row in rows] == ["X", "Y", "Y"]
    assert [row["masked_mean"] for row in rows] == [row["masked_mean"] for row in before]


@pytest.mark.parametrize(
    "error", [ValueError("too thin"), RuntimeError("too large"), MemoryError()], ids=str
)
def test_a_volume_that_the_network_cannot_hold_is_listed_and_the_rest_goes_on(
    images, model_file, tmp_path, monkeypatch, error
):
    predict, calls = outcomes.predict, []

    def second_fails(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return predict(*args, **kwargs)

    monkeypatch.setattr(outcomes, "predict", second_fails)
    out = tmp_path / "scores.tsv"
    result = score(images, model_file, out, "--json")
    assert result.exit_code == 1
    unreadable = json.loads(result.stdout)["unreadable"]
    assert list(unreadable) == ["sub-02_T1w"]
    assert "sub-02_T1w.nii.gz: " in unreadable["sub-02_T1w"]
    assert unreadable["sub-02_T1w"].endswith(str(error) or "MemoryError")
    assert [row["case_id"] for row in read_scores(out)] == ["sub-01_T1w", "sub-03_T1w"]


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read(
    images, model_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = score(images, model_file, tmp_path / "scores.tsv", "--device", "cuda")
    assert result.exit_code == 2
    assert not (tmp_path / "scores.tsv").exists()
    auto = score(images, model_file, tmp_path / "scores.tsv", "--device", "auto")
    assert auto.exit_code == 0


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


def said(result):
    """The one sentence of a refusal, without the line breaks of a terminal."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.stderr.replace("\n", " ")


def test_a_table_that_cannot_be_written_is_refused_by_name(images, model_file, tmp_path):
    assert "nowhere" in said(score(images, model_file, tmp_path / "nowhere" / "scores.tsv"))
    assert "Is a directory" in said(score(images, model_file, tmp_path))


@pytest.mark.parametrize("verb", ["score", "train"])
def test_a_folder_without_scans_is_refused(model_file, tmp_path, verb):
    images, out = tmp_path / "empty", tmp_path / "out"
    images.mkdir()
    result = run(verb, "--images", images, "--model", model_file, "--out", out)
    assert "empty: expected T1-weighted scans" in said(result)
    assert not out.exists()


def test_a_missing_table_of_participants_is_refused_by_name(images, model_file, tmp_path):
    result = score(images, model_file, tmp_path / "out.tsv", "--participants", tmp_path / "gone")
    assert "gone" in said(result)


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


@pytest.mark.parametrize("broken", ["scores", "performance"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "No such file"), (b"\x1f\x8b\x08\xff\xfe", "UTF-8")],
    ids=["missing", "binary"],
)
def test_ranking_names_the_file_that_it_cannot_read(tmp_path, broken, content, sentence):
    good = tmp_path / "good.json"
    good.write_text('{"A": 0.9}')
    files = {"scores": scores_file(tmp_path), "performance": good}
    files[broken] = tmp_path / "wrong.file"
    if content:
        files[broken].write_bytes(content)
    text = said(run("rank", "--scores", files["scores"], "--performance", files["performance"]))
    assert "wrong.file" in text
    assert sentence in text


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [("0.4", "much", "masked_mean must be a number"), ("0.4", "0.4" + "\tx" * 20, "more cells")],
)
def test_ranking_names_the_line_of_a_bad_cell(tmp_path, old, new, sentence):
    table = scores_file(tmp_path)
    table.write_text(table.read_text().replace(old, new))
    performance = tmp_path / "performance.json"
    performance.write_text('{"A": 0.9}')
    text = said(run("rank", "--scores", table, "--performance", performance))
    assert "scores.tsv line 4: " in text
    assert sentence in text


def ranked_by_frequency(tmp_path, *more):
    performance = tmp_path / "performance.json"
    performance.write_text('{"A": 0.9, "B": 0.7}')
    return run(
        *("rank", "--scores", scores_file(tmp_path), "--performance", performance, "--json"),
        *("--rule", "inverse_frequency", *more),
    )


def test_inverse_frequency_needs_the_counts_of_the_labelled(tmp_path):
    assert "--labelled-counts" in said(ranked_by_frequency(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [("counts.json", '{"A": 6, "B": 2}'), ("counts.tsv", "subgroup\tlabelled\nA\t6\nB\t2\n")],
)
def test_inverse_frequency_weighs_by_the_counts_of_the_labelled(tmp_path, name, text):
    counts = tmp_path / name
    counts.write_text(text)
    result = ranked_by_frequency(tmp_path, "--labelled-counts", counts)
    assert result.exit_code == 0, result.output
    # 1/6 and 1/2; mean 1/3
    assert json.loads(result.stdout)["weights"] == pytest.approx({"A": 0.5, "B": 1.5})


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ("bald", "this table is of one pass: score with passes 2 or more"),
        ("core_set", "features of the network, which a table of scores does not hold"),
    ],
)
def test_a_strategy_that_needs_more_than_the_table_has_says_what(tmp_path, strategy, sentence):
    performance = tmp_path / "performance.json"
    performance.write_text('{"A": 0.9, "B": 0.7}')
    arguments = ("--scores", scores_file(tmp_path), "--performance", performance)
    assert sentence in said(run("rank", *arguments, "--strategy", strategy))


@pytest.mark.parametrize("count", ["-1", "1.5", "NaN", "Infinity", '"many"'])
def test_counts_of_the_labelled_are_whole_numbers(tmp_path, count):
    counts = tmp_path / "counts.json"
    counts.write_text(f'{{"A": {count}}}')
    assert "counts.json" in said(ranked_by_frequency(tmp_path, "--labelled-counts", counts))


def test_a_rule_without_what_it_needs_is_refused_without_an_empty_option_name(tmp_path):
    good = tmp_path / "performance.json"
    good.write_text('{"A": 0.9}')
    text = said(
        run(
            *("rank", "--scores", scores_file(tmp_path), "--performance", good),
            *("--rule", "reducible_error"),
        )
    )
    assert text.strip().startswith("fair-strategy: rule reducible_error needs attainable")
    assert "option ''" not in text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("network file system"), 2),
        (PermissionError(13, "Permission denied", "/x"), 2),
        (OSError(28, "No space left on device", "/x"), 1),
    ],
    ids=["state", "input", "system"],
)
def test_what_a_verb_cannot_do_is_one_sentence(tmp_path, monkeypatch, error, code):
    def fails(path):
        raise error

    monkeypatch.setattr(tables, "read_scores", fails)
    result = run("rank", "--scores", tmp_path / "a", "--performance", tmp_path / "b")
    assert result.exit_code == code
    assert (getattr(error, "strerror", None) or str(error)) in result.stderr.replace("\n", " ")


def test_training_into_a_file_is_refused(images, tmp_path):
    out = tmp_path / "file"
    out.write_text("kept")
    assert "found a file" in said(run("train", "--images", images, "--out", out, "--steps", 1))
    assert out.read_text() == "kept"


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


@pytest.mark.filterwarnings("ignore")  # of mlflow and its dependencies
def test_training_offline_by_group_dro_tells_q(images, model_file, tmp_path):
    options = ("--objective", "group_dro", "-o", "validation_per_group=0", "--steps", 1)
    result = run(
        *("train", "--images", images, "--out", tmp_path / "out", "--model", model_file), *options
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "objective: group_dro" in lines
    row = lines[lines.index("step\tloss\tq") + 1]
    assert row.split("\t")[0] == "1"
    assert row.count(" 0.") >= 2


def test_an_unknown_objective_is_refused_and_the_good_ones_are_listed(images, tmp_path):
    result = run("train", "--images", images, "--out", tmp_path, "--objective", "fair")
    assert result.exit_code == 2
    assert "'erm', 'balanced' or 'group_dro', got 'fair'" in said(result)


def test_training_without_masks_says_so(tmp_path):
    images = write_cohort(tmp_path / "images", "AB")
    result = run("train", "--images", images, "--out", tmp_path / "out", "--steps", 1)
    assert result.exit_code == 1
    assert "nothing to train on" in result.stderr.replace("\n", " ")
