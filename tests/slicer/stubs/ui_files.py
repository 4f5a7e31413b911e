"""Reads Qt Designer's `.ui` files into stand-in widgets: each named widget, by its class."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from tests.slicer.stubs import ctk, qt


class qMRMLWidget(qt.QWidget): ...


class _Effect:
    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def setParameter(self, name: str, value: Any) -> None:
        self.parameters[name] = value


class qMRMLSegmentEditorWidget(qt.QWidget):
    """Slicer's editor, as far as the plugin sets it up; it edits nothing."""

    segmentationNode = qt.Property(None)
    sourceVolumeNode = qt.Property(None)
    segmentationNodeSelectorVisible = qt.Property(True)
    sourceVolumeNodeSelectorVisible = qt.Property(True)
    mRMLSegmentEditorNode = qt.Property(None)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.__dict__["effects"] = {"Paint": _Effect()}

    def effectByName(self, name: str) -> _Effect:
        return self.effects[name]


class qSlicerMarkupsPlaceWidget(qt.QWidget):
    buttonsVisible = qt.Property(True)
    placeModeEnabled = qt.Property(False)
    _node: Any = None

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.__dict__["buttons"] = (qt.QPushButton(), qt.QPushButton())

    def placeButton(self) -> qt.QPushButton:
        return self.buttons[0]

    def deleteButton(self) -> qt.QPushButton:
        return self.buttons[1]

    def setCurrentNode(self, node: Any) -> None:
        self._node = node

    def currentNode(self) -> Any:
        return self._node


KINDS = {
    kind.__name__: kind
    for kind in (qMRMLWidget, qMRMLSegmentEditorWidget, qSlicerMarkupsPlaceWidget)
}


def load_ui(path: str) -> qt.QWidget:
    """The top widget of a `.ui` file, with its named widgets inside."""
    top = ET.parse(Path(path)).getroot().find("widget")
    assert top is not None
    return _widget(top)


def _widget(element: ET.Element) -> qt.QWidget:
    made = _kind(element.get("class", ""))()
    made.name = made.objectName = element.get("name", "")
    made.inside.extend(_widget(child) for child in _nearest_widgets(element))
    return made


def _kind(name: str) -> Any:
    for source in (KINDS, vars(qt), vars(ctk)):
        if name in source:
            return source[name]
    raise AssertionError(f"no stand-in for {name}")


def _nearest_widgets(element: ET.Element) -> list[ET.Element]:
    found = []
    for child in element:
        found += [child] if child.tag == "widget" else _nearest_widgets(child)
    return found
