"""Numbers of messages: none comes back, and a commit seldom writes anything about them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Settled, Turn
from msilo_lite.box.numbers import AHEAD
from msilo_lite.box.store import Store
from msilo_lite.errors import StoreError
from tests.unit.kit import BOB, NOW, message

from . import harness


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "silo.sqlite"


def put(store: Store, count: int = 1, now: int = NOW) -> list[int]:
    """Store so many messages in one turn; their numbers."""
    before = numbers(store.file)
    store.write(Turn(new=[message() for _ in range(count)]), now)
    return [one for one in numbers(store.file) if one not in before]


def numbers(file: Path) -> list[int]:
    return [row[0] for row in harness.query(file, "SELECT id FROM silo ORDER BY id")]


def entries(file: Path) -> list[int]:
    return [row[0] for row in harness.query(file, "SELECT id FROM msilo_ledger ORDER BY id")]


def empty(store: Store) -> None:
    items = store.pending(BOB, 0, 1000, NOW)
    store.write(Turn(settled=[Settled(one, State.DELIVERED, NOW, 200, None, 1) for one in items]), NOW)


def notes(file: Path) -> dict[str, int]:
    return dict(harness.query(file, "SELECT name, seq FROM sqlite_sequence"))


def test_they_go_on_where_an_orderly_end_stopped(file: Path) -> None:
    for first in (1, 4, 7):
        with closing(Store(file)) as store:
            assert put(store, 3) == [first, first + 1, first + 2]
            empty(store)
    assert entries(file) == list(range(1, 10))


def test_after_a_crash_none_comes_back(file: Path) -> None:
    lost = Store(file)  # never closed, as when the power goes
    put(lost, 3)
    put(lost, 3)
    empty(lost)
    with closing(Store(file)) as store:
        assert put(store) == [6 + 3 * AHEAD + 1], "a block was reserved"
        empty(store)
        assert put(store) == [6 + 3 * AHEAD + 2], "and not another one"
    assert len(set(entries(file))) == 8


def test_one_now_and_then_leaves_no_gap(file: Path) -> None:
    for number in range(1, 5):
        lost = Store(file)
        assert put(lost, now=NOW + 60 * number) == [2 * number - 1]
        assert put(lost, now=NOW + 60 * number + 30) == [2 * number]


def test_a_block_is_noted_once(file: Path) -> None:
    with closing(Store(file)) as store:
        put(store)
        put(store)
        seen: list[str] = []
        store._c.set_trace_callback(seen.append)
        for _ in range(AHEAD + 1):
            put(store)
        store._c.set_trace_callback(None)
        assert len([text for text in seen if text.startswith("UPDATE sqlite_sequence")]) == 2, "one for each table"
        assert numbers(file) == entries(file) == list(range(1, AHEAD + 4))


def test_another_program_comes_after_what_is_reserved_and_before_what_follows(file: Path) -> None:
    with closing(Store(file)) as store:
        [first] = put(store)
        harness.change(file, "INSERT INTO silo (username, domain) VALUES ('bob', 'home.lan')")
        [other] = [one for one in numbers(file) if one != first]
        [last] = put(store)
        assert first < other < last, "the order of arrival"


def test_two_processes_share_the_numbers(file: Path) -> None:
    with closing(Store(file)) as one, closing(Store(file)) as other:
        seen = [number for _ in range(5) for store in (one, other, one) for number in put(store, 2)]
    assert seen == sorted(set(seen))
    assert len(seen) == 30
    assert len(set(entries(file))) == 30


def test_what_a_failed_commit_reserved_is_reserved_anew(file: Path) -> None:
    with closing(Store(file)) as store:
        harness.change(file, "CREATE TRIGGER stop BEFORE INSERT ON silo BEGIN SELECT RAISE(ABORT, 'no'); END")
        for _ in range(2):
            with pytest.raises(StoreError, match="no"):
                put(store, 2)
        harness.change(file, "DROP TRIGGER stop")
        put(store, 40)
        found = numbers(file)
        assert len(found) == 40
        assert notes(file)["silo"] >= found[-1]
        assert notes(file)["msilo_ledger"] >= entries(file)[-1]


def test_a_row_with_a_number_of_its_own_in_our_block_is_passed_over(file: Path) -> None:
    with closing(Store(file)) as store:
        put(store)
        harness.change(file, "INSERT INTO silo (id, username, domain) VALUES (5, 'eve', 'x')")
        assert put(store, 3) == [6, 7, 8]


@pytest.fixture
def kamailios(file: Path) -> Path:
    """A file whose table Kamailio made: without a memory of the highest number."""
    with closing(Store(file)) as store:
        assert not store.foreign
    [(text,)] = harness.query(file, "SELECT sql FROM sqlite_master WHERE name = 'silo'")
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(text.replace("AUTOINCREMENT", ""))
    return file


def test_they_do_not_come_back_in_a_table_of_kamailios(kamailios: Path) -> None:
    with closing(Store(kamailios)) as store:
        assert store.foreign
        assert put(store, 2) == [1, 2]
        empty(store)
    with closing(Store(kamailios)) as store:
        assert put(store) == [3]
        empty(store)
    lost = Store(kamailios)
    assert put(lost) == [4]
    empty(lost)
    with closing(Store(kamailios)) as store:
        assert put(store) > [4]


def test_a_mark_of_an_older_version_counts(kamailios: Path) -> None:
    Store(kamailios).close()
    harness.change(kamailios, "INSERT INTO msilo_daemon VALUES ('last_silo_id', '70')")
    with closing(Store(kamailios)) as store:
        assert put(store) == [71]
