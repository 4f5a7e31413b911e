"""The time for which a reader has a scan to themselves, counted here between two answers."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_WARNING_S = 600.0


@dataclass(frozen=True)
class Lease:
    """A lease as the server last told it.

    Attributes:
        held: by this reader.
        ends_at: on the same clock as `now` below, s.
        warning_s: how long before its end the reader is warned.
    """

    held: bool
    ends_at: float
    warning_s: float = LONGEST_WARNING_S

    def seconds_left(self, now: float) -> float:
        """Seconds until the end; 0 if it is over or not held."""
        return max(0.0, self.ends_at - now) if self.held else 0.0

    def is_over(self, now: float) -> bool:
        """Whether a lease that was held has run out by this clock."""
        return self.held and now >= self.ends_at

    def is_ending(self, now: float) -> bool:
        """Whether it is time to warn: held, and in its last minutes."""
        return self.held and 0.0 < self.ends_at - now <= self.warning_s


def warning_time(lease_minutes: float) -> float:
    """How long before its end to warn, s: ten minutes, a quarter of a short lease."""
    return min(LONGEST_WARNING_S, 60.0 * lease_minutes / 4)
