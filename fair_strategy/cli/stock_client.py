"""The client that MONAI Label ships for 3D Slicer, loaded from where the wheel puts it."""

import importlib.util
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PLUGIN = Path("monailabel", "plugins", "slicer", "MONAILabel", "MONAILabelLib", "client.py")


def stock_client(url: str, client_id: str, folder: Path) -> Any:
    """Slicer's own client of a server, as one reader.

    Args:
        folder: where it keeps what it downloads.
    Raises:
        FileNotFoundError: if MONAI Label is not installed here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _module().MONAILabelClient(url, tmpdir=str(folder), client_id=client_id)


def client_error() -> type[Exception]:
    """What Slicer's own client raises where a server answers with an error."""
    error: type[Exception] = _module().MONAILabelClientException
    return error


@cache
def _module() -> ModuleType:
    path = Path(sys.prefix) / PLUGIN
    spec = importlib.util.spec_from_file_location("monailabel_slicer_client", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(2, "the client of MONAI Label's Slicer plugin is missing", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports cgi
        spec.loader.exec_module(module)
    return module
