"""A file that Kamailio made, and rows that other programs write: read, delivered, and never mixed up with ours."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench import kamailio as bench
from bench import wire
from bench.processes import Setting, last_words, launch
from msilo_lite.box.delivery import State
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Settled, Turn
from msilo_lite.box.schema import Names
from msilo_lite.box.store import Store
from msilo_lite.cli.phone import Phone
from tests.sip.process import missing
from tests.waiting import until

from . import harness
from .harness import Address, Peer, Serve, on, query
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


def kamailio_file(file: Path) -> None:
    """Make a file as Kamailio makes it and writes to it."""
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


@pytest.fixture
def kamailio(tmp_path: Path) -> Path:
    """A file that Kamailio made and wrote to."""
    file = tmp_path / "silo.sqlite"
    kamailio_file(file)
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
        numbers = [item.silo_id for item in items]
        assert numbers == sorted({first[0].silo_id, *numbers})


# -- in place, under other names ---------------------------------------------------------------------------------------
RENAMED = {
    "sc_mid": "number", "sc_from": "caller", "sc_to": "callee", "sc_uri_user": "who", "sc_uri_host": "realm",
    "sc_body": "words", "sc_ctype": "kind", "sc_exp_time": "till", "sc_inc_time": "since", "sc_snd_time": "at",
    "sc_stored_hdrs": "heads", "sc_callid": "call", "sc_status": "flag",
}  # fmt: skip
CHOSEN = tuple(word for pair in {"db_table": "inbox", **RENAMED}.items() for word in ("--set", "{}={}".format(*pair)))
NAMES = Names(db_table="inbox", **RENAMED)


def under_other_names(statement: str) -> str:
    """The same statement for a table and columns that an installation has renamed."""
    for setting, name in RENAMED.items():
        statement = re.sub(rf"\b{getattr(Names(), setting)}\b", name, statement)
    return re.sub(r"\bsilo\b", "inbox", statement)


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """A file of a Kamailio with db_table and every sc_... set; ids of its table come back."""
    file = tmp_path / "silo.sqlite"
    rows = [f"('sip:carol@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan', {NOW}, {NOW + 60}, 'text/plain'," + rest
            for rest in (" X'6F6E65', 'Subject: one' || char(13) || char(10))", " X'74776F', '')")]  # fmt: skip
    harness.change(
        file,
        KAMAILIO_VERSION,
        under_other_names(KAMAILIO),
        "INSERT INTO version (table_name, table_version) VALUES ('inbox', 8)",
        *(under_other_names(f"{STRANGER} {row}") for row in rows),
    )
    return file


def test_kamailios_renamed_table_is_served_where_it_is(renamed: Path, tmp_path: Path) -> None:
    beside = (*on(renamed), *CHOSEN)
    made = query(renamed, "SELECT sql FROM sqlite_master WHERE name = 'inbox'")
    with Serve(tmp_path, "--settle", "0", *CHOSEN) as silo, Peer("bob", silo.address) as bob:
        assert "table: inbox, which Kamailio made; the file is in WAL mode now, Kamailio can use it too\n" in silo.out
        with Peer("alice", silo.address) as alice:
            alice.write("bob", "three")
        assert harness.run(tmp_path, "store", "bob@home.lan", "four", *beside).code == 0
        assert query(renamed, "SELECT number, caller, callee, who, realm, words, kind, flag FROM inbox") == [
            (1, "sip:carol@home.lan", "sip:bob@home.lan", "bob", "home.lan", b"one", "text/plain", 0),
            (2, "sip:carol@home.lan", "sip:bob@home.lan", "bob", "home.lan", b"two", "text/plain", 0),
            (3, "sip:alice@home.lan", "sip:bob@home.lan", "bob", "home.lan", b"three", "text/plain", 0),
            (4, "sip:bob@home.lan", "sip:bob@home.lan", "bob", "home.lan", b"four", "text/plain;charset=utf-8", 0),
        ]
        listed = harness.run(tmp_path, "list", *beside).out.splitlines()
        assert [row.split("\t")[0] for row in listed] == ["1", "2", "3", "4"]
        bob.register()
        seen = bob.take(4)
        until(lambda: not query(renamed, "SELECT 1 FROM inbox"), 5, "the table is empty")
        silo.stop()
    assert [one.body for one in seen] == [b"one", b"two", b"three", b"four"]
    assert (seen[0].headers["subject"], seen[0].headers["from"].partition(";")[0]) == ("one", "<sip:carol@home.lan>")
    assert query(renamed, "SELECT sql FROM sqlite_master WHERE name = 'inbox'") == made  # its table is as it was
    assert query(renamed, "SELECT 1 FROM sqlite_master WHERE name = 'silo'") == []


def test_ids_of_ours_never_come_back_in_kamailios_table(renamed: Path, tmp_path: Path) -> None:
    given: list[int] = []
    for round_ in range(3):  # each with a daemon of its own
        with Serve(tmp_path, "--settle", "0", *CHOSEN) as silo, Peer("bob", silo.address) as bob:
            for n in range(2):
                bob.write("bob", f"{round_}.{n}")
            given += [row[0] for row in query(renamed, "SELECT number FROM inbox ORDER BY number")]
            bob.register()
            bob.take(4 if round_ == 0 else 2)
            until(lambda: not query(renamed, "SELECT 1 FROM inbox"), 5, "the table is empty")
            silo.kill()
    with closing(Store(renamed, NAMES)) as store:
        given += [item.silo_id for item in stored(store, "and by a command")]
    assert given == sorted(set(given))
    assert len(given) == 9


def test_without_its_names_the_file_is_refused_in_a_sentence(renamed: Path, tmp_path: Path) -> None:
    words = ("serve", "--bind", "udp:127.0.0.1:0", *on(renamed), "--set", "db_table=inbox", "--set", "sc_mid=number")
    ran = harness.run(tmp_path, *words)
    assert (ran.code, ran.out) == (1, "")
    assert ran.sentence == (
        "msilo-lite: the table inbox has no column src_addr; db_table and the sc_... settings name table and columns"
    )


def test_a_reminder_whose_row_ends_before_its_time_is_sent(kamailio: Path, tmp_path: Path) -> None:
    """msilo counts the life of a reminder from its arrival."""
    now = int(time.time())
    harness.change(kamailio, f"UPDATE silo SET inc_time = {now - 900}, exp_time = {now - 300}, snd_time = {now - 20}")
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert [one.body for one in bob.take(3)] == [b"one", b"two", b""]


def test_a_body_without_a_type_is_not_lost(kamailio: Path, tmp_path: Path) -> None:
    harness.change(kamailio, "UPDATE silo SET ctype = ''")
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert [one.body for one in bob.take(3)] == [b"one", b"two", b""]


@pytest.mark.parametrize("word", ["list", "check"])
def test_a_look_before_the_first_start_changes_nothing(kamailio: Path, tmp_path: Path, word: str) -> None:
    before = kamailio.read_bytes()
    ran = harness.run(tmp_path, word, *on(kamailio))
    assert f"{kamailio} has no tables of msilo-lite yet; start `serve` once" in ran.out + ran.err
    assert kamailio.read_bytes() == before


def test_check_tells_of_a_table_of_kamailios_and_of_what_vanished(kamailio: Path, tmp_path: Path) -> None:
    with closing(Store(kamailio)) as store:
        stored(store, "ours")
    quiet = ("--set", "add_date=0", "--set", "max_messages=10")
    fine = harness.run(tmp_path, "check", *on(kamailio), *quiet)
    assert (fine.code, fine.err) == (0, "")
    table = "ok\ttable\tsilo: Kamailio made this table. The file is in WAL mode now, which Kamailio can use as well\n"
    assert table in fine.out
    harness.change(kamailio, "DELETE FROM silo")  # as Kamailio's m_dump does
    warned = harness.run(tmp_path, "check", "--offline", *on(kamailio), *quiet)
    assert (warned.code, warned.err) == (1, "")
    assert warned.out.endswith(
        "warning\ttable\t1 left it by another hand: a Kamailio that delivers as well? Take m_dump out of its script, "
        "or messages arrive twice\n"
    )


# -- beside the real Kamailio ------------------------------------------------------------------------------------------
@contextmanager
def original(folder: Path, file: Path) -> Iterator[Address]:
    """A Kamailio that stores into `inbox` and dumps from it, on a file that is there already; yields its address."""
    target = bench.Kamailio("original", "Kamailio as its sample configures it")
    parameters = {"db_table": "inbox", **RENAMED, "check_time": "1"}
    del parameters["sc_callid"], parameters["sc_status"]  # of Kamailio 5.8; before, it lets these columns be
    more = "".join(
        f'modparam("msilo", "{name}", {value if value.isdigit() else chr(34) + value + chr(34)})\n'
        for name, value in parameters.items()
    )
    program = shutil.which("kamailio", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if not program or not bench.SCHEMAS[0].exists():
        missing("kamailio and its msilo and db_sqlite modules are not installed")
    for _ in range(3):  # the port may be gone again
        port = bench.free_port()
        config = folder / "kamailio.cfg"
        text = target.config(port, port, file).replace(f"alias={wire.DOMAIN}", "alias=home.lan")
        config.write_text(text.replace("request_route {", f"{more}\nrequest_route {{", 1))
        running = launch([program, "-DD", "-E", "-f", str(config), "-Y", str(folder)], Setting(folder), file)
        try:
            running.port = port
            if bench.serves(running):
                yield ("127.0.0.1", port)
                return
        finally:
            running.stop()
    pytest.fail(f"Kamailio did not start: {last_words(folder)}")


@pytest.mark.sip
def test_kamailio_itself_goes_on_with_the_file(renamed: Path, tmp_path: Path) -> None:
    """It stores what we deliver, and dumps what we stored: then `check` says so."""
    quiet = ("--set", "add_date=0", "--set", "max_messages=10", "--set", "domain=home.lan", *CHOSEN)
    with Serve(tmp_path, "--settle", "0", *quiet) as silo, original(tmp_path, renamed) as address:
        with Peer("carol", address) as carol:
            carol.write("bob", "left with Kamailio")  # 202
        assert query(renamed, "SELECT words FROM inbox WHERE number = 3") == [(b"left with Kamailio",)]
        with Peer("bob", silo.address) as bob:
            bob.register()
            seen = bob.take(3)
            until(lambda: not query(renamed, "SELECT 1 FROM inbox"), 5, "the table is empty")
        assert [one.body for one in seen] == [b"one", b"two", b"left with Kamailio"]

        with Peer("alice", silo.address) as alice:
            alice.write("dave", "left with us")
        assert query(renamed, "SELECT number, words FROM inbox") == [(4, b"left with us")]
        with closing(Phone("dave", address)) as dave:
            assert dave.register() == 200  # at Kamailio, whose script calls m_dump
            dave.take(1)
            until(lambda: not query(renamed, "SELECT 1 FROM inbox"), 10, "Kamailio's cleaner has been there")
        assert dave.received[0].body.endswith(b"] left with us")
        with Peer("alice", silo.address) as alice:
            alice.write("dave", "and again")  # the id that Kamailio freed stays free
        assert query(renamed, "SELECT number FROM inbox") == [(5,)]
        ran = harness.run(tmp_path, "check", *on(renamed), *quiet)
    assert ran.code == 1
    assert "warning\ttable\t1 left it by another hand: a Kamailio that delivers as well?" in ran.out
