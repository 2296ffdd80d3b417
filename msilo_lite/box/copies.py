"""A copy of the file while it is in use, a look at whether a file is sound, and the end of old history.

The copy is of one moment: it is read in one transaction, so that nothing the daemon commits meanwhile is half in it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ..errors import ConfigError, NotFound, StoreError
from .delivery import WAITING, State
from .engine import check_table, connect, open_engine, translated
from .schema import MIGRATIONS, Names, counter, ledger, silo_table

PAGES = 256
"Pages that are copied at a time: a megabyte."
PART = ".part"
"End of the name of a copy that is not finished."
FINE, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that `verify` has to say."""

    level: str
    about: str
    words: str


# -- out ---------------------------------------------------------------------------------------------------------------
def copy(source: Path, target: Path, update: Callable[[int, int], None], *, force: bool) -> None:
    """Copy a database to a new file of this user alone; it appears when it is whole and on disk.

    `update` gets the pages that are copied, and how many there are. Raises NotFound, ConfigError for a target that
    cannot be, and StoreError.
    """
    if not source.exists():
        raise NotFound(f"there is no database at {source}; --db-url names another")
    if target.exists() and (not force or target.samefile(source)):
        same = " is the database itself" if target.samefile(source) else " exists already; --force overwrites it"
        raise ConfigError(f"{target}{same}")
    part = target.with_name(target.name + PART)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        os.chmod(part, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from error
    try:
        with translated(f"cannot copy to {target}"):
            _copy(source, part, update)
            _sync(part)
            part.replace(target)
            _sync(target.parent)
    finally:
        for left in (part, part.with_name(part.name + "-journal")):
            left.unlink(missing_ok=True)


def _copy(source: Path, part: Path, update: Callable[[int, int], None]) -> None:
    with closing(connect(source)) as from_, closing(sqlite3.connect(part, isolation_level=None)) as to:
        from_.execute("BEGIN")
        from_.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it is one moment
        from_.backup(to, pages=PAGES, progress=lambda _, left, total: update(total - left, total))
        from_.execute("ROLLBACK")
        to.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# -- sound or not ------------------------------------------------------------------------------------------------------
def findings(file: Path, names: Names) -> Iterator[Found]:
    """Everything that can be said of a file without changing it. Raises NotFound and StoreError."""
    if not file.exists():
        raise NotFound(f"there is no file {file}")
    with translated(f"cannot read {file}"):
        engine = open_engine(file, readonly=True)
        try:
            with engine.connect() as connection:
                yield from _examined(connection, file, names)
        finally:
            engine.dispose()


def _examined(connection: sa.Connection, file: Path, names: Names) -> Iterator[Found]:
    hurt = _damage(connection)
    if hurt:
        mend = "stop the daemon, keep a copy, then restore a backup, or save what can be read: sqlite3 FILE .recover"
        yield Found(WRONG, "file", f"{file} is damaged ({hurt}); {mend}")
        return
    yield Found(FINE, "file", f"{file}: every page is sound")
    have = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if have != len(MIGRATIONS):
        hint = "start `serve` once, which brings it up to date" if have < len(MIGRATIONS) else "a newer one wrote it"
        yield Found(WRONG, "schema", f"it is {have}, this msilo-lite knows {len(MIGRATIONS)}: {hint}")
        return
    silo = silo_table(names)
    try:
        check_table(connection, silo)
    except StoreError as error:
        yield Found(WRONG, "schema", str(error))
        return
    yield Found(FINE, "schema", f"{have}, as this msilo-lite makes it")
    yield from _rows(connection, silo)
    yield from _counted(connection)


def _damage(connection: sa.Connection) -> str:
    try:
        said = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(3)")]
    except sa.exc.DatabaseError as error:
        return str(error.orig)
    return "" if said == ["ok"] else "; ".join(said).splitlines()[-1]


def _rows(connection: sa.Connection, silo: sa.Table) -> Iterator[Found]:
    """Whether box and ledger agree."""

    def number(*where: sa.ColumnElement[bool]) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(ledger).where(*where)).scalar_one())

    waits = ledger.c.state.in_(WAITING)
    here = sa.select(silo.c.id).where(silo.c.id == ledger.c.silo_id)
    gone = number(waits, ledger.c.silo_id.is_not(None), ~here.exists())
    lost = number(waits, ledger.c.silo_id.is_(None))
    open_ = number(waits, ledger.c.settled.is_not(None)) + number(~waits, ledger.c.settled.is_(None))
    odd = number(ledger.c.state.not_in([int(state) for state in State]))
    boxed = int(connection.execute(sa.select(sa.func.count()).select_from(silo)).scalar_one())
    problems = (
        (WARNING, gone, "left the box by another hand: does a Kamailio deliver as well? `serve` closes them"),
        (WRONG, lost, "wait by the ledger and belong to no message; report this, nothing else is affected"),
        (WRONG, open_, "have a state that does not agree with their end; report this, nothing else is affected"),
        (WRONG, odd, "have a state that this msilo-lite does not know; use the one that wrote them"),
    )
    for level, found, words in problems:
        if found:
            yield Found(level, "messages", f"{found} {words}")
    if not any(found for _, found, _ in problems):
        yield Found(FINE, "messages", f"{boxed} wait, and the ledger agrees")


def _counted(connection: sa.Connection) -> Iterator[Found]:
    """Whether what is counted covers what is there: history is forgotten after a while, a counter never."""
    counted = {str(row[0]): int(row[1]) for row in connection.execute(sa.select(counter))}
    ends = {
        State.DELIVERED: counted.get("dumped_messages", 0) + counted.get("dumped_reminders", 0),
        State.EXPIRED: counted.get("expired_messages", 0),
    }
    query = sa.select(ledger.c.state, sa.func.count()).where(ledger.c.state.in_(ends)).group_by(ledger.c.state)
    rows = {State(row[0]): int(row[1]) for row in connection.execute(query)}
    short = [state for state, most in ends.items() if rows.get(state, 0) > most]
    for state in short:
        words = f"{rows[state]} are {state.name.lower()} by the ledger, {ends[state]} by the counters"
        yield Found(WARNING, "counters", f"{words}; statistics are too low, no message is affected")
    if not short:
        yield Found(FINE, "counters", "they cover what the ledger has")


# -- old history -------------------------------------------------------------------------------------------------------
def old_history(connection: sa.Connection, before: int | None, keep: int) -> tuple[int, int]:
    """The UTC second before which history is to go, and how many messages that is.

    `before`: the oldest that may stay; `keep`: the newest so many stay, 0: any number.
    """
    ended = sa.select(ledger.c.settled).where(ledger.c.settled.is_not(None))
    until = before or 0
    if keep:
        nth = connection.execute(ended.order_by(ledger.c.settled.desc()).limit(1).offset(keep - 1)).scalar()
        until = max(until, int(nth or 0))
    counted = sa.select(sa.func.count()).select_from(ledger).where(ledger.c.settled < until)
    return until, int(connection.execute(counted).scalar_one())
