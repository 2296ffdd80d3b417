"""Rows of msilo's table by their owner: those in the indexes, and the youngest, which are loose.

Each owner's entries lie on a page of the index of their own: sixteen messages for sixteen users would write sixteen
pages more. So the daemon's youngest messages are on disk without being in the indexes of owner and end, and their
numbers in memory. A thousand at once are put there and share the pages; what is delivered sooner never comes there. A
row says by its `status`, which no code of msilo's reads, that it is loose. All that are loose have numbers above a mark
in `msilo_daemon`, where other processes find them, and the next start after a crash.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from ..sip.address import Aor
from .engine import atomic
from .rows import by_name
from .schema import LOOSE, SHELVED_UPTO
from .statements import Statements

MOST = 1000
"Messages that are put into the indexes at once."


class Shelf:
    """Methods may raise sqlite3.Error. What they change is of the caller's transaction, and known when it is over."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements, *, sole: bool) -> None:
        """`sole`: we are the daemon, the only one that may `take`; whoever is not asks the file each time."""
        self._c, self._sql, self._sole = connection, sql, sole
        self._of: dict[Aor, dict[int, int]] = {}
        "The loose ones by owner: their numbers in the order of arrival, and when each ends."
        self._owner: dict[int, Aor] = {}
        self._first_end = 0
        "None of them ends before."
        self._unsure = False
        "Whether the file may have others."
        self._new: list[tuple[int, Aor, int]] = []
        self._gone: list[int] = []
        self._emptied = False
        "What this transaction changes."

    # -- writing -----------------------------------------------------------------------------------------------------
    def tidy(self) -> None:
        """At the start and at the end, in a transaction of its own: nothing of whoever it may be stays loose."""
        mark = self._mark()
        upto = int(self._c.execute(self._sql.highest_box).fetchone()[0])
        if upto > mark + MOST or self._c.execute(self._sql.loose, {"after": mark}).fetchone():
            with atomic(self._c):
                self._shelve_all(upto)
            self.committed()

    def make_room(self, upto: int) -> None:
        """Put all into the indexes where they are many; `upto`: no number was given yet that is higher."""
        if len(self._owner) >= MOST:
            self._shelve_all(upto)

    def _shelve_all(self, upto: int) -> None:
        self._c.execute(self._sql.shelve, {"after": self._mark()})
        self._c.execute(self._sql.tell, {"name": SHELVED_UPTO, "value": str(upto)})
        self._emptied = True

    def _mark(self) -> int:
        row = self._c.execute(self._sql.told, {"name": SHELVED_UPTO}).fetchone()
        return int(row[0]) if row else 0

    def take(self, number: int, owner: Aor, end: int) -> int:
        """A new message that may be sent at once; returns its `status`."""
        self._new.append((number, owner, end))
        return LOOSE

    def shelve(self, numbers: Iterable[int]) -> None:
        """Put these into the indexes: they were tried in vain, and stay for a while."""
        known = [number for number in numbers if number in self._owner]
        if known:
            self._c.executemany(self._sql.shelve_one, [{"row": number} for number in known])
            self._gone += known

    def forget(self, numbers: Iterable[int]) -> None:
        """These leave the box."""
        self._gone += numbers

    def committed(self) -> None:
        """The transaction is on disk."""
        if self._emptied:
            self._of, self._owner = {}, {}
        for number in self._gone:
            owner = self._owner.pop(number, None)
            if owner is not None:
                mine = self._of[owner]
                del mine[number]
                if not mine:
                    del self._of[owner]
        for row in self._new:
            self._add(*row)
        self._new, self._gone, self._emptied = [], [], False

    def _add(self, number: int, owner: Aor, end: int) -> None:
        self._first_end = min(self._first_end, end) if self._owner else end
        self._of.setdefault(owner, {})[number] = end
        self._owner[number] = owner

    def failed(self) -> None:
        """The transaction is void, or it is not: only the file can tell."""
        self._new, self._gone, self._emptied = [], [], False
        self._unsure = True

    # -- reading -----------------------------------------------------------------------------------------------------
    def has_mail(self, owner: Aor, now: int) -> bool:
        """Whether an owner has anything that may be sent."""
        of = {"user": owner.user, "host": owner.host, "now": now}
        if (young := self._young(owner)) and self._c.execute(self._sql.has_mail_loose, {**of, "ids": young}).fetchone():
            return True
        return self._c.execute(self._sql.has_mail, of).fetchone() is not None

    def alive(self, owner: Aor, now: int, most: int) -> int:
        """How many messages of an owner are not over, counted up to `most`."""
        of = {"user": owner.user, "host": owner.host, "now": now, "most": most}
        found = len(self._c.execute(self._sql.alive, of).fetchall())
        if young := self._young(owner):
            found += len(self._c.execute(self._sql.alive_loose, {**of, "ids": young}).fetchall())
        return min(found, most)

    def page(self, owner: Aor, after: int, most: int, now: int) -> list[dict[str, Any]]:
        """The oldest rows of an owner that may be sent, above a number."""
        of = {"user": owner.user, "host": owner.host, "after": after, "most": most, "now": now}
        found = by_name(self._c.execute(self._sql.pending, of))
        if young := self._young(owner):
            found += by_name(self._c.execute(self._sql.pending_loose, {**of, "ids": young}))
            found.sort(key=lambda row: row["id"])
        return found[:most]

    def lapsed(self, now: int, most: int) -> list[dict[str, Any]]:
        """Rows whose time is over."""
        found = by_name(self._c.execute(self._sql.lapsed, {"now": now, "most": most}))
        if young := self._over(now):
            found += by_name(self._c.execute(self._sql.lapsed_loose, {"now": now, "most": most, "ids": young}))
        return found

    def owners(self, most: int, now: int, after: Aor | None) -> list[Aor]:
        """Whose messages may be sent, in order, after one of them; one look-up in an index for each."""
        self._be_sure()
        user, host = (after.user, after.host) if after else ("", "")
        found = {place: owner for owner in self._of if (place := (owner.user, owner.host)) > (user, host)}
        for _ in range(most):
            row = self._c.execute(self._sql.next_owner, {"user": user, "host": host, "now": now}).fetchone()
            if row is None:
                break
            user, host = row
            found.setdefault((user, host.lower()), Aor(user, host))
        return [found[place] for place in sorted(found)[:most]]

    def _young(self, owner: Aor) -> str:
        """The loose ones of an owner as the statements take them: a JSON array, empty for none."""
        self._be_sure()
        found = self._of.get(owner)
        return json.dumps(list(found)) if found else ""

    def _over(self, now: int) -> str:
        """The loose ones whose time is over, likewise."""
        self._be_sure()
        if not self._owner or now < self._first_end:
            return ""
        self._first_end = min(end for mine in self._of.values() for end in mine.values())
        found = [number for mine in self._of.values() for number, end in mine.items() if end <= now]
        return json.dumps(found) if found else ""

    def _be_sure(self) -> None:
        """Read which rows are loose, where a commit failed, or another process may have stored some."""
        if self._sole and not self._unsure:
            return
        rows = self._c.execute(self._sql.loose, {"after": self._mark()}).fetchall()
        self._of, self._owner = {}, {}
        for number, user, host, end in rows:
            self._add(number, Aor(user, host), end)
        self._unsure = False
