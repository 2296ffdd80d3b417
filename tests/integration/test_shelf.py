"""The youngest messages are on disk and not in the indexes: all find them nevertheless, and no crash hides one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.gauges import Gauges
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Settled, Turn, Waiting
from msilo_lite.box.schema import LOOSE, SHELVED, Names
from msilo_lite.box.shelf import MOST
from msilo_lite.box.store import Store
from msilo_lite.errors import StoreError
from msilo_lite.sip.address import Aor
from tests.unit.kit import BOB, CARL, NOW, kill, message

from . import harness

DAVE = Aor("dave", "home.lan")
_texts = count(1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "silo.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    """The daemon's."""
    with closing(Store(file, served=True)) as one:
        yield one


def put(store: Store, *owners: Aor, **changed: object) -> list[str]:
    """A message for each, in one turn; their texts."""
    made = [message(owner, b"%d" % next(_texts), **changed) for owner in owners]
    store.write(Turn(new=made), NOW)
    return [one.body.decode() for one in made]


def texts(items: list[Waiting]) -> list[str]:
    return [item.message.body.decode() for item in items]


def pending(store: Store, owner: Aor = BOB, most: int = 5000) -> list[str]:
    return texts(store.pending(owner, 0, most, NOW))


def loose(file: Path) -> int:
    """How many rows are in no index of owner and end."""
    found = int(harness.query(file, f"SELECT count(*) FROM silo WHERE status = {LOOSE}")[0][0])
    for index in ("msilo_user_idx", "msilo_end_idx"):
        [(indexed,)] = harness.query(file, f"SELECT count(*) FROM silo INDEXED BY {index} WHERE status != {LOOSE}")
        assert indexed + found == harness.query(file, "SELECT count(*) FROM silo")[0][0]
    return found


def end(store: Store, state: State, *items: Waiting) -> None:
    store.write(Turn(settled=[Settled(one, state, NOW, 480, "Away", 1) for one in items]), NOW)


def test_the_daemon_finds_them(store: Store) -> None:
    one, two, _, four = put(store, BOB, BOB, CARL, BOB)
    assert loose(store.file) == 4
    assert pending(store) == [one, two, four]
    assert pending(store, most=2) == [one, two]
    assert store.has_mail(BOB, NOW)
    assert not store.has_mail(DAVE, NOW)
    assert [store.waiting(BOB, NOW, most) for most in (2, 3, 9)] == [2, 3, 3]
    assert store.owners(9, NOW) == [BOB, CARL]
    assert store.owners(1, NOW) == [BOB]
    assert store.owners(9, NOW, BOB) == [CARL]


def test_they_stand_in_order_among_those_of_others(store: Store) -> None:
    first, second = put(store, BOB), put(store, BOB)
    row = f"('sip:a@x', 'sip:bob@home.lan', 'bob', 'Home.LAN', {NOW}, {NOW + 60}, 'theirs')"
    into = "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, body) VALUES"
    harness.change(store.file, f"{into} {row}")
    third = put(store, BOB)
    assert loose(store.file) == 3
    assert pending(store) == [*first, *second, "theirs", *third]
    assert pending(store, most=3) == [*first, *second, "theirs"]
    assert store.waiting(BOB, NOW, 9) == 4
    assert store.owners(9, NOW) == [BOB]


def test_the_commands_find_them(store: Store) -> None:
    mine = put(store, BOB, BOB)
    other = put(store, CARL)
    with closing(Inbox(store.file)) as inbox, closing(Gauges(store.file, Names())) as gauges:
        assert texts(list(inbox.waiting())) == mine + other
        assert texts(list(inbox.waiting(BOB))) == mine
        assert [inbox.count(), inbox.count(BOB), inbox.count(CARL), inbox.count(DAVE)] == [3, 2, 1, 0]
        assert inbox.count(BOB, ripe_at=NOW) == 2
        assert inbox.owners(5) == ([(BOB, 2), (CARL, 1)], 2)
        assert (gauges.count(), gauges.waiting(BOB, NOW, 9)) == (3, 2)
        assert loose(store.file) == 3, "who looks changes nothing"


def test_a_thousand_go_into_the_indexes_in_the_commit_of_the_next(store: Store) -> None:
    sent = [text for _ in range(MOST // 20) for text in put(store, *[BOB, CARL] * 10)]
    assert loose(store.file) == MOST
    seen: list[str] = []
    store._c.set_trace_callback(seen.append)
    last = put(store, BOB)
    store._c.set_trace_callback(None)
    assert [text for text in seen if text.startswith(("BEGIN", "COMMIT"))] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert loose(store.file) == 1
    assert pending(store) == sent[::2] + last
    assert pending(store, CARL) == sent[1::2]


def test_what_is_delivered_soon_never_comes_there(store: Store) -> None:
    put(store, BOB, CARL)
    seen: list[str] = []
    store._c.set_trace_callback(seen.append)
    end(store, State.DELIVERED, *store.pending(BOB, 0, 9, NOW))
    store._c.set_trace_callback(None)
    assert not [text for text in seen if text.startswith("UPDATE silo")]
    assert pending(store) == []
    assert not store.has_mail(BOB, NOW)
    assert store.owners(9, NOW) == [CARL]


def test_what_was_tried_in_vain_goes_there_alone(store: Store) -> None:
    first, second = put(store, BOB, BOB)
    [item, _] = store.pending(BOB, 0, 9, NOW)
    end(store, State.PENDING, item)
    assert harness.query(store.file, "SELECT status FROM silo ORDER BY id") == [(SHELVED,), (LOOSE,)]
    assert pending(store) == [first, second]


def test_what_is_parked_is_no_mail_that_may_be_sent(store: Store) -> None:
    put(store, BOB)
    end(store, State.PARKED, *store.pending(BOB, 0, 9, NOW))
    assert store.owners(9, NOW) == []


def test_a_reminder_is_never_loose(store: Store) -> None:
    put(store, BOB, due=NOW + 60)
    assert loose(store.file) == 0
    assert store.owners(9, NOW) == []


def test_a_message_that_is_put_off_goes_there(store: Store) -> None:
    put(store, BOB)
    with closing(Inbox(store.file)) as inbox:
        [number] = inbox.ids(BOB)
        assert inbox.schedule({number: (NOW + 60, NOW + 120)}) == 1
    assert loose(store.file) == 0
    assert (pending(store), store.has_mail(BOB, NOW)) == ([], False)
    assert store.has_mail(BOB, NOW + 60)
    assert [item.message.expires for item in store.lapsed(NOW + 120, 9)] == [NOW + 120]


def test_they_end_in_time(store: Store) -> None:
    short, _, longer = put(store, BOB, expires=NOW + 5) + put(store, CARL) + put(store, BOB, expires=NOW + 9)
    assert store.lapsed(NOW + 4, 9) == []
    assert texts(store.lapsed(NOW + 5, 9)) == [short]
    end(store, State.EXPIRED, *store.lapsed(NOW + 5, 9))
    assert store.lapsed(NOW + 8, 9) == []
    assert texts(store.lapsed(NOW + 9, 9)) == [longer]
    assert sorted(texts(store.lapsed(NOW + 3600, 9))) == sorted([longer, *pending(store, CARL)])


def test_a_purge_of_one_is_seen(store: Store) -> None:
    _, kept = put(store, BOB, BOB)
    with closing(Inbox(store.file)) as inbox:
        inbox.purge(inbox.ids(BOB)[:1], NOW)
        assert pending(store) == [kept]
        inbox.purge(inbox.ids(BOB), NOW)
    assert (pending(store), store.has_mail(BOB, NOW), store.waiting(BOB, NOW, 9)) == ([], False, 0)


@pytest.mark.parametrize("many", [3, MOST + 3])
def test_after_a_crash_all_are_there(file: Path, many: int) -> None:
    lost = Store(file, served=True)
    sent = [text for _ in range(many) for text in put(lost, BOB)]
    kill(lost)
    assert loose(file) == 3
    with closing(Store(file, served=True)) as store:
        assert loose(file) == 0
        assert pending(store) == sent
        sent += put(store, BOB)
    assert loose(file) == 0, "an orderly end leaves none"
    with closing(Store(file, served=True)) as store:
        assert pending(store) == sent


def test_a_start_looks_at_the_youngest_rows_alone(file: Path) -> None:
    with closing(Store(file)) as importer:  # what a command wrote is in the indexes at once
        for _ in range(MOST + 10):
            put(importer, BOB)
        assert loose(file) == 0
    seen: list[str] = []
    with closing(Store(file, served=True)) as store:
        put(store, BOB)
        mark = int(harness.query(file, "SELECT value FROM msilo_daemon WHERE name = 'shelved_upto'")[0][0])
        assert mark == MOST + 10
        store._c.set_trace_callback(seen.append)
        store._shelf.tidy()
    assert [text for text in seen if text.startswith("UPDATE silo")] == [
        f"UPDATE silo SET status=0 WHERE silo.id > {mark} AND silo.status = 1"
    ]


def test_a_command_that_opens_the_file_beside_the_daemon_hides_none(store: Store) -> None:
    before = put(store, BOB, CARL)
    with closing(Store(store.file)) as command:
        assert loose(store.file) == 0
        assert pending(store) == pending(command) == before[:1]
        theirs = put(command, BOB)
        after = put(store, BOB)
        assert loose(store.file) == 1
        assert pending(store) == before[:1] + theirs + after
    assert loose(store.file) == 0
    assert pending(store) == before[:1] + theirs + after
    assert store.owners(9, NOW) == [BOB, CARL]
    end(store, State.DELIVERED, *store.pending(BOB, 0, 9, NOW))
    assert (pending(store), pending(store, CARL)) == ([], before[1:])


def test_who_is_not_the_daemon_finds_what_it_stored_since(store: Store) -> None:
    with closing(Store(store.file)) as command:
        one, two, three = put(store, BOB, BOB, CARL)
        assert pending(command) == [one, two]
        assert (command.waiting(BOB, NOW, 9), command.has_mail(CARL, NOW)) == (2, True)
        assert command.owners(9, NOW) == [BOB, CARL]
        end(store, State.DELIVERED, *store.pending(BOB, 0, 9, NOW))
        assert (pending(command), pending(command, CARL)) == ([], [three])


def test_after_a_commit_that_failed_the_file_is_asked(store: Store, file: Path) -> None:
    """A commit may have gone through, whatever was said of it: what another connection wrote stands for that."""
    mine = put(store, BOB)
    harness.change(file, "CREATE TRIGGER broken BEFORE INSERT ON silo BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError, match="no"):
        put(store, BOB, CARL)
    harness.change(file, "DROP TRIGGER broken")
    with closing(sqlite3.connect(file)) as other:
        into = "INSERT INTO silo (username, domain, exp_time, body, status)"
        other.execute(f"{into} VALUES ('dave', 'home.lan', {NOW + 9}, 'x', {LOOSE})")
        other.commit()
    assert (pending(store), pending(store, CARL), pending(store, DAVE)) == (mine, [], ["x"])
    assert store.owners(9, NOW) == [BOB, DAVE]
    assert texts(store.lapsed(NOW + 9, 9)) == ["x"]


def test_in_a_full_turn_that_fails_nothing_moves(store: Store, file: Path) -> None:
    sent = [text for _ in range(MOST // 20) for text in put(store, *[BOB] * 20)]
    harness.change(file, "CREATE TRIGGER broken BEFORE INSERT ON silo BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError, match="no"):
        put(store, BOB)
    harness.change(file, "DROP TRIGGER broken")
    assert loose(file) == MOST
    assert pending(store) == sent
    assert pending(store) + put(store, BOB) == pending(store)
    assert loose(file) == 1


def test_a_table_under_other_names(file: Path) -> None:
    names = Names(db_table='my "box"', sc_status="flag", sc_uri_user="who", sc_exp_time="till")
    lost = Store(file, names, served=True)
    sent = put(lost, BOB, BOB)
    kill(lost)
    with closing(Store(file, names, served=True)) as store, closing(Inbox(file, names)) as inbox:
        sent += put(store, BOB)
        assert pending(store) == texts(list(inbox.waiting(BOB))) == sent
