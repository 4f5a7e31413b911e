"""FairReviewLib on Slicer's core, without a server: scene, lease, wording, errors."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from tests.app import cohorts, serving
from tests.slicer.conftest import EXTENSION

TILT = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
GRIDS = {
    "left-handed": cohorts.AFFINE,
    "RAS": np.diag([2.0, 2.0, 2.0, 1.0]),
    "oblique": TILT @ cohorts.AFFINE,
}


@pytest.fixture
def lib(monkeypatch):
    """The library's modules, imported as Slicer imports them."""
    monkeypatch.syspath_prepend(str(EXTENSION))
    from FairReviewLib import client, current, lease, overlay, peaks, review, wording

    return SimpleNamespace(
        client=client,
        current=current,
        lease=lease,
        overlay=overlay,
        peaks=peaks,
        review=review,
        wording=wording,
    )


@pytest.fixture
def overlay(lib, desktop):
    import slicer

    return lib.overlay.Overlay(
        desktop.scene,
        volumes_logic=slicer.modules.volumes.logic(),
        colours_logic=slicer.modules.colors.logic(),
    )


@pytest.fixture
def composite(desktop):
    return desktop.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")


def entropy_file(folder, affine=cohorts.AFFINE):
    values = np.zeros(cohorts.SHAPE, dtype=np.float32)
    values[5, 7, 9] = 0.6
    return str(cohorts.save(folder / "map.nii.gz", values, affine))


# ---------------------------------------------------------------- map


@pytest.mark.parametrize("grid", GRIDS)
def test_a_map_lies_where_its_file_says(overlay, tmp_path, grid):
    overlay.load(entropy_file(tmp_path, GRIDS[grid]), "sub-01")
    r, a, s = (GRIDS[grid] @ [5, 7, 9, 1])[:3]
    assert value_at(overlay.node, (r, a, s)) == pytest.approx(0.6)
    assert overlay.node.GetImageData().GetScalarRange() == pytest.approx((0, 0.6))


def test_a_map_becomes_the_foreground_over_the_scan_that_stays_the_background(
    overlay, composite, desktop, tmp_path
):
    import slicer

    scan = slicer.util.loadVolume(str(cohorts.save(tmp_path / "t1.nii.gz", cohorts.scan(1)[0])))
    before = composite.GetBackgroundVolumeID()
    overlay.load(entropy_file(tmp_path), "sub-01")
    assert composite.GetForegroundVolumeID() == overlay.node.GetID()
    assert composite.GetForegroundOpacity() == 0.5
    assert composite.GetBackgroundVolumeID() == before
    assert desktop.core.app_logic.GetSelectionNode().GetActiveVolumeID() == scan.GetID()


def test_the_threshold_hides_what_is_certain_and_a_colour_bar_tells_nats(
    overlay, composite, tmp_path
):
    import slicer

    overlay.load(entropy_file(tmp_path), "sub-01", classes=3)
    display = overlay.node.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == pytest.approx(0.1)
    assert display.GetUpperThreshold() >= np.log(3)
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx(
        (0, np.log(3))
    )
    bar = slicer.modules.colors.logic().GetColorLegendDisplayNode(overlay.node)
    assert bar.GetVisibility()
    assert bar.GetTitleText() == "entropy, nats"
    # A view draws the bar of a layer only if the bar changes after the layer was set.
    assert bar.GetMTime() > composite.GetMTime()
    overlay.threshold = 0.0
    overlay.apply()
    assert display.GetLowerThreshold() > 0  # or the whole field of view were painted


def test_hiding_takes_the_map_from_the_views_and_showing_brings_it_back(
    overlay, composite, tmp_path
):
    import slicer

    overlay.load(entropy_file(tmp_path), "sub-01")
    bar = slicer.modules.colors.logic().GetColorLegendDisplayNode(overlay.node)
    overlay.shown = False
    overlay.apply()
    assert composite.GetForegroundVolumeID() is None
    assert not bar.GetVisibility()
    overlay.shown = True
    overlay.apply()
    assert composite.GetForegroundVolumeID() == overlay.node.GetID()
    assert bar.GetVisibility()


def test_hiding_leaves_a_foreground_of_the_reader_s_own(overlay, composite, tmp_path):
    import slicer

    overlay.load(entropy_file(tmp_path), "sub-01")
    other = slicer.util.loadVolume(str(cohorts.save(tmp_path / "t2.nii.gz", cohorts.scan(2)[0])))
    composite.SetForegroundVolumeID(other.GetID())
    overlay.shown = False
    overlay.apply()
    assert composite.GetForegroundVolumeID() == other.GetID()


def test_a_second_map_replaces_the_first_and_leaves_nothing_behind(overlay, desktop, tmp_path):
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLStorageNode", "vtkMRMLDisplayNode")

    def counts():
        return [desktop.scene.GetNumberOfNodesByClass(kind) for kind in kinds]

    empty = counts()
    overlay.load(entropy_file(tmp_path), "sub-01")
    once = counts()
    overlay.load(entropy_file(tmp_path), "sub-02")
    assert counts() == once
    assert overlay.node.GetName() == "sub-02 entropy"
    overlay.remove()
    assert counts() == empty
    assert overlay.node is None


def test_neither_map_nor_points_are_saved_with_the_scene(overlay, lib, desktop, tmp_path):
    overlay.load(entropy_file(tmp_path), "sub-01")
    lib.peaks.Peaks(desktop.scene).load([lib.peaks.Peak((1, 2, 3), 0.5)])
    own = [*lib.current.own_nodes(desktop.scene, "entropy")]
    own += lib.current.own_nodes(desktop.scene, "peaks")
    assert len(own) == 2
    for node in own:
        assert not node.GetSaveWithScene()
        assert not node.GetDisplayNode().GetSaveWithScene()


def test_a_file_that_is_no_volume_is_an_error(overlay, tmp_path):
    (tmp_path / "map.nii.gz").write_bytes(b"no volume")
    with pytest.raises(ValueError, match="expected a volume"):
        overlay.load(str(tmp_path / "map.nii.gz"), "sub-01")
    assert overlay.node is None


# ---------------------------------------------------------------- peaks


def test_peaks_are_listed_highest_first_and_every_view_goes_there(lib, desktop):
    answer = [
        {"position": [1, 2, 3], "entropy": 0.2},
        {"position": [-30.4, 12, 5], "entropy": 0.6},
    ]
    peaks = lib.peaks.Peaks(desktop.scene)
    peaks.load(lib.peaks.read_peaks(answer))
    assert [str(p) for p in peaks.places] == [
        "0.60 nats at R -30, A 12, S 5 mm",
        "0.20 nats at R 1, A 2, S 3 mm",
    ]
    view = desktop.scene.GetFirstNodeByClass("vtkMRMLSliceNode")
    visited = [peaks.go_to(0), peaks.next(), peaks.next(), peaks.previous()]
    assert [peak.entropy for peak in visited] == [0.6, 0.2, 0.6, 0.2]
    centre = [view.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
    assert centre == pytest.approx([1, 2, 3])


def test_before_the_first_jump_previous_is_the_last_and_next_the_first(lib, desktop):
    places = [lib.peaks.Peak((float(n), 0.0, 0.0), 1.0 / n) for n in (1, 2, 3)]
    for step, expected in (("previous", places[2]), ("next", places[0])):
        peaks = lib.peaks.Peaks(desktop.scene)
        peaks.load(places)
        assert getattr(peaks, step)() == expected


def test_points_stand_at_the_peaks_and_cannot_be_dragged(lib, desktop):
    peaks = lib.peaks.Peaks(desktop.scene)
    peaks.load([lib.peaks.Peak((1.5, -2.0, 3.0), 0.4)])
    (node,) = lib.current.own_nodes(desktop.scene, "peaks")
    assert list(node.GetNthControlPointPosition(0)) == [1.5, -2.0, 3.0]
    assert node.GetLocked()
    peaks.show(False)
    assert not node.GetDisplayVisibility()


def test_a_scan_without_peaks_goes_nowhere(lib, desktop):
    peaks = lib.peaks.Peaks(desktop.scene)
    peaks.load([])
    assert (peaks.next(), peaks.previous(), peaks.go_to(0)) == (None, None, None)
    assert lib.current.own_nodes(desktop.scene, "peaks") == []


# ---------------------------------------------------------------- what is current


def widget(**sample):
    return SimpleNamespace(current_sample=sample or None, serverUrl=lambda: "http://pacs:8000")


def test_the_monai_label_module_says_which_scan_and_which_server(lib, desktop):
    desktop.settings.setValue("MONAILabel/clientId", "anna")
    modules = SimpleNamespace(MONAILabelWidget=widget(id="sub-03_T1w"))
    found = lib.current.find_current(modules, desktop.scene, desktop.settings)
    assert found == lib.current.Current("sub-03_T1w", "anna", "http://pacs:8000", "module")


def test_without_that_module_the_volume_s_name_tells_the_scan(lib, desktop):
    desktop.settings.setValue("MONAILabel/serverUrl", "http://other:9000/")
    for kind, name in (
        ("vtkMRMLLabelMapVolumeNode", "a mask"),
        ("vtkMRMLScalarVolumeNode", "sub-04_T1w | uncertainty p97, older model"),
    ):
        desktop.scene.AddNewNodeByClass(kind, name)
    found = lib.current.find_current(SimpleNamespace(), desktop.scene, desktop.settings)
    assert found == lib.current.Current("sub-04_T1w", "user-xyz", "http://other:9000", "volume")


def test_our_own_map_is_never_taken_for_the_scan(lib, desktop, overlay, tmp_path):
    overlay.load(entropy_file(tmp_path), "sub-01")
    found = lib.current.find_current(SimpleNamespace(), desktop.scene, desktop.settings)
    assert (found.case_id, found.source) == ("", "")


def test_what_is_typed_comes_first_and_a_volume_of_the_reader_s_own_is_no_scan(lib, desktop):
    own = SimpleNamespace(MONAILabelWidget=widget(id="MRHead", session=True))
    find = lib.current.find_current
    assert find(own, desktop.scene, desktop.settings).case_id == ""
    typed = find(own, desktop.scene, desktop.settings, " sub-09_T1w ")
    assert (typed.case_id, typed.source) == ("sub-09_T1w", "typed")


# ---------------------------------------------------------------- lease and wording


def test_a_lease_is_counted_down_warned_of_and_over(lib):
    lease = lib.lease.Lease(held=True, ends_at=1000.0, warning_s=300.0)
    line = lib.wording.lease_line
    assert line(lease, 0.0) == "Yours for another 16 min."
    assert not lease.is_ending(699.0)
    assert lease.is_ending(700.0)
    assert "ends in 5 min. Renew it" in line(lease, 700.0)
    assert "ends in 30 s" in line(lease, 970.0)
    assert lease.is_over(1000.0)
    assert not lease.is_ending(1000.0)
    assert "has run out" in line(lease, 1000.0)
    assert "not leased to you" in line(lib.lease.Lease(held=False, ends_at=0.0), 5.0)
    assert line(None, 5.0) == ""


@pytest.mark.parametrize(("minutes", "expected"), [(60, 600), (40, 600), (8, 120)])
def test_the_warning_comes_ten_minutes_before_the_end_or_in_the_last_quarter(
    lib, minutes, expected
):
    assert lib.lease.warning_time(minutes) == expected


def test_why_is_told_in_sentences(lib):
    why = {
        "percentile": 91.2,
        "implausible": ["volume", "side"],
        "model": "1f2e3d4c",
        "trained_at": "2026-05-21T10:00:00+00:00",
        "stale": True,
        "note": "scored by an earlier model",
        "hide_presegmentation": False,
    }
    assert lib.wording.why_lines(why) == [
        "Uncertainty: more than 91 % of the scans of this study.",
        "The model's output is implausible: volume, side.",
        "Model 1f2e3d4c, of 2026-05-21.",
        "The score is by an earlier model; a new one is on its way.",
    ]


def test_a_scan_that_no_model_has_seen_says_so(lib):
    lines = lib.wording.why_lines({"percentile": None, "implausible": [], "model": None})
    assert lines == ["Not scored yet.", "No model has seen this scan yet."]


def test_the_name_that_everybody_shares_is_told(lib):
    line = lib.wording.current_line(lib.current.Current("sub-01_T1w"))
    assert "everybody shares" in line
    assert "Next Sample" in lib.wording.current_line(lib.current.Current())


# ---------------------------------------------------------------- a server in trouble


def test_a_server_that_is_down_is_a_sentence_and_leaves_the_scene_alone(lib, overlay, desktop):
    url = f"http://127.0.0.1:{serving.free_port()}"
    review = lib.review.Review(desktop.scene, overlay, ".")
    review.follow(lib.current.Current("sub-01_T1w", "anna", url, "module"))
    assert url in review.problem
    assert "Is the server running?" in review.problem
    assert review.why == {}
    assert overlay.node is None


@pytest.mark.parametrize("url", ["file:///etc/hostname", "127.0.0.1:8000", "ftp://host"])
def test_an_address_that_is_no_http_is_refused(lib, url):
    with pytest.raises(lib.client.ReaderError, match="expected http"):
        lib.client.ReaderClient(url, "anna").options()


class Odd(BaseHTTPRequestHandler):
    """Answers of servers that are not ours, which ours cannot be made to give."""

    answers = {  # noqa: RUF012
        "/reader/options": (200, b"<html>a proxy's page</html>"),
        "/reader/why": (200, b"[1]"),
        "/reader/lease": (404, b'{"detail": "Not Found"}'),
        "/reader/peaks": (502, b"bad gateway"),
    }

    def do_GET(self):
        status, body = self.answers[self.path.partition("?")[0]]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args): ...


@pytest.fixture
def odd_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_another_server_s_answers_become_sentences(lib, odd_server):
    client = lib.client.ReaderClient(odd_server, "anna")
    for call, words in (
        (client.options, "no usable answer"),
        (lambda: client.why("x"), "expected a JSON object"),
        (lambda: client.lease("x"), "no reader routes"),
        (lambda: client.peaks("x"), "502"),
    ):
        with pytest.raises(lib.client.ReaderError, match=words):
            call()


def test_a_proxy_of_the_environment_is_not_asked(lib, odd_server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{serving.free_port()}")
    with pytest.raises(lib.client.ReaderError, match="no reader routes"):
        lib.client.ReaderClient(odd_server, "anna").lease("x")


def value_at(node, ras):
    import vtk

    to_ijk = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(to_ijk)
    i, j, k = (round(x) for x in to_ijk.MultiplyPoint([*ras, 1.0])[:3])
    return node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0)
