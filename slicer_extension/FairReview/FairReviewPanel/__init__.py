"""The panel: the widgets, and nothing but the widgets."""

from __future__ import annotations

from typing import Any

import ctk
import qt


class Panel:
    """All widgets of the module, by name; `widget` holds them."""

    def __init__(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.addWidget(self._scan())
        layout.addWidget(self._uncertainty())
        layout.addWidget(self._lease())
        layout.addWidget(self._hand_back())
        self.message = _text(layout)
        self.problem = _text(layout)
        # Slicer's own ground is light or dark: red letters would not be read on both.
        self.problem.setStyleSheet("color: #ffffff; background: #b3261e; font-weight: bold")
        self.beside = qt.QPushButton("Keep beside other modules")
        self.beside.toolTip = "Show this panel in a window of its own, next to MONAI Label"
        self.beside.checkable = True
        layout.addWidget(self.beside)
        layout.addStretch(1)

    def _scan(self) -> Any:
        box, layout = _box("Why this scan")
        self.current = _text(layout)
        self.why = _text(layout)
        self.reveal = _button(layout, "Show what the model found", "This is recorded")
        row = qt.QHBoxLayout()
        self.typed = qt.QLineEdit()
        self.typed.setPlaceholderText("id of the scan, if it is not found by itself")
        row.addWidget(self.typed)
        self.refresh = _button(row, "Refresh", "Ask the server again")
        layout.addLayout(row)
        return box

    def _uncertainty(self) -> Any:
        box, layout = _box("Where the model is uncertain")
        self.shown = qt.QCheckBox("Show entropy map and points")
        self.shown.checked = True
        layout.addWidget(self.shown)
        self.threshold = _slider(layout, "Show above", highest=0.69, suffix=" nats")
        self.opacity = _slider(layout, "Opacity", highest=1.0)
        self.peaks = qt.QListWidget()
        self.peaks.toolTip = "Choose one to go there"
        layout.addWidget(self.peaks)
        row = qt.QHBoxLayout()
        self.first = _button(row, "Most uncertain", "Go to the most uncertain place")
        self.previous = _button(row, "Previous", "Go to the next higher place")
        self.next = _button(row, "Next", "Go to the next lower place")
        layout.addLayout(row)
        return box

    def _lease(self) -> Any:
        box, layout = _box("Lease")
        self.lease = _text(layout)
        self.renew = _button(layout, "Renew", "Start your time with this scan anew")
        return box

    def _hand_back(self) -> Any:
        box, layout = _box("Not this scan")
        self.skip_reason = qt.QComboBox()
        layout.addWidget(self.skip_reason)
        self.skip = _button(layout, "Skip", "Hand the scan back; somebody else may get it")
        self.exclude_reason = qt.QLineEdit()
        self.exclude_reason.setPlaceholderText("why it does not belong into the study")
        layout.addWidget(self.exclude_reason)
        self.exclude = _button(layout, "Exclude", "Nobody is offered this scan again")
        return box


def _box(title: str) -> tuple[Any, Any]:
    box = ctk.ctkCollapsibleButton()
    box.text = title
    return box, qt.QVBoxLayout(box)


def _text(layout: Any) -> Any:
    label = qt.QLabel()
    label.wordWrap = True
    # A server's sentence is shown as it is, never as markup.
    label.textFormat = qt.Qt.PlainText
    layout.addWidget(label)
    return label


def _button(layout: Any, text: str, tip: str) -> Any:
    button = qt.QPushButton(text)
    button.toolTip = tip
    layout.addWidget(button)
    return button


def _slider(layout: Any, title: str, *, highest: float, suffix: str = "") -> Any:
    layout.addWidget(qt.QLabel(title))
    slider = ctk.ctkSliderWidget()
    slider.decimals = 2
    slider.singleStep = 0.01
    slider.minimum = 0.0
    slider.maximum = highest
    slider.suffix = suffix
    layout.addWidget(slider)
    return slider
