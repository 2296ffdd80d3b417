"""The store on a real file: what is committed, when, and what survives."""

import re
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.box.delivery import Event, State
from msilo_lite.box.engine import raw
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Turn
from msilo_lite.box.policy import Policy
from msilo_lite.box.repeats import KNOWN_FOR, KNOWN_UNDER_LOAD, MANY, STALE, Repeats
from msilo_lite.box.silo import Places, Silo
from msilo_lite.box.store import Store
from msilo_lite.errors import StoreError
from msilo_lite.outbound.compose import Dress

from . import harness
from .samples import BOB, NOW, delivered, message, stored, texts


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Every statement that the daemon's connection runs meanwhile."""
    seen: list[str] = []
    store._c.set_trace_callback(seen.append)
    try:
        yield seen
    finally:
        store._c.set_trace_callback(None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "box" / "silo.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with closing(Store(file)) as one:
        yield one


# -- commits -----------------------------------------------------------------------------------------------------------
def test_a_turn_is_one_commit(store: Store) -> None:
    silo = Silo(store, Policy(), Places((), frozenset()), Dress("test"))
    silo.turn.new += [message(f"old {n}") for n in range(3)]
    silo.commit(NOW)
    with statements(store) as seen:
        for item in silo.begin(BOB, 0, 10, NOW):
            silo.settle(item, Event.ACCEPTED, NOW, 200, "200 OK")
        silo.turn.new += [message(f"new {n}") for n in range(50)]
        silo.turn.wishes[1] = {}
        silo.commit(NOW)
    assert sum(text.startswith("COMMIT") for text in seen) == 1, seen
    assert sum(text.startswith("BEGIN") for text in seen) == 1, seen
    begin, end = seen.index("BEGIN IMMEDIATE"), seen.index("COMMIT")
    outside = [text for text in seen[:begin] + seen[end:] if re.match("INSERT|UPDATE|DELETE", text)]
    assert outside == []
    assert len(store.pending(BOB, 0, 100, NOW)) == 50


def test_an_empty_turn_does_not_touch_the_disk(store: Store) -> None:
    silo = Silo(store, Policy(), Places((), frozenset()), Dress("test"))
    with statements(store) as seen:
        silo.commit(NOW)
    assert seen == []


TURN_OF_THE_DAEMON = """
import sys
from msilo_lite.settings.config import Config
from msilo_lite.daemon import Daemon
from tests.integration.harness import Peer

daemon = Daemon(Config(bind=("udp:127.0.0.1:0",), db_url=f"sqlite:///{sys.argv[1]}"))
commits = []
daemon._store._c.set_trace_callback(lambda text: commits.extend([text] if text == "COMMIT" else []))
with Peer("alice", (daemon.listening[0].host, daemon.listening[0].port)) as alice:
    for n in range(40):
        alice.send(alice.message("bob", f"text {n}"))
    daemon.turn()
    print(len(commits), {alice.receive().code for _ in range(40)})
daemon.close()
"""


def test_the_requests_of_one_turn_share_one_commit(file: Path, tmp_path: Path) -> None:
    ran = harness.python(tmp_path, TURN_OF_THE_DAEMON, str(file))
    assert ran.out == "1 {202}\n", ran
    assert harness.query(file, "SELECT count(*) FROM silo") == [(40,)]


def test_every_connection_writes_ahead_and_syncs(store: Store, file: Path) -> None:
    with closing(Inbox(file)) as inbox:
        for connection in (store._c, raw(inbox._c)):
            modes = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
            assert modes == ["wal", 2]  # 2 is FULL


def test_only_the_owner_may_read(store: Store, file: Path) -> None:
    stored(store, "secret")
    modes = {part.name: stat.S_IMODE(part.stat().st_mode) for part in file.parent.iterdir()}
    assert modes == {"silo.sqlite": 0o600, "silo.sqlite-wal": 0o600, "silo.sqlite-shm": 0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["a b", "50%41", "why?not", "hash#tag", "ünï"])
def test_any_directory_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "silo.sqlite"
    with closing(Store(file)) as store:
        stored(store, "one")
    assert file.stat().st_size > 0
    with closing(Inbox(file)) as inbox:
        assert inbox.count() == 1


# -- ids ---------------------------------------------------------------------------------------------------------------
def test_ids_never_come_back(store: Store, file: Path) -> None:
    first = stored(store, "one", "two", "three")
    store.write(delivered(*first), NOW)
    second = stored(store, "four")
    assert second[0].silo_id > first[-1].silo_id
    store.write(delivered(*second), NOW)
    store.close()
    with closing(Store(file)) as again:
        third = stored(again, "five")
        assert third[0].silo_id > second[0].silo_id
        assert third[0].ledger_id > second[0].ledger_id


def test_message_ids_of_forgotten_history_are_not_given_out_again(store: Store, file: Path) -> None:
    old = stored(store, "one", "two")
    store.write(delivered(*old), NOW)
    assert store.archive.prune(NOW + 1, 100) == 2
    store.close()
    with closing(Store(file)) as again:
        assert stored(again, "three")[0].ledger_id > old[-1].ledger_id


# -- repeats -----------------------------------------------------------------------------------------------------------
def test_a_repeat_is_known_after_a_restart(store: Store, file: Path) -> None:
    assert store.write(Turn(new=[message("one"), message("one")]), NOW) == {message("one").key}
    store.close()
    with closing(Store(file)) as again:
        assert again.write(Turn(new=[message("one"), message("two")]), NOW) == {message("two").key}
        items = again.pending(BOB, 0, 10, NOW)
        assert texts(items) == ["one", "two"]
        again.write(delivered(*items), NOW)
    with closing(Store(file)) as later:  # delivered, and still the same request
        assert later.write(Turn(new=[message("one")]), NOW + KNOWN_FOR - 1) == frozenset()
        assert not later.has_mail(BOB, NOW)
    with closing(Store(file)) as much_later:  # nobody repeats for so long: a sender that counts anew after a restart
        assert much_later.write(Turn(new=[message("one")]), NOW + KNOWN_FOR) == {message("one").key}


def test_a_repeat_is_known_as_long_as_it_can_come_and_then_forgotten(store: Store) -> None:
    assert store.write(Turn(new=[message("one")]), NOW)
    for after in (1, KNOWN_FOR - 1):
        assert store.knows(message("one").key, NOW + after)
        assert not store.write(Turn(new=[message("one")]), NOW + after)
    assert store.knows(message("one").key, NOW + KNOWN_FOR), "two generations"
    assert not store.knows(message("one").key, NOW + 2 * KNOWN_FOR)


def test_a_clock_set_back_makes_nobody_forget(store: Store) -> None:
    assert store.write(Turn(new=[message("one")]), NOW)
    assert not store.write(Turn(new=[message("one")]), NOW - 86400)
    assert not store.write(Turn(new=[message("one")]), NOW - 86400 + KNOWN_FOR)


def test_a_clock_set_forward_makes_nobody_forget(store: Store) -> None:
    assert store.write(Turn(new=[message("one")]), NOW)
    assert not store.write(Turn(new=[message("one")]), NOW + 86400)


def test_what_another_process_took_is_known(store: Store, file: Path) -> None:
    assert store.write(Turn(new=[message("one")]), NOW)
    with closing(Store(file)) as other:
        assert other.write(Turn(new=[message("one"), message("two")]), NOW) == {message("two").key}
        assert store.write(Turn(new=[message("two"), message("three")]), NOW) == {message("three").key}
        assert other.knows(message("three").key, NOW)


@pytest.mark.parametrize("failure", [lambda file: no_lock(file), lambda file: no_disk(file)])
def test_what_could_not_be_written_is_no_repeat(store: Store, file: Path, failure: Callable[[Path], Any]) -> None:
    """Its sender got 503, and sends it again."""
    assert store.write(Turn(new=[message("one")]), NOW)
    with failure(file), pytest.raises(StoreError):
        store.write(Turn(new=[message("x" * 3000 + str(n)) for n in range(20)]), NOW)
    assert len(store.write(Turn(new=[message("x" * 3000 + str(n)) for n in range(20)]), NOW)) == 20


def test_after_a_start_the_newest_are_known_and_an_import_hides_none(store: Store, file: Path) -> None:
    """An import writes old messages, so that rows are not in the order of their age; thousands are passed."""
    assert store.write(Turn(new=[message("one")]), NOW)
    old = [message(f"old {n}") for n in range(STALE - 1)]
    store.write(Turn(new=[replace(one, arrived=NOW - 86400) for one in old]), NOW)
    with closing(Store(file)) as again:
        assert again.knows(message("one").key, NOW)
        assert not again.knows(old[0].key, NOW)
    store.write(Turn(new=[replace(message("one more"), arrived=NOW - 86400)]), NOW)
    with closing(Store(file)) as again:
        assert not again.knows(message("one").key, NOW)


def test_under_load_the_time_for_which_they_are_known_is_shorter(store: Store, file: Path) -> None:
    """Memory has an end; a sender's transaction has one before (RFC 3261 17.1.2.2)."""
    repeats = Repeats(store._c, store._sql)
    repeats.follow(0, NOW)
    repeats.add((b"%d" % n for n in range(MANY)), 1)
    for after in (KNOWN_UNDER_LOAD - 1, 2 * KNOWN_UNDER_LOAD - 1):
        repeats.follow(0, NOW + after)
        assert b"0" in repeats
        repeats.add((b"%d %d" % (after, n) for n in range(MANY)), 1)
    repeats.follow(0, NOW + 3 * KNOWN_UNDER_LOAD)
    assert b"0" not in repeats


# -- failure -----------------------------------------------------------------------------------------------------------
def no_lock(file: Path) -> Any:
    return harness.locked(file)


def no_disk(file: Path) -> Any:
    wal = file.with_name(f"{file.name}-wal")
    return harness.largest_file(max(file.stat().st_size, wal.stat().st_size))


@pytest.mark.parametrize(("failure", "words"), [(no_lock, "locked"), (no_disk, "disk")])
def test_a_failed_commit_keeps_nothing_new_and_the_deliveries(
    store: Store, file: Path, failure: Callable[[Path], Any], words: str
) -> None:
    silo = Silo(store, Policy(), Places((), frozenset()), Dress("test"))
    items = stored(store, "one", "two")
    silo.settle(items[0], Event.ACCEPTED, NOW, 200, "200 OK")
    silo.turn.new += [message("x" * 3000 + str(n)) for n in range(20)]
    silo.turn.claimed.append(items[1])
    with failure(file), pytest.raises(StoreError, match=words):
        silo.commit(NOW)
    assert harness.query(file, "SELECT body FROM silo") == [(b"one",), (b"two",)]
    assert harness.query(file, "SELECT DISTINCT state FROM msilo_ledger") == [(State.PENDING,)]
    assert (silo.turn.new, silo.turn.claimed) == ([], [])
    silo.commit(NOW)
    assert texts(store.pending(BOB, 0, 10, NOW)) == ["two"]
    assert store.by_msilo_id(items[0].msilo_id) == (State.DELIVERED, BOB)


def test_a_full_database_says_so_and_works_again(file: Path) -> None:
    store = Store(file)
    store._c.execute("PRAGMA max_page_count = 40")
    with closing(store):
        items = stored(store, "one")
        big = [message("x" * 3000 + str(n)) for n in range(100)]
        with pytest.raises(StoreError, match="full"):
            store.write(Turn(new=big), NOW)
        assert texts(store.pending(BOB, 0, 10, NOW)) == ["one"]
        store.write(delivered(*items), NOW)
        assert texts(stored(store, "two")) == ["two"]


def test_opening_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    file.write_bytes(b"not a database at all, but long enough to look like one " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(file)
    assert file.read_bytes().startswith(b"not a database at all")


def test_an_interrupted_attempt_waits_again_after_a_restart(store: Store, file: Path) -> None:
    items = stored(store, "one", "two")
    store.write(Turn(claimed=items[:1]), NOW)
    assert texts(store.pending(BOB, 0, 10, NOW)) == ["two"]
    store.close()
    with closing(Store(file)) as again:
        assert again.recover() == [BOB]
        found = again.pending(BOB, 0, 10, NOW)
        assert texts(found) == ["one", "two"]
        assert [i.msilo_id for i in found] == [i.msilo_id for i in items]
        assert again.recover() == []
