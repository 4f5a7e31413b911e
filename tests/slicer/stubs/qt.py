"""A stand-in for Slicer's `qt`: widgets that hold what is set and pass signals on. Draws nothing.

As PythonQt does: properties are attributes with a setter, slots get no more arguments than they
take, and a changed property sends its signal unless signals are blocked. A property or a method
that does not stand here is an AttributeError. Tests play the person with `emit`, `click`, `choose`.
"""

from types import SimpleNamespace
from typing import Any, ClassVar

from tests.slicer.stubs.signals import Bound, Property, QObject

Qt = SimpleNamespace(
    WaitCursor="WaitCursor",
    PlainText="PlainText",
    ToolTipRole="ToolTipRole",
    ItemIsEditable=2,
    RightDockWidgetArea="RightDockWidgetArea",
)
SIGNAL = str


class QWidget(QObject):
    enabled = Property(True)
    visible = Property(True)
    toolTip = Property("")
    styleSheet = Property("")
    icon = Property(None)
    windowTitle = Property("")
    mrmlScene = Property(None)
    isEntered = False
    _layout: Any = None

    def show(self) -> None:
        self.visible = True

    def hide(self) -> None:
        self.visible = False

    def close(self) -> None:
        self.visible = False

    def activateWindow(self) -> None: ...

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlScene = scene

    def layout(self) -> Any:
        return self._layout

    def setLayout(self, layout: Any) -> None:
        self._layout = layout
        layout.owner = self


class QLabel(QWidget):
    text = Property("")
    wordWrap = Property(False)
    textFormat = Property("AutoText")

    def __init__(self, text: str = "", *parts: Any) -> None:
        super().__init__(*parts)
        self.text = text


class _Button(QWidget):
    text = Property("")
    checkable = Property(False)
    checked = Property(False, "toggled")

    def __init__(self, text: str = "", *parts: Any) -> None:
        super().__init__(*parts)
        if isinstance(text, str):
            self.text = text

    @property
    def clicked(self) -> Any:
        return Bound(self, "clicked")

    def click(self) -> None:
        """What a person does; a disabled or hidden button does nothing."""
        if self.enabled and self.visible:
            if self.checkable:
                self.checked = not self.checked
            self.emit("clicked", self.checked)


class QPushButton(_Button): ...


class QCheckBox(_Button):
    checkable = Property(True)

    @property
    def stateChanged(self) -> Any:
        return Bound(self, "stateChanged")

    def checkState(self) -> int:
        return 2 if self.checked else 0


class QLineEdit(QWidget):
    Normal = 0
    text = Property("", "textChanged")
    placeholderText = Property("")

    def write(self, text: str) -> None:
        """What a person does: type, then leave the field."""
        self.text = text
        self.emit("editingFinished")


class QProgressBar(QWidget):
    value = Property(0, "valueChanged")


class QProgressDialog(QWidget):
    value = Property(0)
    maximum = Property(100)
    minimumDuration = Property(4000)
    labelText = Property("")


class QComboBox(QWidget):
    currentIndex = Property(-1, "currentIndexChanged")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.__dict__.update(items=[], edit=QLineEdit())

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def currentText(self) -> str:
        return self.itemText(self.currentIndex) or self.edit.text

    @currentText.setter
    def currentText(self, text: str) -> None:
        self.setCurrentText(text)

    def setCurrentText(self, text: str | None) -> None:
        found = self.findText(text or "")
        self.edit.text = text or ""  # of an editable box; any other keeps its entry
        if found >= 0:
            self.currentIndex = found

    def lineEdit(self) -> QLineEdit:
        return self.edit

    def itemText(self, index: int) -> str:
        return self.items[index] if 0 <= index < len(self.items) else ""

    def findText(self, text: str) -> int:
        return self.items.index(text) if text in self.items else -1

    def addItem(self, *entry: Any) -> None:
        # An entry is a text, or an icon and a text; a text may be followed by data.
        self.items.append(next(part for part in entry if isinstance(part, str)))
        if len(self.items) == 1:
            self.currentIndex = 0

    def addItems(self, texts: list[str]) -> None:
        for text in texts:
            self.addItem(text)

    def setItemData(self, index: int, data: Any, role: Any) -> None:
        assert 0 <= index < len(self.items)

    def clear(self) -> None:
        self.items.clear()
        self.edit.text = ""
        self.currentIndex = -1

    def choose(self, text: str) -> None:
        """What a person does; an entry that is not there cannot be chosen."""
        self.currentIndex = self.items.index(text)


class QListWidget(QWidget):
    currentRow = Property(-1, "currentRowChanged")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.__dict__["items"] = []

    def addItem(self, text: str) -> None:
        self.items.append(text)

    def clear(self) -> None:
        self.items.clear()
        self.currentRow = -1


class QTableWidgetItem:
    def __init__(self, text: str) -> None:
        self._text, self._flags = text, 63

    def text(self) -> str:
        return self._text

    def write(self, text: str) -> None:
        """What a person does."""
        self._text = text

    def flags(self) -> int:
        return self._flags

    def setFlags(self, flags: int) -> None:
        self._flags = flags


class QTableWidget(QWidget):
    rowCount = Property(0)
    columnCount = Property(0)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.__dict__.update(items={}, widgets={})

    def clear(self) -> None:
        self.items.clear()
        self.widgets.clear()

    def setHorizontalHeaderLabels(self, labels: list[str]) -> None:
        assert len(labels) == self.columnCount

    def setColumnWidth(self, column: int, width: int) -> None: ...

    def setItem(self, row: int, column: int, item: QTableWidgetItem) -> None:
        self.items[row, column] = item

    def item(self, row: int, column: int) -> QTableWidgetItem | None:
        return self.items.get((row, column))

    def setCellWidget(self, row: int, column: int, widget: QWidget) -> None:
        self.widgets[row, column] = widget

    def cellWidget(self, row: int, column: int) -> QWidget | None:
        return self.widgets.get((row, column))


class _Layout(QObject):
    def __init__(self, owner: QWidget | None = None) -> None:
        super().__init__()
        if owner is not None:
            owner.setLayout(self)

    def addWidget(self, widget: QWidget) -> None:
        self.inside.append(widget)

    def addLayout(self, layout: "_Layout") -> None:
        self.inside.append(layout)

    def addStretch(self, stretch: int) -> None: ...


class QVBoxLayout(_Layout): ...


class QHBoxLayout(_Layout): ...


class QFormLayout(_Layout): ...


class QDockWidget(QWidget):
    DockWidgetMovable = 2
    features = Property(0)
    widget = Property(None)


class QMainWindow(QWidget):
    """Slicer's main window: its status bar and what is docked."""

    def __init__(self) -> None:
        super().__init__()
        self.objectName = "qSlicerMainWindow"
        self.__dict__["docked"] = []

    def addDockWidget(self, area: str, dock: QDockWidget) -> None:
        self.docked.append((area, dock))


class QDialog(QWidget):
    def exec(self) -> int:
        raise AssertionError(f"{type(self).__name__}: no test answers this dialog")


class QMessageBox:
    Ok, Cancel, Yes, No, Retry, Close = 0x400, 0x400000, 0x4000, 0x10000, 0x80000, 0x200000
    Information, Warning, Critical, Question = 1, 2, 3, 4


class QTimer(QObject):
    """Fires when a test says `emit("timeout()")`, if it was started."""

    interval = Property(0)
    active = Property(False)

    def start(self) -> None:
        self.active = True

    def stop(self) -> None:
        self.active = False

    def emit(self, signal: str, *values: Any) -> None:
        if self.active:
            super().emit(signal, *values)


class QIcon:
    def __init__(self, path: str = "") -> None:
        self.path = path


class QApplication:
    """Counts the waiting cursors that are set and not yet taken back."""

    waiting = 0

    @classmethod
    def setOverrideCursor(cls, cursor: str) -> None:
        cls.waiting += 1

    @classmethod
    def restoreOverrideCursor(cls) -> None:
        cls.waiting = max(0, cls.waiting - 1)


class QSettings:
    """Application settings, in memory, for all at once."""

    stored: ClassVar[dict[str, Any]] = {}

    def value(self, key: str) -> Any:
        return self.stored.get(key)

    def setValue(self, key: str, value: Any) -> None:
        self.stored[key] = value

    def contains(self, key: str) -> bool:
        return key in self.stored
