"""Whether the files are where they were: what the folder says is believed only where it can know."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from msilo_lite.box.ground import Footing, Ground, refuse_damaged

LONG_AGO = 1_000_000_000


def silo(folder: Path) -> Path:
    """Three files as SQLite has them, in a folder that was left alone for years."""
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        (folder / f"box{suffix}").write_text(f"silo{suffix}")
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return folder / "box"


def delete(file: Path) -> None:
    file.unlink()


def delete_the_log(file: Path) -> None:
    file.with_name("box-wal").unlink()


def replace(file: Path) -> None:
    other = file.parent.parent / "other"
    other.write_text("other")
    other.replace(file)


def move(file: Path) -> None:
    file.rename(file.with_name("away"))


def move_the_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("away"))


def swap_the_folder(file: Path) -> None:
    move_the_folder(file)
    silo(file.parent)


CHANGES = [
    (delete, Ground.GONE),
    (delete_the_log, Ground.GONE),
    (replace, Ground.OTHER),
    (move, Ground.GONE),
    (move_the_folder, Ground.GONE),
    (swap_the_folder, Ground.OTHER),
]


@pytest.mark.parametrize(("change", "found"), CHANGES)
def test_a_change_is_seen_after_any_number_of_looks(
    tmp_path: Path, change: Callable[[Path], None], found: Ground
) -> None:
    file = silo(tmp_path / "folder")
    footing = Footing(file)
    for _ in range(3):
        assert footing.look() is Ground.FIRM
    change(file)
    for _ in range(3):
        assert footing.look() is found


def test_a_quiet_folder_answers_for_its_files(tmp_path: Path) -> None:
    """Else every look would cost three times as much: a folder that is set back to its time hides a change."""
    file = silo(tmp_path / "folder")
    footing = Footing(file)
    assert footing.look() is Ground.FIRM
    file.unlink()
    os.utime(file.parent, (LONG_AGO, LONG_AGO))
    assert footing.look() is Ground.FIRM


def test_a_folder_that_was_changed_a_moment_ago_answers_for_nothing(tmp_path: Path) -> None:
    """The next change may have the same time: clocks of disks have steps."""
    file = silo(tmp_path / "folder")
    footing = Footing(file)
    (file.parent / "more").touch()
    assert footing.look() is Ground.FIRM
    changed = file.parent.stat().st_mtime_ns
    file.unlink()
    os.utime(file.parent, ns=(changed, changed))
    assert footing.look() is Ground.GONE


def test_a_link_is_no_folder(tmp_path: Path) -> None:
    real = silo(tmp_path / "folder")
    link = tmp_path / "links" / "box"
    link.parent.mkdir()
    link.symlink_to(real)
    os.utime(link.parent, (LONG_AGO, LONG_AGO))
    footing = Footing(link)
    assert footing.look() is Ground.FIRM
    real.unlink()
    assert footing.look() is Ground.GONE


def test_moved_back_it_is_firm_again(tmp_path: Path) -> None:
    file = silo(tmp_path / "folder")
    footing = Footing(file)
    away = file.with_name("away")
    file.rename(away)
    assert footing.look() is Ground.GONE
    away.rename(file)
    assert footing.look() is Ground.FIRM


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    refuse_damaged(tmp_path / "nowhere")
    refuse_damaged(tmp_path)
