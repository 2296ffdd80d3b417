"""Non-INVITE client transactions over UDP (RFC 3261 17.1.2), one for each plain request of ours; pure, takes `now`.

PJSIP's own keep 15 kB each for five seconds after the answer, 300 MB at 4,000 a second. These keep nothing once the
final answer is there: a repeat of it finds no transaction and is dropped, which is all that Timer K is for.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

T1, T2 = 0.5, 4.0
"Seconds: the round trip that is assumed, and the longest time between two sendings (RFC 3261 17.1.1.1, 17.1.2.2)."
GIVE_UP = 64 * T1
"Timer F."


@dataclass(slots=True, eq=False)
class Transaction:
    """One request under way."""

    branch: bytes
    token: int
    datagram: bytes
    to: tuple[str, int]
    sender: int
    "Number of the socket it leaves by."
    begun: float
    interval: float = T1
    "Of Timer E."
    over: bool = False


class Due(NamedTuple):
    """What the clock asks for."""

    again: list[Transaction]
    "To be sent again (Timer E)."
    ended: list[Transaction]
    "That nobody answered (Timer F)."


class Transactions:
    """All that are under way. Times are seconds of a clock that is never set back."""

    def __init__(self) -> None:
        self._open: dict[bytes, Transaction] = {}
        self._first: deque[tuple[float, Transaction]] = deque()
        "First sendings: they are due in the order they began, so no heap is needed for what is rarely due at all."
        self._later: list[tuple[float, int, Transaction]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, one: Transaction) -> None:
        """It has been sent for the first time."""
        self._open[one.branch] = one
        self._first.append((one.begun + T1, one))

    def heard(self, branch: bytes, status: int) -> Transaction | None:
        """An answer came; the transaction where it is the final one, None where nothing ends by it."""
        one = self._open.get(branch)
        if one is None:
            return None
        if status < 200:
            one.interval = T2  # Proceeding: repeats become rare, Timer F runs on
            return None
        return self.end(one)

    def end(self, one: Transaction) -> Transaction:
        """It is over, whatever may still come."""
        one.over = True
        self._open.pop(one.branch, None)
        return one

    def due(self, now: float) -> Due:
        """What is to be sent again, and what nobody answered in time."""
        due = Due([], [])
        while self._first and (self._first[0][1].over or self._first[0][0] <= now):
            at, one = self._first.popleft()
            self._fire(one, at, now, due)
        while self._later and (self._later[0][2].over or self._later[0][0] <= now):
            at, _, one = heapq.heappop(self._later)
            self._fire(one, at, now, due)
        return due

    def _fire(self, one: Transaction, at: float, now: float, due: Due) -> None:
        if one.over:
            return
        if now >= one.begun + GIVE_UP:
            due.ended.append(self.end(one))
            return
        due.again.append(one)
        one.interval = min(2 * one.interval, T2)
        self._number += 1
        next_at = min(max(at, now - T1) + one.interval, one.begun + GIVE_UP)
        heapq.heappush(self._later, (next_at, self._number, one))

    def wait(self, now: float, most: float) -> float:
        """Seconds until something may be due, `most` at the most."""
        soonest = self._first[0][0] if self._first else now + most
        if self._later:
            soonest = min(soonest, self._later[0][0])
        return min(most, max(0.0, soonest - now))
