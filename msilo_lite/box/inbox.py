"""What the commands read and write in the file, with the daemon up or down: lists, counts, purge, wishes.

The file is the only channel between a command and the daemon: a command commits what it wants, the daemon sees by
SQLite's data_version that somebody did. Writes are short batches, so that the daemon never waits long for the lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import NotFound, NotOurs, StoreError
from ..sip.address import Aor
from .delivery import WAITING, State
from .engine import atomic, check_table, connect, empty_log, open_engine, raw, translated
from .message import Contact, Recipient, Waiting
from .rows import box, contact_of, from_db, recipient_of, waiting_of, wish_row
from .schema import MIGRATIONS, Names, contact, counter, daemon, ledger, recipient, silo_table, wish

LARGEST_ID = 2**63 - 1
"SQLite's."
BATCH = 500
"Rows a purge deletes in one commit."


@dataclass(frozen=True, slots=True)
class History:
    """What is kept of a message that left the box."""

    ledger_id: int
    owner: Aor
    from_: str
    ctype: str
    size: int
    arrived: int
    state: State
    attempts: int
    code: int | None
    reason: str | None
    settled: int
    msilo_id: str


class Inbox:
    """The file as a command sees it. Methods may raise StoreError; the constructor NotFound when there is no file."""

    def __init__(self, file: Path, names: Names | None = None) -> None:
        if not file.exists():
            raise NotFound(f"there is no database at {file}; `msilo-lite serve` makes one, --db-url names another")
        self._silo, self._box = silo_table(names or Names()), box(names or Names())
        with translated(f"cannot open {file}"):
            _check_schema(file)  # before anything of the file is changed
            self._engine = open_engine(file)
            self._c = self._engine.connect()
            check_table(self._c, self._silo)

    # -- reading -----------------------------------------------------------------------------------------------------
    def waiting(self, owner: Aor | None = None) -> Iterator[Waiting]:
        """Every message in the box, oldest first."""
        query = self._box
        if owner:
            query = query.where(self._silo.c.username == owner.user, self._silo.c.domain == owner.host)
        with translated("cannot read"):
            for row in self._c.execute(query.order_by(self._silo.c.id)).mappings():
                yield waiting_of(row)

    def message(self, silo_id: int) -> Waiting:
        """One message of the box. Raises NotFound."""
        with translated("cannot read"):
            there = 0 <= silo_id <= LARGEST_ID
            row = self._c.execute(self._box.where(self._silo.c.id == silo_id)).mappings().first() if there else None
        if row is None:
            raise NotFound(f"no message {silo_id} is waiting; `msilo-lite list` shows those that are")
        return waiting_of(row)

    def history(self, owner: Aor | None = None) -> Iterator[History]:
        """Messages that left the box, oldest first."""
        query = sa.select(ledger).where(ledger.c.settled.is_not(None))
        if owner:
            query = query.where(ledger.c.username == owner.user, ledger.c.domain == owner.host)
        with translated("cannot read"):
            for row in self._c.execute(query.order_by(ledger.c.settled, ledger.c.id)).mappings():
                yield _history_of(row)

    def past(self, ledger_id: int) -> History:
        """One message that left the box. Raises NotFound."""
        query = sa.select(ledger).where(ledger.c.settled.is_not(None), ledger.c.id == min(ledger_id, LARGEST_ID))
        with translated("cannot read"):
            row = self._c.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"the history has no h{ledger_id}; `msilo-lite list --all` shows what it has")
        return _history_of(row)

    def damage(self) -> str:
        """What SQLite finds wrong with the file; empty for nothing."""
        with translated("cannot read"):
            found = str(self._c.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        return "" if found == "ok" else found.splitlines()[-1]

    def foreign(self) -> bool:
        """Whether somebody else made msilo's table."""
        with translated("cannot read"):
            text = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
            made = self._c.exec_driver_sql(text, (self._silo.name,)).scalar_one()
        return "AUTOINCREMENT" not in str(made).upper()

    def vanished(self) -> int:
        """Messages that wait by our ledger and are not in msilo's table: somebody else took them out."""
        here = sa.select(self._silo.c.id).where(self._silo.c.id == ledger.c.silo_id)
        query = sa.select(sa.func.count()).where(ledger.c.silo_id.is_not(None), ~here.exists())
        with translated("cannot read"):
            return int(self._c.execute(query).scalar_one())

    def count(self, owner: Aor | None = None, *, ripe_at: int | None = None) -> int:
        """How many messages are in the box; `ripe_at`: no reminders due later, none handed over."""
        query = sa.select(sa.func.count()).select_from(self._silo)
        if owner:
            query = query.where(self._silo.c.username == owner.user, self._silo.c.domain == owner.host)
        if ripe_at is not None:
            gone = sa.select(ledger.c.id).where(ledger.c.silo_id == self._silo.c.id, ledger.c.state == State.HANDED)
            query = query.where(self._silo.c.snd_time <= ripe_at, ~gone.exists())
        with translated("cannot read"):
            return int(self._c.execute(query).scalar_one())

    def oldest(self) -> int | None:
        """Arrival of the oldest waiting message, UTC seconds."""
        with translated("cannot read"):
            value = self._c.execute(sa.select(self._silo.c.inc_time).order_by(self._silo.c.id).limit(1)).scalar()
        return None if value is None else int(value)

    def owners(self) -> list[tuple[Aor, int]]:
        """Who has how many messages waiting."""
        query = sa.select(self._silo.c.username, self._silo.c.domain, sa.func.count()).group_by(
            self._silo.c.username, self._silo.c.domain
        )
        with translated("cannot read"):
            return [(Aor(user, host), number) for user, host, number in self._c.execute(query)]

    def recipients(self) -> dict[Aor, Recipient]:
        """Owners that could not be reached."""
        with translated("cannot read"):
            rows = self._c.execute(sa.select(recipient)).mappings()
            return {one.owner: one for one in map(recipient_of, rows)}

    def contacts(self, now: int) -> dict[Aor, Contact]:
        """The newest live binding of each owner."""
        with translated("cannot read"):
            rows = self._c.execute(sa.select(contact).where(contact.c.expires > now).order_by(contact.c.updated))
            return {one.aor: one for one in map(contact_of, rows.mappings()) if one.takes_message}

    def counters(self) -> dict[str, int]:
        """The daemon's counters, kept over restarts."""
        with translated("cannot read"):
            rows = self._c.execute(sa.select(counter).order_by(counter.c.name))
            return {str(name): int(value) for name, value in rows}

    def daemon(self) -> dict[str, Any]:
        """What the daemon said of itself when it started last."""
        return dict(self._told("daemon") or {})

    def echoes(self) -> list[dict[str, Any]]:
        """The messages of `check` that reached the daemon last."""
        return list(self._told("echoes") or [])

    def _told(self, name: str) -> Any:
        with translated("cannot read"):
            found = self._c.execute(sa.select(daemon.c.value).where(daemon.c.name == name)).scalar()
        return json.loads(found) if found else None

    # -- writing -----------------------------------------------------------------------------------------------------
    def ask(self, verb: str, owner: Aor, now: int, most: int = 0) -> int:
        """Leave a wish for the daemon; returns its id."""
        row = wish_row(verb, owner, now, most)
        with translated("cannot write"):
            return int(self._c.execute(sa.insert(wish).returning(wish.c.id), row).scalar_one())

    def granted(self, number: int) -> dict[str, Any] | None:
        """The result of a wish, or None while the daemon is at it."""
        with translated("cannot read"):
            row = self._c.execute(sa.select(wish.c.result, wish.c.done).where(wish.c.id == number)).first()
        return json.loads(row[0] or "{}") if row and row[1] else None

    def retry(self, ids: list[int], now: int) -> int:
        """Let messages be sent again that were parked or handed over; returns how many were."""
        where = (ledger.c.silo_id.in_(ids), ledger.c.state.in_((State.PARKED, State.HANDED)))
        values = {"state": State.PENDING, "in_flight": None, "reason": "the operator wants it sent again"}
        with translated("cannot write"), atomic(raw(self._c)):
            owners = self._c.execute(sa.select(ledger.c.username, ledger.c.domain).where(*where).distinct()).all()
            changed = self._c.execute(sa.update(ledger).where(*where).values(**values)).rowcount
            for user, host in owners:
                self._c.execute(sa.insert(wish), wish_row("try", Aor(user, host), now))
        return int(changed)

    def purge(self, ids: list[int], now: int) -> tuple[int, int]:
        """Take messages out of the box; returns how many were there, and how many of them were on their way."""
        where = ledger.c.silo_id.in_(ids)
        values = {"state": State.CANCELLED, "settled": now, "reason": "purged", "silo_id": None}
        row = wish_row("reload", Aor("", ""), now)
        with translated("cannot write"), atomic(raw(self._c)):
            sent = sa.select(sa.func.count()).where(where, ledger.c.state == State.SENDING)
            sending = self._c.execute(sent).scalar_one()
            self._c.execute(sa.update(ledger).where(where, ledger.c.state.in_(WAITING)).values(**values))
            gone = self._c.execute(sa.delete(self._silo).where(self._silo.c.id.in_(ids))).rowcount
            self._c.execute(sa.insert(wish), row)
        return int(gone), int(sending)

    def scrub(self) -> bool:
        """Leave nothing readable of what was taken out; False where another process reads and the daemon will do it."""
        with translated("cannot scrub"):
            return empty_log(raw(self._c))

    def close(self) -> None:
        """Give the file back."""
        self._c.close()
        self._engine.dispose()


def _history_of(row: sa.RowMapping) -> History:
    return History(
        ledger_id=row["id"],
        owner=Aor(row["username"], row["domain"]),
        from_=from_db(row["from_hdr"]),
        ctype=from_db(row["ctype"]),
        size=row["size"],
        arrived=row["arrived"],
        state=State(row["state"]),
        attempts=row["attempts"],
        code=row["code"],
        reason=from_db(row["reason"]) or None,
        settled=row["settled"],
        msilo_id=row["msilo_id"],
    )


def _check_schema(file: Path) -> None:
    """Raises NotOurs for a file without our tables, and StoreError for one of another version."""
    with closing(connect(file, readonly=True)) as connection:
        have = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if have == 0 and tables:
        raise NotOurs(f"{file} has no tables of msilo-lite yet; start `serve` once")
    if have != len(MIGRATIONS):
        raise StoreError(f"{file} has schema {have}, this msilo-lite knows {len(MIGRATIONS)}; start `serve` once")
