"""What `replay` keeps of each lane: who calls for it, what is in it, what is under way; no decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..box.message import Waiting
from ..sip.address import Aor
from ..sip.wire import Answer
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
    fed: bool = False
    "It has had its turn and may have more: where others wait for a place, it goes to the end of the line."
    by_timer: bool = False
    "Whether only the timer wanted it opened."

    @classmethod
    def of(cls, owner: Aor, call: Call) -> OpenLane:
        """The lane that a call asks for."""
        return cls(owner, wishes=call.wishes, room=call.room, recheck=call.recheck, by_timer=call.by_timer)

    def live_on(self, seconds: int) -> None:
        """What waits in it may be sent so much later."""
        self.queue = deque(replace(item, message=item.message.living(seconds)) for item in self.queue)

    def has_delivered(self, item: Waiting) -> None:
        """One is gone from the box; what is not remembered of it takes no room, however large an inbox is."""
        self.delivered += 1
        self.seen.discard(item.silo_id)


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


class Line:
    """Who has a place, and who waits for one: owners that were called, and lanes that had a turn and have more to send.

    Those two take turns as well, so that neither a stream of wake-ups nor a few large boxes keep the other waiting.
    """

    def __init__(self, most: int) -> None:
        """`most`: places."""
        self.most = most
        self.open: dict[Aor, OpenLane] = {}
        "Lanes with a place, and those that wait for their next turn."
        self.hungry: dict[Aor, OpenLane] = {}
        "Lanes that need to claim more."
        self.called: dict[Aor, Call] = {}
        "Owners that wait for a lane, in order."
        self.paused: dict[Aor, OpenLane] = {}
        self._resume = False

    @property
    def waits(self) -> bool:
        """Whether anybody waits for a place."""
        return bool(self.called or self.paused)

    @property
    def ready(self) -> bool:
        """Whether there is a lane that may claim."""
        return bool(self.hungry) or (self.waits and self._free > 0)

    @property
    def _free(self) -> int:
        return self.most - len(self.open) + len(self.paused)

    def move_up(self) -> None:
        """Lanes that had their turn leave their places to those that wait: a large box must not keep others out."""
        wanted = len(self.called) + len(self.paused) - self._free
        for lane in [one for one in self.hungry.values() if one.fed][: max(0, wanted)]:
            self.paused[lane.owner] = self.hungry.pop(lane.owner)
        while self.waits and self._free > 0:
            lane = self._next()
            self.open[lane.owner] = self.hungry[lane.owner] = lane

    def _next(self) -> OpenLane:
        resume = not self.called
        if self.called and self.paused:
            resume, self._resume = self._resume, not self._resume
        if resume:
            lane = self.paused.pop(next(iter(self.paused)))
            lane.fed = False
            return lane
        owner = next(iter(self.called))
        return OpenLane.of(owner, self.called.pop(owner))

    def leave(self, owner: Aor) -> None:
        """A lane is closed, whatever it was about to do."""
        for one in (self.open, self.hungry, self.paused):
            one.pop(owner, None)

    def stop(self) -> None:
        """Nobody gets a place any more; lanes with a message under way stay until its answer."""
        for owner in (*self.hungry, *self.paused):
            del self.open[owner]
        for one in (self.hungry, self.paused, self.called):
            one.clear()


def told(answer: Answer) -> tuple[int | None, str]:
    """Code and words of an answer, for `list`; no code where nobody gave one."""
    if answer.local:
        return None, "no answer" if answer.code == 408 else f"could not be sent: {answer.reason}"
    return answer.code, f"{answer.code} {answer.reason}".strip()
