"""The log is copied by a thread, and starts over."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.checkpoint import Checkpoints
from msilo_lite.box.engine import connect
from tests.waiting import until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "box.sqlite"


@pytest.fixture
def writer(file: Path) -> Iterator[sqlite3.Connection]:
    """Copies nothing by itself."""
    with closing(connect(file, create=True)) as made:
        made.execute("PRAGMA wal_autocheckpoint=0")
        made.execute("CREATE TABLE t (x)")
        yield made


def log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def fill(writer: sqlite3.Connection, checkpoints: Checkpoints, commits: int) -> None:
    for _ in range(commits):
        writer.execute("INSERT INTO t VALUES (zeroblob(9000))")
        checkpoints.committed()


def test_the_log_stays_small_however_much_is_written(file: Path, writer: sqlite3.Connection) -> None:
    with closing(Checkpoints(file, writer, pages=70)) as checkpoints:
        for _ in range(40):
            before = file.stat().st_size

            def copied(before: int = before) -> bool:
                fill(writer, checkpoints, 10)
                return file.stat().st_size > before

            until(copied, 10, "the log is copied")
        rows = writer.execute("SELECT count(*) FROM t").fetchone()[0]
    written = rows * 9000
    assert file.stat().st_size > written * 0.9
    assert log_of(file).stat().st_size < written / 2
    with closing(connect(file)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert other.execute("SELECT count(*), sum(length(x)) FROM t").fetchone() == (rows, written)


def test_below_its_measure_nothing_is_copied_and_no_thread_begins(file: Path, writer: sqlite3.Connection) -> None:
    with closing(Checkpoints(file, writer, pages=1000)) as checkpoints:
        before = file.stat().st_size
        fill(writer, checkpoints, 20)
        assert file.stat().st_size == before
        assert checkpoints._thread is None


def test_a_reader_holds_the_log_back_and_nothing_is_lost(file: Path, writer: sqlite3.Connection) -> None:
    """As a `list` of a large box does: the log grows meanwhile, and is copied when it is over."""
    with closing(Checkpoints(file, writer, pages=70)) as checkpoints, closing(connect(file)) as reader:
        fill(writer, checkpoints, 5)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (5,)
        fill(writer, checkpoints, 100)
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (5,)
        reader.execute("COMMIT")
        before = file.stat().st_size

        def copied() -> bool:
            fill(writer, checkpoints, 10)
            return file.stat().st_size > before + 100 * 9000

        until(copied, 10, "the log is copied")
        rows = writer.execute("SELECT count(*) FROM t").fetchone()[0]
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (rows,)


def test_a_file_that_cannot_be_opened_again_stops_no_writer(file: Path, writer: sqlite3.Connection) -> None:
    away = file.with_name("elsewhere")
    with closing(Checkpoints(file, writer, pages=70)) as checkpoints:
        file.rename(away)
        fill(writer, checkpoints, 30)
        away.rename(file)
        assert writer.execute("SELECT count(*) FROM t").fetchone() == (30,)
