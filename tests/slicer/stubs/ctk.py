"""A stand-in for Slicer's `ctk`: the few widgets that the two modules use."""

from types import SimpleNamespace
from typing import Any, ClassVar

from tests.slicer.stubs import qt


class ctkCollapsibleButton(qt.QWidget):
    text = qt.Property("")
    collapsed = qt.Property(False)


class ctkComboBox(qt.QComboBox): ...


class ctkPathLineEdit(qt.QWidget):
    currentPath = qt.Property("")


class ctkSliderWidget(qt.QWidget):
    value = qt.Property(0.0, "valueChanged")
    minimum = qt.Property(0.0)
    maximum = qt.Property(99.0)
    singleStep = qt.Property(1.0)
    decimals = qt.Property(2)
    suffix = qt.Property("")


class ctkSettingsPanel(qt.QWidget): ...


class ctkMessageBox(qt.QWidget):
    """Keeps what was asked or told. A question takes its answer from `answers`, or fails."""

    told: ClassVar[list[SimpleNamespace]] = []
    answers: ClassVar[list[int]] = []

    text = qt.Property("")
    standardButtons = qt.Property(qt.QMessageBox.Ok)
    detailedText = qt.Property("")
    icon = qt.Property(0)
    dontShowAgainSettingsKey = qt.Property("")

    def exec_(self) -> Any:
        asked = self.standardButtons != qt.QMessageBox.Ok
        self.told.append(
            SimpleNamespace(text=self.text, asked=asked, icon=self.icon, details=self.detailedText)
        )
        if not asked:
            return qt.QMessageBox.Ok
        assert self.answers, f"no answer is prepared for: {self.text}"
        answer = self.answers.pop(0)
        assert answer & self.standardButtons, f"{answer:#x} is no answer to: {self.text}"
        return answer
