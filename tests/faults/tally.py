"""What a soak counts: kills, what had been answered before them, what was missing after them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Kills:
    """What is asked of a soak.

    Attributes:
        most: kills.
        seed: of their moments, of what is written, of who is killed.
        over: asked before each kill; True ends the soak early.
    """

    most: int
    seed: int
    over: Callable[[], bool] = lambda: False

    def numbers(self) -> Iterator[int]:
        """0, 1, ... one a kill, until there were `most` or it is over."""
        for number in range(self.most):
            if self.over():
                return
            yield number


@dataclass
class Tally:
    """The count of one kind of kill; a line of the log is one kill."""

    kind: str
    log: Path | None = None
    kills: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)

    def add(self, answered: Counter[str], missing: Iterable[str]) -> None:
        """Count one kill and say it."""
        found = sorted(missing)
        self.kills += 1
        self.answered += answered
        self.missing += found
        if self.log is not None:
            line = {"kind": self.kind, "answered": dict(answered), "missing": found}
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def told(self) -> str:
        """The count in one line."""
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.answered.items()))
        return f"{self.kind}: {self.kills} kills; answered: {counts}; missing: {len(self.missing)}"


def kills_in(log: Path, kind: str) -> int:
    """How many kills of a kind a log holds already."""
    if not log.exists():
        return 0
    lines = log.read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["kind"] == kind for line in lines)
