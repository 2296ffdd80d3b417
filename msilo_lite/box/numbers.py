"""The numbers of new rows. They never come back, and are reserved by the block where messages come one upon the other.

SQLite writes into sqlite_sequence whenever a row gets a number above the one noted there. A note that is ahead spares
that page, and the numbers below it that a crash, or another process, leaves unused are a gap.
"""

from __future__ import annotations

import sqlite3

from .statements import Statements

AHEAD = 16
"Numbers that are reserved for each one that is needed."
BUSY = 1
"Seconds since the last message within which that is done: at home they are reserved one by one."


class Numbers:
    """Those of one table. Methods may raise sqlite3.Error; what they write belongs to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements, table: str, highest: str) -> None:
        """`highest`: the statement that tells the highest number the table has."""
        self._c, self._sql, self._table, self._highest = connection, sql, table, highest
        self.next = 1
        self._taken = 0
        "UTC second in which some were taken last."
        self._upto = -1
        "The last one that is reserved for us; another number in the file is another process's."

    def follow(self, least: int = 0) -> None:
        """Another process has written, or a commit failed: see what is taken. `least`: what is so anyway."""
        noted = self._noted()
        if noted != self._upto:
            self.next, self._upto = max(self.next, noted + 1), noted
        self.next = max(self.next, least + 1, int(self._c.execute(self._highest).fetchone()[0]) + 1)

    def take(self, count: int, now: int) -> int:
        """The first of so many numbers in a row, which are reserved."""
        first, busy = self.next, abs(now - self._taken) <= BUSY
        self.next, self._taken = first + count, now
        if self.next > self._upto + 1:
            self._note(self.next - 1 + (AHEAD * count if busy else 0))
        return first

    def give_back(self) -> None:
        """At an orderly end: the next one goes on where this one stopped."""
        if self._noted() == self._upto >= self.next:
            self._note(self.next - 1)

    def _noted(self) -> int:
        found = self._c.execute(self._sql.noted, {"table": self._table}).fetchone()
        return int(found[0]) if found else 0

    def _note(self, upto: int) -> None:
        values = {"table": self._table, "upto": upto}
        if not self._c.execute(self._sql.note, values).rowcount:
            self._c.execute(self._sql.note_first, values)
        self._upto = upto
