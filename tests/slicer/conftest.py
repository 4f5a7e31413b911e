"""Slicer's core with stand-ins for Qt, and a running server; skipped without slicer-core."""

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.app import serving
from tests.app.conftest import scored, server  # noqa: F401  (one server for this folder)

EXTENSION = serving.ROOT / "slicer_extension" / "FairReview"
PLUGIN = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel"
HAVE_CORE = all(importlib.util.find_spec(name) for name in ("slicer", "trame_slicer"))
MODULES = {"FairReview": EXTENSION / "FairReview.py", "MONAILabel": PLUGIN / "MONAILabel.py"}


def pytest_collection_modifyitems(items):
    """Skipped before any fixture: the server that they share takes its time to start."""
    if HAVE_CORE:
        return
    reason = "slicer-core is not installed: pip install 'fair-strategy[viewer]'"
    for item in items:
        if "core" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def core():
    """An empty scene with the logics of a Slicer, and one slice view's nodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trame_slicer.core import SlicerApp
    import slicer

    made = SlicerApp()
    for kind in (slicer.vtkMRMLSliceNode, slicer.vtkMRMLSliceCompositeNode):
        node = kind()
        node.SetSingletonTag("Red")
        node.SetLayoutName("Red")
        made.scene.AddNode(node)
    yield made
    made.io_manager.cache_dir.cleanup()  # left to the garbage collector, it warns


@pytest.fixture
def desktop(core, monkeypatch, tmp_path):
    """A stand-in for desktop Slicer around the core: `app`, `qt`, `told`, `answers`, `settings`."""
    from tests.slicer.stubs import application, ctk, qt

    app = application.install(core, monkeypatch, MODULES, tmp_path)
    return SimpleNamespace(
        app=app,
        core=core,
        scene=core.scene,
        qt=qt,
        told=ctk.ctkMessageBox.told,
        answers=ctk.ctkMessageBox.answers,
        settings=qt.QSettings(),
    )


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A scripted module from its file, fresh for one test."""
    path = MODULES[name]
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI Label's client imports cgi
        spec.loader.exec_module(module)
    return module
