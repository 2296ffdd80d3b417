"""Every SQL statement of the daemon: one connection, one transaction a turn; nobody else imports SQLAlchemy's engine.

A `Turn` is written whole or not at all, fsynced before `write` returns (WAL, synchronous=FULL). Reads outside of a
turn are single indexed look-ups; `test_plans` holds that none of them scans. What the commands read is in `inbox`.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert

from .address import Aor
from .delivery import State
from .engine import atomic, migrate, open_engine, translated
from .errors import StoreError
from .message import Contact, Recipient, Settled, Turn, Waiting
from .rows import (
    BOX,
    adopted_row,
    contact_of,
    contact_row,
    ledger_row,
    new_msilo_id,
    recipient_of,
    recipient_row,
    silo_row,
    to_db,
    waiting_of,
)
from .schema import contact, counter, daemon, ledger, recipient, silo, wish

_P = sa.bindparam


def _replace(table: sa.Table, key: tuple[str, ...]) -> Any:
    """Insert, or overwrite the row with the same key."""
    statement = upsert(table)
    rest = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=rest)


_INSERT_SILO = sa.insert(silo)
_INSERT_LEDGER = sa.insert(ledger)
_ADOPT = upsert(ledger).on_conflict_do_nothing()
_COUNTED = upsert(counter)
_ADD = _COUNTED.on_conflict_do_update(
    index_elements=["name"], set_={"value": counter.c.value + _COUNTED.excluded.value}
)
_CLAIM = (
    sa.update(ledger)
    .where(ledger.c.id == _P("row"), ledger.c.state == State.PENDING)
    .values(state=State.SENDING, in_flight=_P("at"), silo_id=_P("box"))
)
_SETTLE = (
    sa.update(ledger)
    .where(ledger.c.id == _P("row"), ledger.c.state <= State.PARKED)
    .values(state=_P("next"), attempts=_P("tries"), code=_P("why_code"), reason=_P("why"), in_flight=None)
)
_FINISH = (
    sa.update(ledger)
    .where(ledger.c.id == _P("row"))
    .values(
        state=_P("next"), attempts=_P("tries"), code=_P("why_code"), reason=_P("why"), in_flight=None, silo_id=None,
        settled=_P("at"),
    )
)  # fmt: skip
_DELETE = sa.delete(silo).where(silo.c.id == _P("row"))
_KNOWN = sa.select(ledger.c.dedupe).where(ledger.c.dedupe.in_(_P("keys", expanding=True)))
_HAS_MAIL = sa.select(silo.c.id).where(silo.c.username == _P("user"), silo.c.domain == _P("host")).limit(1)
_PENDING = (
    BOX.where(
        silo.c.username == _P("user"), silo.c.domain == _P("host"), silo.c.snd_time == 0, silo.c.id > _P("after"),
    )
    .order_by(silo.c.id)
    .limit(_P("most"))
)  # fmt: skip
_PRESENT = sa.select(silo.c.id).where(silo.c.id.in_(_P("ids", expanding=True)))
_DUE = (
    sa.select(recipient.c.username, recipient.c.domain)
    .where(recipient.c.next_try <= _P("now"))
    .order_by(recipient.c.next_try)
    .limit(_P("most"))
)
_LAPSED = (
    BOX.where(
        silo.c.exp_time <= _P("now"),
        sa.or_(ledger.c.state.is_(None), ledger.c.state != State.SENDING, ledger.c.arrived != silo.c.inc_time),
    )
    .order_by(silo.c.exp_time)
    .limit(_P("most"))
)


_DROP_RECIPIENT = sa.delete(recipient).where(recipient.c.username == _P("user"), recipient.c.domain == _P("host"))
_KEEP_RECIPIENT = _replace(recipient, ("username", "domain"))
_DROP_CONTACT = sa.delete(contact).where(
    contact.c.username == _P("user"), contact.c.domain == _P("host"), contact.c.uri == _P("at")
)
_KEEP_CONTACT = _replace(contact, ("username", "domain", "uri"))
_GRANT = sa.update(wish).where(wish.c.id == _P("row")).values(result=_P("text"), done=1)


class Store:
    """The database as the daemon sees it. Every method may raise StoreError."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with translated(f"cannot open {file}"):
            self._engine = open_engine(file, create=True)
            self._c = self._engine.connect()
            migrate(self._c)
        self._seen = -1
        self._next_silo = self._next_ledger = 0

    # -- writing -----------------------------------------------------------------------------------------------------
    def write(self, turn: Turn, now: int) -> int:
        """Commit a turn; returns how many of `turn.new` were repeats of requests already known.

        Raises StoreError with nothing kept; the caller decides what of the turn to try again.
        """
        try:
            with translated("cannot write"), atomic(self._c):
                return self._write(turn, now)
        except StoreError:
            self._seen = -1  # the ids handed out are void
            raise

    def _write(self, turn: Turn, now: int) -> int:
        fresh, repeats = self._insert(turn) if turn.new else (0, 0)
        if turn.claimed:
            self._claim(turn.claimed, now)
        if turn.settled:
            self._settle(turn.settled)
        self._write_rest(turn)
        self._count({**turn.counters, **_earned(turn, fresh, repeats)})
        return repeats

    def _insert(self, turn: Turn) -> tuple[int, int]:
        """Insert what is new; returns how many were, and how many were repeats."""
        self._refresh_ids()
        known = set(self._c.scalars(_KNOWN, {"keys": [message.key for message in turn.new]}))
        boxes, entries, repeats = [], [], 0
        for message in turn.new:
            if message.key in known:
                repeats += 1
                continue
            known.add(message.key)
            boxes.append(silo_row(self._next_silo, message))
            entries.append(ledger_row(self._next_ledger, self._next_silo, message))
            self._next_silo += 1
            self._next_ledger += 1
        if boxes:
            self._c.execute(_INSERT_SILO, boxes)
            self._c.execute(_INSERT_LEDGER, entries)
        return len(boxes), repeats

    def _refresh_ids(self) -> None:
        """The next free ids; read again only when another process has committed since."""
        seen = self.data_version()
        if seen == self._seen:
            return
        used = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0), coalesce(max(id), 0)) FROM "
        kept = "SELECT coalesce(max(silo_id), 0) FROM msilo_ledger WHERE silo_id IS NOT NULL"
        box = self._c.exec_driver_sql(used + silo.name, (silo.name,)).scalar_one()
        entry = self._c.exec_driver_sql(used + ledger.name, (ledger.name,)).scalar_one()
        self._next_silo = max(box, self._c.exec_driver_sql(kept).scalar_one()) + 1
        self._next_ledger = max(self._next_ledger, entry + 1)
        self._seen = seen

    def _claim(self, claimed: list[Waiting], now: int) -> None:
        self._adopt(claimed)
        rows = [{"row": item.ledger_id, "at": now, "box": item.silo_id} for item in claimed]
        self._c.execute(_CLAIM, rows)

    def _adopt(self, items: list[Waiting]) -> None:
        """Give messages of others a ledger row, and take their id from a ledger row that was another message's."""
        strangers = [item for item in items if not item.known]
        if strangers:
            stale = sa.update(ledger).where(ledger.c.silo_id == _P("box"), ledger.c.id != _P("row"))
            self._c.execute(
                stale.values(silo_id=None, state=State.CANCELLED, settled=_P("at")),
                [{"box": i.silo_id, "row": i.ledger_id, "at": i.message.arrived} for i in strangers],
            )
            self._c.execute(_ADOPT, [adopted_row(item) for item in strangers])

    def _settle(self, settled: list[Settled]) -> None:
        self._adopt([one.item for one in settled])
        rows = [
            {
                "row": one.item.ledger_id, "next": one.state, "tries": one.attempts, "why_code": one.code,
                "why": one.reason and to_db(one.reason), "at": one.at,
            }
            for one in settled
        ]  # fmt: skip
        final = [one.state not in (State.PENDING, State.PARKED) for one in settled]
        passing = [{k: v for k, v in row.items() if k != "at"} for row, end in zip(rows, final, strict=True) if not end]
        ended = [row for row, end in zip(rows, final, strict=True) if end]
        if passing:
            self._c.execute(_SETTLE, passing)
        if ended:
            self._c.execute(_FINISH, ended)
            boxes = [{"row": one.item.silo_id} for one, end in zip(settled, final, strict=True) if end]
            self._c.execute(_DELETE, boxes)

    def _write_rest(self, turn: Turn) -> None:
        gone = [{"user": a.user, "host": a.host} for a, r in turn.recipients.items() if r is None]
        if gone:
            self._c.execute(_DROP_RECIPIENT, gone)
        kept = [recipient_row(r) for r in turn.recipients.values() if r]
        if kept:
            self._c.execute(_KEEP_RECIPIENT, kept)
        self._write_contacts(turn)
        if turn.wishes:
            self._c.execute(_GRANT, [{"row": n, "text": json.dumps(result)} for n, result in turn.wishes.items()])

    def _count(self, counters: dict[str, int]) -> None:
        if counters:
            self._c.execute(_ADD, [{"name": name, "value": by} for name, by in counters.items()])

    def _write_contacts(self, turn: Turn) -> None:
        gone = [{"user": a.user, "host": a.host, "at": uri} for (a, uri), c in turn.contacts.items() if c is None]
        if gone:
            self._c.execute(_DROP_CONTACT, gone)
        kept = [contact_row(c) for c in turn.contacts.values() if c]
        if kept:
            self._c.execute(_KEEP_CONTACT, kept)

    # -- reading -----------------------------------------------------------------------------------------------------
    def data_version(self) -> int:
        """Changes when another connection has committed (SQLite's own counter)."""
        with translated("cannot read"):
            return int(self._c.exec_driver_sql("PRAGMA data_version").scalar_one())

    def has_mail(self, owner: Aor) -> bool:
        """Whether the box of an owner holds anything: one look-up in an index."""
        with translated("cannot read"):
            return self._c.execute(_HAS_MAIL, {"user": owner.user, "host": owner.host}).first() is not None

    def pending(self, owner: Aor, after: int, most: int) -> list[Waiting]:
        """The oldest messages of an owner that may be sent, above a silo id."""
        with translated("cannot read"):
            self._refresh_ids()
            while True:
                query = {"user": owner.user, "host": owner.host, "after": after, "most": most}
                found = [self._waiting(row) for row in self._c.execute(_PENDING, query).mappings()]
                free = [item for item in found if item.state is State.PENDING]
                if free or len(found) < most:
                    return free
                after = found[-1].silo_id  # a whole page of parked ones

    def present(self, silo_ids: list[int]) -> set[int]:
        """Those of these messages that are still in the box."""
        with translated("cannot read"):
            return set(self._c.scalars(_PRESENT, {"ids": silo_ids}))

    def lapsed(self, now: int, most: int) -> list[Waiting]:
        """Messages whose time is over, but for those under way."""
        with translated("cannot read"):
            self._refresh_ids()
            found = [self._waiting(row) for row in self._c.execute(_LAPSED, {"now": now, "most": most}).mappings()]
        return [item for item in found if item.state is not State.SENDING]

    def _waiting(self, row: sa.RowMapping) -> Waiting:
        """A row of the box with its ledger; a ledger that belongs to another message does not count."""
        item = waiting_of(row)
        if item.known:
            return item
        number = self._next_ledger
        self._next_ledger += 1
        return replace(item, ledger_id=number, msilo_id=new_msilo_id(number))

    def by_msilo_id(self, text: str) -> tuple[State, Aor] | None:
        """State and owner of the message that was given this X-MSilo-ID, or None."""
        number = text.partition("-")[0]
        try:
            row_id = int(number, 16) if len(number) <= 15 else 0
        except ValueError:
            return None
        with translated("cannot read"):
            row = self._c.execute(sa.select(ledger).where(ledger.c.id == row_id)).mappings().first()
        if row is None or not secrets.compare_digest(row["msilo_id"].encode(), text.encode(errors="replace")):
            return None
        return State(row["state"]), Aor(row["username"], row["domain"])

    def due(self, now: int, most: int) -> list[Aor]:
        """Owners whose next attempt by timer is due."""
        with translated("cannot read"):
            return [Aor(user, host) for user, host in self._c.execute(_DUE, {"now": now, "most": most})]

    def recipients(self) -> list[Recipient]:
        """Every owner that could not be reached, for the start."""
        with translated("cannot read"):
            return [recipient_of(row) for row in self._c.execute(sa.select(recipient)).mappings()]

    def contacts(self) -> list[Contact]:
        """Every binding, for the start."""
        with translated("cannot read"):
            return [contact_of(row) for row in self._c.execute(sa.select(contact)).mappings()]

    def wishes(self) -> list[tuple[int, str, Aor]]:
        """What the commands asked for and nobody has finished: id, verb, owner."""
        with translated("cannot read"):
            rows = self._c.execute(sa.select(wish).where(wish.c.done == 0).order_by(wish.c.id)).mappings()
            return [(row["id"], row["verb"], Aor(row["username"], row["domain"])) for row in rows]

    # -- upkeep ------------------------------------------------------------------------------------------------------
    def recover(self) -> list[Aor]:
        """After a start: what was under way waits again. Returns the owners it belongs to."""
        with translated("cannot recover"):
            where = ledger.c.state == State.SENDING
            owners = sa.select(ledger.c.username, ledger.c.domain).where(where).distinct()
            found = [Aor(user, host) for user, host in self._c.execute(owners)]
            if found:
                words = "the daemon stopped before the answer came"
                change = sa.update(ledger).where(where)
                self._c.execute(change.values(state=State.PENDING, in_flight=None, code=None, reason=words))
            return found

    def prune(self, before: int, most: int) -> int:
        """Forget history and finished wishes older than `before`; returns how many rows of history went."""
        old = sa.select(ledger.c.id).where(ledger.c.settled < before).order_by(ledger.c.settled).limit(most)
        with translated("cannot prune"):
            gone = self._c.execute(sa.delete(ledger).where(ledger.c.id.in_(old.scalar_subquery())))
            self._c.execute(sa.delete(wish).where(wish.c.done == 1, wish.c.asked < before))
            return gone.rowcount

    def tell(self, name: str, value: str) -> None:
        """Leave a word about the daemon for `status`."""
        with translated("cannot write"):
            self._c.execute(_replace(daemon, ("name",)), {"name": name, "value": value})

    def close(self) -> None:
        """Give the file back."""
        self._c.close()
        self._engine.dispose()


def _earned(turn: Turn, fresh: int, repeats: int) -> dict[str, int]:
    """Counters that only the commit itself can know."""
    known = {"stored_messages": fresh, "duplicate_messages": repeats}
    return {name: by + turn.counters.get(name, 0) for name, by in known.items() if by}
