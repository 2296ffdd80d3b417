"""What the database stands on: whether its file is sound, and whether it is still the one at its path.

A file that is deleted or replaced under an open database goes on to take commits, and nobody will ever see them. So the
three files of SQLite are compared with what stands at their paths around every commit. Where nothing in their folder
was made, moved or deleted since the last look, the folder says so.
"""

from __future__ import annotations

import enum
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import StoreError
from .engine import connect, translated

SUFFIXES = ("", "-wal", "-shm")
CHECKED = 256 << 20
"Bytes up to which a file is read through at a start: a tenth of a second for each 100 MB."
SETTLED, SETTLED_COARSE = 0.1, 3.0
"Seconds that a folder must have been left alone for its time to mean something; where a disk counts whole seconds."
_MENDING = (
    "it was left as it is; keep a copy, then `sqlite3 FILE .recover | sqlite3 NEW`, or move it away for an empty box"
)


class Ground(enum.Enum):
    """What became of the files."""

    FIRM = "they are where they were"
    GONE = "it was deleted or moved away while the silo ran"
    OTHER = "another file was put in its place while the silo ran"


class Footing:
    """The files of a database that this process has open, by device and inode."""

    def __init__(self, file: Path) -> None:
        """To be made when the log exists, that is after something was read."""
        self._paths = [str(file.with_name(file.name + suffix)) for suffix in SUFFIXES]
        self._known = [_identity(path) for path in self._paths]
        self._folder = None if file.is_symlink() else str(file.parent)
        self._seen: tuple[int, int, int] | None = None
        "The folder at a look that found them where they were."

    def look(self) -> Ground:
        """What became of them."""
        folder = _state(self._folder) if self._folder else None
        if folder and folder == self._seen:
            return Ground.FIRM
        self._seen = None
        for path, known in zip(self._paths, self._known, strict=True):
            if known and _identity(path) != known:
                return Ground.OTHER if _identity(self._paths[0]) not in (None, self._known[0]) else Ground.GONE
        if folder and abs(time.time() - folder[2] / 1e9) > (SETTLED if folder[2] % 10**9 else SETTLED_COARSE):
            self._seen = folder
        return Ground.FIRM

    def let_go(self) -> None:
        """Take our log away from another file that was put in our place: SQLite would read it into that one."""
        for path, known in list(zip(self._paths, self._known, strict=True))[1:]:
            if known and _identity(path) == known:
                Path(path).unlink(missing_ok=True)

    def check(self) -> None:
        """Raises StoreError unless they are where they were."""
        found = self.look()
        if found is not Ground.FIRM:
            raise StoreError(f"cannot write {self._paths[0]}: {found.value}")


def _identity(path: str) -> tuple[int, int] | None:
    found = _found(path)
    return (found.st_dev, found.st_ino) if found else None


def _state(folder: str) -> tuple[int, int, int] | None:
    """Which folder it is, and when an entry of it changed last, in nanoseconds."""
    found = _found(folder)
    return (found.st_dev, found.st_ino, found.st_mtime_ns) if found else None


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def copied(connection: sqlite3.Connection, file: Path) -> Path:
    """Copy what an open database holds to a new file beside its path; returns that. Raises StoreError."""
    copy = file.with_name(f"{file.name}.rescued-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    with translated(f"cannot write {copy}"):
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(copy)) as made:
            connection.backup(made)
    return copy


@contextmanager
def opening(file: Path) -> Iterator[None]:
    """Errors as StoreError; SQLite calls a full disk an I/O error where it has to make its shared memory."""
    try:
        with translated(f"cannot open {file}"):
            yield
    except StoreError as error:
        if file.parent.exists() and not shutil.disk_usage(file.parent).free:
            raise StoreError(f"{error}; its disk is full") from error
        raise


def refuse_damaged(file: Path) -> None:
    """Raises StoreError for a database that SQLite finds wrong; nothing of it is changed."""
    if not file.is_file() or not 0 < file.stat().st_size <= CHECKED:
        return
    try:
        with closing(connect(file, readonly=True)) as opened:
            found = str(opened.execute("PRAGMA quick_check(1)").fetchone()[0])
    except (sqlite3.OperationalError, OSError):
        return  # locked, or not ours to read: opening it in earnest will tell
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise StoreError(f"{file} is damaged ({found.splitlines()[-1]}); {_MENDING}")
