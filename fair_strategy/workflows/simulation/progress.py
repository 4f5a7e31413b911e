"""How far a simulation is, and how long the rest will take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counts rounds; knows the pace of this call only, not of those that were done before.

    Attributes:
        total: rounds of all runs.
        done: of them, those that are done.
        say: called with a sentence, at most every `every_s` seconds and at the end.
    """

    total: int
    done: int
    say: Callable[[str], None] = lambda _: None
    every_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(init=False)
    _at_start: int = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self._begun = self.clock()
        self._said = self._begun - self.every_s
        self._at_start = self.done

    def moved(self, done: int) -> None:
        """So many rounds are done now."""
        self.done = done
        now = self.clock()
        if done == self.total or now - self._said >= self.every_s:
            self._said = now
            self.say(self.sentence())

    def seconds_left(self) -> float | None:
        """At the mean pace since this call began; None before the first round."""
        fresh = self.done - self._at_start
        if not fresh:
            return None
        return (self.clock() - self._begun) / fresh * (self.total - self.done)

    def sentence(self) -> str:
        """Where it stands, for a person."""
        left = self.seconds_left()
        rest = "" if left is None else f", {_duration(left)} left"
        gone = _duration(self.clock() - self._begun)
        return f"{self.done} of {self.total} rounds, {gone} gone{rest}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
