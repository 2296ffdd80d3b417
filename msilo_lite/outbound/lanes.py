"""What `replay` keeps of each lane: who calls for it, what is in it, what is under way; no decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..box.message import Waiting
from ..sip.address import Aor
from .ways import Way

REMEMBERED = 10_000
"Messages with a doubtful answer that are remembered."


@dataclass(slots=True)
class Call:
    """Somebody wants a lane opened."""

    wishes: list[int] = field(default_factory=list)
    "Commands that wait for its end."
    room: int | None = 0
    "Messages to send at the most; None: all."
    recheck: bool = False
    "Something fell due meanwhile, which the limit must not leave behind."
    by_timer: bool = False
    "Whether only the timer wants it."

    def join(self, wish: int | None, most: int, *, timer: bool = False) -> None:
        """One more wants the same."""
        self.by_timer = timer
        self.wishes += [wish] if wish else []
        self.room = None if not most or self.room is None else max(self.room, most)


@dataclass(frozen=True, slots=True)
class Send:
    """A claimed message, to be sent now."""

    token: int
    item: Waiting
    way: Way


@dataclass(slots=True)
class Flight:
    lane: OpenLane
    item: Waiting
    way: Way
    followed: bool = False
    "Whether this is already the one redirection we follow."
    back: bool = False
    "Whether the peer brought it back before it even answered."


@dataclass(slots=True)
class OpenLane:
    owner: Aor
    queue: deque[Waiting] = field(default_factory=deque)
    cursor: int = 0
    "Highest silo id claimed in this run."
    in_flight: int = 0
    misses: int = 0
    "Messages in a row that nobody took."
    delivered: int = 0
    stopped: str = ""
    "Why nothing more may leave after what is under way; empty: nothing is wrong."
    aside: tuple[str, int | None] | None = None
    "Words and code of a message that let the others pass and is still in the box."
    again: Call | None = None
    "Woken while open: start over when this run fails, or when it may send no more."
    seen: set[int] = field(default_factory=set)
    "Silo ids claimed in this run."
    recheck: bool = False
    "Something fell due meanwhile that this run has passed."
    wishes: list[int] = field(default_factory=list)
    "Commands that wait for the end of this run."
    room: int | None = None
    "Messages it may still send; None: all."
    by_timer: bool = False
    "Whether only the timer wanted it opened."

    @classmethod
    def of(cls, owner: Aor, call: Call) -> OpenLane:
        """The lane that a call asks for."""
        return cls(owner, wishes=call.wishes, room=call.room, recheck=call.recheck, by_timer=call.by_timer)


class Doubts:
    """Answers in a row that may have been for one message alone; a restart begins anew, which keeps the order."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}

    def count(self, silo_id: int, *, doubtful: bool) -> int:
        """One more answer to a message; how many in a row were doubtful."""
        doubts = self._of.pop(silo_id, 0) + 1
        if not doubtful:
            return 0
        self._of[silo_id] = doubts
        if len(self._of) > REMEMBERED:  # those that were purged never come again
            del self._of[next(iter(self._of))]
        return doubts


def by_timer(calls: Iterable[Call | OpenLane]) -> int:
    """How many of them only the timer wanted."""
    return sum(one.by_timer for one in calls)
