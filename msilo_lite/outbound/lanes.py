"""What `replay` keeps of each lane: who calls for it, what is in it, what is under way; no decisions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from ..box.message import Waiting
from ..sip.address import Aor
from .ways import Way


@dataclass(slots=True)
class Call:
    """Somebody wants a lane opened."""

    wishes: list[int] = field(default_factory=list)
    "Commands that wait for its end."
    room: int | None = 0
    "Messages to send at the most; None: all."
    recheck: bool = False
    "Something fell due meanwhile, which the limit must not leave behind."

    def join(self, wish: int | None, most: int) -> None:
        """One more wants the same."""
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

    def live_on(self, seconds: int) -> None:
        """What waits in it may be sent so much later."""
        self.queue = deque(replace(item, message=item.message.living(seconds)) for item in self.queue)
