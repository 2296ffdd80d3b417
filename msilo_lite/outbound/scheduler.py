"""When something is to be done next: wake-ups that settle, retries that are due, the cleaner."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from ..sip.address import Aor

RETRY_TICK = 1.0
"Seconds between two looks for due retries."
WISH_TICK = 0.1
"Seconds between two looks for what the commands asked for."


@dataclass(frozen=True, slots=True)
class Due:
    """What one tick asks for."""

    wake: tuple[tuple[Aor, int], ...]
    "Owners whose phone came back and had time to settle, and how many messages each wants (0: all)."
    reminders: bool
    retries: bool
    wishes: bool
    clean: bool
    purge: bool


@dataclass(slots=True)
class Scheduler:
    """Times are seconds of whatever clock the caller uses, all from the same one."""

    settle: float
    check_time: int
    clean_period: int
    send_time: float
    _heap: list[tuple[float, Aor]] = field(default_factory=list)
    _waking: dict[Aor, int] = field(default_factory=dict)
    _remind_at: float = 0.0
    _retry_at: float = 0.0
    _wish_at: float = 0.0
    _clean_at: float = 0.0
    _cleanings: int = 0

    def phone_is_back(self, owner: Aor, now: float, most: int = 0) -> None:
        """Wake an owner after the settle delay; a burst of REGISTERs is one wake-up. `most`: 0 for all messages."""
        if owner not in self._waking:
            self._waking[owner] = most
            heapq.heappush(self._heap, (now + self.settle, owner))
        else:
            self._waking[owner] = max(most, self._waking[owner]) if most and self._waking[owner] else 0

    def settling(self) -> tuple[Aor, ...]:
        """Owners that were seen and are not woken yet."""
        return tuple(self._waking)

    def tick(self, now: float) -> Due:
        """What is due now. A clock that was set back only makes things due earlier, never hang."""
        wake = []
        while self._heap and not now < self._heap[0][0] <= now + self.settle:
            owner = heapq.heappop(self._heap)[1]
            wake.append((owner, self._waking.pop(owner, 0)))
        retries, self._retry_at = _over(self._retry_at, now, RETRY_TICK)
        wishes, self._wish_at = _over(self._wish_at, now, WISH_TICK)
        reminders, self._remind_at = _over(self._remind_at, now, self.send_time)
        clean, self._clean_at = _over(self._clean_at, now, self.check_time)
        self._cleanings += clean
        return Due(tuple(wake), reminders, retries, wishes, clean, clean and self._cleanings % self.clean_period == 0)

    def wait(self, now: float) -> float:
        """Seconds until something may be due."""
        soonest = min(self._retry_at, self._wish_at, self._clean_at, self._remind_at)
        if self._heap:
            soonest = min(soonest, self._heap[0][0])
        return max(0.0, soonest - now)


def _over(at: float, now: float, period: float) -> tuple[bool, float]:
    """Whether a periodic task is due, and when it is next; a time too far ahead means the clock went back."""
    if at <= now or at > now + 2 * period:
        return True, now + period
    return False, at
