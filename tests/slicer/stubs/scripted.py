"""A stand-in for `slicer.ScriptedLoadableModule`: where a module's files are, and its node."""

import unittest
from pathlib import Path
from typing import Any

import slicer

from tests.slicer.stubs import qt

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = parent.layout()

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        module = type(self).__name__.removesuffix("Widget")
        return str(Path(slicer.util.modulePath(module)).parent / "Resources" / name)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        scene, kind = slicer.mrmlScene, "vtkMRMLScriptedModuleNode"
        found = scene.GetSingletonNode(self.moduleName, kind)
        if found is None:
            found = slicer.vtkMRMLScriptedModuleNode()
            found.SetSingletonTag(self.moduleName)
            found = scene.AddNode(found)
        found.SetAttribute("ModuleName", self.moduleName)
        return found


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, msec: int = 0) -> None: ...


def module_parent() -> qt.QWidget:
    """What Slicer hands to a module's widget."""
    parent = qt.QWidget()
    qt.QVBoxLayout(parent)
    return parent
