"""What the daemon measures of its own file, on a connection of its own: for `/metrics` and `/readyz`, once a second."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from ..sip.address import Aor
from .engine import connect, translated
from .schema import Names
from .statements import statements


class Gauges:
    """Methods raise StoreError, but for `obstacle`."""

    def __init__(self, file: Path, names: Names) -> None:
        self._sql = statements(names)
        with translated(f"cannot open {file}"):
            self._c = connect(file)
            self._c.execute("PRAGMA busy_timeout = 0")  # to be told that it is locked is what we want

    def _one(self, sql: str, **values: Any) -> Any:
        with translated("cannot read"):
            row = self._c.execute(sql, values).fetchone()
        return row[0] if row else None

    def counters(self) -> dict[str, int]:
        """All counters, those of the commands included."""
        with translated("cannot read"):
            return {str(name): int(value) for name, value in self._c.execute(self._sql.counters)}

    def count(self) -> int:
        """How many messages are in the box. Walks through an index: not for every turn."""
        return int(self._one(self._sql.count))

    def waiting(self, owner: Aor, now: int, most: int) -> int:
        """How many messages of an owner are in the box and not over, counted up to `most`."""
        with translated("cannot read"):
            values = {"user": owner.user, "host": owner.host, "now": now, "most": most}
            return len(self._c.execute(self._sql.alive_all, values).fetchall())

    def oldest(self) -> int | None:
        """Arrival of the message in the box that came first, UTC seconds."""
        found: int | None = self._one(self._sql.oldest)
        return found

    def obstacle(self) -> str:
        """Why nothing can be written now, in words; empty for nothing. Waits for no lock and writes nothing."""
        try:
            self._c.execute("BEGIN IMMEDIATE")
            self._c.execute("ROLLBACK")
        except sqlite3.Error as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Give the file back."""
        self._c.close()
