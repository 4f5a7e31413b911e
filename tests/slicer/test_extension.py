"""The extension as a folder: it suits the Python of desktop Slicer 5.6, and all its files agree."""

import ast
import json
import re
import struct
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "slicer_extension"
SOURCES = sorted(ROOT.rglob("*.py"))
IN_SLICER = {"slicer", "vtk", "FairReviewLib"}
WITH_QT = IN_SLICER | {"qt", "ctk", "numpy", "FairReviewPanel"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_file_is_python_3_9(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    # Without it, `int | None` in a signature fails in Python 3.9.
    future = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    holds_code = len(tree.body) > 1
    assert bool(future) == holds_code


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_import_is_there_in_slicer_and_only_the_widget_needs_qt(path):
    allowed = IN_SLICER if path.parent.name == "FairReviewLib" else WITH_QT
    foreign = roots_of_imports(path) - set(sys.stdlib_module_names) - allowed
    assert foreign == set()


def test_the_check_of_imports_finds_a_foreign_one(tmp_path):
    (tmp_path / "x.py").write_text("def f():\n    from fair_strategy.store import cases\n")
    assert roots_of_imports(tmp_path / "x.py") == {"fair_strategy"}


def test_cmake_installs_every_python_file():
    listed = re.findall(
        r"\$\{MODULE_NAME\}(\S*\.py)", (ROOT / "FairReview/CMakeLists.txt").read_text()
    )
    there = {str(path.relative_to(ROOT / "FairReview")) for path in SOURCES}
    assert {f"FairReview{name}" for name in listed} == there


def test_the_catalogue_entry_has_the_fields_of_its_schema():
    entry = json.loads((ROOT / "FairReview.json").read_text())
    assert entry["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    known = {"$schema", "category", "scm_url", "scm_revision", "scm_type"}
    known |= {"build_dependencies", "build_subdirectory", "enabled", "tier", "dicom_support_rule"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= known
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert "project(FairReview)" in cmake  # the catalogue wants the entry's file name here
    assert f'set(EXTENSION_CATEGORY "{entry["category"]}")' in cmake


def test_the_icon_is_a_square_png_as_the_catalogue_wants_it():
    head = (ROOT / "FairReview/Resources/Icons/FairReview.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (128, 128)


def roots_of_imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found
