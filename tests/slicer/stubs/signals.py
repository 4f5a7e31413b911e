"""Properties, signals and slots, as PythonQt has them."""

import inspect
from collections.abc import Callable
from typing import Any


class Property:
    """An attribute with a setter method, and a signal when it changes."""

    def __init__(self, default: Any, signal: str = "") -> None:
        self.default, self.signal = default, signal

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        setter = f"set{name[0].upper()}{name[1:]}"
        if setter not in owner.__dict__:
            setattr(owner, setter, lambda widget, value: setattr(widget, name, value))

    def __get__(self, widget: Any, owner: type | None = None) -> Any:
        return self if widget is None else widget.held.get(self.name, self.default)

    def __set__(self, widget: Any, value: Any) -> None:
        changed = self.__get__(widget) != value
        widget.held[self.name] = value
        if changed and self.signal:
            widget.emit(self.signal, value)


class QObject:
    """Signals and slots."""

    name = Property("")
    objectName = Property("")

    def __init__(self, *parts: Any) -> None:
        self.__dict__.update(held={}, slots={}, blocked=False, inside=[], parts=parts)
        self.deleted = False

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name) and name not in ("blocked", "deleted", "owner"):
            raise AttributeError(f"{type(self).__name__} has no property {name!r}")
        super().__setattr__(name, value)

    deleted: Any = False
    owner: Any = None

    def connect(self, signal: str, slot: Callable[..., Any]) -> None:
        self.slots.setdefault(_name(signal), []).append(slot)

    def emit(self, signal: str, *values: Any) -> None:
        """Send a signal, as Qt does when a person or a timer acts."""
        if self.blocked:
            return
        for slot in list(self.slots.get(_name(signal), [])):
            slot(*values[: _takes(slot)])

    def blockSignals(self, blocked: bool) -> bool:
        before, self.blocked = self.blocked, blocked
        return before

    def children(self) -> list[Any]:
        return list(self.inside)

    def deleteLater(self) -> None:
        self.deleted = True


class Bound:
    def __init__(self, sender: QObject, signal: str) -> None:
        self._sender, self._signal = sender, signal

    def connect(self, slot: Callable[..., Any]) -> None:
        self._sender.connect(self._signal, slot)


def _name(signal: str) -> str:
    return signal.partition("(")[0]


def _takes(slot: Callable[..., Any]) -> int:
    parameters = inspect.signature(slot).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 99
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
