"""Checkpoints: what is written comes back; what is not a model is refused by name."""

import dataclasses
import hashlib
import zipfile

import pytest
import torch

from fair_strategy.learning.checkpoint import ModelError, load_model, save_model, write_atomically

from .conftest import TINY, tiny_model


def equal_weights(a: torch.nn.Module, b: torch.nn.Module, *, atol: float) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return all(torch.allclose(first[k], second[k], atol=atol) for k in first | second)


@pytest.mark.parametrize(("half", "atol"), [(False, 0.0), (True, 1e-3)])
def test_a_saved_model_comes_back(tmp_path, half, atol):
    model = dataclasses.replace(tiny_model(localiser=True), training={"seed": 3, "note": "x"})
    save_model(model, tmp_path / "model.pt", half=half)
    loaded = load_model(tmp_path / "model.pt")
    assert equal_weights(loaded.network, model.network, atol=atol)
    assert equal_weights(loaded.localiser, model.localiser, atol=atol)
    for name in ("labels", "spacing_mm", "window", "network_arguments", "localiser_arguments"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.training == {"seed": 3, "note": "x"}


def test_a_loaded_model_is_deterministic_and_not_trainable(tmp_path):
    save_model(tiny_model(), tmp_path / "model.pt")
    network = load_model(tmp_path / "model.pt").network
    assert not any(m.training for m in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_half_precision_halves_the_weights(tmp_path):
    model = dataclasses.replace(tiny_model())
    stored = {}
    for half in (False, True):
        path = tmp_path / f"{half}.pt"
        save_model(model, path, half=half)
        weights = torch.load(path, weights_only=True)["network"]["weights"]
        stored[half] = sum(t.nbytes for t in weights.values())
    assert stored[True] * 2 == stored[False]


def test_the_checksum_is_that_of_the_files_bytes_and_names_the_file(tmp_path):
    checksum = save_model(tiny_model(), tmp_path)
    path = tmp_path / f"{checksum}.pt"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == checksum
    assert load_model(path).checksum == checksum


def test_equal_models_have_equal_checksums(tmp_path):
    assert save_model(tiny_model(), tmp_path) == save_model(tiny_model(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_another_model_is_never_overwritten(tmp_path):
    path = tmp_path / "model.pt"
    save_model(tiny_model(seed=0), path)
    before = path.read_bytes()
    with pytest.raises(ModelError, match=r"model\.pt: a different model is there"):
        save_model(tiny_model(seed=1), path)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def text(path):
    path.write_text("hello")


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    torch.save({"state_dict": {}}, path)


def newer(path):
    document = torch.load(path, weights_only=True)
    torch.save({**document, "version": 99}, path)


def other_weights(path):
    document = torch.load(path, weights_only=True)
    document["network"]["arguments"]["channels"] = [4, 16]
    torch.save(document, path)


def executable(path):
    torch.save(tiny_model().network, path)


def another_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda p: p.unlink(), "no such model file"),
        (empty, "the file has 0"),
        (text, "is not a model"),
        (truncated, "is truncated"),
        (another_zip, "is not a model"),
        (foreign, "expected a checkpoint with format"),
        (newer, "expected format version 1, got 99"),
        (other_weights, "do not fit together"),
        (executable, "is not a model"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_its_name(tmp_path, spoil, match):
    path = tmp_path / "weights.pt"
    save_model(tiny_model(), path)
    spoil(path)
    with pytest.raises(ModelError, match=rf"weights\.pt: .*{match}"):
        load_model(path)


def test_the_tiny_network_of_these_tests_has_dropout():
    assert TINY.dropout > 0
