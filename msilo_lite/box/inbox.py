"""What the commands read and write in the file, with the daemon up or down: lists, counts, purge, wishes.

The file is the only channel between a command and the daemon: a command commits what it wants, the daemon sees by
SQLite's data_version that somebody did. Writes are short batches, so that the daemon never waits long for the lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert

from ..errors import NotFound, NotOurs, StoreError
from ..sip.address import Aor
from .delivery import WAITING, State
from .engine import atomic, check_table, connect, empty_log, made_by_us, open_engine, raw, translated
from .holds import Hold, Kind
from .message import Contact, Recipient, Waiting
from .rows import box, contact_of, from_db, hold_of, recipient_of, waiting_of, wish_row
from .schema import (
    MIGRATIONS,
    SHELVED,
    Names,
    contact,
    counter,
    daemon,
    everywhere,
    hold,
    ledger,
    loose_in,
    recipient,
    shelved,
    silo_table,
    wish,
)

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

    @property
    def connection(self) -> sa.Connection:
        """For readers that have statements of their own."""
        return self._c

    # -- reading -----------------------------------------------------------------------------------------------------
    def waiting(self, owner: Aor | None = None, before: int | None = None) -> Iterator[Waiting]:
        """Every message in the box, oldest first; `before`: those that had arrived by then."""
        query = self._chosen(self._box, owner, before)
        with translated("cannot read"):
            for row in self._c.execute(query.order_by(self._silo.c.id)).mappings():
                yield waiting_of(row)

    def ids(self, owner: Aor | None = None, before: int | None = None) -> list[int]:
        """The numbers of the same messages."""
        query = self._chosen(sa.select(self._silo.c.id), owner, before).order_by(self._silo.c.id)
        with translated("cannot read"):
            return [int(number) for number in self._c.execute(query).scalars()]

    def _chosen(self, query: sa.Select[Any], owner: Aor | None, before: int | None) -> sa.Select[Any]:
        if owner:
            query = query.where(self._silo.c.id.in_(self._of(owner)))
        return query if before is None else query.where(self._silo.c.inc_time <= before)

    def _of(self, owner: Aor) -> sa.CompoundSelect[Any]:
        """The numbers of an owner's messages: by the index, and of those that it does not have yet."""
        mine = self._silo.c.username == owner.user, self._silo.c.domain == owner.host
        return everywhere(self._silo, sa.select(self._silo.c.id).where(*mine))

    def message(self, silo_id: int) -> Waiting:
        """One message of the box. Raises NotFound."""
        with translated("cannot read"):
            there = 0 <= silo_id <= LARGEST_ID
            row = self._c.execute(self._box.where(self._silo.c.id == silo_id)).mappings().first() if there else None
        if row is None:
            raise NotFound(f"no message {silo_id} is waiting; `msilo-lite list` shows those that are")
        return waiting_of(row)

    def history(self, owner: Aor | None = None, before: int | None = None) -> Iterator[History]:
        """Messages that left the box, oldest first; `before`: those that had arrived by then."""
        query = sa.select(ledger).where(ledger.c.settled.is_not(None))
        if owner:
            query = query.where(ledger.c.username == owner.user, ledger.c.domain == owner.host)
        if before is not None:
            query = query.where(ledger.c.arrived <= before)
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
            return not made_by_us(raw(self._c), self._silo.name)

    def vanished(self) -> int:
        """Messages that wait by our ledger and are not in msilo's table: somebody else took them out."""
        here = sa.select(self._silo.c.id).where(self._silo.c.id == ledger.c.silo_id)
        query = sa.select(sa.func.count()).where(ledger.c.silo_id.is_not(None), ~here.exists())
        with translated("cannot read"):
            return int(self._c.execute(query).scalar_one())

    def count(self, owner: Aor | None = None, *, ripe_at: int | None = None) -> int:
        """How many messages are in the box; `ripe_at`: no reminders due later, none handed over."""
        where: list[sa.ColumnElement[bool]] = [self._silo.c.id.in_(self._of(owner))] if owner else []
        if ripe_at is not None:
            gone = sa.select(ledger.c.id).where(ledger.c.silo_id == self._silo.c.id, ledger.c.state == State.HANDED)
            where += [self._silo.c.snd_time <= ripe_at, ~gone.exists()]
        counted = sa.select(sa.func.count()).select_from(self._silo).where(*where)
        with translated("cannot read"):
            if where:
                return int(self._c.execute(counted).scalar_one())
            parts = (counted.where(rows(self._silo)) for rows in (shelved, loose_in))  # reads an index alone
            return sum(int(self._c.execute(part).scalar_one()) for part in parts)

    def oldest(self) -> int | None:
        """Arrival of the oldest waiting message, UTC seconds."""
        with translated("cannot read"):
            value = self._c.execute(sa.select(self._silo.c.inc_time).order_by(self._silo.c.id).limit(1)).scalar()
        return None if value is None else int(value)

    def owners(self, most: int) -> tuple[list[tuple[Aor, int]], int]:
        """Who has how many messages waiting, the most first and at most so many; and how many users there are."""
        number = sa.func.count().label("number")
        named = self._silo.c.username, self._silo.c.domain
        named_rows = everywhere(self._silo, sa.select(*named)).subquery()
        mine = sa.select(*named_rows.c, number).group_by(*named_rows.c).subquery()
        counted = sa.select(mine, sa.func.count().over().label("users")).order_by(mine.c.number.desc()).limit(most)
        with translated("cannot read"):
            rows = self._c.execute(counted).all()
        return [(Aor(row[0], row[1]), int(row[2])) for row in rows], int(rows[0][3]) if rows else 0

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

    def recent(self) -> dict[str, Any]:
        """What happened last, as the daemon tells it about once a second; kept over its end."""
        return dict(self._told("recent") or {})

    def echoes(self) -> list[dict[str, Any]]:
        """The messages of `check` that reached the daemon last."""
        return list(self._told("echoes") or [])

    def _told(self, name: str) -> Any:
        with translated("cannot read"):
            found = self._c.execute(sa.select(daemon.c.value).where(daemon.c.name == name)).scalar()
        return json.loads(found) if found else None

    def holds(self) -> list[Hold]:
        """What the operator holds back."""
        with translated("cannot read"):
            return [hold_of(row) for row in self._c.execute(sa.select(hold).order_by(hold.c.since)).mappings()]

    def data_version(self) -> int:
        """Changes when another connection has committed (SQLite's own counter)."""
        with translated("cannot read"):
            return int(self._c.exec_driver_sql("PRAGMA data_version").scalar_one())

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

    def hold(self, one: Hold) -> bool:
        """Hold mail back; whether that is new. The daemon sees it within a moment."""
        row = {"kind": one.kind.value, "name": one.name, "since": one.since}
        with translated("cannot write"):
            return self._c.execute(upsert(hold).on_conflict_do_nothing(), row).rowcount > 0

    def unhold(self, kind: Kind | None, name: str = "") -> list[Hold]:
        """Let go what one hold, or every one (None), keeps back; returns which there were."""
        with translated("cannot write"), atomic(raw(self._c)):
            found = [one for one in self.holds() if kind is None or (one.kind, one.name) == (kind, name)]
            for one in found:
                self._c.execute(sa.delete(hold).where(hold.c.kind == one.kind.value, hold.c.name == one.name))
        return found

    def schedule(self, times: Mapping[int, tuple[int, int]]) -> int:
        """Give waiting messages another due time and end (UTC seconds); returns how many were not on their way."""
        silo, done = self._silo, 0
        with translated("cannot write"), atomic(raw(self._c)):
            for number, (due, expires) in times.items():
                other = sa.select(ledger.c.id).where(ledger.c.silo_id == number, ledger.c.state != State.PENDING)
                free = sa.update(silo).where(silo.c.id == number, ~other.exists())
                times_of = {"snd_time": due, "exp_time": expires, "status": SHELVED}  # it rests for long
                done += self._c.execute(free.values(times_of)).rowcount
        return done

    def prune(self, before: int, most: int) -> int:
        """Forget history older than a UTC second; returns how many rows of it went, `most` at the most."""
        old = sa.select(ledger.c.id).where(ledger.c.settled < before).order_by(ledger.c.settled).limit(most)
        with translated("cannot write"):
            return int(self._c.execute(sa.delete(ledger).where(ledger.c.id.in_(old))).rowcount)

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
