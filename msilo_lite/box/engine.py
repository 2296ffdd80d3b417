"""The door to SQLite: opening a file, its transactions, its errors, and the migrations."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import StoreError
from ..points import reach
from .schema import MIGRATIONS, OLD_INDEXES, SILO_VERSION, our_prefix, version

BUSY_SECONDS = 1.0
"How long a statement waits for another process's lock."
CACHED_STATEMENTS = 256
ONE_INDEX = 3
"Schema from which on owners have one index in a table of ours: a second one is a page more to write for each message."
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=OFF",
    "temp_store=MEMORY",
    "wal_autocheckpoint=16000",  # 64 MB, the last resort: `checkpoint` comes before
    "cache_size=-16000",
    "secure_delete=ON",  # what was delivered or purged is overwritten with zeros, not only marked as free
)
_OURS = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"Errors of SQLite that the same statement would meet again."


def connect(file: Path, *, create: bool = False, readonly: bool = False, threads: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode; the file is created 0600 in a directory made 0700 where `create` allows it.

    `readonly`: it is somebody else's, and stays as it is. `threads`: another thread than ours uses it.
    """
    if create:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    name = f"file:{quote(str(file.absolute()))}?mode={'ro' if readonly else 'rw'}"
    if readonly and _rests(file):
        name += "&immutable=1"  # else SQLite leaves a log behind that only a writer may take away
    made = sqlite3.connect(
        name, uri=True, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=CACHED_STATEMENTS,
        check_same_thread=not threads,
    )  # fmt: skip
    try:
        for pragma in () if readonly else _PRAGMAS:
            made.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        made.close()
        raise
    # what came as bytes that are no UTF-8, and others stored as text, must not make a whole box unreadable
    made.text_factory = lambda value: value.decode("utf-8", "surrogateescape")
    return made


def _rests(file: Path) -> bool:
    """Whether a file is in WAL mode, and nobody has it open."""
    log = file.with_name(f"{file.name}-wal")
    with file.open("rb") as opened:
        return opened.read(20)[18:] == b"\x02\x02" and not log.exists()


def open_engine(file: Path, *, create: bool = False, readonly: bool = False) -> sa.Engine:
    """SQLAlchemy's view of the file, for statements that are built for the occasion."""
    # parameters would be messages in a log
    return sa.create_engine(
        "sqlite://", creator=lambda: connect(file, create=create, readonly=readonly), hide_parameters=True
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """The database's and the file system's errors as StoreError, cause kept."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{what}: {error.orig}") from error
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{what}: {error}", lasting=isinstance(error, _OURS)) from error
    except (SQLAlchemyError, ValueError, OverflowError) as error:  # ValueError: text that is no UTF-8
        raise StoreError(f"{what}: {error}", lasting=True) from error


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction, whole or not at all. A full disk makes SQLite roll back by itself."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def empty_log(connection: sqlite3.Connection) -> bool:
    """Cut the write-ahead log, in which deleted text would be readable until it is overwritten; whether that was done.

    Not while another process reads: it waits for that one as long as for any lock.
    """
    return int(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]) == 0


def raw(connection: sa.Connection) -> sqlite3.Connection:
    """SQLite's own connection behind one of SQLAlchemy's."""
    found = connection.connection.dbapi_connection
    assert isinstance(found, sqlite3.Connection)
    return found


def schema_of(connection: sa.Connection) -> int:
    """How many migrations a file has seen."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def migrate(connection: sa.Connection, silo: sa.Table) -> None:
    """Create what is missing and apply the migrations this file has not seen.

    Raises StoreError for a file of a newer msilo-lite and for a table of msilo's that is not version 8.
    """
    have = schema_of(connection)
    if have > len(MIGRATIONS):
        raise StoreError(
            f"the file was written by a newer msilo-lite (schema {have}, this one knows {len(MIGRATIONS)})"
        )
    here = sa.inspect(connection)
    if have == len(MIGRATIONS) and here.has_table(silo.name):
        check_table(connection, silo)
        if {index["name"] for index in here.get_indexes(silo.name)} >= {index.name for index in silo.indexes}:
            return
    with atomic(raw(connection)):
        have = schema_of(connection)  # another process may have been first
        version.create(connection, checkfirst=True)
        silo.create(connection, checkfirst=True)
        check_table(connection, silo)
        for index in silo.indexes:  # a table of Kamailio's has not all of them
            index.create(connection, checkfirst=True)
        for old in OLD_INDEXES:
            name = connection.dialect.identifier_preparer.quote(f"{our_prefix(silo)}_{old}")
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
        row = {"table_name": silo.name, "table_version": SILO_VERSION}
        connection.execute(upsert(version).on_conflict_do_nothing(), row)
        if have < ONE_INDEX and made_by_us(raw(connection), silo.name):
            connection.exec_driver_sql("DROP INDEX IF EXISTS silo_account_idx")
        for number in range(have, len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                connection.exec_driver_sql(statement)
                reach("migrating")
        reach("migrated")
        connection.exec_driver_sql(f"PRAGMA user_version = {len(MIGRATIONS)}")


def made_by_us(connection: sqlite3.Connection, name: str) -> bool:
    """Whether we made msilo's table, and not a Kamailio: its ids would come back."""
    text = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    return "AUTOINCREMENT" in str(connection.execute(text, (name,)).fetchone()[0]).upper()


def has_table(connection: sa.Connection, name: str) -> bool:
    """Whether a file has a table of that name."""
    return sa.inspect(connection).has_table(name)


def check_table(connection: sa.Connection, silo: sa.Table) -> None:
    """Whether msilo's table is what we take it for. Raises StoreError that names the setting to change."""
    if not has_table(connection, silo.name):
        raise StoreError(f"it has no table {silo.name}; db_table names msilo's table")
    found = {column["name"] for column in sa.inspect(connection).get_columns(silo.name)}
    missing = [column.name for column in silo.c if column.name not in found]
    if missing:
        raise StoreError(
            f"the table {silo.name} has no column {missing[0]}; db_table and the sc_... settings name table and columns"
        )
    asked = sa.select(version.c.table_version).where(version.c.table_name == silo.name)
    number = connection.execute(asked).scalar() if sa.inspect(connection).has_table(version.name) else SILO_VERSION
    if number not in (None, SILO_VERSION):
        raise StoreError(f"the table {silo.name} is version {number}, and msilo-lite knows version {SILO_VERSION}")
