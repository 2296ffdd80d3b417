"""How many recipients are begun with a second, so that a PBX that was restarted meets no burst; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """So many beginnings a second; what was not used is kept for a second, so that one alone never waits.

    `now` is seconds of any clock; one that is set back or forward gives a second's worth at the most.
    """

    rate: float
    "Beginnings a second; 0: any number."
    _left: float = -1.0
    "What may begin now; negative: never asked before."
    _at: float = 0.0

    def room(self, now: float) -> int | float:
        """How many may begin now."""
        if not self.rate:
            return math.inf
        most = max(1.0, self.rate)
        passed = now - self._at
        self._left = most if self._left < 0 else min(most, self._left + self.rate * max(0.0, passed))
        self._at = now
        return int(self._left + 1e-6)  # tenths of a second do not add up exactly

    def take(self, now: float) -> bool:
        """Begin with one more, where there is room."""
        if self.room(now) < 1:
            return False
        self._left = max(0.0, self._left - 1)
        return True
