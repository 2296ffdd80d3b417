"""The first released schema, frozen, and how a file grows from it."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.inbox import Inbox
from msilo_lite.box.schema import MIGRATIONS
from msilo_lite.box.store import Store
from msilo_lite.errors import StoreError

from . import harness

# The schema of 0.1.0. DO NOT EDIT: a change of the tables is a new migration, and this text stays.
FIRST_SCHEMA = """
CREATE TABLE silo (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, src_addr VARCHAR(255) DEFAULT '' NOT NULL,
    dst_addr VARCHAR(255) DEFAULT '' NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL,
    domain VARCHAR(64) DEFAULT '' NOT NULL, inc_time INTEGER DEFAULT '0' NOT NULL,
    exp_time INTEGER DEFAULT '0' NOT NULL, snd_time INTEGER DEFAULT '0' NOT NULL,
    ctype VARCHAR(32) DEFAULT 'text/plain' NOT NULL, body BLOB, extra_hdrs TEXT,
    callid VARCHAR(128) DEFAULT '' NOT NULL, status INTEGER DEFAULT '0' NOT NULL);
CREATE INDEX silo_account_idx ON silo (username, domain);
CREATE INDEX msilo_exp_idx ON silo (exp_time);
CREATE TABLE version (id INTEGER NOT NULL, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT '0' NOT NULL,
    PRIMARY KEY (id), UNIQUE (table_name));
CREATE TABLE msilo_ledger (id INTEGER PRIMARY KEY AUTOINCREMENT, silo_id INTEGER, msilo_id TEXT NOT NULL, dedupe BLOB,
    body_hash BLOB NOT NULL, username TEXT NOT NULL, domain TEXT NOT NULL, from_hdr TEXT NOT NULL,
    to_hdr TEXT NOT NULL, ctype TEXT NOT NULL, size INTEGER NOT NULL, arrived INTEGER NOT NULL,
    expires INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, in_flight INTEGER,
    code INTEGER, reason TEXT, settled INTEGER);
CREATE UNIQUE INDEX msilo_ledger_dedupe ON msilo_ledger (dedupe);
CREATE UNIQUE INDEX msilo_ledger_silo ON msilo_ledger (silo_id) WHERE silo_id IS NOT NULL;
CREATE INDEX msilo_ledger_settled ON msilo_ledger (settled) WHERE settled IS NOT NULL;
CREATE INDEX msilo_ledger_sending ON msilo_ledger (state) WHERE state = 1;
CREATE TABLE msilo_contact (username TEXT NOT NULL, domain TEXT NOT NULL, uri TEXT NOT NULL, path TEXT NOT NULL,
    expires INTEGER NOT NULL, takes_message INTEGER NOT NULL, updated REAL NOT NULL, call_id TEXT NOT NULL,
    cseq INTEGER NOT NULL, PRIMARY KEY (username, domain, uri)) WITHOUT ROWID;
CREATE TABLE msilo_recipient (username TEXT NOT NULL, domain TEXT NOT NULL, next_try INTEGER, tries INTEGER NOT NULL,
    code INTEGER, reason TEXT NOT NULL, PRIMARY KEY (username, domain)) WITHOUT ROWID;
CREATE INDEX msilo_recipient_next ON msilo_recipient (next_try) WHERE next_try IS NOT NULL;
CREATE TABLE msilo_counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE msilo_wish (id INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, username TEXT NOT NULL,
    domain TEXT NOT NULL, asked INTEGER NOT NULL, result TEXT NOT NULL, done INTEGER NOT NULL);
CREATE INDEX msilo_wish_open ON msilo_wish (id) WHERE done = 0;
CREATE TABLE msilo_daemon (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


# What 0.2.0 changed. DO NOT EDIT either.
SECOND_CHANGE = """
ALTER TABLE msilo_ledger ADD COLUMN target TEXT;
ALTER TABLE msilo_contact ADD COLUMN extra TEXT NOT NULL DEFAULT '';
ALTER TABLE msilo_wish ADD COLUMN detail TEXT NOT NULL DEFAULT '';
CREATE INDEX msilo_ledger_handed ON msilo_ledger (in_flight) WHERE state = 7;
CREATE INDEX msilo_snd_idx ON silo (snd_time) WHERE snd_time > 0;
CREATE INDEX msilo_owner_idx ON silo (username, domain COLLATE "NOCASE");
"""

# What 0.3.0 changed. DO NOT EDIT once that is released; until then it grows with the migration.
THIRD_CHANGE = """
DROP INDEX silo_account_idx;
CREATE TABLE msilo_hold (kind TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (kind, name))
    WITHOUT ROWID;
CREATE TABLE msilo_usage (username TEXT NOT NULL, domain TEXT NOT NULL, messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL, PRIMARY KEY (username, domain)) WITHOUT ROWID;
ALTER TABLE msilo_ledger ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
"""

# What comes after it. DO NOT EDIT once that is released.
FOURTH_CHANGE = """
DROP INDEX msilo_ledger_dedupe;
"""

# What comes after that, on msilo's own table. DO NOT EDIT once that is released.
FIFTH_CHANGE = """
CREATE INDEX msilo_end_idx ON silo (exp_time, status) WHERE status != 1;
CREATE INDEX msilo_user_idx ON silo (username, domain COLLATE "NOCASE", id, status) WHERE status != 1;
DROP INDEX msilo_exp_idx;
DROP INDEX msilo_owner_idx;
"""


def squeezed(statement: str) -> str:
    """A statement without the white space that says nothing."""
    return " ".join(statement.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split()).lower()


def schema(file: Path) -> set[str]:
    """Every statement of the schema, but for SQLite's own."""
    rows = harness.query(file, "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'")
    return {squeezed(row[0]) for row in rows}


def frozen() -> set[str]:
    """The schema of today, from the texts above alone."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(FIRST_SCHEMA + SECOND_CHANGE + THIRD_CHANGE + FOURTH_CHANGE + FIFTH_CHANGE)
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'")
        return {squeezed(row[0]) for row in rows}


FROZEN = frozen()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "silo.sqlite"


def make(file: Path) -> None:
    Store(file).close()


def test_a_fresh_file_has_the_frozen_schema(file: Path) -> None:
    make(file)
    assert schema(file) == FROZEN
    assert harness.query(file, "PRAGMA user_version") == [(5,)]
    assert len(MIGRATIONS) == 5, "a sixth migration needs its own frozen text"


def test_kamailio_finds_its_version_row(file: Path) -> None:
    make(file)
    assert harness.query(file, "SELECT table_name, table_version FROM version") == [("silo", 8)]


def test_a_file_of_the_first_release_opens_with_its_rows(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(FIRST_SCHEMA)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO version (table_name, table_version) VALUES ('silo', 8)")
        connection.execute("INSERT INTO silo (username, domain, exp_time, body) VALUES ('bob', 'home.lan', 9, X'6869')")
        connection.execute("INSERT INTO msilo_contact VALUES ('bob', 'home.lan', 'sip:b@::1', '', 9, 1, 1, 'c', 1)")
        connection.execute("INSERT INTO msilo_wish VALUES (1, 'dump', 'bob', 'home.lan', 1, '', 0)")
        connection.commit()
    make(file)
    assert schema(file) == FROZEN
    with closing(Store(file)) as store:
        assert [(one.uri, one.extra) for one in store.contacts()] == [("sip:b@::1", "")]
        assert [(one.verb, one.most) for one in store.wishes()] == [("dump", 0)]
    with closing(Inbox(file)) as inbox:
        assert [item.message.body for item in inbox.waiting()] == [b"hi"]
    assert harness.query(file, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_opening_again_changes_nothing(file: Path) -> None:
    make(file)
    before = schema(file), harness.query(file, "SELECT * FROM version")
    make(file)
    assert (schema(file), harness.query(file, "SELECT * FROM version")) == before


def test_a_newer_file_is_refused_and_left_alone(file: Path) -> None:
    make(file)
    harness.change(file, "PRAGMA user_version = 99", "DROP TABLE msilo_wish")
    before = schema(file)
    with pytest.raises(StoreError, match=r"newer msilo-lite \(schema 99, this one knows \d+\)"):
        Store(file)
    with pytest.raises(StoreError, match="schema 99"):
        Inbox(file)
    assert schema(file) == before


def test_a_migration_that_fails_leaves_no_half(file: Path) -> None:
    harness.change(file, "CREATE TABLE msilo_wish (mine INTEGER)")
    with pytest.raises(StoreError, match="msilo_wish"):
        Store(file)
    assert schema(file) == {squeezed("CREATE TABLE msilo_wish (mine INTEGER)")}
    assert harness.query(file, "PRAGMA user_version") == [(0,)]
    harness.change(file, "DROP TABLE msilo_wish")
    make(file)
    assert schema(file) == FROZEN


def test_two_processes_may_open_a_fresh_file_at_once(tmp_path: Path, file: Path) -> None:
    script = "import sys, pathlib; from msilo_lite.box.store import Store; Store(pathlib.Path(sys.argv[1])).close()"
    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda _: harness.python(tmp_path, script, str(file)), range(4)))
    assert [one.code for one in ran] == [0] * 4, [one.err[-300:] for one in ran]
    assert schema(file) == FROZEN


def test_the_expiry_index_is_there_on_a_file_of_kamailio(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(FIRST_SCHEMA.split(";")[0].replace(" AUTOINCREMENT", ""))
        connection.execute("CREATE INDEX silo_account_idx ON silo (username, domain)")
        connection.commit()
    make(file)
    assert squeezed("CREATE INDEX msilo_end_idx ON silo (exp_time, status) WHERE status != 1") in schema(file)
    assert squeezed("CREATE INDEX silo_account_idx ON silo (username, domain)") in schema(file), "it is not ours"
