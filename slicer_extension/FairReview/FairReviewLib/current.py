"""Which scan, which reader and which server are current, as the MONAI Label module has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SHARED_CLIENT = "user-xyz"
"""What the MONAI Label module sends for everybody who has set no name."""
DEFAULT_URL = "http://127.0.0.1:8000"
ROLE = "FairReview.role"
"""The attribute that marks this module's own nodes, so that none is taken for a scan."""


@dataclass(frozen=True)
class Current:
    """What the reader works on.

    Attributes:
        case_id: the server's id of the scan; empty if none is open.
        client_id: the reader's name.
        url: of the server.
        source: where the id was found: `typed`, `module`, `volume`, or empty.
    """

    case_id: str = ""
    client_id: str = SHARED_CLIENT
    url: str = DEFAULT_URL
    source: str = ""


def find_current(modules: Any, scene: Any, settings: Any, typed: str = "") -> Current:
    """What is current now.

    The scan is, in this order: what was typed; the MONAI Label module's sample; the name of the
    scene's first volume, which that module takes from the server.

    Args:
        modules: `slicer.modules`; holds `MONAILabelWidget` once that module was opened.
        settings: a `QSettings`, or anything with `value(key)`.
    """
    widget = getattr(modules, "MONAILabelWidget", None)
    case_id, source = typed.strip(), "typed"
    if not case_id:
        case_id, source = _sample_of(widget), "module"
    if not case_id:
        case_id, source = _named_by_volume(scene), "volume"
    return Current(
        case_id=case_id,
        client_id=str(settings.value("MONAILabel/clientId") or SHARED_CLIENT),
        url=_url(widget, settings),
        source=source if case_id else "",
    )


def scan_node(scene: Any) -> Any:
    """The scene's first scalar volume that is neither a label map nor ours; None without one."""
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode")
        if node.GetAttribute(ROLE) is None and not node.IsA("vtkMRMLLabelMapVolumeNode"):
            return node
    return None


def mark_own(node: Any, role: str) -> None:
    """Mark a node as this module's; it and what displays it are not saved with the scene."""
    node.SetAttribute(ROLE, role)
    for part in _parts(node):
        part.SetSaveWithScene(False)


def own_nodes(scene: Any, role: str) -> list[Any]:
    """This module's nodes with a role. They are looked up each time: a closed scene takes them."""
    found = []
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLDisplayableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLDisplayableNode")
        if node.GetAttribute(ROLE) == role:
            found.append(node)
    return found


def remove_own(scene: Any, role: str) -> None:
    """Take this module's nodes with a role out of the scene, with their display and storage."""
    for node in own_nodes(scene, role):
        for part in _parts(node):
            scene.RemoveNode(part)


def _parts(node: Any) -> list[Any]:
    displays = [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]
    return [part for part in (*displays, node.GetStorageNode(), node) if part is not None]


def _sample_of(widget: Any) -> str:
    sample = getattr(widget, "current_sample", None) or {}
    # A session is a volume of the reader's own, which the server does not know.
    return "" if sample.get("session") else str(sample.get("id") or "")


def _named_by_volume(scene: Any) -> str:
    node = scan_node(scene)
    # The server names a volume "<id> | <what is known of it>".
    return "" if node is None else (node.GetName() or "").split(" | ")[0].strip()


def _url(widget: Any, settings: Any) -> str:
    if widget is not None and hasattr(widget, "serverUrl"):
        return str(widget.serverUrl())
    return str(settings.value("MONAILabel/serverUrl") or DEFAULT_URL).strip().rstrip("/")
