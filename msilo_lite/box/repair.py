"""What the daemon does to an open file when something went wrong: a crash, a clock that was set, a file taken away."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..sip.address import Aor
from .blame import UnderWay, blame, words
from .engine import atomic, translated
from .ground import Footing, Ground, copied
from .policy import LAST_SECOND
from .statements import Statements

ROWS_A_COMMIT = 20000
"Rows that are changed at once where all of them are."


class Repair:
    """On the connection of a `Store`. Methods may raise StoreError."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements, file: Path) -> None:
        self._c = connection
        self._sql = sql
        self._file = file
        self._footing = Footing(file)

    def check(self) -> None:
        """Raises StoreError unless the file is still the one at its path."""
        self._footing.check()

    def look(self) -> Ground:
        """What became of the file."""
        return self._footing.look()

    def rescue(self) -> Path:
        """Copy what is in the open file, which stands at its path no more, to a new one; returns its path."""
        return copied(self._c, self._file)

    def let_go(self) -> None:
        """Another file was put in our place: leave nothing of ours beside it that would change it."""
        with translated("cannot give up the log"):
            self._footing.let_go()

    def blame(self, sending: int) -> list[Aor]:
        """After a crash: count it against what was under way, and park what it was; returns whose messages those are.

        `sending`: ledger id of the message that PJSIP had in its hands, 0 for none.
        """
        with translated("cannot recover"), atomic(self._c):
            rows = {row[0]: row for row in self._c.execute(self._sql.under_way)}
            found = blame([UnderWay(row[0], row[1]) for row in rows.values()], sending)
            self._c.executemany(self._sql.suspect, [{"row": one} for one in found.suspects])
            why = [{"row": one, "why": words(rows[one][1] + 1)} for one in found.culprits]
            self._c.executemany(self._sql.park, why)
        return [Aor(rows[one][2], rows[one][3]) for one in found.culprits]

    def live_on(self, by: int, was: int) -> None:
        """The clock was set forward by so many seconds, from `was`: what waits keeps the life that it had left."""
        row = {"by": by, "was": was, "last": LAST_SECOND}
        with translated("cannot write"):
            highest = self._c.execute(self._sql.highest_box).fetchone()[0]
            for after in range(0, highest, ROWS_A_COMMIT):
                self._c.execute(self._sql.live_on, {**row, "after": after, "upto": after + ROWS_A_COMMIT})
