"""Checkpoints: one self-describing file a model, read once, named by the hash of its bytes."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fair_strategy.data.sentences import first_line
from fair_strategy.data.volumes import sync_folder
from fair_strategy.learning.network import NetworkArguments, build_network

FORMAT = "fair-strategy model"
VERSION = 1
MAX_BYTES = 512 * 2**20


class ModelError(ValueError):
    """A model file cannot be used; the sentence names the file, what was wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Model:
    """A segmenter, the localiser that aims it, and what is needed to use them.

    Attributes:
        checksum: SHA-256 of the file's bytes, hexadecimal; "" for a model that has no file yet.
        labels: name of a structure -> its value in a mask.
        spacing_mm: edge of the (cubic) voxels that the segmenter sees.
        window: number of voxels the segmenter sees at once, along R, A, S.
        network, network_arguments: the segmenter.
        localiser, localiser_arguments: the low-resolution network over the whole volume; None
            if the model has none, and then inference slides.
        localiser_spacing_mm: edge of the voxels that the localiser sees.
        training: how the weights came to be; plain numbers, text, lists and mappings.
    """

    checksum: str
    labels: Mapping[str, int]
    spacing_mm: float
    window: tuple[int, int, int]
    network: nn.Module
    network_arguments: NetworkArguments
    localiser: nn.Module | None = None
    localiser_arguments: NetworkArguments | None = None
    localiser_spacing_mm: float = 4.0
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Model:
        """The model with its weights moved to a device, in place."""
        self.network.to(device)
        if self.localiser is not None:
            self.localiser.to(device)
        return self


def load_model(path: Path, device: str | torch.device = "cpu") -> Model:
    """The model in a file, in evaluation mode, with the checksum of exactly the bytes read.

    Raises:
        ModelError: missing, empty, truncated, not a model of this application, of another version,
            or for a device that is not here. Nothing in the file is executed.
    """
    content = _read(Path(path))
    document = _document(Path(path), content)
    try:
        model = _model(document, hashlib.sha256(content).hexdigest())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path}: the model's parts do not fit together ({first_line(error)}); "
            "get the file again, or train a new one"
        ) from error
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{path}: cannot be put on {device} ({first_line(error)})") from error


def save_model(model: Model, target: Path, *, half: bool = True) -> str:
    """Write a model by temporary file and rename; the checksum of what was written.

    Args:
        model: its checksum is ignored.
        target: a folder, which gets `<checksum>.pt`, or a file.
        half: store the weights with 16 bits (half the size; about 3 decimal digits).
    Returns:
        SHA-256 of the file's bytes.
    Raises:
        ModelError: if the target is there with other content: models are never overwritten.
    """
    buffer = io.BytesIO()
    torch.save(_plain(model, half=half), buffer)
    content = buffer.getvalue()
    checksum = hashlib.sha256(content).hexdigest()
    path = target / f"{checksum}.pt" if target.is_dir() else target
    if path.exists():
        if path.read_bytes() != content:
            raise ModelError(
                f"{path}: a different model is there and models are never overwritten; "
                "choose another name, or move it away"
            )
        return checksum
    write_atomically(path, content)
    return checksum


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a kill, sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; give the path of a .pt file")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise ModelError(f"{path}: expected 1 to {MAX_BYTES} bytes, the file has {size}")
    return path.read_bytes()


def _document(path: Path, content: bytes) -> dict[str, Any]:
    # torch.save writes a zip, whose directory stands at its end: cut files lack it
    if not zipfile.is_zipfile(io.BytesIO(content)):
        what = "is truncated" if content[:2] == b"PK" else "is not a model"
        raise ModelError(f"{path}: the file {what}; get it again, or give another one")
    try:
        document = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: the file is not a model ({first_line(error)}); give another one"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(
            f"{path}: expected a checkpoint with format '{FORMAT}'; "
            "weights of another application cannot be used"
        )
    if document.get("version") != VERSION:
        raise ModelError(
            f"{path}: expected format version {VERSION}, got {document.get('version')}; "
            "use the release that wrote it, or train a new model"
        )
    return document


def _plain(model: Model, *, half: bool) -> dict[str, Any]:
    localiser = None
    if model.localiser is not None and model.localiser_arguments is not None:
        localiser = {
            "arguments": model.localiser_arguments.as_plain(),
            "spacing_mm": float(model.localiser_spacing_mm),
            "weights": _weights(model.localiser, half=half),
        }
    return {
        "format": FORMAT,
        "version": VERSION,
        "labels": {str(k): int(v) for k, v in model.labels.items()},
        "spacing_mm": float(model.spacing_mm),
        "window": [int(n) for n in model.window],
        "network": {
            "arguments": model.network_arguments.as_plain(),
            "weights": _weights(model.network, half=half),
        },
        "localiser": localiser,
        "training": dict(model.training),
    }


def _weights(network: nn.Module, *, half: bool) -> dict[str, torch.Tensor]:
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        return {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    return tensors


def _model(document: Mapping[str, Any], checksum: str) -> Model:
    network_arguments, network = _network(document["network"])
    i, j, k = (int(n) for n in document["window"])
    found = document["localiser"]
    localiser_arguments, localiser = _network(found) if found else (None, None)
    return Model(
        checksum=checksum,
        labels={str(name): int(value) for name, value in document["labels"].items()},
        spacing_mm=float(document["spacing_mm"]),
        window=(i, j, k),
        network=network,
        network_arguments=network_arguments,
        localiser=localiser,
        localiser_arguments=localiser_arguments,
        localiser_spacing_mm=float(found["spacing_mm"]) if found else 4.0,
        training=document["training"],
    )


def _network(part: Mapping[str, Any]) -> tuple[NetworkArguments, nn.Module]:
    arguments = NetworkArguments.from_plain(part["arguments"])
    network = build_network(arguments)
    network.load_state_dict({k: v.float() for k, v in part["weights"].items()})
    return arguments, network.eval().requires_grad_(False)
