"""The module FairReview beside the unmodified MONAI Label module, against our running server.

Real: both modules' code, the server, HTTP, and Slicer's scene and logics (slicer-core). Stand-ins:
what test_stock_plugin.py names. The timer fires when a test says so. Not shown: how it looks, and
that PythonQt takes each property and signal by the name that stands in the module.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.app import serving
from tests.slicer.conftest import load

READER = "desktop-reader"


@pytest.fixture
def alone(desktop, monkeypatch):
    """Fair Review as opened in Slicer, with no server chosen; its clock is the test's."""
    from tests.slicer.stubs import scripted

    desktop.settings.setValue("MONAILabel/clientId", READER)
    code = load("FairReview", monkeypatch)
    widget = code.FairReviewWidget(scripted.module_parent())
    widget.setup()
    clock = SimpleNamespace(offset=0.0)
    real = widget.review._clock
    widget.review._clock = lambda: real() + clock.offset
    yield SimpleNamespace(widget=widget, review=widget.review, panel=widget.panel, clock=clock)
    widget.cleanup()
    assert not widget.timer.active
    assert desktop.qt.QApplication.waiting == 0


@pytest.fixture
def module(alone, desktop, scored):
    """The same, before any scan of the shared server."""
    desktop.settings.setValue("MONAILabel/serverUrl", scored.url)
    desktop.settings.setValue("MONAILabel/autoRunSegmentationOnNextSample", False)
    return alone


@pytest.fixture
def plugin(module, desktop, monkeypatch):
    """The MONAI Label module, connected."""
    import slicer

    from tests.slicer.stubs import scripted

    code = load("MONAILabel", monkeypatch)
    serving.closing_connections(sys.modules["MONAILabelLib.client"])
    widget = code.MONAILabelWidget(scripted.module_parent())
    widget.setup()
    slicer.modules.MONAILabelWidget = widget
    widget.ui.fetchServerInfoButton.click()
    yield widget
    widget.cleanup()


@pytest.fixture
def reading(module, plugin, desktop):
    """A reader with a scan: Next Sample was pressed in MONAI Label, and the timer has fired."""
    return SimpleNamespace(
        **vars(module), plugin=plugin, case_id=next_sample(plugin, desktop, module.widget)
    )


def next_sample(plugin, desktop, widget):
    if plugin._volumeNode is not None:
        desktop.answers.append(desktop.qt.QMessageBox.Ok)  # "This will close current scene"
    plugin.ui.nextSampleButton.click()
    assert plugin.current_sample is not None, [box.text for box in desktop.told]
    widget.timer.emit("timeout()")
    return plugin.current_sample["id"]


def test_before_any_scan_the_panel_says_what_to_do_and_offers_nothing(module):
    module.widget.timer.emit("timeout()")
    panel = module.panel
    assert "Press Next Sample" in panel.current.text
    assert panel.why.text == panel.lease.text == panel.problem.text == ""
    offered = [panel.renew, panel.skip, panel.exclude, panel.first, panel.previous, panel.next]
    assert not any(button.enabled for button in offered)
    assert not panel.reveal.visible
    assert not panel.problem.visible, "an empty strip of red would alarm"


def test_after_next_sample_the_map_lies_over_the_scan_and_the_reasons_are_told(reading, desktop):
    panel = reading.panel
    assert panel.problem.text == ""
    assert panel.current.text == f"{reading.case_id}, read by {READER}"
    assert panel.why.text.startswith("Uncertainty: more than ")
    assert "Model " in panel.why.text
    assert panel.lease.text in ("Yours for another 59 min.", "Yours for another 60 min.")
    composite = desktop.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetBackgroundVolumeID() == reading.plugin._volumeNode.GetID()
    assert composite.GetForegroundVolumeID() == reading.review.overlay.node.GetID()


def test_the_map_has_the_scan_s_grid_and_its_highest_value_at_the_first_peak(reading):
    import slicer

    node, scan = reading.review.overlay.node, reading.plugin._volumeNode
    assert node.GetImageData().GetDimensions() == scan.GetImageData().GetDimensions()
    np.testing.assert_allclose(grid_of(node), grid_of(scan), atol=1e-4)
    values = slicer.util.arrayFromVolume(node)
    assert 0 < values.max() <= np.log(2) + 1e-3
    peak = reading.review.peaks.places[0]
    i, j, k = np.rint(np.linalg.inv(grid_of(node)) @ [*peak.position, 1.0])[:3].astype(int)
    assert values[k, j, i] == pytest.approx(peak.entropy, abs=2e-3)


def test_choosing_a_place_and_next_and_previous_move_every_view(reading, desktop):
    panel, places = reading.panel, reading.review.peaks.places
    assert panel.peaks.items == [str(peak) for peak in places]
    assert len(places) >= 2
    view = desktop.scene.GetFirstNodeByClass("vtkMRMLSliceNode")

    def centre():
        return [view.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]

    panel.first.click()
    assert centre() == pytest.approx(places[0].position, abs=1e-3)
    panel.next.click()
    assert centre() == pytest.approx(places[1].position, abs=1e-3)
    assert panel.peaks.currentRow == 1
    panel.peaks.currentRow = 0
    assert centre() == pytest.approx(places[0].position, abs=1e-3)
    panel.previous.click()
    assert panel.peaks.currentRow == len(places) - 1


def test_the_sliders_and_the_tick_box_change_what_is_shown(reading, desktop):
    panel, node = reading.panel, reading.review.overlay.node
    composite = desktop.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    panel.threshold.value = 0.3
    panel.opacity.value = 0.8
    assert node.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.3)
    assert composite.GetForegroundOpacity() == pytest.approx(0.8)
    panel.shown.click()
    assert composite.GetForegroundVolumeID() is None
    panel.shown.click()
    assert composite.GetForegroundVolumeID() == node.GetID()


def test_another_scan_replaces_map_and_reasons_although_the_scene_was_closed(reading, desktop):
    other = next_sample(reading.plugin, desktop, reading.widget)
    assert other != reading.case_id
    assert reading.panel.current.text.startswith(other)
    assert reading.review.overlay.node.GetName() == f"{other} entropy"
    volumes = desktop.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    assert volumes == 2  # the scan, the map


def test_the_same_scan_after_the_scene_was_closed_is_shown_again(reading, desktop):
    import slicer

    path = reading.plugin._volumeNode.GetStorageNode().GetFileName()
    sample = dict(reading.plugin.current_sample)
    desktop.scene.Clear(0)
    slicer.util.loadVolume(path)
    reading.plugin.current_sample = sample
    reading.widget.timer.emit("timeout()")
    assert reading.review.overlay.node is not None
    assert reading.panel.problem.text == ""


def test_a_scan_taken_out_of_the_scene_takes_the_map_with_it(reading, desktop):
    # MONAI Label would take a map that is left alone for a volume of the reader's own.
    desktop.scene.RemoveNode(reading.plugin._volumeNode)
    reading.widget.timer.emit("timeout()")
    assert reading.review.overlay.node is None
    assert "not open in Slicer" in reading.panel.problem.text


def test_skip_asks_and_hands_the_scan_back_with_the_chosen_reason(reading, desktop):
    panel, box = reading.panel, desktop.qt.QMessageBox
    assert panel.skip_reason.items[0] == "not readable"
    panel.skip_reason.choose("wrong anatomy")
    desktop.answers.append(box.No)
    panel.skip.click()
    assert reading.review.lease.held
    desktop.answers.append(box.Yes)
    panel.skip.click()
    assert panel.problem.text == ""
    assert panel.message.text.startswith("Handed back.")
    assert "not leased to you" in panel.lease.text
    assert reading.review.overlay.node is None
    reading.widget.timer.emit("timeout()")  # the plugin still names the scan
    assert reading.review.overlay.node is None
    assert next_sample(reading.plugin, desktop, reading.widget) != reading.case_id


def test_exclude_needs_a_reason_and_the_scan_is_never_offered_again(reading, desktop, scored):
    panel, box = reading.panel, desktop.qt.QMessageBox
    desktop.answers.append(box.Yes)
    panel.exclude.click()
    assert "Write why" in panel.problem.text
    desktop.answers.append(box.Yes)
    panel.exclude_reason.write("a phantom, no person")
    panel.exclude.click()
    assert panel.problem.text == ""
    assert panel.message.text.startswith("Excluded")
    client = scored.client("another-reader")
    offered = {client.next_sample("random", {}).get("id") for _ in range(3)}
    assert reading.case_id not in offered


def test_a_lease_about_to_end_is_asked_about_once_and_renewed(reading, desktop):
    late(reading)
    desktop.answers.append(desktop.qt.QMessageBox.No)
    for _ in range(2):
        reading.widget.timer.emit("timeout()")
    asked = [box.text for box in desktop.told if box.asked]
    assert len(asked) == 1
    assert "Renew it now?" in asked[0]
    assert "Your lease ends in" in reading.panel.lease.text
    reading.panel.renew.click()
    assert reading.panel.problem.text == ""
    assert reading.panel.message.text == "Renewed."
    assert "Yours for another" in reading.panel.lease.text


def test_yes_renews(reading, desktop):
    late(reading)
    desktop.answers.append(desktop.qt.QMessageBox.Yes)
    reading.widget.timer.emit("timeout()")
    assert reading.panel.problem.text == ""
    assert reading.panel.message.text == "Renewed."


def test_once_submitted_the_panel_says_that_the_lease_is_over(reading, desktop):
    import slicer

    edited = np.zeros(slicer.util.arrayFromVolume(reading.plugin._volumeNode).shape, np.uint8)
    edited[10:14, 12:17, 9:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        edited, reading.plugin._segmentNode, "left_caudate", reading.plugin._volumeNode
    )
    reading.plugin.ui.saveLabelButton.click()
    assert desktop.told[-1].text == "Label-Mask saved into MONAI Label Server"
    reading.clock.offset = 61  # the next poll
    reading.widget.timer.emit("timeout()")
    assert "not leased to you" in reading.panel.lease.text


def test_an_unknown_id_that_is_typed_is_told_by_the_server_s_own_sentence(module):
    module.panel.typed.write("sub-99_T1w")
    assert "sub-99_T1w" in module.panel.problem.text
    assert module.panel.problem.visible
    assert module.review.why == {}


def test_a_volume_of_the_reader_s_own_is_not_named_to_the_server_by_itself(module, desktop):
    desktop.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Smith^John CT")
    module.widget.timer.emit("timeout()")
    assert module.panel.current.text.startswith("Smith^John CT (from the volume's name)")
    assert module.panel.problem.text == ""
    module.panel.refresh.click()
    assert module.panel.problem.text != ""


def test_the_timer_does_nothing_while_a_question_is_open(reading, desktop, monkeypatch):
    from tests.slicer.stubs import ctk

    followed = []
    monkeypatch.setattr(reading.review, "follow", lambda current: followed.append(current))

    def meanwhile(box):
        reading.widget.timer.emit("timeout()")
        return desktop.qt.QMessageBox.No

    monkeypatch.setattr(ctk.ctkMessageBox, "exec_", meanwhile)
    reading.panel.skip.click()
    assert followed == []
    reading.widget.timer.emit("timeout()")
    assert len(followed) == 1


def test_the_panel_moves_beside_other_modules_and_back(reading, desktop):
    reading.panel.beside.click()
    ((area, dock),) = desktop.app.main_window.docked
    assert area == desktop.qt.Qt.RightDockWidgetArea
    assert dock.visible
    assert dock.widget is reading.panel.widget
    reading.panel.beside.click()
    assert not dock.visible
    assert reading.widget.layout.children()[-1] is reading.panel.widget


def test_a_scan_to_be_outlined_blind_shows_nothing_of_the_model_until_asked(
    alone, desktop, monkeypatch, tmp_path
):
    import slicer

    from fair_strategy.workflows.desk import next_case
    from tests.slicer import blind_server

    app = blind_server.blind_app(tmp_path)
    blind_server.put_in_place(app, monkeypatch)
    case_id = next_case(app.study, "weighted_entropy", READER).case_id
    slicer.util.loadVolume(str(next((tmp_path / "studies").rglob(f"{case_id}.nii.gz"))))
    panel = alone.panel
    with blind_server.running() as url:
        desktop.settings.setValue("MONAILabel/serverUrl", url)
        panel.typed.write(case_id)
        assert panel.problem.text == ""
        assert "outlined without the model's help" in panel.why.text
        assert panel.reveal.visible
        assert alone.review.overlay.node is None
        assert panel.peaks.items == []
        panel.reveal.click()
        assert panel.problem.text == ""
        assert not panel.reveal.visible
        assert alone.review.overlay.node is not None
        assert len(panel.peaks.items) >= 1
    rows = app.study.store.read().execute("SELECT case_id, client_id FROM reveals").fetchall()
    assert [tuple(row) for row in rows] == [(case_id, READER)]


def test_slicer_s_own_self_test_of_the_module_passes(alone):
    sys.modules["FairReview"].FairReviewTest("runTest").debug()


def late(reading):
    """Nine minutes before the lease ends, by the panel's clock alone: the server is not asked."""
    reading.clock.offset = 51 * 60
    reading.review._next_poll = np.inf


def grid_of(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
