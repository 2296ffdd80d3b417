"""What happened last: wake-ups, attempts that failed, refusals; counted and kept in short rings, told once a second.

The daemon's turn is the only source. A delivered message costs one look at its state; what goes well and is on disk
anyway is not written again: `tail` reads that from the ledger.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from ..box.delivery import State
from ..box.message import Settled, Turn
from ..sip.address import named_in
from .logs import KEPT, RECENT, is_logged, logger

log = logger(__name__)

RINGS: Mapping[str, int] = {"wakeups": KEPT, "attempts": 50, "refusals": KEPT}
"What is kept, and how many of each."
DELAYS = (1, 5, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400)
"Upper ends of the classes of the delivery delay, in seconds."
NAMES = {
    State.PENDING: "missed",
    State.PARKED: "parked",
    State.HANDED: "handed over",
    State.DELIVERED: "delivered",
    State.FAILED: "failed",
    State.EXPIRED: "expired",
    State.CANCELLED: "purged",
}
"How `tail` calls what became of a message."


class Journal:
    """Rings and counts since the start."""

    def __init__(self, earlier: Mapping[str, Any] | None = None) -> None:
        """`earlier`: what the last daemon left; the rings go on from there."""
        kept = earlier or {}
        self._rings: dict[str, deque[dict[str, Any]]] = {
            name: deque(kept.get(name, ()), maxlen=most) for name, most in RINGS.items()
        }
        self._numbers = Counter({name: ring[-1]["of"] for name, ring in self._rings.items() if ring})
        RECENT.resume(kept.get("errors", ()))
        self._told = self._numbers.total(), RECENT.number
        self.attempts: Counter[str] = Counter()
        "Attempts that ended, by the code of the answer; none: nobody answered, or it could not leave."
        self.ended: Counter[str] = Counter()
        "Messages that left the box, by how."
        self.delays = [0] * (len(DELAYS) + 1)
        "Deliveries by class of delay, the last one for longer ones."
        self.delay_sum = 0.0

    def refused(self, peer: str, code: int, reason: str, now: float) -> None:
        """A request was refused."""
        self._note("refusals", now, event="refused", peer=peer, code=code, reason=reason)

    def committed(self, turn: Turn, fresh: frozenset[bytes], now: float) -> None:
        """This turn is on disk; `fresh`: keys of what was new."""
        for owner, source in turn.woken:
            self._note("wakeups", now, event="woken", to=str(owner), by=source)
        for one in turn.settled:
            self._settled(one, now)
        if is_logged():
            _tell(turn, fresh)

    def _settled(self, one: Settled, now: float) -> None:
        if one.state is State.DELIVERED:
            self.ended["delivered"] += 1
            message = one.item.message
            delay = max(0, one.at - (message.due or message.arrived))
            self.delays[bisect_left(DELAYS, delay)] += 1
            self.delay_sum += delay
        elif one.state in (State.FAILED, State.EXPIRED):
            self.ended[NAMES[one.state]] += 1
        if one.attempts > one.item.attempts:
            self.attempts[str(one.code or "none")] += 1
        if one.state in (State.PENDING, State.PARKED, State.HANDED) and was_tried(one):
            self._note("attempts", now, event=NAMES[one.state], **_about(one))

    def _note(self, ring: str, now: float, **what: Any) -> None:
        self._numbers[ring] += 1
        self._rings[ring].append({"of": self._numbers[ring], "at": round(now, 3), **what})

    def words(self) -> str | None:
        """Everything that is kept, as JSON; None where nothing happened since the last time."""
        seen = self._numbers.total(), RECENT.number
        if seen == self._told:
            return None
        self._told = seen
        rings = {name: list(ring) for name, ring in self._rings.items()}
        return json.dumps({**rings, "errors": list(RECENT.lines)})


def was_tried(one: Settled) -> bool:
    """Whether it was sent, and not only claimed and given back."""
    item = one.item
    return one.attempts > item.attempts or (one.code, one.reason or None) != (item.code, item.reason or None)


def _about(one: Settled) -> dict[str, Any]:
    item = one.item
    return {
        "id": item.silo_id,
        "message_id": item.msilo_id,
        "to": str(item.message.owner),
        "attempts": one.attempts,
        "code": one.code,
        "reason": one.reason,
    }


def _tell(turn: Turn, fresh: frozenset[bytes]) -> None:
    """A line about each message of a turn, where the log wants them."""
    for owner, source in turn.woken:
        log.info("user.woken", user=str(owner), by=source)
    for message in turn.new:
        if message.key in fresh:
            log.info("message.stored", to=str(message.owner), sender=named_in(message.src), size=len(message.body))
    for one in turn.settled:
        about = _about(one)
        if one.state is State.DELIVERED:
            log.info("message.delivered", **about)
        elif one.state in (State.FAILED, State.EXPIRED):
            log.info("message.ended", state=NAMES[one.state], **about)
        elif one.state is not State.PENDING:
            log.info("message.put_aside", state=NAMES[one.state], **about)
        elif was_tried(one):
            log.info("message.missed", **about)
