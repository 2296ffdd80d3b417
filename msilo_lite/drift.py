"""Whether somebody set the clock: the time of day against a clock that only ever runs. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

LEAST = 60.0
"Seconds by which the two must part within one look; less is what NTP does, slowly, and changes nothing."


def running() -> float:
    """Seconds of a clock that nobody sets, and that runs on while the machine sleeps where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(slots=True)
class Drift:
    """Compares the two at every look."""

    apart: float
    "Time of day less the running clock, at the last look."

    def look(self, day: float, run: float) -> int:
        """Whole seconds by which the clock was set since the last look; 0 for not at all."""
        moved = day - run - self.apart
        self.apart += moved
        return round(moved) if abs(moved) >= LEAST else 0
