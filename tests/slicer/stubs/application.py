"""A stand-in for `slicer.app` and `slicer.modules` around real parts of Slicer's core.

Real: scene, readers and writers, the logics of volumes, segmentations, markups and colours, and
`slicer.util`. Stand-ins: Qt, message boxes, `.ui` files, the temporary folder, SampleData's cache.
"""

import sys
import tempfile
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import slicer
from trame_slicer.core import SlicerApp

from tests.slicer.stubs import ctk, qt, scripted, ui_files


class Application:
    """What the modules ask of `slicer.app`."""

    applicationName = "Slicer"

    def __init__(self, core: SlicerApp) -> None:
        self.core = core
        self.main_window = qt.QMainWindow()
        self.files = Files(core)

    def topLevelWidgets(self) -> list[Any]:
        return [self.main_window]

    def testingEnabled(self) -> bool:
        return False  # so that slicer.util shows its messages

    def processEvents(self) -> None: ...

    def coreIOManager(self) -> "Files":
        return self.files


class Files:
    """Slicer's reading and writing, by the core's own readers and storage nodes."""

    def __init__(self, core: SlicerApp) -> None:
        self._core = core

    def loadNodes(self, kind: str, properties: Any, loaded: Any, messages: Any) -> bool:
        path = properties["fileName"]
        node = self._volume(path) if kind == "VolumeFile" else self._markups(kind, path)
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def _volume(self, path: str) -> Any:
        node = self._core.volumes_logic.AddArchetypeVolume(path, Path(path).name, 0)
        selection = self._core.app_logic.GetSelectionNode()
        selection.SetActiveVolumeID(node.GetID())
        self._core.app_logic.PropagateVolumeSelection()
        return node

    def _markups(self, kind: str, path: str) -> Any:
        assert kind == "MarkupsFile", kind
        name = self._core.markups_logic.LoadMarkups(path, "", None)
        return self._core.scene.GetNodeByID(name) if name else None

    def fileWriterFileType(self, node: Any) -> str:
        return str(node.GetClassName())

    def saveNodes(self, kind: str, properties: Any, messages: Any) -> bool:
        node = self._core.scene.GetNodeByID(properties["nodeID"])
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(properties["fileName"])
        return bool(storage.WriteData(node))


def modules(core: SlicerApp, paths: dict[str, Path]) -> SimpleNamespace:
    """`slicer.modules`: the logics, and where the scripted modules lie."""
    logics = {
        "volumes": core.volumes_logic,
        "segmentations": core.segmentations_logic,
        "colors": _colours(core),
    }
    made = {
        name: SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()
    }
    for name, path in paths.items():
        made[name.lower()] = SimpleNamespace(path=str(path))
    return SimpleNamespace(**made)


def _colours(core: SlicerApp) -> Any:
    logic = slicer.vtkSlicerColorLogic()
    logic.SetMRMLApplicationLogic(core.app_logic)
    logic.SetMRMLScene(core.scene)
    core.app_logic.SetModuleLogic("Colors", logic)
    return logic


def push_volume(image: Any, target: None = None, *, className: str) -> Any:
    """sitkUtils.PushVolumeToSlicer: an ITK image, which is in LPS, as a node of a class."""
    import SimpleITK as sitk

    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3] = np.diag([-1, -1, 1]) @ np.c_[directions, image.GetOrigin()]
    array = sitk.GetArrayFromImage(image)
    return slicer.util.addVolumeFromArray(array, ijk_to_ras, nodeClassName=className)


class SampleDataLogic:
    """SampleData's download, without its cache."""

    def downloadFromURL(
        self, *, nodeNames: str, fileNames: str, uris: str, checksums: str | None
    ) -> list[Any]:
        name = fileNames if "." in fileNames else f"{fileNames}.nii.gz"
        path = Path(tempfile.mkdtemp()) / name
        with urllib.request.urlopen(uris, timeout=60) as reply:
            path.write_bytes(reply.read())
        node = slicer.util.loadVolume(str(path))
        node.SetName(nodeNames)
        return [node]


def stand_ins() -> dict[str, ModuleType | Any]:
    """Modules of Slicer's Python that slicer-core lacks, by the name that imports them."""
    return {
        "qt": qt,
        "ctk": ctk,
        "slicer.ScriptedLoadableModule": scripted,
        "slicer.i18n": SimpleNamespace(tr=lambda text: text, translate=lambda context, text: text),
        "SampleData": SimpleNamespace(SampleDataLogic=SampleDataLogic),
        "sitkUtils": SimpleNamespace(PushVolumeToSlicer=push_volume),
        "vtkSegmentationCore": slicer.vtkSegmentationCore,
    }


def install(core: SlicerApp, monkeypatch: Any, paths: dict[str, Path], folder: Path) -> Application:
    """Make `slicer` look like the application, for one test; temporary files go to a folder."""
    application = Application(core)
    for name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name, value in (
        ("app", application),
        ("mrmlScene", core.scene),
        ("modules", modules(core, paths)),
    ):
        monkeypatch.setattr(slicer, name, value, raising=False)
    monkeypatch.setattr(slicer.util, "loadUI", ui_files.load_ui)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(
        slicer.util, "tempDirectory", lambda key="": tempfile.mkdtemp(prefix=f"{key}-")
    )
    for kept in (qt.QSettings.stored, ctk.ctkMessageBox.told, ctk.ctkMessageBox.answers):
        kept.clear()
    qt.QApplication.waiting = 0
    return application
