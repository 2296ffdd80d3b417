"""What the daemon leaves in the file about itself, for `status`, `top` and its own next start."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from .engine import translated
from .statements import Statements


class Told:
    """What the store inherits; its own constructor sets the attributes. Methods raise StoreError."""

    _c: sqlite3.Connection
    _sql: Statements

    def tell(self, name: str, value: str) -> None:
        """Leave a word about the daemon for `status`."""
        with translated("cannot write"):
            self._c.execute(self._sql.tell, {"name": name, "value": value})

    def recent(self) -> dict[str, Any]:
        """What an earlier daemon told of what happened last."""
        with translated("cannot read"):
            row = self._c.execute(self._sql.told, {"name": "recent"}).fetchone()
            return dict(json.loads(row[0] if row else "{}"))
