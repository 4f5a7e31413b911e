"""The MONAI Label module for Slicer, unmodified, against our running server.

Real: the plugin's `MONAILabel.py`, its client and its `.ui` file, all as the wheel ships them; our
server, over HTTP; Slicer's scene, readers, writers, and the logic that turns masks into segments
and back (slicer-core); `slicer.util`.

Stand-ins (tests/slicer/stubs): Qt and ctk, which hold what is set and pass signals on but draw
nothing; message boxes, answered by the test; SampleData's download, without its cache;
`sitkUtils.PushVolumeToSlicer`; the scripted modules' base classes; the segment editor's widget,
which edits nothing. So this shows that the plugin's code and our server understand one another, not
how it looks in Slicer.
"""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.app import serving
from tests.slicer.conftest import load

READER = "stock-reader"


@pytest.fixture
def plugin(desktop, scored, monkeypatch):
    """The plugin's widget, as Slicer would have opened it, with the server's address chosen."""
    module = load("MONAILabel", monkeypatch)
    serving.closing_connections(sys.modules["MONAILabelLib.client"])
    desktop.settings.setValue("MONAILabel/clientId", READER)
    desktop.settings.setValue("MONAILabel/autoRunSegmentationOnNextSample", False)
    desktop.settings.setValue("MONAILabel/serverUrl", scored.url)
    from tests.slicer.stubs import scripted

    widget = module.MONAILabelWidget(scripted.module_parent())
    widget.setup()
    yield SimpleNamespace(widget=widget, ui=widget.ui, module=module)
    widget.cleanup()


@pytest.fixture
def connected(plugin):
    plugin.ui.fetchServerInfoButton.click()
    return plugin


def next_sample(plugin, desktop):
    if plugin.widget._volumeNode is not None:
        desktop.answers.append(desktop.qt.QMessageBox.Ok)  # "This will close current scene"
    plugin.ui.nextSampleButton.click()
    assert plugin.widget.current_sample is not None, [box.text for box in desktop.told]
    return plugin.widget.current_sample["id"]


def mask_of(plugin, name="left_caudate"):
    import slicer

    widget = plugin.widget
    segments = widget._segmentNode.GetSegmentation()
    segment = segments.GetSegmentIdBySegmentName(name)
    assert segment, segments.GetSegmentIDs()
    return slicer.util.arrayFromSegmentBinaryLabelmap(
        widget._segmentNode, segment, widget._volumeNode
    )


def errors(desktop):
    return [box.text for box in desktop.told if box.icon == desktop.qt.QMessageBox.Critical]


def test_connect_lists_models_strategies_and_progress_in_the_plugin(connected, desktop):
    ui = connected.ui
    assert errors(desktop) == []
    assert ui.segmentationModelSelector.items == ["caudate", "caudate_uncertainty"]
    assert ui.strategyBox.items[0] == "weighted_entropy"
    assert ui.trainerBox.items == ["caudate"]
    assert ui.nextSampleButton.enabled
    assert "samples are labeled" in ui.activeLearningProgressBar.toolTip
    assert desktop.settings.value("MONAILabel/serverUrlHistory")


def test_options_that_a_reader_changes_travel_with_the_next_request(connected, desktop):
    ui = connected.ui
    ui.optionsSection.choose("train")
    assert ui.optionsName.items == ["caudate"]
    keys = [ui.configTable.item(row, 0).text() for row in range(ui.configTable.rowCount)]
    row = keys.index("train_steps")
    ui.configTable.item(row, 1).write("7")
    assert str(connected.widget.getParamsFromConfig("train", "caudate")["train_steps"]) == "7"
    assert errors(desktop) == []


def test_next_sample_opens_a_scan_of_the_study_with_its_pre_segmentation(connected, desktop):
    case_id = next_sample(connected, desktop)
    assert errors(desktop) == []
    node = connected.widget._volumeNode
    assert node.GetName().startswith(f"{case_id} | ")
    assert node.GetImageData().GetDimensions() == (36, 40, 32)
    assert connected.ui.inputSelector.currentText == node.GetName()
    segments = connected.widget._segmentNode.GetSegmentation()
    assert list(segments.GetSegmentIDs()) == ["left_caudate"]


def test_the_image_is_downloaded_where_slicer_runs_on_another_computer(
    connected,
    desktop,
    scored,
    monkeypatch,
):
    exists, studies = os.path.exists, str(scored.root / "studies")
    monkeypatch.setattr(
        os.path, "exists", lambda path: not str(path).startswith(studies) and exists(path)
    )
    next_sample(connected, desktop)
    assert errors(desktop) == []
    node = connected.widget._volumeNode
    assert not node.GetStorageNode().GetFileName().startswith(studies)
    assert node.GetImageData().GetDimensions() == (36, 40, 32)


def test_segment_brings_the_server_s_mask_voxel_for_voxel(connected, desktop, scored):
    import SimpleITK as sitk

    case_id = next_sample(connected, desktop)
    connected.ui.segmentationModelSelector.choose("caudate")
    connected.ui.segmentationButton.click()
    assert errors(desktop) == []
    stored = sitk.ReadImage(scored.client("probe").download_label(case_id, "original"))
    expected = sitk.GetArrayFromImage(stored)
    np.testing.assert_array_equal(mask_of(connected) > 0, in_scene_order(connected, expected) > 0)


def test_the_markups_model_puts_points_at_the_most_uncertain_places(connected, desktop):
    import slicer

    next_sample(connected, desktop)
    before = len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode"))
    connected.ui.segmentationModelSelector.choose("caudate_uncertainty")
    connected.ui.segmentationButton.click()
    assert errors(desktop) == []
    lists = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert len(lists) == before + 1
    bounds = [0.0] * 6
    connected.widget._volumeNode.GetRASBounds(bounds)
    added = next(n for n in lists if n.GetNumberOfControlPoints())
    for index in range(added.GetNumberOfControlPoints()):
        point = added.GetNthControlPointPosition(index)
        assert all(bounds[2 * i] <= point[i] <= bounds[2 * i + 1] for i in range(3))


# MONAI Label's reply leaves the result's file to the garbage collector; its server runs in here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_scan_to_be_outlined_blind_comes_without_the_model_s_outline_until_it_is_run_twice(
    plugin, desktop, monkeypatch, tmp_path
):
    from tests.slicer import blind_server

    app = blind_server.blind_app(tmp_path)
    blind_server.put_in_place(app, monkeypatch)
    reveals = "SELECT case_id, client_id FROM reveals"
    with blind_server.running() as url:
        plugin.ui.serverComboBox.setCurrentText(url)
        plugin.ui.fetchServerInfoButton.click()
        # The plugin's settings are the ones that show most.
        desktop.settings.setValue("MONAILabel/originalLabel", True)
        desktop.settings.setValue("MONAILabel/autoRunSegmentationOnNextSample", True)
        case_id = next_sample(plugin, desktop)
        [told] = errors(desktop)
        assert "outline this scan on your own first" in told
        assert not mask_of(plugin).any()
        assert app.study.store.read().execute(reveals).fetchall() == []
        plugin.ui.segmentationModelSelector.choose("caudate")
        plugin.ui.segmentationButton.click()
        assert len(errors(desktop)) == 1
        assert mask_of(plugin).any()
    found = app.study.store.read().execute(reveals).fetchall()
    assert [tuple(row) for row in found] == [(case_id, READER)]


def test_submit_stores_the_outline_as_it_was_edited_under_the_reader_s_name(
    connected,
    desktop,
    scored,
):
    import SimpleITK as sitk
    import slicer

    case_id = next_sample(connected, desktop)
    edited = np.zeros_like(mask_of(connected))
    edited[10:14, 12:17, 9:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        edited, connected.widget._segmentNode, "left_caudate", connected.widget._volumeNode
    )
    connected.ui.segmentationModelSelector.choose("caudate")
    connected.ui.saveLabelButton.click()
    assert errors(desktop) == []
    assert [box.text for box in desktop.told][-1] == "Label-Mask saved into MONAI Label Server"
    client = scored.client("probe")
    label = client.datastore()["objects"][case_id]["labels"]["final"]
    assert label["info"]["client_id"] == READER
    stored = sitk.GetArrayFromImage(sitk.ReadImage(client.download_label(case_id, "final")))
    np.testing.assert_array_equal(in_scene_order(connected, stored), edited)
    assert next_sample(connected, desktop) != case_id


def test_a_server_that_is_down_is_told_in_a_message_box(plugin, desktop):
    plugin.ui.serverComboBox.setCurrentText(f"http://127.0.0.1:{serving.free_port()}")
    plugin.ui.fetchServerInfoButton.click()
    assert len(errors(desktop)) == 1
    assert "Failed to fetch models" in errors(desktop)[0]


def in_scene_order(plugin, array):
    """A file's array, axes k, j, i, in the order of the scene's voxels.

    The scene turns a left-handed grid (as of the test's scans) over along its last axis.
    """
    import vtk

    matrix = vtk.vtkMatrix4x4()
    plugin.widget._volumeNode.GetIJKToRASMatrix(matrix)
    assert matrix.Determinant() > 0
    return array[::-1]
