"""The tables: msilo's own, exactly, and our ledger beside it; and the list of migrations.

`silo` is version 8 of Kamailio's table, so that a Kamailio can use the file as well. Our tables start with `msilo_`. A
released migration is never edited: a change is a new one at the end. `PRAGMA user_version` counts those applied.
"""

from __future__ import annotations

from sqlalchemy import BLOB, Column, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.types import String

metadata = MetaData()

silo = Table(
    "silo",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("src_addr", String(255), nullable=False, server_default=""),
    Column("dst_addr", String(255), nullable=False, server_default=""),
    Column("username", String(64), nullable=False, server_default=""),
    Column("domain", String(64), nullable=False, server_default=""),
    Column("inc_time", Integer, nullable=False, server_default="0"),
    Column("exp_time", Integer, nullable=False, server_default="0"),
    Column("snd_time", Integer, nullable=False, server_default="0"),
    Column("ctype", String(32), nullable=False, server_default="text/plain"),
    Column("body", BLOB),
    Column("extra_hdrs", Text),
    Column("callid", String(128), nullable=False, server_default=""),
    Column("status", Integer, nullable=False, server_default="0"),
    Index("silo_account_idx", "username", "domain"),
    Index("msilo_exp_idx", "exp_time"),
    sqlite_autoincrement=True,  # ids never come back (Kamailio's own table reuses them, and loses mail by it)
)

version = Table(
    "version",
    metadata,
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
    Column("asked", Integer, nullable=False),
    Column("result", Text, nullable=False),
    Column("done", Integer, nullable=False),
)
daemon = Table("msilo_daemon", _own, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

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

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"Each a tuple of statements, applied in one transaction together with the number."
