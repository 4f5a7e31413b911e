"""FairReview, a module for desktop 3D Slicer beside MONAI Label.

Shows where the model is uncertain about the current scan and why the scan was handed out; keeps an
eye on the lease. The widgets are in FairReviewPanel, all that needs no Qt in FairReviewLib.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import qt
import slicer
from FairReviewLib import wording
from FairReviewLib.current import Current, find_current
from FairReviewLib.overlay import Overlay
from FairReviewLib.peaks import Peak
from FairReviewLib.review import Review
from FairReviewPanel import Panel
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

TICK_MS = 1000
TITLE = "Fair Review"


class FairReview(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = TITLE
        self.parent.categories = ["Active Learning"]
        # MONAI Label is looked up when it is there; without it, the id of a scan can be typed.
        self.parent.dependencies = []
        self.parent.contributors = ["The fair-strategy authors"]
        self.parent.helpText = (
            "Open this module once, then work in MONAI Label. After Next Sample it shows where the "
            "model is uncertain, the most uncertain places, and why the scan was handed out."
        )
        self.parent.acknowledgementText = ""


class FairReviewWidget(ScriptedLoadableModuleWidget):
    """Joins the panel to the review."""

    def setup(self) -> None:
        """Called by Slicer when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self._busy = False
        self._dock = None
        self._folder = tempfile.mkdtemp(prefix="FairReview-")
        overlay = Overlay(
            slicer.mrmlScene,
            volumes_logic=slicer.modules.volumes.logic(),
            colours_logic=slicer.modules.colors.logic(),
        )
        self.review = Review(slicer.mrmlScene, overlay, self._folder)
        self.panel = Panel()
        self.panel.threshold.value = overlay.threshold
        self.panel.opacity.value = overlay.opacity
        self.layout.addWidget(self.panel.widget)
        self._connect()
        self._show()
        self.timer = qt.QTimer()
        self.timer.setInterval(TICK_MS)
        self.timer.connect("timeout()", self.tick)
        self.timer.start()

    def enter(self) -> None:
        """Called by Slicer whenever the module is chosen."""
        self.tick()

    def cleanup(self) -> None:
        """Called by Slicer when the module goes."""
        self.timer.stop()
        self.review.clear()
        if self._dock is not None:
            self._dock.deleteLater()
        shutil.rmtree(self._folder, ignore_errors=True)

    def tick(self) -> None:
        """Follow the current scan, count the lease down, warn before it ends."""
        with self._alone() as alone:
            if alone:
                self._follow()
                self.review.poll_lease()
                self._show()
                self._warn()

    def _follow(self) -> None:
        if self.review.follow(self._current()):
            self.panel.exclude_reason.text = ""
            self._list_peaks()
            self._list_reasons()

    def _current(self) -> Current:
        typed = self.panel.typed.text
        return find_current(slicer.modules, slicer.mrmlScene, qt.QSettings(), typed)

    def _warn(self) -> None:
        if self.review.lease_warning():
            line = wording.lease_line(self.review.lease, self.review.now())
            if slicer.util.confirmYesNoDisplay(f"{line}\n\nRenew it now?", windowTitle=TITLE):
                self.review.renew()
                self._show()

    @contextmanager
    def _alone(self) -> Any:
        # Slicer goes on serving its timer while a question is open or MONAI Label waits.
        if self._busy:
            yield False
            return
        self._busy = True
        try:
            yield True
        finally:
            self._busy = False

    # ------------------------------------------------------------ buttons

    def _connect(self) -> None:
        panel, review = self.panel, self.review
        for button, action in (
            (panel.refresh, self._refresh),
            (panel.reveal, review.reveal),
            (panel.renew, review.renew),
            (panel.skip, self._skip),
            (panel.exclude, self._exclude),
        ):
            button.connect("clicked()", self._doing(action))
        panel.first.connect("clicked()", lambda: self._went(review.peaks.go_to(0)))
        panel.previous.connect("clicked()", lambda: self._went(review.peaks.previous()))
        panel.next.connect("clicked()", lambda: self._went(review.peaks.next()))
        panel.peaks.connect("currentRowChanged(int)", self._chosen)
        panel.shown.connect("toggled(bool)", review.show_overlay)
        panel.threshold.connect("valueChanged(double)", self._look)
        panel.opacity.connect("valueChanged(double)", self._look)
        panel.beside.connect("toggled(bool)", self._keep_beside)
        panel.typed.connect("editingFinished()", self.tick)

    def _doing(self, action: Callable[[], None]) -> Callable[[], None]:
        """A button's action, with Slicer's waiting cursor while it runs."""

        def clicked() -> None:
            with self._alone() as alone:
                if not alone:
                    return
                qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
                try:
                    action()
                finally:
                    qt.QApplication.restoreOverrideCursor()
                self._list_peaks()
                self._list_reasons()
                self._show()

        return clicked

    def _refresh(self) -> None:
        self.review.refresh(self._current())

    def _skip(self) -> None:
        if self._sure("Hand this scan back? What you outlined and did not submit is not kept."):
            self.review.skip(self.panel.skip_reason.currentText)

    def _exclude(self) -> None:
        if self._sure("Exclude this scan? Nobody is offered it again."):
            self.review.exclude(self.panel.exclude_reason.text)

    def _sure(self, question: str) -> bool:
        return bool(slicer.util.confirmYesNoDisplay(question, windowTitle=TITLE))

    def _look(self, _value: float) -> None:
        self.review.overlay.threshold = self.panel.threshold.value
        self.review.overlay.opacity = self.panel.opacity.value
        self.review.overlay.apply()

    def _chosen(self, row: int) -> None:
        if row >= 0:
            self.review.peaks.go_to(row)

    def _went(self, peak: Peak | None) -> None:
        if peak is not None:
            self._select(self.review.peaks.at)

    def _keep_beside(self, beside: bool) -> None:
        """Move the panel into a window at the side of Slicer, or back."""
        main = slicer.util.mainWindow()
        if main is None:
            return
        if self._dock is None:
            self._dock = qt.QDockWidget(TITLE, main)
            self._dock.setObjectName("FairReviewDock")
            self._dock.setFeatures(qt.QDockWidget.DockWidgetMovable)
            main.addDockWidget(qt.Qt.RightDockWidgetArea, self._dock)
        if beside:
            self._dock.setWidget(self.panel.widget)
        else:
            self.layout.addWidget(self.panel.widget)
        self._dock.setVisible(beside)

    # ------------------------------------------------------------ showing

    def _show(self) -> None:
        panel, review, now = self.panel, self.review, self.review.now()
        panel.current.text = wording.current_line(review.current)
        panel.why.text = "\n".join(wording.why_lines(review.why)) if review.why else ""
        panel.lease.text = wording.lease_line(review.lease, now)
        panel.message.text, panel.problem.text = review.message, review.problem
        panel.problem.visible = bool(review.problem)
        known = bool(review.why)
        panel.reveal.visible = review.hidden
        panel.shown.enabled = review.overlay.node is not None
        for button in (panel.skip, panel.exclude):
            button.enabled = known
        panel.renew.enabled = review.lease is not None and review.lease.seconds_left(now) > 0
        for button in (panel.first, panel.previous, panel.next):
            button.enabled = bool(review.peaks.places)

    def _list_peaks(self) -> None:
        self.panel.threshold.maximum = self.review.overlay.highest
        blocked = self.panel.peaks.blockSignals(True)
        self.panel.peaks.clear()
        for peak in self.review.peaks.places:
            self.panel.peaks.addItem(str(peak))
        self.panel.peaks.setCurrentRow(self.review.peaks.at)
        self.panel.peaks.blockSignals(blocked)

    def _list_reasons(self) -> None:
        reasons = [str(reason) for reason in self.review.options.get("skip_reasons") or []]
        if reasons and self.panel.skip_reason.count != len(reasons):
            self.panel.skip_reason.clear()
            self.panel.skip_reason.addItems(reasons)

    def _select(self, row: int) -> None:
        blocked = self.panel.peaks.blockSignals(True)
        self.panel.peaks.setCurrentRow(row)
        self.panel.peaks.blockSignals(blocked)


class FairReviewTest(ScriptedLoadableModuleTest):
    """Slicer's own "Reload and Test": the scene code, without a server."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Called by Slicer."""
        self.setUp()
        self.test_overlay_and_peak()

    def test_overlay_and_peak(self) -> None:
        """A small map becomes the foreground, and its peak the centre of the views."""
        import numpy as np

        folder = tempfile.mkdtemp(prefix="FairReview-test-")
        values = np.zeros((12, 14, 16), dtype=np.float32)
        values[6, 7, 8] = 0.6
        path = f"{folder}/map.nii.gz"
        slicer.util.saveNode(slicer.util.addVolumeFromArray(values), path)
        overlay = Overlay(
            slicer.mrmlScene,
            volumes_logic=slicer.modules.volumes.logic(),
            colours_logic=slicer.modules.colors.logic(),
        )
        overlay.load(path, "test")
        review = Review(slicer.mrmlScene, overlay, folder)
        review.peaks.load([Peak((8.0, 7.0, 6.0), 0.6)])
        assert overlay.node is not None
        assert review.peaks.go_to(0) is not None
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            matrix = view.GetSliceToRAS()
            centre = [round(matrix.GetElement(axis, 3)) for axis in range(3)]
            assert centre == [8, 7, 6]
        review.clear()
        assert overlay.node is None
        shutil.rmtree(folder, ignore_errors=True)
        self.delayDisplay("Test passed")
