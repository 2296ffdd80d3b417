"""The tables: msilo's own, exactly, and our ledger beside it; and the list of migrations.

msilo's is version 8 of Kamailio's table, so that a Kamailio can use the file as well; like there, it and its columns
may be called otherwise. Our tables start with `msilo_`. A released migration is never edited: a change is a new one at
the end. `PRAGMA user_version` counts those applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BLOB,
    Column,
    ColumnElement,
    CompoundSelect,
    Float,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    cast,
    collate,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.types import String


@dataclass(frozen=True, slots=True)
class Names:
    """What this installation calls msilo's table and its columns."""

    db_table: str = "silo"
    sc_mid: str = "id"
    sc_from: str = "src_addr"
    sc_to: str = "dst_addr"
    sc_uri_user: str = "username"
    sc_uri_host: str = "domain"
    sc_body: str = "body"
    sc_ctype: str = "ctype"
    sc_exp_time: str = "exp_time"
    sc_inc_time: str = "inc_time"
    sc_snd_time: str = "snd_time"
    sc_stored_hdrs: str = "extra_hdrs"
    sc_callid: str = "callid"
    sc_status: str = "status"


@cache
def silo_table(names: Names) -> Table:
    """msilo's table; its columns have the same keys, whatever their names."""

    def text(name: str, key: str, size: int, default: str = "") -> Column[str]:
        return Column(name, String(size), key=key, nullable=False, server_default=default)

    def number(name: str, key: str) -> Column[int]:
        return Column(name, Integer, key=key, nullable=False, server_default="0")

    table = Table(
        names.db_table,
        MetaData(),
        Column(names.sc_mid, Integer, key="id", primary_key=True),
        text(names.sc_from, "src_addr", 255),
        text(names.sc_to, "dst_addr", 255),
        text(names.sc_uri_user, "username", 64),
        text(names.sc_uri_host, "domain", 64),
        number(names.sc_inc_time, "inc_time"),
        number(names.sc_exp_time, "exp_time"),
        number(names.sc_snd_time, "snd_time"),
        text(names.sc_ctype, "ctype", 32, "text/plain"),
        Column(names.sc_body, BLOB, key="body"),
        Column(names.sc_stored_hdrs, Text, key="extra_hdrs"),
        text(names.sc_callid, "callid", 128),
        number(names.sc_status, "status"),
        sqlite_autoincrement=True,  # ids never come back (Kamailio's own table reuses them, and loses mail by it)
    )
    ours = our_prefix(table)
    # `status` stands in both, so that counting reads nothing but the index
    Index(f"{ours}_end_idx", table.c.exp_time, table.c.status, sqlite_where=shelved(table))
    Index(f"{ours}_snd_idx", table.c.snd_time, sqlite_where=table.c.snd_time > 0)
    # Kamailio writes hosts as they came, and hosts have no case
    owner = table.c.username, collate(table.c.domain, "NOCASE"), table.c.id, table.c.status
    Index(f"{ours}_user_idx", *owner, sqlite_where=shelved(table))
    return table


def our_prefix(silo: Table) -> str:
    """How the names of our indexes on msilo's table begin."""
    return "msilo" if silo.name == "silo" else f"msilo_{silo.name}"


OLD_INDEXES = ("exp_idx", "owner_idx")
"What they were called while every row was in them at once."
SHELVED, LOOSE = 0, 1
"The `status` of a row: Kamailio writes 0 and never reads it. One that is loose is not in the indexes of owner and end."
SHELVED_UPTO = "shelved_upto"
"Where the highest number stands below which no row is loose."


def shelved(silo: Table) -> ColumnElement[bool]:
    """Rows that the indexes of owner and end have; in just these words, or SQLite does not take the index."""
    return silo.c.status != literal_column(str(LOOSE), Integer)


def loose(silo: Table) -> ColumnElement[bool]:
    """The other rows, for whoever has their numbers."""
    return silo.c.status == literal_column(str(LOOSE), Integer)


def loose_in(silo: Table) -> ColumnElement[bool]:
    """The other rows, for whoever has not."""
    named = daemon.c.name == literal_column(f"'{SHELVED_UPTO}'", Text)
    mark = select(cast(daemon.c.value, Integer)).where(named).scalar_subquery()
    return and_(loose(silo), silo.c.id > func.coalesce(mark, literal_column("0", Integer)))


version = Table(
    "version",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("table_name", String(32), nullable=False, unique=True),
    Column("table_version", Integer, nullable=False, server_default="0"),
)
"Kamailio's table of table versions; it refuses a silo that is not listed as 8."
SILO_VERSION = 8

_own = MetaData()

ledger = Table(
    "msilo_ledger",
    _own,
    Column("id", Integer, primary_key=True),
    Column("silo_id", Integer),
    Column("msilo_id", Text, nullable=False),
    Column("dedupe", BLOB),
    Column("body_hash", BLOB, nullable=False),
    Column("username", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("from_hdr", Text, nullable=False),
    Column("to_hdr", Text, nullable=False),
    Column("ctype", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("arrived", Integer, nullable=False),
    Column("expires", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("in_flight", Integer),
    Column("code", Integer),
    Column("reason", Text),
    Column("settled", Integer),
    Column("target", Text),
    Column("crashes", Integer, nullable=False, server_default="0"),
)
contact = Table(
    "msilo_contact",
    _own,
    Column("username", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("uri", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("expires", Integer, nullable=False),
    Column("takes_message", Integer, nullable=False),
    Column("updated", Float, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("cseq", Integer, nullable=False),
    Column("extra", Text, nullable=False),
)
recipient = Table(
    "msilo_recipient",
    _own,
    Column("username", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("next_try", Integer),
    Column("tries", Integer, nullable=False),
    Column("code", Integer),
    Column("reason", Text, nullable=False),
)
counter = Table("msilo_counter", _own, Column("name", Text, primary_key=True), Column("value", Integer, nullable=False))
wish = Table(
    "msilo_wish",
    _own,
    Column("id", Integer, primary_key=True),
    Column("verb", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("result", Text, nullable=False),
    Column("done", Integer, nullable=False),
)
hold = Table(
    "msilo_hold",
    _own,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("since", Integer, nullable=False),
)
usage = Table(
    "msilo_usage",
    _own,
    Column("username", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("messages", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
)
"What waits for each owner, and under two empty names for everybody; `usage` keeps it."
sequence = Table("sqlite_sequence", MetaData(), Column("name", Text), Column("seq", Integer))
"SQLite's own: the highest number that a table ever had."
daemon = Table("msilo_daemon", _own, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))


def everywhere(silo: Table, rows: Select[Any]) -> CompoundSelect[Any]:
    """Rows of msilo's table, chosen in the indexes and among those that they do not have yet."""
    return union_all(rows.where(shelved(silo)), rows.where(loose_in(silo)))


_FIRST = (
    """CREATE TABLE msilo_ledger (
        id INTEGER PRIMARY KEY AUTOINCREMENT, silo_id INTEGER, msilo_id TEXT NOT NULL, dedupe BLOB,
        body_hash BLOB NOT NULL, username TEXT NOT NULL, domain TEXT NOT NULL, from_hdr TEXT NOT NULL,
        to_hdr TEXT NOT NULL, ctype TEXT NOT NULL, size INTEGER NOT NULL, arrived INTEGER NOT NULL,
        expires INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, in_flight INTEGER,
        code INTEGER, reason TEXT, settled INTEGER)""",
    "CREATE UNIQUE INDEX msilo_ledger_dedupe ON msilo_ledger (dedupe)",
    "CREATE UNIQUE INDEX msilo_ledger_silo ON msilo_ledger (silo_id) WHERE silo_id IS NOT NULL",
    "CREATE INDEX msilo_ledger_settled ON msilo_ledger (settled) WHERE settled IS NOT NULL",
    "CREATE INDEX msilo_ledger_sending ON msilo_ledger (state) WHERE state = 1",
    """CREATE TABLE msilo_contact (
        username TEXT NOT NULL, domain TEXT NOT NULL, uri TEXT NOT NULL, path TEXT NOT NULL, expires INTEGER NOT NULL,
        takes_message INTEGER NOT NULL, updated REAL NOT NULL, call_id TEXT NOT NULL, cseq INTEGER NOT NULL,
        PRIMARY KEY (username, domain, uri)) WITHOUT ROWID""",
    """CREATE TABLE msilo_recipient (
        username TEXT NOT NULL, domain TEXT NOT NULL, next_try INTEGER, tries INTEGER NOT NULL, code INTEGER,
        reason TEXT NOT NULL, PRIMARY KEY (username, domain)) WITHOUT ROWID""",
    "CREATE INDEX msilo_recipient_next ON msilo_recipient (next_try) WHERE next_try IS NOT NULL",
    "CREATE TABLE msilo_counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE msilo_wish (
        id INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, username TEXT NOT NULL, domain TEXT NOT NULL,
        asked INTEGER NOT NULL, result TEXT NOT NULL, done INTEGER NOT NULL)""",
    "CREATE INDEX msilo_wish_open ON msilo_wish (id) WHERE done = 0",
    "CREATE TABLE msilo_daemon (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)

_SECOND = (
    "ALTER TABLE msilo_ledger ADD COLUMN target TEXT",
    "ALTER TABLE msilo_contact ADD COLUMN extra TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE msilo_wish ADD COLUMN detail TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX msilo_ledger_handed ON msilo_ledger (in_flight) WHERE state = 7",
)

_THIRD = (
    """CREATE TABLE msilo_hold (
        kind TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID""",
    """CREATE TABLE msilo_usage (
        username TEXT NOT NULL, domain TEXT NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (username, domain)) WITHOUT ROWID""",
    "ALTER TABLE msilo_ledger ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0",
)

# keys are random: a page of the file for each message, where `repeats` has them in memory
_FOURTH = ("DROP INDEX msilo_ledger_dedupe",)

# rows that are loose: the indexes of msilo's table change with it, and an older version would not find all messages
_FIFTH: tuple[str, ...] = ()

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
"Each a tuple of statements, applied in one transaction together with the number."
