"""A case in the scene: grids, label values, overlay, letters, memory. No page, no network."""

import os
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.volumes import VolumeError, read_labels
from tests.viewer.conftest import SHAPE, affine, ball, scan

LABELS = {"left caudate": 1}


@pytest.fixture
def case(rng, write):
    """Writes a case in an orientation; its files, and the mask that was written."""
    from fair_strategy.viewer.scene import CaseFiles

    def made(axes: str = "RAS", *, oblique: bool = False, suffix: str = ".nii.gz", values=(1,)):
        matrix = affine(axes, oblique=oblique)
        mask = np.zeros(SHAPE, np.uint8)
        for number, value in enumerate(values):
            mask[ball((10 + 14 * number, 12, 9), 5)] = value
        entropy = np.zeros(SHAPE, np.float32)
        entropy[ball((24, 20, 14), 4)] = 0.5
        files = CaseFiles(
            write(f"scan{suffix}", scan(rng), matrix),
            write(f"mask{suffix}", mask, matrix),
            write(f"entropy{suffix}", entropy, matrix),
        )
        return files, mask, matrix

    return made


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PIR", "ASL"])
def test_a_mask_comes_out_voxel_by_voxel_as_it_went_in(
    scene, case, tmp_path, axes, oblique, suffix
):
    files, mask, matrix = case(axes, oblique=oblique, suffix=suffix)
    scene.open(files, LABELS)
    back = read_labels(scene.export(tmp_path / "out.nii.gz"))
    assert np.array_equal(back.array, mask)
    assert np.allclose(back.affine, matrix, atol=1e-4)


def test_label_values_are_kept_and_named(scene, case, tmp_path):
    files, mask, _ = case("LAS", values=(2, 5))
    scene.open(files, {"caudate": 2, "putamen": 5})
    assert np.array_equal(read_labels(scene.export(tmp_path / "out.nii.gz")).array, mask)
    names = [scene.app.segmentation_editor.get_segment(i).GetName() for i in scene.values]
    assert names == ["caudate", "putamen"]


def test_a_value_that_the_model_does_not_name_is_kept(scene, case, tmp_path):
    files, _, _ = case(values=(1, 7))
    scene.open(files, LABELS)
    assert sorted(scene.values.values()) == [1, 7]
    assert set(np.unique(read_labels(scene.export(tmp_path / "out.nii.gz")).array)) == {0, 1, 7}


def test_a_case_without_a_mask_starts_empty_and_can_be_exported(scene, case, tmp_path):
    from fair_strategy.viewer.scene import CaseFiles

    files, _, _ = case("LPS")
    scene.open(CaseFiles(files.scan), LABELS)
    assert scene.overlay is None
    assert not read_labels(scene.export(tmp_path / "out.nii.gz")).array.any()


def test_a_mask_on_another_grid_is_refused_and_the_case_of_before_stays(scene, case, write):
    from fair_strategy.viewer.scene import CaseFiles

    files, mask, matrix = case()
    scene.open(files, LABELS)
    elsewhere = matrix.copy()
    elsewhere[0, 3] += 4
    wrong = CaseFiles(files.scan, write("other.nii.gz", mask, elsewhere))
    with pytest.raises(VolumeError, match="not on the image's grid"):
        scene.open(wrong, LABELS)
    assert scene.is_open
    assert scene.labels().any()


def test_an_outline_beside_is_seen_and_never_handed_in(scene, case, write, tmp_path):
    files, mask, matrix = case("LAS", oblique=True)
    model = write("model.nii.gz", np.roll(mask, 6, axis=0), matrix)
    scene.open(files, LABELS)
    scene.slices.jump(scene.middle_of_mask())
    view = scene.app.view_manager.get_view("Red")
    edits, alone = scene.edits, drawn_by(view)
    scene.show_mask(False)
    nothing = drawn_by(view)
    scene.lay_beside(model)
    assert np.array_equal(drawn_by(view), nothing), "what is hidden stays hidden"
    scene.show_mask(True)
    together = drawn_by(view)
    assert (together != alone).any(), "nothing of it is seen"
    scene.show_mask(False)
    assert np.array_equal(drawn_by(view), nothing)
    assert scene.edits == edits
    assert np.array_equal(read_labels(scene.export(tmp_path / "out.nii.gz")).array, mask)
    scene.open(case()[0], LABELS)
    assert scene.beside is None


def test_volume_is_that_of_the_labelled_voxels(scene, case):
    files, mask, _ = case(oblique=True)
    scene.open(files, LABELS)
    assert scene.volume_mm3() == pytest.approx(np.count_nonzero(mask) * 1.0 * 1.25 * 1.5)


def test_the_centre_of_the_mask_is_where_it_was_drawn(scene, case):
    files, _, matrix = case("LPS", oblique=True)
    scene.open(files, LABELS)
    assert np.allclose(scene.middle_of_mask(), (matrix @ [10, 12, 9, 1])[:3], atol=1e-4)


# ---------------------------------------------------------------- letters


@pytest.mark.parametrize("axes", ["RAS", "LAS", "PIR"])
def test_letters_follow_the_radiological_convention_whatever_the_file(scene, case, axes):
    scene.open(case(axes)[0], LABELS)
    found = scene.slices.edges()
    assert found["Red"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert found["Green"] == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert found["Yellow"] == {"left": "A", "right": "P", "top": "S", "bottom": "I"}


def test_letters_stay_right_when_a_view_is_turned(scene, case):
    scene.open(case()[0], LABELS)
    view = scene.app.view_manager.get_view("Red")
    view.set_orientation("Sagittal")
    assert scene.slices.edges()["Red"] == {"left": "A", "right": "P", "top": "S", "bottom": "I"}
    view.set_orientation("Axial")
    assert scene.slices.edges()["Red"]["left"] == "R"


def test_letters_agree_with_what_is_drawn(scene, write):
    """A bright block in the patient's left front upper corner is at the right and top."""
    from fair_strategy.viewer.scene import CaseFiles

    image = np.full(SHAPE, 1.0, np.float32)
    image[2:12, 22:34, 4:26] = 200.0
    scene.open(CaseFiles(write("corner.nii.gz", image, affine("RAS"))), LABELS)
    x, y = centre_of_light(scene.app.view_manager.get_view("Red"))
    edges = scene.slices.edges()["Red"]
    # Low i in RAS is the patient's left; high j is anterior.
    assert edges["right" if x > 0 else "left"] == "L"
    assert edges["top" if y > 0 else "bottom"] == "A"


def drawn_by(view) -> np.ndarray:
    """What a view draws, (height, width, 3), its lowest row first."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

    view.render_window().Render()
    picture = vtkWindowToImageFilter()
    picture.SetInput(view.render_window())
    picture.ReadFrontBufferOff()
    picture.Update()
    image = picture.GetOutput()
    width, height, _ = image.GetDimensions()
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(height, width, -1)[:, :, :3].copy()


def centre_of_light(view) -> tuple[float, float]:
    """Where a view is bright, from its middle: to the right, and up."""
    view.fit_view_to_content()
    values = drawn_by(view)
    height, width, _ = values.shape
    bright = np.argwhere(values.min(axis=2) > 150)
    assert len(bright) > 50, "nothing bright was drawn"
    row, column = bright.mean(axis=0)
    return float(column - width / 2), float(row - height / 2)


# ---------------------------------------------------------------- overlay and places


def test_the_overlay_is_a_thresholded_foreground_up_to_ln_two(scene, case):
    from fair_strategy.viewer.overlay import Look

    scene.open(case()[0], LABELS)
    overlay = scene.overlay
    assert overlay.highest == pytest.approx(np.log(2))
    scene.show_overlay(Look(shown=True, threshold=0.3, opacity=0.7))
    display = overlay.node.GetDisplayNode()
    assert (display.GetLowerThreshold(), display.GetApplyThreshold()) == (0.3, 1)
    view = scene.app.view_manager.get_view("Red")
    assert view.get_foreground_volume_id() == overlay.node.GetID()
    assert view.get_foreground_opacity() == pytest.approx(0.7)
    scene.show_overlay(Look(shown=False))
    assert not view.get_foreground_volume_id()


def test_the_most_uncertain_voxels_are_no_holes_in_the_overlay(scene, case, write):
    """An even choice, ln 2, is kept as the next float16, which is more than ln 2."""
    import dataclasses

    from fair_strategy.viewer.volumes import voxels

    stored = np.float32(np.float16(np.log(2)))
    assert stored > np.log(2)
    files, _, matrix = case()
    even = write("even.nii.gz", np.full(SHAPE, stored), matrix)
    scene.open(dataclasses.replace(files, entropy=even), LABELS)
    node = scene.overlay.node
    assert voxels(node.GetImageData()).max() == stored
    display = node.GetDisplayNode()
    assert display.GetLowerThreshold() <= stored <= display.GetUpperThreshold()


def test_how_the_overlay_is_shown_holds_for_the_next_case(scene, case):
    from fair_strategy.viewer.overlay import Look

    files = case()[0]
    scene.open(files, LABELS)
    scene.show_overlay(Look(shown=True, threshold=0.25, opacity=0.4))
    scene.open(files, LABELS)
    assert scene.overlay.node.GetDisplayNode().GetLowerThreshold() == 0.25
    scene.show_overlay(Look())


def test_the_colours_of_the_bar_rise_from_dark_to_light(scene, case):
    scene.open(case()[0], LABELS)
    light = [sum(colour) for colour in scene.overlay.colours()]
    assert light[0] < 50
    assert light[-1] > 600
    assert light == sorted(light)


def test_places_are_gone_through_from_the_most_uncertain_and_round_again():
    from fair_strategy.viewer.overlay import Peak, Peaks

    low, middle, high = (Peak((float(n), 0.0, 0.0), 0.1 * n) for n in (1, 2, 3))
    peaks = Peaks([middle, low, high])
    assert [peaks.next() for _ in range(4)] == [high, middle, low, high]
    assert peaks.previous() == low
    assert peaks.most_uncertain() == high
    assert peaks.number == 1
    assert Peaks().next() is None


def test_a_jump_brings_every_slice_and_the_cross_hair_there(scene, case):
    files, _, matrix = case("LAS", oblique=False)
    scene.open(files, LABELS)
    x, y, z, _ = matrix @ [24, 20, 14, 1]
    scene.slices.jump((x, y, z))
    offsets = {
        view.get_singleton_tag(): view.get_slice_value()
        for view in scene.app.view_manager.get_slice_views()
    }
    assert offsets["Red"] == pytest.approx(z, abs=0.01)
    assert offsets["Green"] == pytest.approx(y, abs=0.01)
    assert abs(offsets["Yellow"]) == pytest.approx(abs(x), abs=0.01)
    assert np.allclose(scene.slices.crosshair().GetCrosshairRAS(), (x, y, z))


def test_window_and_range_are_those_of_the_scan(scene, case):
    scene.open(case()[0], LABELS)
    lowest, highest = scene.intensity_range()
    low, high = scene.window()
    assert lowest <= low < high <= highest
    scene.set_window(20.0, 90.0)
    assert scene.window() == (20.0, 90.0)


# ---------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_cases(scene, rng, write):
    from fair_strategy.viewer.scene import CaseFiles

    shape = (96, 96, 96)  # a scan and a map of 3.4 MiB each: a leak of one a case would show
    image = rng.normal(100, 20, shape).astype(np.float32)
    mask = np.zeros(shape, np.uint8)
    mask[40:60, 40:60, 40:60] = 1
    matrix = affine("LAS")
    files = CaseFiles(
        write("big.nii", image, matrix),
        write("bigmask.nii", mask, matrix),
        write("bigmap.nii", np.abs(image) / 1000, matrix),
    )
    for _ in range(4):  # caches fill
        scene.open(files, LABELS)
    before = resident_mb()
    for _ in range(14):
        scene.open(files, LABELS)
    assert resident_mb() - before < 25.0
    scene.clear()
    assert not scene.is_open


def resident_mb() -> float:
    """Memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
