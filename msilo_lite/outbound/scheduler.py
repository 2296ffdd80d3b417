"""When something is to be done next: wake-ups that settle, retries that are due, the cleaner.

A phone that registers is called back at once. What comes in crowds, retries by the timer and the NOTIFYs of a PBX that
was restarted, stands in line for `retry_rate`.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

from ..sip.address import Aor
from ..value import value
from .pace import Pace

RETRY_TICK = 1.0
"Seconds between two looks for due retries."
WISH_TICK = 0.1
"Seconds between two looks for what the commands asked for."


@value
class Due:
    """What one tick asks for."""

    wake: tuple[tuple[Aor, int], ...]
    "Owners whose phone came back and had time to settle, and how many messages each wants (0: all)."
    retry: tuple[Aor, ...]
    "Owners in line for a retry by time, whose turn it is."
    reminders: bool
    retries: bool
    "Whether to look who is due for one."
    wishes: bool
    clean: bool
    purge: bool


@dataclass(slots=True)
class _Waking:
    """An owner who was seen and is not woken yet."""

    most: int
    crowd: bool


@dataclass(slots=True)
class Scheduler:
    """Times are seconds of whatever clock the caller uses, all from the same one."""

    settle: float
    check_time: int
    clean_period: int
    send_time: float
    retry_rate: float = 0
    "Recipients a second that retries and crowds begin with; 0: any number."
    wake_rate: float = 0
    "The same for REGISTERs."
    _heap: list[tuple[float, Aor]] = field(default_factory=list)
    _waking: dict[Aor, _Waking] = field(default_factory=dict)
    _settled: deque[Aor] = field(default_factory=deque)
    "Whose REGISTER has settled."
    _crowd: deque[Aor] = field(default_factory=deque)
    "Whose NOTIFY has settled."
    _line: dict[Aor, None] = field(default_factory=dict)
    "Who is due for a retry, in order."
    _wakes: Pace = field(init=False)
    _retries: Pace = field(init=False)
    _remind_at: float = 0.0
    _retry_at: float = 0.0
    _wish_at: float = 0.0
    _clean_at: float = 0.0
    _cleanings: int = 0

    def __post_init__(self) -> None:
        self.pace(self.retry_rate, self.wake_rate)

    def pace(self, retry_rate: float, wake_rate: float) -> None:
        """Begin with so many recipients a second; 0: any number."""
        self.retry_rate, self.wake_rate = retry_rate, wake_rate
        self._wakes, self._retries = Pace(wake_rate), Pace(retry_rate)

    def phone_is_back(self, owner: Aor, now: float, most: int = 0, *, crowd: bool = False) -> None:
        """Wake an owner after the settle delay; a burst of REGISTERs is one wake-up. `most`: 0 for all messages.

        `crowd`: it may be one of many at once, and stands in line with them.
        """
        known = self._waking.get(owner)
        if known is None:
            self._waking[owner] = _Waking(most, crowd)
        else:
            known.most = max(most, known.most) if most and known.most else 0
            if crowd or not known.crowd:
                return
            known.crowd = False  # his own REGISTER: he need not stand in line
        heapq.heappush(self._heap, (now + self.settle, owner))

    def settling(self) -> tuple[Aor, ...]:
        """Owners that were seen and are not woken yet."""
        return tuple(self._waking)

    def line_up(self, owner: Aor) -> None:
        """A retry of this owner is due; who is about to be woken needs none."""
        if owner not in self._waking:
            self._line[owner] = None

    @property
    def in_line(self) -> int:
        """How many are due for a retry and wait for their turn."""
        return len(self._line)

    def tick(self, now: float, lanes: int = 1000) -> Due:
        """What is due now. A clock that was set back only makes things due earlier, never hang.

        `lanes`: retries that may begin at the most: the others are for whoever comes back.
        """
        while self._heap and not now < self._heap[0][0] <= now + self.settle:
            owner = heapq.heappop(self._heap)[1]
            if owner in self._waking:
                (self._crowd if self._waking[owner].crowd else self._settled).append(owner)
        wake = [*self._woken(self._settled, self._wakes, now), *self._woken(self._crowd, self._retries, now)]
        retry = self._retried(now, lanes)
        retries, self._retry_at = _over(self._retry_at, now, RETRY_TICK)
        wishes, self._wish_at = _over(self._wish_at, now, WISH_TICK)
        reminders, self._remind_at = _over(self._remind_at, now, self.send_time)
        clean, self._clean_at = _over(self._clean_at, now, self.check_time)
        self._cleanings += clean
        purge = clean and self._cleanings % self.clean_period == 0
        return Due(tuple(wake), retry, reminders, retries, wishes, clean, purge)

    def _woken(self, line: deque[Aor], pace: Pace, now: float) -> list[tuple[Aor, int]]:
        """Those of a line whose turn it is; who was woken by the other one meanwhile is no more in it."""
        woken = []
        while line:
            one = self._waking.get(line[0])
            if one is not None and one.crowd is (line is self._crowd):
                if not pace.take(now):
                    break
                del self._waking[line[0]]
                self._line.pop(line[0], None)
                woken.append((line[0], one.most))
            line.popleft()
        return woken

    def _retried(self, now: float, lanes: int) -> tuple[Aor, ...]:
        turn: list[Aor] = []
        while self._line and len(turn) < lanes and self._retries.take(now):
            owner = next(iter(self._line))
            del self._line[owner]
            turn.append(owner)
        return tuple(turn)

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
