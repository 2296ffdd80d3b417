"""The door to SQLite: opening a file, its transactions, its errors, and the migrations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from .errors import StoreError
from .schema import MIGRATIONS, SILO_VERSION, metadata, silo, version

BUSY_SECONDS = 1.0
"How long a statement waits for another process's lock."
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=OFF", "temp_store=MEMORY")


def open_engine(file: Path, *, create: bool) -> sa.Engine:
    """An engine on the file, which is created 0600 in a directory made 0700 where `create` allows it."""
    if create:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    url = sa.URL.create("sqlite", database=f"file:{quote(str(file.absolute()))}", query={"mode": "rw", "uri": "true"})
    options = {"timeout": BUSY_SECONDS, "isolation_level": None}
    engine = sa.create_engine(url, connect_args=options, hide_parameters=True)  # they would be messages in a log

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        # what came as bytes that are no UTF-8, and others stored as text, must not make a whole box unreadable
        connection.text_factory = lambda value: value.decode("utf-8", "surrogateescape")

    return engine


@contextmanager
def translated(what: str) -> Iterator[None]:
    """SQLAlchemy's and the file system's errors as StoreError, cause kept."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{what}: {error.orig}") from error
    except OSError as error:
        raise StoreError(f"{what}: {error}") from error
    except (SQLAlchemyError, ValueError, OverflowError) as error:  # ValueError: text that is no UTF-8
        raise StoreError(f"{what}: {error}", lasting=True) from error


@contextmanager
def atomic(connection: sa.Connection) -> Iterator[None]:
    """One transaction, whole or not at all. A full disk makes SQLite roll back by itself."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]  # SQLAlchemy's is untyped
            connection.exec_driver_sql("ROLLBACK")
        raise


def migrate(connection: sa.Connection) -> None:
    """Create what is missing and apply the migrations this file has not seen; raises StoreError for a newer file."""
    have = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if have > len(MIGRATIONS):
        raise StoreError(
            f"the file was written by a newer msilo-lite (schema {have}, this one knows {len(MIGRATIONS)})"
        )
    if have == len(MIGRATIONS):
        return
    with atomic(connection):
        have = connection.exec_driver_sql("PRAGMA user_version").scalar_one()  # another process may have been first
        metadata.create_all(connection)
        for index in silo.indexes:  # a table of Kamailio's has not all of them
            index.create(connection, checkfirst=True)
        row = {"table_name": silo.name, "table_version": SILO_VERSION}
        connection.execute(upsert(version).on_conflict_do_nothing(), row)
        for number in range(have, len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {len(MIGRATIONS)}")
