"""Token buckets: how fast one of many may do something, in bounded memory. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 10_000
"Names that are remembered at the most, the least recently used are forgotten: they begin anew."


@dataclass(slots=True)
class _Level:
    tokens: float
    at: float


class Buckets:
    """One bucket for each name; full ones are forgotten first."""

    def __init__(self, rate: float, burst: int) -> None:
        """`rate`: tokens a second that come back, 0 for no limit. `burst`: what a bucket holds."""
        self._rate = rate
        self._burst = float(burst)
        self._levels: OrderedDict[str, _Level] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Seconds until there is a token, 0.0 for at once; takes none. A clock set back changes nothing."""
        if not self._rate:
            return 0.0
        level = self._levels.get(name)
        tokens = self._tokens(level, now) if level else self._burst
        return max(0.0, (1 - tokens) / self._rate)

    def take(self, name: str, now: float) -> float:
        """Take a token; seconds until there is one where there is none."""
        wait = self.wait(name, now)
        if self._rate and not wait:
            level = self._levels.get(name)
            self._levels[name] = _Level((self._tokens(level, now) if level else self._burst) - 1, now)
            self._levels.move_to_end(name)
            if len(self._levels) > REMEMBERED:
                self._levels.popitem(last=False)
        return wait

    def _tokens(self, level: _Level, now: float) -> float:
        return min(self._burst, level.tokens + max(0.0, now - level.at) * self._rate)
