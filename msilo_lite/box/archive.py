"""What is kept of messages that left the box, and for how long. Methods may raise StoreError."""

from __future__ import annotations

import sqlite3

from .engine import translated
from .statements import Statements


class Archive:
    """The history in the ledger, by the daemon's own connection."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements) -> None:
        self._c = connection
        self._sql = sql

    def close_vanished(self, now: int) -> int:
        """End the ledger of messages that another program took out of the box; returns how many. Reads all."""
        with translated("cannot write"):
            return self._c.execute(
                self._sql.close_vanished, {"at": now, "why": "taken out by another program"}
            ).rowcount

    def prune(self, before: int, most: int) -> int:
        """Forget history and finished wishes older than `before`; returns how many rows of history went."""
        with translated("cannot prune"):
            gone = self._c.execute(self._sql.prune, {"before": before, "most": most}).rowcount
            self._c.execute(self._sql.forget_wishes, {"before": before})
            return gone

    def history_since(self, rows: int) -> int:
        """The second since which so many messages left the box; 0 where fewer did. Walks so far in an index."""
        with translated("cannot read"):
            found = self._c.execute(self._sql.nth_newest, {"rows": rows - 1}).fetchone()
        return int(found[0]) if found else 0
