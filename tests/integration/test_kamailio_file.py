"""A file that Kamailio made, and rows that other programs write: read, delivered, and never mixed up with ours."""

from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.delivery import State
from msilo_lite.inbox import Inbox
from msilo_lite.message import Settled, Turn
from msilo_lite.store import Store

from . import harness
from .samples import BOB, NOW, delivered, stored, texts

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


@pytest.fixture
def kamailio(tmp_path: Path) -> Path:
    """A file that Kamailio made and wrote to."""
    file = tmp_path / "silo.sqlite"
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


def test_a_file_of_kamailio_is_read(kamailio: Path) -> None:
    with closing(Store(kamailio)) as store:
        items = store.pending(BOB, 0, 10, NOW)
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
        assert not store.has_mail(BOB, NOW)
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
        first, *others = store.pending(BOB, 0, 10, NOW)
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
        new = [item for item in store.pending(BOB, 0, 10, NOW) if item.message.body == b"new"]
        assert [(i.known, i.message.from_, i.attempts, i.code) for i in new] == [(False, "<sip:dave@x>", 0, None)]
        assert new[0].msilo_id != ours.msilo_id
        store.write(Turn(claimed=new), NOW)
        store.write(delivered(*new), NOW)
        assert store.by_msilo_id(new[0].msilo_id) == (State.DELIVERED, BOB)
        assert store.by_msilo_id(ours.msilo_id) == (State.CANCELLED, BOB)


def test_ids_of_another_writer_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        first = stored(store, "one")
        row = f"('sip:c@x', 'sip:bob@home.lan', 'bob', 'home.lan', 1, {NOW}, '', CAST('theirs' AS BLOB), '')"
        harness.change(file, f"{STRANGER} {row}")
        items = stored(store, "two")
        assert texts(items) == ["one", "theirs", "two"]
        assert [item.silo_id for item in items] == [first[0].silo_id + n for n in range(3)]
