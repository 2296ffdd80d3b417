"""Every SQL statement of the daemon, written once in SQLAlchemy Core and compiled once to text.

They run through SQLite's own driver: SQLAlchemy's work on each execution would cost as much as the disk does.
`test_plans` holds that none of them scans a table.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as upsert

from .delivery import WAITING, State
from .rows import FRESH, box
from .schema import (
    SHELVED,
    Names,
    contact,
    counter,
    daemon,
    everywhere,
    hold,
    ledger,
    loose,
    loose_in,
    recipient,
    sequence,
    shelved,
    silo_table,
    usage,
    wish,
)

_P = sa.bindparam


def _n(number: int) -> sa.ColumnElement[int]:
    """A number as it stands in the text: partial indexes are used for literals only."""
    return sa.literal_column(str(int(number)), sa.Integer)


def _sql(statement: Any) -> str:
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


def _sql_of_rows(statement: Any, order: tuple[str, ...]) -> str:
    """For rows as tuples, which bind faster than names do; their values stand in the order of these columns."""
    made = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))
    assert made.positiontup == list(order), made.positiontup
    return str(made)


def _replace(table: sa.Table, *key: str) -> Any:
    """Insert, or overwrite the row with the same key."""
    statement = upsert(table)
    rest = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=rest)


class Statements:
    """The statements for one way of naming msilo's table."""

    def __init__(self, names: Names) -> None:
        silo = silo_table(names)
        self._for_box(silo, box(names))
        self._for_ledger()
        self._for_others()

    def _for_box(self, silo: sa.Table, waiting: sa.Select[Any]) -> None:
        self.insert_silo = _sql_of_rows(sa.insert(silo), tuple(silo.c.keys()))
        same = (silo.c.inc_time == _P("arrived"), silo.c.src_addr == _P("src"))  # Kamailio gives an id twice
        self.delete_silo = _sql(sa.delete(silo).where(silo.c.id == _P("row"), *same))
        values = {"status": _n(SHELVED)}
        self.shelve = _sql(sa.update(silo).where(silo.c.id > _P("after"), loose(silo)).values(values))
        young = sa.select(silo.c.id, silo.c.username, silo.c.domain, silo.c.exp_time)
        self.loose = _sql(young.where(silo.c.id > _P("after"), loose(silo)).order_by(silo.c.id))
        self.shelve_one = _sql(sa.update(silo).where(silo.c.id == _P("row"), loose(silo)).values(values))
        wanted = sa.text("SELECT value FROM json_each(:ids)")
        self.present = _sql(sa.select(silo.c.id).where(silo.c.id.in_(wanted)))
        chosen = sa.and_(loose(silo), silo.c.id.in_(wanted))
        self._for_owner(silo, waiting, chosen)
        free = (ledger.c.state.is_(None), ledger.c.state != _n(State.SENDING), ledger.c.arrived != silo.c.inc_time)
        over = waiting.where(silo.c.exp_time <= _P("now"), silo.c.snd_time <= _P("now"), sa.or_(*free))
        self.lapsed = _sql(over.where(shelved(silo)).order_by(silo.c.exp_time).limit(_P("most")).offset(_n(0)))
        self.lapsed_loose = _sql(over.where(chosen).limit(_P("most")).offset(_n(0)))
        place = sa.tuple_(silo.c.snd_time, silo.c.id) > sa.tuple_(_P("since"), _P("last"))
        self.ripened = _sql(
            sa.select(silo.c.username, silo.c.domain, silo.c.snd_time, silo.c.id)
            .where(silo.c.snd_time > _n(0), place, silo.c.snd_time <= _P("now"))
            .order_by(silo.c.snd_time, silo.c.id)
            .limit(_P("most"))
            .offset(_n(0))
        )
        handed = waiting.where(ledger.c.state == _n(State.HANDED), ledger.c.in_flight <= _P("before"))
        self.handed = _sql(handed.order_by(ledger.c.in_flight).limit(_P("most")).offset(_n(0)))
        self.one = _sql(waiting.where(ledger.c.id == _P("row")))
        here = sa.select(silo.c.id).where(silo.c.id == ledger.c.silo_id)
        self.close_vanished = _sql(
            sa.update(ledger)
            .where(ledger.c.silo_id.is_not(None), ~here.exists())
            .values(silo_id=sa.null(), state=_n(State.CANCELLED), settled=_P("at"), reason=_P("why"))
        )
        self.live_on = _sql(
            sa.update(silo)
            .where(silo.c.id > _P("after"), silo.c.id <= _P("upto"), silo.c.exp_time > _P("was"))
            .values(exp_time=sa.func.min(silo.c.exp_time + _P("by"), _P("last")))
        )
        self.highest_box = _sql(sa.select(sa.func.coalesce(sa.func.max(silo.c.id), _n(0))))
        parts = (sa.select(sa.func.count()).where(rows) for rows in (shelved(silo), loose_in(silo)))
        first, second = (part.select_from(silo).scalar_subquery() for part in parts)
        self.count = _sql(sa.select(first + second))
        self.oldest = _sql(sa.select(silo.c.inc_time).order_by(silo.c.id).limit(_n(1)).offset(_n(0)))

    def _for_owner(self, silo: sa.Table, waiting: sa.Select[Any], chosen: sa.ColumnElement[bool]) -> None:
        """What is asked for one owner: of rows in the index, and `..._loose` of those that are not yet in it."""
        host = sa.collate(silo.c.domain, "NOCASE")
        mine = sa.and_(silo.c.username == _P("user"), host == _P("host"))
        mail = sa.select(silo.c.id).where(mine, silo.c.snd_time <= _P("now"))
        alive = sa.select(_n(1)).where(mine, silo.c.exp_time > _P("now"))
        ripe = (silo.c.snd_time <= _P("now"), silo.c.id > _P("after"))
        page = waiting.where(mine, *ripe).order_by(silo.c.id).limit(_P("most")).offset(_n(0))
        first, few = mail.limit(_n(1)).offset(_n(0)), alive.limit(_P("most")).offset(_n(0))
        self.has_mail, self.has_mail_loose = _sql(first.where(shelved(silo))), _sql(first.where(chosen))
        self.alive, self.alive_loose = _sql(few.where(shelved(silo))), _sql(few.where(chosen))
        self.pending, self.pending_loose = _sql(page.where(shelved(silo))), _sql(page.where(chosen))
        self.alive_all = _sql(everywhere(silo, alive).limit(_P("most")).offset(_n(0)))
        known = sa.select(_n(1)).where(ledger.c.silo_id == silo.c.id, ledger.c.arrived == silo.c.inc_time)
        rests = known.where(ledger.c.state.in_([_n(State.PARKED), _n(State.HANDED)]))
        named = sa.select(silo.c.username, silo.c.domain).where(shelved(silo), silo.c.snd_time <= _P("now"))
        here = named.where(~rests.exists(), silo.c.username == _P("user"), host > _P("host")).order_by(host)
        further = named.where(~rests.exists(), silo.c.username > _P("user")).order_by(silo.c.username, host)
        same_user, next_user = (one.limit(_n(1)).offset(_n(0)).subquery() for one in (here, further))
        self.next_owner = _sql(sa.union_all(sa.select(same_user), sa.select(next_user)).limit(_n(1)).offset(_n(0)))

    def _for_ledger(self) -> None:
        row = ledger.c.id == _P("row")
        fresh: dict[str, Any] = {name: _P(name) for name in FRESH}
        new = upsert(ledger).values(fresh)
        self.insert_ledger = _sql_of_rows(new, FRESH)
        self.adopt = _sql_of_rows(new.on_conflict_do_nothing(), FRESH)
        self.disown = _sql(
            sa.update(ledger)
            .where(ledger.c.silo_id == _P("box"), ledger.c.id != _P("row"))
            .values(silo_id=sa.null(), state=_n(State.CANCELLED), settled=_P("at"))
        )
        newest = sa.select(ledger.c.id, ledger.c.dedupe, ledger.c.arrived, ledger.c.state)
        self.newest = _sql(newest.where(ledger.c.id > _P("after")).order_by(ledger.c.id.desc()))
        self.by_id = _sql(sa.select(ledger.c.state, ledger.c.msilo_id, ledger.c.username, ledger.c.domain).where(row))
        self.claim = _sql(
            sa.update(ledger)
            .where(row, ledger.c.state == _n(State.PENDING))
            .values(state=_n(State.SENDING), in_flight=_P("at"), silo_id=_P("box"))
        )
        end: dict[str, Any] = {
            "state": _P("next"),
            "attempts": _P("tries"),
            "code": _P("why_code"),
            "reason": _P("why"),
        }
        waits = ledger.c.state.in_([_n(state) for state in sorted(WAITING)])
        self.settle = _sql(sa.update(ledger).where(row, waits).values(**end, in_flight=_P("at"), crashes=_n(0)))
        gone = {"in_flight": sa.null(), "silo_id": sa.null(), "settled": _P("at")}
        self.finish = _sql(sa.update(ledger).where(row).values(**end, **gone))
        sending = ledger.c.state == _n(State.SENDING)
        self.interrupted = _sql(sa.select(ledger.c.username, ledger.c.domain).where(sending).distinct())
        self.recover = _sql(
            sa.update(ledger)
            .where(sending)
            .values(state=_n(State.PENDING), in_flight=sa.null(), code=sa.null(), reason=_P("why"))
        )
        self.under_way = _sql(
            sa.select(ledger.c.id, ledger.c.crashes, ledger.c.username, ledger.c.domain).where(sending)
        )
        self.suspect = _sql(sa.update(ledger).where(row).values(crashes=ledger.c.crashes + _n(1)))
        parked: dict[str, Any] = {"state": _n(State.PARKED), "in_flight": sa.null(), "code": sa.null()}
        self.park = _sql(sa.update(ledger).where(row).values(**parked, reason=_P("why")))
        old = sa.select(ledger.c.id).where(ledger.c.settled < _P("before")).order_by(ledger.c.settled)
        self.prune = _sql(
            sa.delete(ledger).where(ledger.c.id.in_(old.limit(_P("most")).offset(_n(0)).scalar_subquery()))
        )
        ended = sa.select(ledger.c.settled).where(ledger.c.settled.is_not(None)).order_by(ledger.c.settled.desc())
        self.nth_newest = _sql(ended.limit(_n(1)).offset(_P("rows")))
        self.highest_ledger = _sql(sa.select(sa.func.coalesce(sa.func.max(ledger.c.id), _n(0))))
        self.highest_kept = _sql(
            sa.select(sa.func.coalesce(sa.func.max(ledger.c.silo_id), _n(0))).where(ledger.c.silo_id.is_not(None))
        )

    def _for_others(self) -> None:
        self.keep_recipient = _sql(_replace(recipient, "username", "domain"))
        mine = (recipient.c.username == _P("user"), recipient.c.domain == _P("host"))
        self.drop_recipient = _sql(sa.delete(recipient).where(*mine))
        self.recipients = _sql(sa.select(recipient))
        due = sa.select(recipient.c.username, recipient.c.domain).where(recipient.c.next_try <= _P("now"))
        self.due = _sql(due.order_by(recipient.c.next_try).limit(_P("most")).offset(_n(0)))
        same = (usage.c.username == _P("user"), usage.c.domain == _P("host"))
        self.usage = _sql(sa.select(usage.c.messages, usage.c.bytes).where(*same))
        self.keep_contact = _sql(_replace(contact, "username", "domain", "uri"))
        his = (contact.c.username == _P("user"), contact.c.domain == _P("host"), contact.c.uri == _P("at"))
        self.drop_contact = _sql(sa.delete(contact).where(*his))
        self.contacts = _sql(sa.select(contact))
        counted = upsert(counter)
        more = {"value": counter.c.value + counted.excluded.value}
        self.add = _sql(counted.on_conflict_do_update(index_elements=["name"], set_=more))
        self.ask = _sql(sa.insert(wish).values({c.name: _P(c.name) for c in wish.c if c.name != "id"}))
        self.wishes = _sql(sa.select(wish).where(wish.c.done == _n(0)).order_by(wish.c.id))
        self.grant = _sql(sa.update(wish).where(wish.c.id == _P("row")).values(result=_P("text"), done=_n(1)))
        self.forget_wishes = _sql(sa.delete(wish).where(wish.c.done == _n(1), wish.c.asked < _P("before")))
        self.counters = _sql(sa.select(counter.c.name, counter.c.value))
        self.holds = _sql(sa.select(hold))
        same_table = sequence.c.name == _P("table")
        self.noted = _sql(sa.select(sequence.c.seq).where(same_table))
        self.note = _sql(sa.update(sequence).where(same_table).values(seq=_P("upto")))
        self.note_first = _sql(sa.insert(sequence).values(name=_P("table"), seq=_P("upto")))
        self.tell = _sql(_replace(daemon, "name"))
        self.told = _sql(sa.select(daemon.c.value).where(daemon.c.name == _P("name")))


@cache
def statements(names: Names) -> Statements:
    """The statements for these names, compiled once a process."""
    return Statements(names)
