"""The log's way into the file, in a thread of its own: in the loop it would keep every sender waiting.

SQLite lets one connection copy the log while another goes on writing. What came meanwhile the writer copies itself,
which is little, and then the log starts over. SQLite's own limit stays as the last resort.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from .engine import connect

PAGES = 2000
"Pages in the log, roughly, from which on it is copied: 8 MB."
OF_A_COMMIT = 6
"What a commit is counted for beside its rows: the ends of the tables and their indexes."
_COPY = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpoints:
    """Those of one writing connection. An error costs nothing but time: the log grows until a later one goes well."""

    def __init__(self, file: Path, writer: sqlite3.Connection, pages: int = PAGES) -> None:
        """`pages`: from which on the log is copied."""
        self._file, self._writer, self._most = file, writer, pages
        self._counted, self._changes = 0, writer.total_changes
        self._pages_each = 1.0
        "Pages of the log for each thing that was counted, as the last look at it has shown: rows share pages."
        self._orders: SimpleQueue[sqlite3.Connection | None] = SimpleQueue()
        self._ends: SimpleQueue[int] = SimpleQueue()
        self._own: sqlite3.Connection | None = None
        self._thread: Thread | None = None
        self._busy, self._ordered_at = False, 1

    def committed(self) -> None:
        """The writer has committed, and its files are where they were."""
        changes = self._writer.total_changes
        self._counted += changes - self._changes + OF_A_COMMIT
        self._changes = changes
        if self._busy:
            self._follow()
        elif self._counted * self._pages_each >= self._most:
            with suppress(sqlite3.Error):
                self._begin()

    def _begin(self) -> None:
        self._own = self._own or connect(self._file, threads=True)
        if self._thread is None:
            self._thread = Thread(target=self._work, name="checkpoint", daemon=True)
            self._thread.start()
        self._busy, self._ordered_at = True, self._counted
        self._orders.put(self._own)

    def _follow(self) -> None:
        """Where the thread is done, copy the rest: only a log that is copied whole starts over."""
        if self._ends.empty():
            return
        pages = self._ends.get()
        if pages:
            self._pages_each = pages / self._ordered_at
        self._busy, self._counted = False, 0
        with suppress(sqlite3.Error):
            self._writer.execute(_COPY).fetchone()

    def _work(self) -> None:
        while connection := self._orders.get():
            pages = 0
            with suppress(sqlite3.Error):
                _busy, pages, _copied = connection.execute(_COPY).fetchone()
            self._ends.put(pages)

    def close(self) -> None:
        """End the thread."""
        if self._thread:
            self._orders.put(None)
            self._thread.join()
        if self._own:
            self._own.close()
