"""No statement of the daemon's loop reads a whole table: SQLite itself is asked how it runs each of them."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Contact, Message, Recipient, Settled, Turn, Waiting
from msilo_lite.box.rows import body_hash
from msilo_lite.box.schema import Names
from msilo_lite.box.statements import statements
from msilo_lite.box.store import Store
from msilo_lite.sip.address import Aor

from . import harness

NOW = 1_800_000_000
BOB = Aor("bob", "home.lan")
RECIPIENT = Recipient(BOB, NOW, 1, 480, "480 Away")
CONTACT = Contact(BOB, "sip:bob@127.0.0.1", (), NOW + 60, True, NOW, "call", 1)


def message(text: str) -> Message:
    body = text.encode()
    return Message(
        BOB, "sip:a@x", "sip:bob@x", "<sip:a@x>", "<sip:bob@x>", "text/plain", body, "", NOW, NOW, text, body_hash(body)
    )


def stranger(store: Store) -> list[Waiting]:
    """A message that another program put into the box."""
    harness.change(store.file, f"INSERT INTO silo (username, domain, inc_time, exp_time) VALUES ('eve', 'x', 1, {NOW})")
    return store.pending(Aor("eve", "x"), 0, 1, NOW)


def settled(item: Waiting, state: State) -> Turn:
    return Turn(settled=[Settled(item, state, NOW, 200, "words", 1)])


Verb = Callable[[Store, Waiting], object]
VERBS: dict[str, tuple[str, Verb]] = {
    "has mail": ("SELECT silo.id", lambda store, _: store.has_mail(BOB, NOW)),
    "pending": ("SELECT silo.id AS id", lambda store, _: store.pending(BOB, 0, 64, NOW)),
    "quota": ("SELECT 1", lambda store, _: store.waiting(BOB, NOW, 5)),
    "repeat, after a foreign write": (
        "SELECT msilo_ledger.id, msilo_ledger.dedupe",
        lambda store, _: (stranger(store), store.knows(b"x" * 16, NOW)),
    ),
    "reminders": ("SELECT silo.username", lambda store, _: store.ripened((0, 0), NOW, 10)),
    "due": ("SELECT msilo_recipient", lambda store, _: store.due(NOW, 10)),
    "who has mail": ("SELECT anon_1.username", lambda store, _: store.owners(10, NOW)),
    "lapsed": ("SELECT silo.id AS id", lambda store, _: store.lapsed(NOW, 10)),
    "by id": ("SELECT msilo_ledger", lambda store, item: store.by_msilo_id(item.msilo_id)),
    "insert": ("INSERT INTO msilo_ledger", lambda store, _: store.write(Turn(new=[message("2"), message("3")]), NOW)),
    "insert with a repeat": (
        "INSERT INTO silo",
        lambda store, _: store.write(Turn(new=[message("1"), message("3")]), NOW),
    ),
    "next ids after a foreign write": (
        "INSERT INTO silo",
        lambda store, _: (stranger(store), store.write(Turn(new=[message("4")]), NOW)),
    ),
    "claim": ("UPDATE msilo_ledger", lambda store, item: store.write(Turn(claimed=[item]), NOW)),
    "claim of a stranger": (
        "INSERT INTO msilo_ledger",
        lambda store, _: store.write(Turn(claimed=stranger(store)), NOW),
    ),
    "settle": ("UPDATE msilo_ledger", lambda store, item: store.write(settled(item, State.PENDING), NOW)),
    "finish and delete": ("DELETE FROM silo", lambda store, item: store.write(settled(item, State.DELIVERED), NOW)),
    "recipients and contacts": (
        "INSERT INTO msilo_contact",
        lambda store, _: store.write(
            Turn(recipients={BOB: RECIPIENT}, contacts={(BOB, CONTACT.uri): CONTACT}, counters={"x": 1}), NOW
        ),
    ),
    "recipients and contacts gone": (
        "DELETE FROM msilo_contact",
        lambda store, _: store.write(Turn(recipients={BOB: None}, contacts={(BOB, "sip:b@x"): None}), NOW),
    ),
    "recover": ("UPDATE msilo_ledger", lambda store, item: (store.write(Turn(claimed=[item]), NOW), store.recover())),
    "prune history": ("DELETE FROM msilo_ledger", lambda store, _: store.archive.prune(NOW, 10)),
}
"""A name, the beginning of a statement that must be among those that ran, and what runs it."""
SMALL = ("sqlite_sequence", "msilo_wish")
"Tables that have a row for each table, or for each command of the operator: read whole, and rightly so."
SHORT = (*SMALL, "CONSTANT", "json_each", "msilo_wish_open", "anon_")
"What is read whole and is short: a row or two, the values of a statement, the wishes that are still to be granted."


@pytest.fixture(params=[False, True], ids=["command", "daemon"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """What the daemon writes is loose at first, and looked up in another way."""
    with contextlib.closing(Store(tmp_path / "silo.sqlite", served=request.param)) as one:
        one.write(Turn(new=[message("1")]), NOW)
        yield one


def ran(store: Store, verb: Callable[[], object]) -> list[str]:
    """The statements a verb runs on the daemon's connection, with the values in them."""
    seen: list[str] = []
    store._c.set_trace_callback(seen.append)
    try:
        verb()
    finally:
        store._c.set_trace_callback(None)
    return [text for text in seen if text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]


@pytest.mark.parametrize("name", VERBS)
def test_no_statement_scans_a_table(store: Store, name: str) -> None:
    wanted, verb = VERBS[name]
    [item] = store.pending(BOB, 0, 1, NOW)
    seen = ran(store, lambda: verb(store, item))
    assert any(statement.startswith(wanted) for statement in seen), seen
    with contextlib.closing(sqlite3.connect(store.file)) as connection:
        for statement in seen:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            scans = [step for step in plan if step.startswith("SCAN") and not any(word in step for word in SHORT)]
            assert not scans, f"{statement}: {plan}"
            assert not [step for step in plan if "TEMP B-TREE FOR ORDER BY" in step], f"{statement}: {plan}"


WHOLE = {
    "recipients": "at the start",
    "contacts": "at the start",
    "holds": "at the start, and when `hold` was used: a handful of rows",
    "counters": "for /metrics, in a thread and on a connection of its own: some dozens of rows",
    "count": "for /metrics, likewise",
    "oldest": "for /metrics; it stops at the first row",
}
"Statements that read a whole table, and when: none is of the loop."


@pytest.mark.parametrize("name", sorted(vars(statements(Names()))))
def test_no_statement_that_there_is_scans_a_table(store: Store, name: str) -> None:
    """Those that nobody thought of above as well, and those that are still to be written."""
    text = getattr(store._sql, name)
    values = dict.fromkeys(re.findall(r":(\w+)", text), 1) or (1,) * text.count("?")
    with contextlib.closing(sqlite3.connect(store.file)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    scans = [step for step in plan if step.startswith("SCAN") and not any(word in step for word in SHORT)]
    assert bool(scans) == (name in WHOLE), plan


def test_a_scan_would_be_seen(store: Store) -> None:
    with contextlib.closing(sqlite3.connect(store.file)) as connection:
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN SELECT * FROM silo WHERE body = 'x'")]
    assert plan == ["SCAN silo"]
