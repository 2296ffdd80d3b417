"""The crash matrix: killed at each named point, with senders and phones that go on; then started again."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Turn
from msilo_lite.box.schema import MIGRATIONS
from msilo_lite.box.store import Store
from msilo_lite.points import POINTS, VARIABLE
from tests.figures import Figures
from tests.waiting import until

from . import harness
from .harness import Peer, Serve, on
from .samples import BOB, NOW, delivered, message, stored
from .test_migrations import FIRST_SCHEMA, SECOND_CHANGE
from .traffic import Town

LOOP = ("received", "staged", "writing", "committed", "answered", "sending", "sent", "heard")
"Points that a loop under load passes again and again."
FAST = ("--settle", "0.1")


def armed(order: str) -> dict[str, str]:
    return {VARIABLE: order}


def test_every_point_is_somewhere_in_the_code_and_somewhere_here() -> None:
    package, here = Path(harness.ROOT / "msilo_lite"), Path(__file__).read_text()
    code = "".join(file.read_text() for file in package.rglob("*.py") if file.stem != "points")
    for name in POINTS:
        assert code.count(f'reach("{name}"') == 1, name
        assert f'"{name}' in here, name


def test_an_order_that_names_no_point_is_refused(tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "serve", "--no-supervise", *on(tmp_path / "silo.sqlite"), env=armed("nowhere"))
    assert ran.code == 1
    assert "'nowhere' is no point" in ran.sentence


def test_killed_at_each_point_of_the_loop(tmp_path: Path, figures: Figures) -> None:
    """One town lives through all of them; after each kill, what was answered 202 has arrived or is in the file."""
    with Serve(tmp_path, *FAST) as first, Town(first.address, 4, 3) as town:
        silo = first
        town.run(0.3)
        town.kill(silo)
        for point in LOOP:
            silo = town.start(tmp_path, *FAST, env=armed(f"{point}:15"))
            assert town.dies(silo), f"never at {point}"
            assert silo.ended(1) == -signal.SIGKILL, silo.log
            town.run(0.05)  # what left before the kill is still heard
            tally = town.tally(silo)
            assert (tally.lost, tally.doubled, tally.inverted) == ([], [], []), point
        silo = town.start(tmp_path, *FAST)
        assert town.quiet(silo), silo.log
        silo.stop()
    tally = town.tally(silo)
    assert (tally.lost, tally.doubled, tally.inverted, tally.waiting, town.odd) == ([], [], [], 0, [])
    assert tally.delivered >= tally.accepted > 100
    assert harness.query(silo.file, "PRAGMA integrity_check") == [("ok",)]
    figures.add(
        "crash matrix", points=len(LOOP), accepted=tally.accepted, documented_repeats=tally.repeats,
        lost=len(tally.lost), doubled=len(tally.doubled),
    )  # fmt: skip


def test_killed_while_stopping_and_while_starting(tmp_path: Path, figures: Figures) -> None:
    """The rest of the lanes is given back in a commit that never comes; the next start dies before it mends that."""
    with Serve(tmp_path, *FAST, env=armed("stopping")) as silo, Town(silo.address, 2, 2) as town:
        town.deaf = True  # so that something is under way
        sending = f"SELECT count(*) FROM msilo_ledger WHERE state = {State.SENDING:d}"
        assert town.run(10, lambda: harness.query(silo.file, sending) != [(0,)])
        silo.signal(signal.SIGTERM)
        assert town.dies(silo)
        assert silo.ended(1) == -signal.SIGKILL
        assert harness.query(silo.file, sending) != [(0,)]
        starting = Serve(tmp_path, *FAST, env=armed("recovering"))
        assert town.dies(starting)
        assert starting.ended(1) == -signal.SIGKILL
        town.deaf = town.talking = False
        again = town.start(tmp_path, *FAST)
        assert town.quiet(again), again.log
        tally = town.tally(again)
        again.stop()
    assert (tally.lost, tally.doubled, tally.inverted, tally.waiting) == ([], [], [], 0)
    figures.add("crash matrix", points=2, accepted=tally.accepted, documented_repeats=tally.repeats)


@pytest.mark.parametrize("point", ["cleaning", "pruning"])
def test_killed_in_the_cleaner(tmp_path: Path, point: str, figures: Figures) -> None:
    """What it ended is ended after the next start, once, and nothing else is gone."""
    file, now = tmp_path / "silo.sqlite", int(time.time())
    with closing(Store(file)) as store:
        store.write(delivered(*stored(store, *(f"old {n}" for n in range(100)))), now - 4000)
        over = [message(f"over {n}", arrived=now - 200, expires=now - 100) for n in range(20)]
        kept = [message(f"kept {n}", arrived=now, expires=now + 600) for n in range(20)]
        store.write(Turn(new=[*over, *kept]), now)
    harness.change(file, f"UPDATE msilo_ledger SET settled = {now - 4000} WHERE settled IS NOT NULL")
    often = ("--check-time", "1", "--clean-period", "1", "--history-time", "300")
    more = f"""WITH RECURSIVE n(x) AS (SELECT 10000 UNION ALL SELECT x + 1 FROM n LIMIT 1200)
        INSERT INTO msilo_ledger (id, msilo_id, body_hash, username, domain, from_hdr, to_hdr, ctype, size, arrived,
        expires, state, attempts, settled)
        SELECT x, 'x-' || x, '', 'bob', 'home.lan', '', '', '', 0, 0, 0, 3, 1, {now - 4000} FROM n"""
    harness.change(file, more)  # more than one batch of history
    dying = Serve(tmp_path, *often, env=armed(point))
    assert dying.ended(20) == -signal.SIGKILL, dying.log
    assert harness.query(file, "PRAGMA integrity_check") == [("ok",)]
    with Serve(tmp_path, *often) as silo:
        ended = "SELECT count(*) FROM msilo_ledger WHERE state = 5"
        until(lambda: harness.query(file, ended) == [(20,)], 10, "the messages ended whose time is over")
        until(lambda: harness.query(file, f"SELECT 1 FROM msilo_ledger WHERE settled < {now - 1000}") == [], 10, "gone")
        silo.stop()
    assert sorted(row[0] for row in harness.query(file, "SELECT body FROM silo")) == sorted(
        f"kept {n}".encode() for n in range(20)
    )
    counted = dict(harness.query(file, "SELECT name, value FROM msilo_counter"))
    assert counted["expired_messages"] == 20
    figures.add("crash matrix", points=1)


@pytest.mark.parametrize("point", ["migrating", "migrated"])
def test_killed_in_a_migration(tmp_path: Path, point: str, figures: Figures) -> None:
    """A file of an earlier release is as it was, and the next start makes it today's."""
    file = tmp_path / "silo.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(FIRST_SCHEMA + SECOND_CHANGE)
        connection.execute("PRAGMA user_version = 2")
        connection.execute("INSERT INTO version (table_name, table_version) VALUES ('silo', 8)")
        row = "('sip:alice@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan', 4000000000, X'6869')"
        connection.execute(f"INSERT INTO silo (src_addr, dst_addr, username, domain, exp_time, body) VALUES {row}")
        connection.commit()
    before = harness.query(file, "SELECT sql FROM sqlite_master ORDER BY name")
    dying = Serve(tmp_path, env=armed(point))
    assert dying.ended(10) == -signal.SIGKILL, dying.log
    assert harness.query(file, "SELECT sql FROM sqlite_master ORDER BY name") == before
    assert harness.query(file, "PRAGMA user_version") == [(2,)]
    with Serve(tmp_path, *FAST) as silo, Peer("bob", silo.address) as bob:
        assert harness.query(file, "PRAGMA user_version") == [(len(MIGRATIONS),)]
        bob.register()
        assert [one.body for one in bob.take(1)] == [b"hi"]
    figures.add("crash matrix", points=1)


def test_killed_in_an_import(tmp_path: Path, figures: Figures) -> None:
    """A second run takes the rest, each message once."""
    source = tmp_path / "box.jsonl"
    line: dict[str, object] = {
            "owner": "bob@home.lan", "from": "<sip:alice@home.lan>", "to": "<sip:bob@home.lan>", "call_id": "c",
            "src_addr": "sip:alice@home.lan", "dst_addr": "sip:bob@home.lan", "ctype": "text/plain", "headers": [],
            "arrived": "2026-01-01T00:00:00Z", "expires": "2037-01-01T00:00:00Z", "due": None}  # fmt: skip
    lines = [json.dumps({**line, "body": f"text {n}", "key": f"{n:032x}"}) for n in range(1200)]
    source.write_text("\n".join(lines))
    file = tmp_path / "silo.sqlite"
    dying = harness.run(tmp_path, "import", str(source), *on(file), env=armed("importing:2"))
    assert dying.code == -signal.SIGKILL, dying
    assert harness.query(file, "SELECT count(*) FROM silo") == [(1000,)]
    ran = harness.run(tmp_path, "import", str(source), *on(file))
    assert ran.code == 0, ran
    assert harness.query(file, "SELECT count(*), count(DISTINCT body) FROM silo") == [(1200, 1200)]
    figures.add("crash matrix", points=1)


def test_killed_in_a_purge(tmp_path: Path, figures: Figures) -> None:
    """What is out is out, the rest is whole, and a second run takes it."""
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(f"text {n}") for n in range(1200)]), NOW)
    assert harness.run(tmp_path, "purge", "--all", "--yes", *on(file), env=armed("purging:1")).code == -signal.SIGKILL
    both = "SELECT (SELECT count(*) FROM silo), (SELECT count(*) FROM msilo_ledger WHERE silo_id IS NOT NULL)"
    assert harness.query(file, both) == [(700, 700)]
    assert harness.run(tmp_path, "purge", "--all", "--yes", *on(file)).out == "Purged 700 messages.\n"
    assert harness.query(file, both) == [(0, 0)]
    figures.add("crash matrix", points=1)


def test_a_command_that_is_killed_has_asked_all_the_same(tmp_path: Path, figures: Figures) -> None:
    with Serve(tmp_path, *FAST) as silo, Peer("bob", silo.address) as bob:
        bob.register()
        bob.write("bob", "hello")
        dying = harness.run(tmp_path, "dump", str(BOB), *on(silo.file), env=armed("wishing"))
        assert dying.code == -signal.SIGKILL
        assert [one.body for one in bob.take(1)] == [b"hello"]
    figures.add("crash matrix", points=1)
