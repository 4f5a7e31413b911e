"""The editing tools, each with undo and redo, on Slicer's own effects."""

import gc

import numpy as np
import pytest

from fair_strategy.data.volumes import read_labels
from tests.viewer.conftest import SHAPE, affine, ball, scan

LABELS = {"left caudate": 3}
"""A value other than 1: smoothing once emptied such a segment."""


@pytest.fixture
def drawn(scene, rng, write):
    """An open case with two balls, one of them small; the tools of the scene."""
    from fair_strategy.viewer.scene import CaseFiles
    from fair_strategy.viewer.tools import Tools

    mask = np.zeros(SHAPE, np.uint8)
    mask[ball((12, 14, 12), 6)] = 3
    mask[ball((30, 26, 20), 2)] = 3
    matrix = affine("LAS", oblique=True)
    image = scan(rng)
    scene.open(CaseFiles(write("s.nii", image, matrix), write("m.nii", mask, matrix)), LABELS)
    return Tools(scene)


def voxels(scene) -> int:
    return int(np.count_nonzero(scene.labels()))


def place(scene, voxel) -> tuple[float, float, float]:
    """RAS mm of a voxel of the file, a LAS grid."""
    x, y, z, _ = affine("LAS", oblique=True) @ [*voxel, 1.0]
    return float(x), float(y), float(z)


def view(scene):
    return scene.app.view_manager.get_view("Red").get_view_node()


def test_paint_erase_undo_and_redo(scene, drawn, tmp_path):
    from fair_strategy.viewer.tools import Tool

    before = scene.labels()
    drawn.select(Tool.paint)
    drawn.set_brush(6.0, sphere=True)
    drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    painted = scene.labels()
    assert (painted >= before).all()
    # A sphere of 6 mm holds 113 mm3, that is 60 voxels of 1.875 mm3.
    assert 30 < np.count_nonzero(painted != before) < 100
    assert read_labels(scene.export(tmp_path / "o.nii")).array[22, 10, 8] == 3
    drawn.undo()
    assert np.array_equal(scene.labels(), before)
    drawn.redo()
    assert np.array_equal(scene.labels(), painted)
    drawn.select(Tool.erase)
    drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    assert np.array_equal(scene.labels(), before)


def test_what_a_brush_holds_goes_with_its_case(scene, drawn, rng, write):
    from fair_strategy.viewer.scene import CaseFiles
    from fair_strategy.viewer.tools import Tool

    files = CaseFiles(write("again.nii", scan(rng), affine("RAS")))

    def brushes() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "BrushSource" for thing in gc.get_objects())

    def read_on() -> None:
        scene.open(files, LABELS)
        drawn.select(Tool.paint)
        drawn.stamp(place(scene, (22, 10, 8)), view(scene))

    read_on()
    before = brushes()
    assert before > 0
    for _ in range(3):
        read_on()
    assert brushes() == before


@pytest.mark.parametrize("tool", ["look", "paint", "erase", "scissors", "threshold", "within"])
def test_a_tool_that_was_put_down_lets_go_of_the_case_that_is_left(scene, drawn, rng, write, tool):
    from vtkmodules.vtkCommonCore import vtkWeakReference

    from fair_strategy.viewer.scene import CaseFiles
    from fair_strategy.viewer.tools import Tool

    if tool == "within":
        drawn.paint_within(0.0, 50.0, enabled=True)
        drawn.paint_within(0.0, 1.0, enabled=False)
    else:
        drawn.select(Tool(tool))
        drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    drawn.select(Tool.look)
    left = {"scan": vtkWeakReference(), "mask": vtkWeakReference()}
    left["scan"].Set(scene.volume)
    left["mask"].Set(scene.segmentation)
    assert all(node.Get() is not None for node in left.values())
    scene.open(CaseFiles(write("next.nii", scan(rng), affine("RAS"))), LABELS)
    assert [name for name, node in left.items() if node.Get() is not None] == []


def test_a_tool_that_is_not_in_hand_makes_nothing(scene, drawn):
    from fair_strategy.viewer.tools import Cut, Tool

    def made() -> int:
        nodes = scene.app.scene.GetNodesByClass("vtkMRMLScriptedModuleNode")
        nodes.UnRegister(None)
        return nodes.GetNumberOfItems()

    drawn.select(Tool.look)
    before = made()
    drawn.set_brush(7.0, sphere=True)
    drawn.set_cut(Cut.fill_inside)
    assert made() == before
    drawn.select(Tool.scissors)
    assert made() > before


def test_a_flat_brush_paints_less_than_a_round_one(scene, drawn):
    from fair_strategy.viewer.tools import Tool

    drawn.select(Tool.paint)
    counts = {}
    for sphere in (False, True):
        start = voxels(scene)
        drawn.set_brush(8.0, sphere=sphere)
        drawn.stamp(place(scene, (22, 10, 8)), view(scene))
        counts[sphere] = voxels(scene) - start
        drawn.undo()
    assert 0 < counts[False] < counts[True] / 2


def test_without_a_brush_in_hand_a_stamp_changes_nothing(scene, drawn):
    from fair_strategy.viewer.tools import Tool

    before = voxels(scene)
    drawn.select(Tool.look)
    drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    assert voxels(scene) == before
    assert scene.edits == 0


def test_islands_keep_the_largest_or_take_away_the_small(scene, drawn):
    large, whole = np.count_nonzero(ball((12, 14, 12), 6)), voxels(scene)
    drawn.keep_largest()
    assert voxels(scene) == large
    drawn.undo()
    assert voxels(scene) == whole
    drawn.remove_small(100)
    assert voxels(scene) == large


def test_threshold_keeps_only_what_lies_within(scene, drawn):
    inside = scene.intensities()[scene.labels() != 0]
    middle = float(np.median(inside))
    drawn.keep_within(middle, float(inside.max()))
    assert voxels(scene) == np.count_nonzero(inside >= middle)
    assert scene.intensities()[scene.labels() != 0].min() >= middle
    drawn.undo()
    assert voxels(scene) == inside.size


def test_a_brush_within_a_range_paints_nothing_outside_of_it(scene, drawn):
    from fair_strategy.viewer.tools import Tool

    before = scene.labels()
    drawn.select(Tool.paint)
    drawn.set_brush(8.0, sphere=True)
    middle = float(scene.intensities()[22, 10, 8])
    drawn.paint_within(middle, middle + 300, enabled=True)
    drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    drawn.paint_within(0, 1, enabled=False)
    new = (scene.labels() != 0) & (before == 0)
    if new.any():
        assert scene.intensities()[new].min() >= middle
    drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    assert np.count_nonzero((scene.labels() != 0) & (before == 0)) > np.count_nonzero(new)


@pytest.mark.parametrize("how", ["median", "opening", "closing", "gaussian"])
def test_smoothing_changes_a_segment_but_never_loses_it(scene, drawn, how):
    from fair_strategy.viewer.tools import Smoothing

    before = voxels(scene)
    drawn.smooth(Smoothing(how), 3.0 if how != "gaussian" else 1.0)
    assert 0.5 * before < voxels(scene) < 1.5 * before
    assert set(np.unique(scene.labels())) == {0, 3}
    drawn.undo()
    assert voxels(scene) == before


def test_joint_smoothing_is_not_offered():
    from fair_strategy.viewer.tools import Smoothing

    assert "joint" not in {how.value for how in Smoothing}


def test_scissors_cut_what_lies_inside_a_line(scene, drawn):
    from vtkmodules.vtkCommonCore import vtkPoints

    from fair_strategy.viewer.tools import Cut, Tool

    before = voxels(scene)
    slice_view = scene.app.view_manager.get_view("Red")
    slice_view.fit_view_to_content()
    width, height = slice_view.render_window().GetSize()
    drawn.select(Tool.scissors)
    drawn.set_cut(Cut.erase_inside)
    line = vtkPoints()
    for x, y in ((0, 0), (width, 0), (width, height), (0, height)):
        line.InsertNextPoint(x, y, 0)
    scene.app.segmentation_editor.active_effect.apply_points_display_coordinates(line, slice_view)
    assert voxels(scene) < before
    drawn.undo()
    assert voxels(scene) == before


def test_a_file_takes_the_place_of_what_is_drawn(scene, drawn, write):
    mask = np.zeros(SHAPE, np.uint8)
    mask[ball((20, 20, 15), 3)] = 3
    scene.take(write("other.nii", mask, affine("LAS", oblique=True)))
    assert voxels(scene) == np.count_nonzero(mask)
    assert not scene.undo.can_undo()


def test_every_edit_and_every_undo_is_counted_for_the_draft(scene, drawn):
    from fair_strategy.viewer.tools import Tool

    drawn.select(Tool.paint)
    drawn.set_brush(6.0, sphere=True)
    counts = [scene.edits]
    drawn.stamp(place(scene, (22, 10, 8)), view(scene))
    counts.append(scene.edits)
    drawn.undo()
    counts.append(scene.edits)
    drawn.redo()
    counts.append(scene.edits)
    assert counts == sorted(set(counts)), "each step raises the count"


def test_tools_wait_for_a_case(scene):
    from fair_strategy.viewer.tools import Tool, Tools

    tools = Tools(scene)
    for tool in Tool:
        tools.select(tool)
    assert not scene.is_open


def test_scissors_by_keyboard_cut_what_their_corners_enclose(scene, drawn):
    from fair_strategy.viewer.tools import Cut, Tool

    before = scene.labels()
    drawn.select(Tool.scissors)
    drawn.set_cut(Cut.erase_inside)
    slice_view = scene.app.view_manager.get_view("Red")
    right, up = (np.array([[slice_view.get_view_node().GetSliceToRAS().GetElement(i, j)
                            for i in range(3)] for j in (0, 1)]))  # fmt: skip
    large, small = (np.array(place(scene, at)) for at in ((12, 14, 12), (30, 26, 20)))
    # A square of 24 mm around the larger ball; the smaller one lies outside of it.
    assert max(abs((small - large) @ right), abs((small - large) @ up)) > 14
    for sideways, upwards in ((-12, -12), (12, -12), (12, 12), (-12, 12)):
        corner = large + sideways * right + upwards * up
        drawn.cutting.add(tuple(corner), slice_view)
    slice_view.zoom(0.3)  # the corners lie in the patient, not on the screen
    drawn.cutting.add(tuple(small), slice_view)
    drawn.cutting.take_back()
    assert drawn.cutting.cut()
    after = scene.labels()
    assert np.count_nonzero(after) == np.count_nonzero(before[after != 0]) > 0
    assert np.count_nonzero(after) < 60 < np.count_nonzero(before) - 60
    assert drawn.cutting.corners == []
    drawn.undo()
    assert np.array_equal(scene.labels(), before)


def test_two_corners_or_a_line_that_was_dropped_cut_nothing(scene, drawn):
    from fair_strategy.viewer.tools import Tool

    before = voxels(scene)
    red, green = (scene.app.view_manager.get_view(tag) for tag in ("Red", "Green"))
    drawn.select(Tool.scissors)
    for corner in ((0.0, 0.0, 0.0), (9.0, 0.0, 0.0)):
        drawn.cutting.add(corner, red)
    assert not drawn.cutting.cut()
    drawn.cutting.add((0.0, 9.0, 0.0), green)
    assert len(drawn.cutting.corners) == 1, "in another view the line begins anew"
    drawn.select(Tool.paint)
    assert drawn.cutting.corners == []
    assert not drawn.cutting.cut()
    assert voxels(scene) == before


def drag(slice_view, start: tuple[int, int], end: tuple[int, int]) -> None:
    """A drag with the left button, in five steps."""
    mouse = slice_view.interactor()
    mouse.SetEventInformation(*start, 0, 0)
    mouse.InvokeEvent("EnterEvent")
    mouse.InvokeEvent("MouseMoveEvent")
    mouse.InvokeEvent("LeftButtonPressEvent")
    for at in np.linspace(start, end, 6, dtype=int)[1:]:
        mouse.SetEventInformation(int(at[0]), int(at[1]), 0, 0)
        mouse.InvokeEvent("MouseMoveEvent")
    mouse.InvokeEvent("LeftButtonReleaseEvent")


def test_a_drag_across_widens_the_window_and_one_upwards_raises_it(scene, drawn):
    from fair_strategy.viewer.dragging import WindowDrag

    slice_view = scene.app.view_manager.get_view("Red")
    looking, asked = [True], []
    WindowDrag(
        [slice_view],
        window=lambda: scene.window() if looking[0] else None,
        react=lambda window: (asked.append(window), scene.set_window(*window)),
    )
    low, high = scene.window()
    drag(slice_view, (80, 100), (130, 100))  # of 200 pixels: a quarter
    assert scene.window() == pytest.approx((low - (high - low) / 2, high + (high - low) / 2))
    drag(slice_view, (130, 100), (80, 100))
    assert scene.window() == pytest.approx((low, high))
    drag(slice_view, (100, 50), (100, 150))
    assert scene.window() == pytest.approx((low + (high - low) / 2, high + (high - low) / 2))
    looking[0] = False
    count = len(asked)
    drag(slice_view, (80, 100), (130, 100))
    assert len(asked) == count
