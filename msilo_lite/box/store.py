"""The database as the daemon sees it: one connection, one transaction a turn.

A `Turn` is written whole or not at all, fsynced before `write` returns (WAL, synchronous=FULL). Reads outside of a
turn are single indexed look-ups. What the commands read is in `inbox`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..points import reach
from ..sip.address import Aor
from . import usage
from .archive import Archive
from .checkpoint import Checkpoints
from .delivery import WAITING, State
from .engine import atomic, connect, empty_log, made_by_us, migrate, open_engine, translated
from .ground import Ground, opening
from .holds import Hold
from .message import Contact, Message, Recipient, Settled, Turn, Waiting, Wish
from .numbers import Numbers
from .repair import Repair
from .repeats import Repeats
from .rows import (
    Marks,
    by_name,
    contact_of,
    contact_row,
    hold_of,
    ledger_row,
    recipient_of,
    recipient_row,
    silo_row,
    to_db,
    waiting_of,
    wish_of,
)
from .schema import SHELVED, Names, ledger, silo_table
from .shelf import Shelf
from .statements import statements
from .told import Told

ID_MARK = "last_silo_id"
"Where 0.2 kept the highest number of a table of Kamailio's."


class Store(Told):
    """The file. Every method may raise StoreError."""

    def __init__(self, file: Path, names: Names | None = None, *, counted: bool = False, served: bool = False) -> None:
        """`counted`: `usage` is wanted. `served`: we are the daemon, and may stop the counting where it is not."""
        self.file = file
        self._names = names or Names()
        self._silo = silo_table(self._names)
        self._sql = statements(names or Names())
        with opening(file):
            engine = open_engine(file, create=True)
            with engine.connect() as connection:
                migrate(connection, self._silo)
            engine.dispose()
            self._c = connect(file, create=False)
            usage.keep(self._c, self._names, wanted=counted, only_more=not served)
            self._c.execute("SELECT count(*) FROM sqlite_master")  # opens the log
            self.repair = Repair(self._c, self._sql, file)
            self.archive = Archive(self._c, self._sql)
            self.repeats = Repeats(self._c, self._sql)
            self._shelf = Shelf(self._c, self._sql, sole=served)
            self._checkpoints = Checkpoints(file, self._c)
        self._c.row_factory = sqlite3.Row
        self._served = served
        self._seen = -1
        self._remains = False
        "Whether the log may still hold text that was taken out of the box."
        self._marks = Marks()
        self._boxes = Numbers(self._c, self._sql, self._silo.name, self._sql.highest_box)
        self._entries = Numbers(self._c, self._sql, ledger.name, self._sql.highest_ledger)
        self.foreign = not made_by_us(self._c, self._silo.name)
        "Whether somebody else made the table: its ids would come back."
        with opening(file):
            self._shelf.tidy()

    def _run(self, sql: str, **values: Any) -> sqlite3.Cursor:
        return self._c.execute(sql, values)

    def _each(self, sql: str, rows: Sequence[Mapping[str, Any] | tuple[Any, ...]]) -> None:
        if len(rows) == 1:
            self._c.execute(sql, rows[0])
        elif rows:
            self._c.executemany(sql, rows)

    def _one(self, sql: str, **values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self._c.execute(sql, values).fetchone()
        return row[0] if row else None

    # -- writing -----------------------------------------------------------------------------------------------------
    def write(self, turn: Turn, now: int) -> frozenset[bytes]:
        """Commit a turn; returns the keys of those of `turn.new` that were stored, and no repeats of others.

        Raises StoreError with nothing kept; the caller decides what of the turn to try again.
        """
        try:
            self.repair.check()
            with translated("cannot write"), atomic(self._c):
                fresh = self._write(turn, now)
                reach("writing")
            self.repair.check()  # only now is it sure that the commit went where somebody will see it
            self._checkpoints.committed()
        except StoreError:
            self._seen = -1  # the numbers that were reserved are void
            self.repeats.doubt()
            self._shelf.failed()
            raise
        self._shelf.committed()
        if fresh:
            self.repeats.add(fresh, self._entries.next - 1)
        return fresh

    def _write(self, turn: Turn, now: int) -> frozenset[bytes]:
        fresh, repeats = self._insert(turn, now) if turn.new else (frozenset[bytes](), 0)
        if turn.claimed:
            self._claim(turn.claimed, now)
        if turn.settled:
            self._settle(turn.settled)
        self._write_rest(turn)
        self._count({**turn.counters, **turn.earned(len(fresh), repeats)})
        return fresh

    def _insert(self, turn: Turn, now: int) -> tuple[frozenset[bytes], int]:
        """Insert what is new; returns the keys of that, and how many were repeats."""
        self._refresh_ids()
        self.repeats.follow(self._seen, now)
        by_key: dict[bytes, Message] = {}
        for message in turn.new:
            if message.key not in self.repeats:
                by_key.setdefault(message.key, message)
        fresh = by_key.values()
        self._shelf.make_room(self._boxes.next - 1)
        first, box = self._entries.take(len(fresh), now), self._boxes.take(len(fresh), now)
        marks = self._marks.make(first, len(fresh))
        self._each(
            self._sql.insert_ledger, [ledger_row(first + i, box + i, one, marks[i]) for i, one in enumerate(fresh)]
        )
        self._each(self._sql.insert_silo, [self._boxed_row(box + i, one) for i, one in enumerate(fresh)])
        return frozenset(by_key), len(turn.new) - len(fresh)

    def _boxed_row(self, number: int, one: Message) -> tuple[Any, ...]:
        loose = self._served and not one.due  # a reminder stays for long
        return silo_row(number, one, self._shelf.take(number, one.owner, one.expires) if loose else SHELVED)

    def _refresh_ids(self) -> None:
        """The next free numbers; read again only when another process has committed since."""
        seen = self._version()
        if seen == self._seen:
            return
        mark = int(self._one(self._sql.told, name=ID_MARK) or 0) if self.foreign else 0
        self._boxes.follow(max(mark, self._one(self._sql.highest_kept)))
        self._entries.follow()
        self._seen = seen

    def _claim(self, claimed: list[Waiting], now: int) -> None:
        if len(self._adopt(claimed)) < len(claimed):
            raise StoreError("cannot write: another process took the same number")  # the lanes come again
        rows = [{"row": item.ledger_id, "at": now, "box": item.silo_id} for item in claimed]
        self._each(self._sql.claim, rows)

    def _adopt(self, items: list[Waiting]) -> list[Waiting]:
        """Give messages of others a ledger row, and take their id from a ledger row that was another message's.

        Returns the items that have a ledger row now: another process may have taken the number meant for one.
        """
        strangers = [item for item in items if not item.known]
        if not strangers:
            return items
        taken = {item.ledger_id for item in strangers if self._is_anothers(item)}
        free = [item for item in strangers if item.ledger_id not in taken]
        rows = [{"box": i.silo_id, "row": i.ledger_id, "at": i.message.arrived} for i in free]
        self._each(self._sql.disown, rows)
        self._each(self._sql.adopt, [ledger_row(i.ledger_id, i.silo_id, i.message, i.msilo_id) for i in free])
        return [item for item in items if item.known or item.ledger_id not in taken]

    def _is_anothers(self, item: Waiting) -> bool:
        row = self._run(self._sql.by_id, row=item.ledger_id).fetchone()
        return row is not None and row["msilo_id"] != item.msilo_id

    def _settle(self, settled: list[Settled]) -> None:
        here = {id(item) for item in self._adopt([one.item for one in settled])}
        passing, ended, boxes = [], [], []
        for one in settled:
            final = one.state not in WAITING
            if final:
                message = one.item.message
                boxes.append({"row": one.item.silo_id, "arrived": message.arrived, "src": to_db(message.src)})
            if id(one.item) not in here:
                continue
            row = {
                "row": one.item.ledger_id, "next": int(one.state), "tries": one.attempts, "why_code": one.code,
                "why": one.reason and to_db(one.reason),
            }  # fmt: skip
            if final:
                ended.append({**row, "at": one.at})
            else:  # since when it is handed over, or nothing
                passing.append({**row, "at": one.at if one.state is State.HANDED else None})
        self._each(self._sql.settle, passing)
        self._each(self._sql.finish, ended)
        self._shelf.shelve(one.item.silo_id for one in settled if one.state in WAITING)
        self._shelf.forget(one.item.silo_id for one in settled if one.state not in WAITING)
        self._each(self._sql.delete_silo, boxes)
        self._remains |= bool(boxes)

    def _write_rest(self, turn: Turn) -> None:
        if turn.recipients:
            gone = [{"user": a.user, "host": a.host} for a, r in turn.recipients.items() if r is None]
            self._each(self._sql.drop_recipient, gone)
            self._each(self._sql.keep_recipient, [recipient_row(r) for r in turn.recipients.values() if r])
        if turn.contacts:
            ended = [{"user": a.user, "host": a.host, "at": uri} for (a, uri), c in turn.contacts.items() if c is None]
            self._each(self._sql.drop_contact, ended)
            self._each(self._sql.keep_contact, [contact_row(c) for c in turn.contacts.values() if c])
        self._each(self._sql.ask, turn.asked)
        self._each(self._sql.tell, [{"name": name, "value": value} for name, value in turn.told.items()])
        granted = [{"row": number, "text": json.dumps(result)} for number, result in turn.wishes.items()]
        self._each(self._sql.grant, granted)

    def _count(self, counters: dict[str, int]) -> None:
        self._each(self._sql.add, [{"name": name, "value": by} for name, by in counters.items()])

    # -- reading -----------------------------------------------------------------------------------------------------
    def data_version(self) -> int:
        """Changes when another connection has committed (SQLite's own counter)."""
        with translated("cannot read"):
            return self._version()

    def _version(self) -> int:
        return int(self._c.execute("PRAGMA data_version").fetchone()[0])

    def has_mail(self, owner: Aor, now: int) -> bool:
        """Whether the box of an owner holds anything that may be sent: one look-up in an index."""
        with translated("cannot read"):
            return self._shelf.has_mail(owner, now)

    def waiting(self, owner: Aor, now: int, most: int) -> int:
        """How many messages of an owner are in the box and not over, counted up to `most`."""
        with translated("cannot read"):
            return self._shelf.alive(owner, now, most)

    def count_usage(self, *, wanted: bool) -> None:
        """Begin to count what waits, or stop it; a beginning reads the whole box."""
        with translated("cannot count what waits"):
            usage.keep(self._c, self._names, wanted=wanted)

    def usage(self, owner: Aor) -> tuple[int, int]:
        """Messages and bytes that wait for an owner, those included that are over; two empty names: for everybody."""
        with translated("cannot read"):
            row = self._run(self._sql.usage, user=owner.user, host=owner.host).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def knows(self, key: bytes, now: int) -> bool:
        """Whether a request was taken in the last minutes."""
        with translated("cannot read"):
            self.repeats.follow(self._version(), now)
        return key in self.repeats

    def pending(self, owner: Aor, after: int, most: int, now: int) -> list[Waiting]:
        """The oldest messages of an owner that may be sent, above a silo id."""
        with translated("cannot read"):
            self._refresh_ids()
            while True:
                found = [self._waiting(row) for row in self._shelf.page(owner, after, most, now)]
                free = [item for item in found if item.state is State.PENDING]
                if free or len(found) < most:
                    return free
                after = found[-1].silo_id  # a whole page of parked ones

    def present(self, silo_ids: list[int]) -> set[int]:
        """Those of these messages that are still in the box."""
        with translated("cannot read"):
            return {row[0] for row in self._run(self._sql.present, ids=json.dumps(silo_ids))}

    def handed(self, before: int, most: int) -> list[Waiting]:
        """Messages handed over before a second, and never brought back."""
        with translated("cannot read"):
            return self._boxed(self._sql.handed, before=before, most=most)

    def held(self, text: str) -> Waiting | None:
        """The message in the box that was given this X-MSilo-ID, or None."""
        known = self.by_msilo_id(text)
        if known is None:
            return None
        with translated("cannot read"):
            found = self._boxed(self._sql.one, row=int(text.partition("-")[0], 16))
        return found[0] if found else None

    def lapsed(self, now: int, most: int) -> list[Waiting]:
        """Messages whose time is over, but for those under way."""
        with translated("cannot read"):
            self._refresh_ids()
            found = [self._waiting(row) for row in self._shelf.lapsed(now, most)]
        return [item for item in found if item.state is not State.SENDING and item.message.expires <= now]

    def _boxed(self, sql: str, **values: Any) -> list[Waiting]:
        """Rows of the box with their ledger."""
        return [self._waiting(row) for row in by_name(self._c.execute(sql, values))]

    def _waiting(self, row: Mapping[str, Any]) -> Waiting:
        """A row of the box with its ledger; a ledger that belongs to another message does not count."""
        item = waiting_of(row)
        if item.known:
            return item
        number = self._entries.next
        self._entries.next += 1  # a reading reserves nothing: SQLite notes it when the row is written
        return replace(item, ledger_id=number, msilo_id=self._marks.make(number, 1)[0])

    def by_msilo_id(self, text: str) -> tuple[State, Aor] | None:
        """State and owner of the message that was given this X-MSilo-ID, or None."""
        number = text.partition("-")[0]
        try:
            row_id = int(number, 16) if len(number) <= 15 else 0
        except ValueError:
            return None
        with translated("cannot read"):
            row = self._run(self._sql.by_id, row=row_id).fetchone()
        if row is None or not secrets.compare_digest(row["msilo_id"].encode(), text.encode(errors="replace")):
            return None
        return State(row["state"]), Aor(row["username"], row["domain"])

    def due(self, now: int, most: int) -> list[Aor]:
        """Owners whose next attempt by timer is due."""
        with translated("cannot read"):
            return [Aor(user, host) for user, host in self._run(self._sql.due, now=now, most=most)]

    def ripened(self, since: tuple[int, int], now: int, most: int) -> list[tuple[Aor, tuple[int, int]]]:
        """Owners of reminders that fell due after a place in their order, each with its own place, oldest first."""
        with translated("cannot read"):
            rows = self._run(self._sql.ripened, since=since[0], last=since[1], now=now, most=most)
            return [(Aor(user, host), (at, number)) for user, host, at, number in rows]

    def owners(self, most: int, now: int, after: Aor | None = None) -> list[Aor]:
        """Owners of messages that may be sent, in order, after one of them; one look-up in an index for each."""
        with translated("cannot read"):
            return self._shelf.owners(most, now, after)

    def mark(self) -> tuple[int, int]:
        """Another one when anybody has written since: ourselves, or another process."""
        return self._c.total_changes, self.data_version()

    def recipients(self) -> list[Recipient]:
        """Every owner that could not be reached, for the start."""
        with translated("cannot read"):
            return [recipient_of(row) for row in self._run(self._sql.recipients)]

    def contacts(self) -> list[Contact]:
        """Every binding, for the start."""
        with translated("cannot read"):
            return [contact_of(row) for row in self._run(self._sql.contacts)]

    def wishes(self) -> list[Wish]:
        """What the commands asked for and nobody has finished, oldest first."""
        with translated("cannot read"):
            return [wish_of(row) for row in self._run(self._sql.wishes)]

    def holds(self) -> list[Hold]:
        """What the operator holds back."""
        with translated("cannot read"):
            return [hold_of(row) for row in self._run(self._sql.holds)]

    # -- upkeep ------------------------------------------------------------------------------------------------------
    def recover(self) -> list[Aor]:
        """After a start: what was under way waits again. Returns the owners it belongs to."""
        with translated("cannot recover"):
            found = [Aor(user, host) for user, host in self._run(self._sql.interrupted)]
            if found:
                self._run(self._sql.recover, why="the daemon stopped before the answer came")
            return found

    def scrub(self) -> None:
        """Leave nothing readable of what was taken out of the box; does nothing where nothing was."""
        with translated("cannot scrub"):
            self._remains = self._remains and not empty_log(self._c)

    def close(self) -> None:
        """Give the file back."""
        if self.repair.look() is Ground.FIRM:
            with suppress(sqlite3.Error):  # what is not done is a gap, or the next start's work
                self._boxes.give_back()
                self._entries.give_back()
                self._shelf.tidy()
        self._checkpoints.close()
        self._c.close()
