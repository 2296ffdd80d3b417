"""What happens in a file, as it happens, for `tail`: read from the ledger and from what the daemon tells of itself.

The daemon writes nothing for it. SQLite's data_version says whether to look at all; then new rows are found by their
id, those that left the box by the index of their end, those under way by the index of their state. Attempts that
failed, wake-ups and refusals leave no row behind: they come from the daemon's rings, and a gap there is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from .delivery import State
from .engine import translated
from .inbox import Inbox
from .rows import from_db
from .schema import ledger

Event = dict[str, Any]
"`at` in UTC seconds, `event`, and what belongs to it."
OVERLAP = 2
"Seconds that are read again: a row may be committed a moment after the second it names."
PAGE = 1000
ENDED = {
    State.DELIVERED: "delivered",
    State.FAILED: "failed",
    State.EXPIRED: "expired",
    State.CANCELLED: "purged",
}
RINGS = ("wakeups", "attempts", "refusals", "errors")
ORDER = ("skipped", "stored", "woken", "sending")
"What comes first of what happened in the same second."


@dataclass(slots=True)
class Place:
    """How far somebody has read."""

    row: int = 0
    "Highest id of the ledger."
    settled: int = 0
    "Last second in which a message is known to have left the box."
    ended: set[int] = field(default_factory=set)
    "Those that did in the seconds that are read again."
    sending: set[tuple[int, int]] = field(default_factory=set)
    "Rows under way, each with the number of its attempt."
    rings: dict[str, int] = field(default_factory=dict)
    "Last number of each ring."


class Feed:
    """One reader. Methods may raise StoreError."""

    def __init__(self, inbox: Inbox, since: int | None, now: int) -> None:
        """`since`: UTC second from which on to tell what happened before; None: only what comes."""
        self._inbox, self._c = inbox, inbox.connection
        self._seen = -1
        self._at = Place()
        if since is None:
            self._skip(now)
        else:
            self._at.row, self._at.settled = self._first(since) - 1, since + OVERLAP
            self._since = since

    def _skip(self, now: int) -> None:
        """Everything that is there is known."""
        self._since = now - OVERLAP
        self._at.row = self._first(None) - 1
        self._at.settled = now
        self._look()

    def look(self) -> list[Event]:
        """What happened since the last look, in order; nothing, and at no cost, where nobody has committed."""
        version = self._inbox.data_version()
        if version == self._seen:
            return []
        self._seen = version
        return self._look()

    def _look(self) -> list[Event]:
        with translated("cannot read"):
            found = [*self._new(), *self._sending(), *self._ended(), *self._told()]
        return sorted(found, key=lambda one: (int(one["at"]), _place(one["event"]), one["at"]))

    def _first(self, since: int | None) -> int:
        """The first row that arrived since then, or the one that comes next: ids are in the order of arrival."""
        last = self._c.execute(sa.select(sa.func.max(ledger.c.id))).scalar() or 0
        low, high = 1, int(last) + 1
        while since is not None and low < high:
            middle = (low + high) // 2
            near = sa.select(ledger.c.id, ledger.c.arrived).where(ledger.c.id >= middle).order_by(ledger.c.id)
            row = self._c.execute(near.limit(1)).first()
            if row is None or row[1] >= since:
                high = middle
            else:
                low = int(row[0]) + 1
        return high

    def _new(self) -> Iterator[Event]:
        while True:
            query = sa.select(ledger).where(ledger.c.id > self._at.row).order_by(ledger.c.id).limit(PAGE)
            rows = self._c.execute(query).mappings().all()
            for row in rows:
                self._at.row = row["id"]
                if row["arrived"] >= self._since:
                    yield {
                        **_about(row, "stored", row["arrived"]),
                        "from": from_db(row["from_hdr"]),
                        "size": row["size"],
                    }
            if len(rows) < PAGE:
                return

    def _sending(self) -> Iterator[Event]:
        # a literal, so that SQLite takes the partial index
        query = sa.select(ledger).where(ledger.c.state == sa.literal_column(str(int(State.SENDING)), sa.Integer))
        before, self._at.sending = self._at.sending, set()
        for row in self._c.execute(query).mappings():
            place = row["id"], row["attempts"]
            self._at.sending.add(place)
            if place not in before:
                yield {**_about(row, "sending", row["in_flight"] or 0), "attempts": row["attempts"] + 1}

    def _ended(self) -> Iterator[Event]:
        begin = self._at.settled - OVERLAP
        query = sa.select(ledger).where(ledger.c.settled >= begin).order_by(ledger.c.settled, ledger.c.id)
        before, self._at.ended = self._at.ended, set()
        last = self._at.settled
        for row in self._c.execute(query).mappings():
            last = max(last, row["settled"])
            self._at.ended.add(row["id"])
            if row["id"] not in before:
                what = _about(row, ENDED.get(State(row["state"]), "purged"), row["settled"])
                code, reason = row["code"], from_db(row["reason"]) or None
                waited = row["settled"] - row["arrived"]
                yield {**what, "attempts": row["attempts"], "code": code, "reason": reason, "waited": waited}
        self._at.settled = last

    def _told(self) -> Iterator[Event]:
        """What the daemon told of itself."""
        told = self._inbox.recent()
        for ring in RINGS:
            entries = told.get(ring, [])
            last = self._at.rings.get(ring)
            for place, one in enumerate(entries):
                if last is not None and one["of"] <= last:
                    continue
                missing = one["of"] - last - 1 if last is not None and place == 0 else 0
                if missing > 0:
                    yield {"at": one["at"], "event": "skipped", "number": missing, "what": ring}
                if one["at"] >= self._since:
                    yield _shown(ring, one)
            if entries:
                self._at.rings[ring] = entries[-1]["of"]


def _shown(ring: str, one: Event) -> Event:
    rest = {key: value for key, value in one.items() if key not in ("of", "at")}
    if ring == "errors":
        return {"at": one["at"], "event": "error", "name": rest.pop("event"), **rest}
    return {"at": one["at"], "event": rest.pop("event"), **rest}


def _about(row: sa.RowMapping, event: str, at: int) -> Event:
    owner = f"{row['username']}@{row['domain']}"
    return {
        "at": at,
        "event": event,
        "id": row["silo_id"] or f"h{row['id']}",
        "message_id": row["msilo_id"],
        "to": owner,
    }


def _place(event: str) -> int:
    return ORDER.index(event) if event in ORDER else len(ORDER)
