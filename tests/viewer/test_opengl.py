"""What is said where nothing can be drawn: a sentence, where there was a segmentation fault."""

import sys
from pathlib import Path

import pytest

from fair_strategy.viewer.opengl import RenderingError, check_rendering, rendering_environment


def interpreter(folder: Path, script: str) -> str:
    """A stand-in for Python on a machine without the libraries."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_segmentation_fault_becomes_a_sentence_that_names_the_packages(tmp_path):
    with pytest.raises(RenderingError, match=r"signal 11.*libegl1 libgl1-mesa-dri"):
        check_rendering(python=interpreter(tmp_path, "kill -SEGV $$"))


def test_a_window_without_a_driver_is_noticed_by_what_it_draws(tmp_path):
    script = "echo 'AssertionError: a red window came out as [0.0, 0.0, 0.0]' >&2; exit 1"
    with pytest.raises(RenderingError, match=r"a red window came out.*libegl1"):
        check_rendering(python=interpreter(tmp_path, script))


def test_a_missing_extra_is_named(tmp_path):
    script = "echo \"ModuleNotFoundError: No module named 'vtkmodules'\" >&2; exit 1"
    with pytest.raises(RenderingError, match=r"fair-strategy\[viewer\]"):
        check_rendering(python=interpreter(tmp_path, script))


def test_where_it_draws_nothing_is_said(slicer):
    check_rendering(python=sys.executable)


def test_an_empty_variable_of_vtk_is_left_out(monkeypatch):
    monkeypatch.setenv("VTK_DEFAULT_OPENGL_WINDOW", "")
    assert "VTK_DEFAULT_OPENGL_WINDOW" not in rendering_environment()
    monkeypatch.setenv("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    assert rendering_environment()["VTK_DEFAULT_OPENGL_WINDOW"] == "vtkEGLRenderWindow"
