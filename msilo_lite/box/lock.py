"""Who serves a database file: a lock on a file beside it, held as long as the process lives."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InUse, MsiloError, StoreError
from .recorder import Recorder

SQLITE = b"SQLite format 3\0"
"How every SQLite database begins."
LOCK_TRIES, LOCK_PAUSE = 10, 0.05
"A command that looks whether a daemon is up holds the lock for a moment; seconds."


@contextmanager
def sole_user(file: Path) -> Iterator[Recorder]:
    """Hold the lock beside the database file; yields the record of this run, which also tells of the last one.

    Raises InUse when another process delivers from it and StoreError when there is no place for it.
    """
    path = _beside(file)
    if _is_foreign(file):
        raise StoreError(f"cannot open {file}: it is no SQLite database; --db-url names another file")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {file}: {error.strerror}") from error
    try:
        if not _locked(number):
            holder = os.read(number, 20).partition(b"\n")[0].decode(errors="replace").strip("\0") or "unknown"
            raise InUse(f"another msilo-lite (process {holder}) already serves {file}")
        with _recorded(number, path) as recorder:
            yield recorder
    finally:
        os.close(number)


@contextmanager
def _recorded(number: int, path: Path) -> Iterator[Recorder]:
    """The record of a run; an error that nobody expected is the last thing it tells."""
    try:
        recorder = Recorder(number)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    orderly = True
    try:
        yield recorder
    except Exception as error:
        orderly = isinstance(error, MsiloError)
        if not orderly:
            recorder.fault(error)
        raise
    finally:
        recorder.close(orderly=orderly)


def _is_foreign(file: Path) -> bool:
    """Whether the file is somebody else's: then not even a lock belongs beside it."""
    try:
        with file.open("rb") as opened:
            start = opened.read(len(SQLITE))
    except OSError:
        return False  # not there yet, or nothing that can be read: opening it will tell
    return bool(start) and start != SQLITE


def _beside(file: Path) -> Path:
    """The lock file; the same one by whatever link the database is named."""
    real = file.resolve()
    return real.with_name(real.name + ".lock")


def _locked(number: int) -> bool:
    """Take the lock; a short probe by a command is waited for."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE)
        else:
            return True
    return False


def is_served(file: Path) -> bool:
    """Whether a daemon holds the lock of this file; looks without leaving a trace."""
    try:
        number = os.open(_beside(file), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False
