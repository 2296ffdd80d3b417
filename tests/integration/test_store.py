"""The store on a real file: what is committed, when, and what survives."""

import re
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from msilo_lite.address import Aor
from msilo_lite.delivery import Event, State
from msilo_lite.errors import StoreError
from msilo_lite.inbox import Inbox
from msilo_lite.message import Message, Settled, Turn, Waiting
from msilo_lite.policy import Policy
from msilo_lite.rows import body_hash
from msilo_lite.silo import Places, Silo
from msilo_lite.store import Store

from . import harness

NOW = 1_800_000_000
BOB = Aor("bob", "home.lan")
KAMAILIO = """CREATE TABLE silo (
    id INTEGER PRIMARY KEY NOT NULL,
    src_addr VARCHAR(255) DEFAULT '' NOT NULL,
    dst_addr VARCHAR(255) DEFAULT '' NOT NULL,
    username VARCHAR(64) DEFAULT '' NOT NULL,
    domain VARCHAR(64) DEFAULT '' NOT NULL,
    inc_time INTEGER DEFAULT 0 NOT NULL,
    exp_time INTEGER DEFAULT 0 NOT NULL,
    snd_time INTEGER DEFAULT 0 NOT NULL,
    ctype VARCHAR(32) DEFAULT 'text/plain' NOT NULL,
    body BLOB,
    extra_hdrs TEXT,
    callid VARCHAR(128) DEFAULT '' NOT NULL,
    status INTEGER DEFAULT 0 NOT NULL)"""
"As Kamailio 5.6 makes it for SQLite: ids come back after a delete."
KAMAILIO_VERSION = """CREATE TABLE version (
    id INTEGER PRIMARY KEY NOT NULL, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_table_name_idx UNIQUE (table_name))"""
STRANGER = "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, ctype, body, extra_hdrs) VALUES"


def message(text: str, owner: Aor = BOB, **more: Any) -> Message:
    body = text.encode()
    plain = Message(
        owner=owner,
        src="sip:alice@home.lan",
        dst=f"sip:{owner}",
        from_='"Alice" <sip:alice@home.lan>',
        to=f"<sip:{owner}>",
        ctype="text/plain",
        body=body,
        kept="",
        arrived=NOW,
        expires=NOW + 3600,
        call_id=f"call-{text}",
        key=body_hash(body),
    )
    return replace(plain, **more)


def stored(store: Store, *texts: str, owner: Aor = BOB) -> list[Waiting]:
    """Messages of one owner, written and read back."""
    store.write(Turn(new=[message(text, owner) for text in texts]), NOW)
    return store.pending(owner, 0, 100)


def delivered(*items: Waiting) -> Turn:
    return Turn(settled=[Settled(item, State.DELIVERED, NOW, 200, "200 OK", 1) for item in items])


def texts(items: list[Waiting]) -> list[str]:
    return [item.message.body.decode() for item in items]


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that any SQLAlchemy engine of this process runs meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "box" / "silo.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with closing(Store(file)) as one:
        yield one


@pytest.fixture
def kamailio(file: Path) -> Path:
    """A file that Kamailio made and wrote to."""
    file.parent.mkdir()
    harness.change(
        file,
        KAMAILIO_VERSION,
        KAMAILIO,
        "CREATE INDEX silo_account_idx ON silo (username, domain)",
        "INSERT INTO version (table_name, table_version) VALUES ('silo', '8')",
        f"{STRANGER} ('sip:carol@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan', {NOW}, {NOW + 60}, 'text/plain',"
        " X'6F6E65', 'Subject: one' || char(13) || char(10))",
        f"{STRANGER} ('sip:carol@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan', {NOW}, {NOW + 60}, 'text/html',"
        " X'74776F', CAST('Subject: two' || char(13) || char(10) AS BLOB))",
        f"{STRANGER} ('sip:carol@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan', {NOW}, {NOW + 60}, 'text/plain',"
        " NULL, NULL)",
    )
    return file


# -- commits -----------------------------------------------------------------------------------------------------------
def test_a_turn_is_one_commit(store: Store) -> None:
    silo = Silo(store, Policy(), Places((), frozenset()), "test")
    silo.turn.new += [message(f"old {n}") for n in range(3)]
    silo.commit(NOW)
    with statements() as seen:
        for item in silo.begin(BOB, 0, 10):
            silo.settle(item, Event.ACCEPTED, NOW, 200, "200 OK")
        silo.turn.new += [message(f"new {n}") for n in range(50)]
        silo.turn.wishes[1] = {}
        silo.commit(NOW)
    assert sum(text.startswith("COMMIT") for text in seen) == 1, seen
    assert sum(text.startswith("BEGIN") for text in seen) == 1, seen
    begin, end = seen.index("BEGIN IMMEDIATE"), seen.index("COMMIT")
    outside = [text for text in seen[:begin] + seen[end:] if re.match("INSERT|UPDATE|DELETE", text)]
    assert outside == []
    assert len(store.pending(BOB, 0, 100)) == 50


def test_an_empty_turn_does_not_touch_the_disk(store: Store) -> None:
    silo = Silo(store, Policy(), Places((), frozenset()), "test")
    with statements() as seen:
        silo.commit(NOW)
    assert seen == []


TURN_OF_THE_DAEMON = """
import sys
import sqlalchemy as sa
from msilo_lite.config import Config
from msilo_lite.daemon import Daemon
from tests.integration.harness import Peer

daemon = Daemon(Config(bind=("udp:127.0.0.1:0",), db_url=f"sqlite:///{sys.argv[1]}"))
commits = []

def note(connection, cursor, statement, *rest):
    commits.extend([statement] if statement == "COMMIT" else [])

sa.event.listen(sa.Engine, "before_cursor_execute", note)
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
    seen: list[tuple[str, int]] = []

    def look(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "BEGIN IMMEDIATE":
            cursor = connection.connection.cursor()
            mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
            seen.append((mode, cursor.execute("PRAGMA synchronous").fetchone()[0]))
            cursor.close()

    sa.event.listen(sa.Engine, "before_cursor_execute", look)
    try:
        [item] = stored(store, "one")
        with closing(Inbox(file)) as inbox:
            inbox.purge([item.silo_id], NOW)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", look)
    assert seen == [("wal", 2), ("wal", 2)]  # 2 is FULL


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


def test_ids_of_another_writer_are_left_alone(store: Store, file: Path) -> None:
    first = stored(store, "one")
    harness.change(
        file,
        f"{STRANGER} ('sip:c@x', 'sip:bob@home.lan', 'bob', 'home.lan', 1, 9999999999, '', CAST('theirs' AS BLOB), '')",
    )
    items = stored(store, "two")
    assert texts(items) == ["one", "theirs", "two"]
    assert [item.silo_id for item in items] == [first[0].silo_id + n for n in range(3)]


def test_message_ids_of_forgotten_history_are_not_given_out_again(store: Store, file: Path) -> None:
    old = stored(store, "one", "two")
    store.write(delivered(*old), NOW)
    assert store.prune(NOW + 1, 100) == 2
    store.close()
    with closing(Store(file)) as again:
        assert stored(again, "three")[0].ledger_id > old[-1].ledger_id


# -- Kamailio's rows ---------------------------------------------------------------------------------------------------
def test_a_file_of_kamailio_is_read(kamailio: Path) -> None:
    with closing(Store(kamailio)) as store:
        items = store.pending(BOB, 0, 10)
        assert [(i.message.body, i.message.kept, i.message.ctype) for i in items] == [
            (b"one", "Subject: one\r\n", "text/plain"),
            (b"two", "Subject: two\r\n", "text/html"),
            (b"", "", "text/plain"),
        ]
        assert {(i.message.from_, i.message.to, i.known) for i in items} == {
            ("<sip:carol@home.lan>", "<sip:bob@home.lan>", False)
        }
        assert len({i.msilo_id for i in items}) == 3
        store.write(Turn(claimed=items), NOW)
        assert store.by_msilo_id(items[0].msilo_id) == (State.SENDING, BOB)
        store.write(delivered(*items), NOW)
        assert not store.has_mail(BOB)
    with closing(Inbox(kamailio)) as inbox:
        assert [old.msilo_id for old in inbox.history()] == [i.msilo_id for i in items]


def test_our_messages_and_kamailios_share_the_table(kamailio: Path) -> None:
    with closing(Store(kamailio)) as store:
        items = stored(store, "ours")
        assert texts(items) == ["one", "two", "", "ours"]
        assert [item.known for item in items] == [False, False, False, True]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", "'typed by hand'"),
        ("body", "CAST(X'FFFE' AS TEXT)"),
        ("src_addr", "CAST(X'7369703AFF40686F6D652E6C616E' AS TEXT)"),
        ("ctype", "CAST(X'746578742F706C61696E3B783D22FF22' AS TEXT)"),
        ("callid", "CAST(X'FF' AS TEXT)"),
    ],
)
def test_bytes_stored_as_text_do_not_break_the_box(kamailio: Path, column: str, value: str) -> None:
    harness.change(kamailio, f"UPDATE silo SET {column} = {value} WHERE id = 1")
    [(wanted,)] = harness.query(kamailio, f"SELECT CAST({column} AS BLOB) FROM silo WHERE id = 1")
    with closing(Store(kamailio)) as store:
        first, *others = store.pending(BOB, 0, 10)
        assert len(others) == 2
        fields = {"body": "body", "src_addr": "src", "ctype": "ctype", "callid": "call_id"}
        found = getattr(first.message, fields[column])
        assert (found if column == "body" else found.encode("utf-8", "surrogateescape")) == wanted
        assert len(store.lapsed(NOW + 99, 10)) == 3
    with closing(Inbox(kamailio)) as inbox:
        assert len(list(inbox.waiting())) == 3


@pytest.mark.parametrize("stale", [State.PENDING, State.PARKED, State.SENDING])
def test_a_stale_ledger_row_does_not_count(kamailio: Path, stale: State) -> None:
    with closing(Store(kamailio)) as store:
        *_, ours = stored(store, "ours")
        parked = Settled(ours, State.PARKED, NOW, 415, "415 Unsupported", 1)
        store.write({State.PARKED: Turn(settled=[parked]), State.SENDING: Turn(claimed=[ours])}.get(stale, Turn()), NOW)
        harness.change(
            kamailio,
            f"DELETE FROM silo WHERE id = {ours.silo_id}",
            f"{STRANGER} ('sip:dave@x', 'sip:bob@home.lan', 'bob', 'home.lan', {NOW}, {NOW + 60}, '', X'6E6577', '')",
        )
        assert harness.query(kamailio, "SELECT id FROM silo WHERE body = X'6E6577'") == [
            (ours.silo_id,)
        ]  # it came back
        new = [item for item in store.pending(BOB, 0, 10) if item.message.body == b"new"]
        assert [(i.known, i.message.from_, i.attempts, i.code) for i in new] == [(False, "<sip:dave@x>", 0, None)]
        assert new[0].msilo_id != ours.msilo_id
        store.write(Turn(claimed=new), NOW)
        store.write(delivered(*new), NOW)
        assert store.by_msilo_id(new[0].msilo_id) == (State.DELIVERED, BOB)
        assert store.by_msilo_id(ours.msilo_id) == (State.CANCELLED, BOB)


# -- repeats -----------------------------------------------------------------------------------------------------------
def test_a_repeat_is_known_after_a_restart(store: Store, file: Path) -> None:
    assert store.write(Turn(new=[message("one"), message("one")]), NOW) == 1
    store.close()
    with closing(Store(file)) as again:
        assert again.write(Turn(new=[message("one"), message("two")]), NOW) == 1
        items = again.pending(BOB, 0, 10)
        assert texts(items) == ["one", "two"]
        again.write(delivered(*items), NOW)
    with closing(Store(file)) as later:  # delivered long ago, and still the same request
        assert later.write(Turn(new=[message("one")]), NOW) == 1
        assert not later.has_mail(BOB)


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
    silo = Silo(store, Policy(), Places((), frozenset()), "test")
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
    assert texts(store.pending(BOB, 0, 10)) == ["two"]
    assert store.by_msilo_id(items[0].msilo_id) == (State.DELIVERED, BOB)


def test_a_full_database_says_so_and_works_again(file: Path) -> None:
    def small(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 40")

    sa.event.listen(sa.Engine, "connect", small)
    try:
        store = Store(file)
    finally:
        sa.event.remove(sa.Engine, "connect", small)
    with closing(store):
        items = stored(store, "one")
        big = [message("x" * 3000 + str(n)) for n in range(100)]
        with pytest.raises(StoreError, match="full"):
            store.write(Turn(new=big), NOW)
        assert texts(store.pending(BOB, 0, 10)) == ["one"]
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
    assert texts(store.pending(BOB, 0, 10)) == ["two"]
    store.close()
    with closing(Store(file)) as again:
        assert again.recover() == [BOB]
        found = again.pending(BOB, 0, 10)
        assert texts(found) == ["one", "two"]
        assert [i.msilo_id for i in found] == [i.msilo_id for i in items]
        assert again.recover() == []
