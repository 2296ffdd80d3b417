"""Which requests were taken before: their keys, for some minutes, in memory; after a start, from the file.

A sender repeats a request for 32 seconds (RFC 3261 17.1.2.2), a proxy that tries one way after the other for some
minutes. An index of all keys would know them for ever, and cost a page of the file for each message: keys are random.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from .delivery import State
from .statements import Statements

KNOWN_FOR = 300
"Seconds for which a request is known at least."
KNOWN_UNDER_LOAD = 40
"The same where they are very many: the sender's transaction has ended by then."
MANY = 100_000
"How many those are."
STALE = 20_000
"So many older rows one after the other, and no younger one comes: an import writes rows of any age."


class Repeats:
    """The keys, in two generations: the older one goes when the younger one is old. Methods may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements) -> None:
        self._c = connection
        self._sql = sql
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._since = 0
        "UTC second at which the younger generation began."
        self._all = False
        self._upto = 0
        "The highest id of the ledger whose key is known."
        self._version = -1

    def __contains__(self, key: bytes) -> bool:
        return key in self._young or key in self._old

    def follow(self, version: int, now: int) -> None:
        """Read what others have written; `version`: of the file's data, another one where somebody has."""
        if not self._all:
            self._grow_old(now)
        if version != self._version:
            self._read(now)
            self._version = version

    def add(self, keys: Iterable[bytes], upto: int) -> None:
        """These were written now, and `upto` is the last id of the ledger."""
        self._young.update(keys)
        self._upto = upto

    def doubt(self) -> None:
        """A commit failed: what is in the file has to be seen."""
        self._version = -1

    def know_all(self) -> None:
        """Know every message that the ledger has, whatever its age, but for those that were purged: for an import."""
        self._all, self._upto, self._version = True, 0, -1

    def _grow_old(self, now: int) -> None:
        age = now - self._since
        if age < 0:  # the clock was set back
            self._since = now
        elif age >= KNOWN_FOR or (age >= KNOWN_UNDER_LOAD and len(self._young) >= MANY):
            self._old, self._young = self._young, set()
            self._since = now

    def _read(self, now: int) -> None:
        stale, upto = 0, self._upto
        for number, key, arrived, state in self._c.execute(self._sql.newest, {"after": self._upto}):
            upto = max(upto, number)
            if self._all:
                if key and state != State.CANCELLED:
                    self._young.add(key)
                continue
            stale = stale + 1 if arrived <= now - KNOWN_FOR else 0
            if key and not stale:
                self._young.add(key)
            crowded = len(self._young) >= MANY and arrived <= now - KNOWN_UNDER_LOAD
            if stale >= STALE or crowded:
                break
        self._upto = upto
