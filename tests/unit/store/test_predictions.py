"""Stored predictions: whole or absent, never stale, never outside their folder."""

import logging
import os
import time
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.store import prediction_format, predictions
from fair_strategy.store.predictions import (
    PredictedMask,
    StoredPrediction,
    full_entropy,
    full_mask,
    has_prediction,
    prune,
    read_predicted_mask,
    read_prediction,
    voxels_apart,
    write_prediction,
)


def prediction(**changes) -> StoredPrediction:
    rng = np.random.default_rng(1)
    made = StoredPrediction(
        case_id="sub-01_T1w",
        model="a" * 64,
        shape=(9, 8, 7),
        affine=np.diag([-1.0, 1.5, 2.0, 1.0]),
        box=np.array([[1, 4], [2, 6], [0, 5]]),
        mask=rng.random((3, 4, 5)) < 0.5,
        entropy=rng.random((3, 4, 5)).astype(np.float16),
        peaks=(((1.5, -2.0, 3.25), 0.6), ((0.1, 0.2, 0.3), 0.5)),
        flags=("volume", "place"),
        route="localised",
        trust=0.875,
        fingerprint="10-1",
    )
    return replace(made, **changes)


def read(state_dir: Path, **changes: str) -> StoredPrediction | None:
    names = {"model": "a" * 64, "case_id": "sub-01_T1w", "fingerprint": "10-1"}
    return read_prediction(state_dir, **names | changes)


def read_mask(state_dir: Path, **changes: str) -> PredictedMask | None:
    names = {"model": "a" * 64, "case_id": "sub-01_T1w", "fingerprint": "10-1"}
    return read_predicted_mask(state_dir, **names | changes)


READERS = pytest.mark.parametrize("read", [read, read_mask])


def rewritten(path: Path, **changes: np.ndarray | None) -> Path:
    """The file with other arrays, or (None) without them; all checksums are right."""
    with np.load(path) as packed:
        arrays = dict(packed) | changes
    kept = {name: array for name, array in arrays.items() if array is not None}
    path.write_bytes(prediction_format.pack(kept))
    return path


@pytest.mark.parametrize(("read", "kind"), [(read, StoredPrediction), (read_mask, PredictedMask)])
def test_a_prediction_comes_back_as_it_was_written(tmp_path, read, kind):
    record = prediction()
    write_prediction(tmp_path, record)
    found = read(tmp_path)
    assert type(found) is kind
    for field in fields(kind):
        value, wanted = getattr(found, field.name), getattr(record, field.name)
        if isinstance(wanted, np.ndarray):
            assert value.dtype == wanted.dtype
            np.testing.assert_array_equal(value, wanted)
        else:
            assert value == wanted


def test_of_a_mask_and_its_prediction_as_much_is_apart(tmp_path, rng):
    write_prediction(tmp_path, prediction())
    mask = (rng.random((9, 8, 7)) < 0.3).astype(np.uint8)
    assert voxels_apart(read_mask(tmp_path), mask) == voxels_apart(read(tmp_path), mask)
    np.testing.assert_array_equal(full_mask(read_mask(tmp_path)), full_mask(prediction()))


@pytest.mark.parametrize("name", ["text", "shape", "affine", "box", "mask"])
@pytest.mark.parametrize("array", [None, np.zeros(2)], ids=["missing", "of another shape"])
@READERS
def test_a_file_without_what_tells_of_the_mask_is_removed(tmp_path, caplog, read, name, array):
    path = rewritten(write_prediction(tmp_path, prediction()), **{name: array})
    assert read(tmp_path) is None
    assert "corrupt" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize("array", [None, np.zeros((3, 4, 4), np.float16)])
def test_entropies_that_are_damaged_cost_the_prediction_and_not_the_mask(tmp_path, array):
    path = rewritten(write_prediction(tmp_path, prediction()), entropy=array)
    np.testing.assert_array_equal(read_mask(tmp_path).mask, prediction().mask)
    assert path.exists()
    assert read(tmp_path) is None
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ({}, True),
        ({"model": "b" * 64}, False),
        ({"case_id": "x"}, False),
        ({"fingerprint": "1"}, False),
    ],
)
def test_there_is_a_prediction_exactly_where_one_is_read(tmp_path, changes, there):
    write_prediction(tmp_path, prediction())
    key = {"model": "a" * 64, "case_id": "sub-01_T1w", "fingerprint": "10-1"} | changes
    assert has_prediction(tmp_path, **key) is there
    assert (read(tmp_path, **changes) is not None) is there


def test_a_file_of_garbage_is_no_prediction(tmp_path):
    path = write_prediction(tmp_path, prediction())
    path.write_bytes(b"garbage")
    assert not has_prediction(tmp_path, "a" * 64, "sub-01_T1w", "10-1")
    assert not path.exists()


def test_predictions_of_the_releases_before_are_read(tmp_path):
    record = prediction()
    path = write_prediction(tmp_path, record)
    with np.load(path) as packed:
        arrays = dict(packed)
    np.savez_compressed(path, **arrays)
    assert has_prediction(tmp_path, "a" * 64, "sub-01_T1w", "10-1")
    np.testing.assert_array_equal(read_mask(tmp_path).mask, record.mask)
    np.testing.assert_array_equal(read(tmp_path).entropy, record.entropy)


def test_nothing_found_is_a_prediction_too(tmp_path):
    record = prediction(
        box=np.zeros((3, 2), dtype=int),
        mask=np.zeros((0, 0, 0), dtype=bool),
        entropy=np.zeros((0, 0, 0), dtype=np.float16),
        peaks=(),
        flags=(),
    )
    write_prediction(tmp_path, record)
    found = read(tmp_path)
    assert (found.peaks, found.flags) == ((), ())
    assert full_mask(found).sum() == 0


def test_mask_and_entropy_lie_in_the_whole_grid_where_the_box_says():
    record = prediction()
    mask, entropy = full_mask(record), full_entropy(record)
    assert (mask.dtype, entropy.dtype) == (np.uint8, np.float32)
    assert mask.shape == entropy.shape == (9, 8, 7)
    np.testing.assert_array_equal(mask[1:4, 2:6, 0:5], record.mask)
    np.testing.assert_array_equal(entropy[1:4, 2:6, 0:5], record.entropy.astype(np.float32))
    outside = np.ones((9, 8, 7), dtype=bool)
    outside[1:4, 2:6, 0:5] = False
    assert not mask[outside].any()
    assert not entropy[outside].any()


def test_voxels_apart_are_those_of_the_whole_grid_inside_the_box_and_outside(rng):
    record = prediction()
    assert voxels_apart(record, full_mask(record)) == 0
    for _ in range(5):
        mask = (rng.random(record.shape) < 0.3).astype(np.uint8)
        assert voxels_apart(record, mask) == np.count_nonzero(mask != full_mask(record))
    empty = np.zeros(record.shape, np.uint8)
    assert voxels_apart(record, empty) == np.count_nonzero(record.mask)


@READERS
def test_a_prediction_of_a_file_replaced_since_is_not_served(tmp_path, read):
    write_prediction(tmp_path, prediction())
    assert read(tmp_path, fingerprint="10-2") is None
    assert read(tmp_path) is not None
    write_prediction(tmp_path, prediction(fingerprint="10-2"))
    assert read(tmp_path) is None
    assert read(tmp_path, fingerprint="10-2") is not None


@READERS
def test_a_prediction_of_another_case_or_model_is_not_served(tmp_path, read):
    write_prediction(tmp_path, prediction())
    assert read(tmp_path, case_id="sub-02_T1w") is None
    assert read(tmp_path, model="b" * 64) is None


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
@READERS
def test_a_truncated_file_is_removed_with_a_warning(tmp_path, caplog, kept, read):
    path = write_prediction(tmp_path, prediction())
    size = path.stat().st_size
    os.truncate(path, int(kept * size) if isinstance(kept, float) else kept % size)
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path) is None
    assert not path.exists()
    assert "corrupt" in caplog.text
    assert "removed" in caplog.text
    caplog.clear()
    assert read(tmp_path) is None
    assert caplog.text == ""


def test_flipped_bytes_never_give_a_wrong_prediction(tmp_path, rng):
    path = write_prediction(tmp_path, prediction())
    good = path.read_bytes()
    for _ in range(400):
        spoilt = bytearray(good)
        spoilt[int(rng.integers(len(good)))] ^= int(rng.integers(1, 256))
        path.write_bytes(spoilt)
        with warnings.catch_warnings():
            # zipfile and NumPy warn about some of the damage before they refuse it.
            warnings.simplefilter("ignore")
            marked = read_mask(tmp_path)
            path.write_bytes(spoilt)
            found = read(tmp_path)
        for record in filter(None, (marked, found)):
            np.testing.assert_array_equal(record.mask, prediction().mask)
            np.testing.assert_array_equal(record.box, prediction().box)
            np.testing.assert_array_equal(record.affine, prediction().affine)
        if found is not None:
            assert marked is not None
            np.testing.assert_array_equal(found.entropy, prediction().entropy)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@READERS
def test_a_pickle_in_the_place_of_a_prediction_is_not_executed(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    path = write_prediction(tmp_path, prediction())
    np.savez(path, text=np.array([Bomb()], dtype=object))
    assert read(tmp_path) is None
    path.parent.mkdir(exist_ok=True)
    np.array([Bomb()], dtype=object).dump(path)
    assert read(tmp_path) is None
    assert not (tmp_path / "exploded").exists()


@READERS
def test_a_file_moved_under_another_name_is_not_served_as_that_case(tmp_path, caplog, read):
    path = write_prediction(tmp_path, prediction())
    path.rename(path.with_name("sub-02_T1w.npz"))
    assert read(tmp_path, case_id="sub-02_T1w") is None
    assert "it is of case 'sub-01_T1w'" in caplog.text


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a..b", "", "x" * 129, "a\0b", "a\n"])
@pytest.mark.parametrize("which", ["model", "case_id"])
@READERS
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path, which, name, read):
    with pytest.raises(ValueError, match=f"{which} .* is no safe file name"):
        read(tmp_path, **{which: name})
    with pytest.raises(ValueError, match=f"{which} .* is no safe file name"):
        write_prediction(tmp_path, prediction(**{which: name}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": np.array([[1, 4], [2, 6], [3, 8]])}, "leaves"),
        ({"box": np.array([[-1, 2], [2, 6], [0, 5]])}, "leaves"),
        ({"box": np.array([[1, 5], [2, 6], [0, 5]])}, r"box of \(4, 4, 5\), mask of \(3, 4, 5\)"),
        ({"entropy": np.zeros((3, 4, 4), dtype=np.float16)}, r"entropy of \(3, 4, 4\)"),
        ({"affine": np.eye(3)}, "malformed"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_prediction(tmp_path, prediction(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_earlier_file_and_no_litter(tmp_path, monkeypatch):
    path = write_prediction(tmp_path, prediction())

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predictions.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_prediction(tmp_path, prediction(trust=0.0))
    assert list(path.parent.iterdir()) == [path]
    assert read(tmp_path).trust == 0.875


@READERS
def test_an_unreadable_file_is_an_error_and_not_removed(tmp_path, monkeypatch, read):
    path = write_prediction(tmp_path, prediction())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError):
        read(tmp_path)
    assert path.exists()


def test_pruning_keeps_the_models_named_and_what_is_being_written(tmp_path):
    for model in ("a" * 64, "b" * 64, "c" * 64):
        write_prediction(tmp_path, prediction(model=model))
    folder = tmp_path / "predictions" / ("a" * 64)
    stray, fresh = folder / ".x.1-2.part", folder / ".y.1-2.part"
    for part in (stray, fresh):
        part.touch()
    os.utime(stray, (0, time.time() - 7200))
    assert prune(tmp_path, keep={"a" * 64, "c" * 64}) == ["b" * 64]
    kept = sorted(p.name for p in (tmp_path / "predictions").iterdir())
    assert kept == ["a" * 64, "c" * 64]
    assert read(tmp_path) is not None
    assert fresh.exists()
    assert not stray.exists()


def test_pruning_an_empty_state_directory_is_nothing(tmp_path):
    assert prune(tmp_path, keep=()) == []
