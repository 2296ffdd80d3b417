"""`backup`, `verify` and `prune`: beside a daemon that works, on files that are hurt, and typed wrongly."""

import json
import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.copies import copy
from msilo_lite.box.delivery import State
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Settled, Turn
from msilo_lite.box.store import Store
from msilo_lite.errors import StoreError
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query, waiting
from .samples import NOW, message, stored


def findings(tmp_path: Path, file: Path) -> dict[str, str]:
    """What `verify` says of each thing, and how bad that is."""
    ran = harness.run(tmp_path, "verify", str(file), "--json", *on(tmp_path / "elsewhere.sqlite"))
    found = {one["about"]: one["level"] for one in json.loads(ran.out)}
    assert ran.code == ("wrong" in found.values())
    return found


SOUND = {"file": "ok", "schema": "ok", "messages": "ok", "counters": "ok"}


# -- backup ------------------------------------------------------------------------------------------------------------
def test_a_backup_is_whole_private_and_can_be_served(tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("alice", silo.address) as alice:
        for n in range(5):
            alice.write("bob", f"number {n}")
        ran = harness.run(tmp_path, "backup", str(target), *on(silo.file))
        assert ran == Ran(0, f"Copied to {target}: 5 messages waiting; verified.\n", "")
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert [one.name for one in tmp_path.glob("copy*")] == ["copy.sqlite"]  # no log and no half file beside it
        assert findings(tmp_path, target) == SOUND
        alice.write("bob", "after the backup")
        silo.kill()
    for part in tmp_path.glob("silo.sqlite*"):
        part.unlink()
    target.rename(tmp_path / "silo.sqlite")
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert [one.body for one in bob.take(5)] == [f"number {n}".encode() for n in range(5)]


def test_a_backup_overwrites_nothing_unasked(box: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    target.write_text("mine")
    ran = harness.run(tmp_path, "backup", str(target), *on(box))
    assert (ran.code, ran.out, target.read_text()) == (2, "", "mine")
    assert "exists already; --force overwrites it" in ran.sentence
    assert harness.run(tmp_path, "backup", str(target), "--force", *on(box)).code == 0
    assert waiting(target) == [2, 3, 4]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    itself = harness.run(tmp_path, "backup", str(box), "--force", *on(box))
    assert (itself.code, "is the database itself" in itself.sentence) == (2, True)
    assert waiting(box) == [2, 3, 4]
    nowhere = harness.run(tmp_path, "backup", str(tmp_path / "no" / "x.sqlite"), *on(box))
    assert (nowhere.code, "cannot write" in nowhere.sentence) == (2, True)
    missing = harness.run(tmp_path, "backup", str(tmp_path / "y"), *on(tmp_path / "none.sqlite"))
    assert missing.code == 3


def test_a_backup_is_of_one_moment_while_others_write(tmp_path: Path) -> None:
    """Every message is in box and ledger or in neither, and it ends although somebody commits all the time."""
    file, target, over = tmp_path / "silo.sqlite", tmp_path / "copy.sqlite", threading.Event()
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(f"{n} {'x' * 1000}") for n in range(3000)]), NOW)

    def write() -> None:
        with closing(Store(file)) as other:
            number = 0
            while not over.is_set():
                number += 1
                other.write(Turn(new=[message(f"later {number}")]), NOW)

    writer = threading.Thread(target=write)
    steps: list[tuple[int, int]] = []
    writer.start()
    try:
        until(lambda: query(file, "SELECT count(*) FROM silo")[0][0] > 3005, 10, "the writer at work")
        copy(file, target, lambda done, whole: steps.append((done, whole)), force=False)
        until(lambda: query(file, "SELECT count(*) FROM silo")[0][0] > query(target, "SELECT count(*) FROM silo")[0][0],
              10, "the writer went on")  # fmt: skip
    finally:
        over.set()
        writer.join()
    assert len(steps) > 3
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)  # never from the beginning again
    assert len({whole for _, whole in steps}) == 1
    assert findings(tmp_path, target) == SOUND
    rows = "SELECT (SELECT count(*) FROM silo), (SELECT count(*) FROM msilo_ledger WHERE silo_id IS NOT NULL)"
    ((boxed, known),) = query(target, rows)
    assert boxed == known > 3000


def test_a_disk_that_is_full_leaves_no_half_backup(box: Path, tmp_path: Path) -> None:
    with closing(Store(box)) as store:
        store.write(Turn(new=[message(f"{n} {'x' * 2000}") for n in range(500)]), NOW)
    target = tmp_path / "copy.sqlite"
    with harness.largest_file(200_000), pytest.raises(StoreError, match="cannot copy"):
        copy(box, target, lambda *_: None, force=False)
    assert list(tmp_path.glob("copy*")) == []


# -- verify ------------------------------------------------------------------------------------------------------------
def test_a_sound_file(box: Path, tmp_path: Path) -> None:
    harness.change(box, "INSERT INTO msilo_counter VALUES ('dumped_messages', 1)")
    before = box.read_bytes()
    assert findings(tmp_path, box) == SOUND
    assert box.read_bytes() == before
    plain = harness.run(tmp_path, "verify", *on(box))
    assert (plain.code, plain.out.splitlines()[0]) == (0, f"ok\tfile\t{box}: every page is sound")


@pytest.mark.parametrize(
    ("change", "about", "level", "words"),
    [
        ("DELETE FROM silo WHERE id = 2", "messages", "warning", "does a Kamailio deliver as well?"),
        ("UPDATE msilo_ledger SET silo_id = NULL WHERE silo_id = 3", "messages", "wrong", "belong to no message"),
        ("UPDATE msilo_ledger SET settled = 5 WHERE silo_id = 3", "messages", "wrong", "does not agree with their end"),
        ("UPDATE msilo_ledger SET state = 77 WHERE silo_id = 3", "messages", "wrong", "does not know"),
        ("UPDATE msilo_counter SET value = 0", "counters", "warning", "statistics are too low"),
        ("DROP TABLE silo", "schema", "wrong", "has no table silo"),
        ("PRAGMA user_version = 1", "schema", "wrong", "start `serve` once"),
        ("PRAGMA user_version = 99", "schema", "wrong", "a newer one wrote it"),
    ],
)
def test_what_is_wrong_is_named(box: Path, tmp_path: Path, change: str, about: str, level: str, words: str) -> None:
    with closing(sqlite3.connect(box, isolation_level=None)) as connection:
        connection.execute("UPDATE msilo_ledger SET state = 3 WHERE settled IS NOT NULL")
        connection.execute("INSERT OR REPLACE INTO msilo_counter VALUES ('dumped_messages', 1)")
        connection.execute(change)
    assert findings(tmp_path, box)[about] == level
    assert words.replace("does not agree", "that does not agree") in harness.run(tmp_path, "verify", *on(box)).out


def test_a_damaged_file_says_what_to_do(box: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(box)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = bytearray(box.read_bytes())
    raw[5000:40000] = os.urandom(35000)
    box.write_bytes(raw)
    ran = harness.run(tmp_path, "verify", *on(box))
    assert ran.code == 1
    assert "is damaged" in ran.out
    assert "restore a backup" in ran.out
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("content", [b"only text " * 1000, b""])
def test_a_file_that_is_no_database_is_not_sound(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "text.sqlite"
    file.write_bytes(content)
    ran = harness.run(tmp_path, "verify", str(file))
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert file.read_bytes() == content


def test_verify_of_nothing(tmp_path: Path) -> None:
    assert harness.run(tmp_path, "verify", str(tmp_path / "none")).code == 3


# -- prune and retention -----------------------------------------------------------------------------------------------
def old_box(file: Path) -> None:
    """Ten that left the box, one an hour, the last one long ago enough; and one that waits."""
    with closing(Store(file)) as store:
        items = stored(store, *(str(n) for n in range(11)))
        past = 1_700_000_000
        ends = [Settled(item, State.DELIVERED, past + 3600 * n, 200, "200 OK", 1) for n, item in enumerate(items[:10])]
        store.write(Turn(settled=ends, counters={"dumped_messages": 10}), past)


@pytest.mark.parametrize(
    ("words", "left"), [(("--keep", "4"), 4), (("--older-than", "1d"), 0), (("--keep", "100"), 10)]
)
def test_prune_forgets_the_oldest_and_nothing_that_waits(tmp_path: Path, words: tuple[str, ...], left: int) -> None:
    file = tmp_path / "silo.sqlite"
    old_box(file)
    gone = 10 - left
    told = f"{gone} message{'' if gone == 1 else 's'} of the history.\n"
    assert harness.run(tmp_path, "prune", *words, "--dry-run", *on(file)).out == f"Would forget {told}"
    assert query(file, "SELECT count(*) FROM msilo_ledger") == [(11,)]
    assert harness.run(tmp_path, "prune", *words, *on(file)).out == f"Forgot {told}"
    assert query(file, "SELECT count(*) FROM msilo_ledger WHERE settled IS NOT NULL") == [(left,)]
    assert [row[0] for row in query(file, "SELECT settled FROM msilo_ledger WHERE settled ORDER BY 1")] == [
        1_700_000_000 + 3600 * n for n in range(10 - left, 10)
    ]
    assert len(waiting(file)) == 1
    assert findings(tmp_path, file) == SOUND


def test_what_was_just_delivered_stays_so_that_a_repeat_is_known(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        raw = bob.message("bob", "once")
        assert bob.ask(raw).code == 202
        harness.run(tmp_path, "retry", "--all", *on(silo.file))
        bob.register()
        bob.take(1)
        until(lambda: waiting(silo.file) == [], 5, "delivered")
        assert harness.run(tmp_path, "prune", "--older-than", "1s", *on(silo.file)).out.startswith("Forgot 0 ")
        assert bob.ask(raw).code == 202
        assert waiting(silo.file) == []


def test_prune_wants_to_know_what(box: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "prune", *on(box))
    assert (ran.code, "--older-than AGE, or --keep NUMBER" in ran.sentence) == (2, True)


def test_the_daemon_keeps_as_much_history_as_it_is_told(tmp_path: Path) -> None:
    old_box(tmp_path / "silo.sqlite")
    settings = ("history_rows=3", "check_time=1", "clean_period=1", "history_time=2000000000")
    with Serve(tmp_path, *(word for one in settings for word in ("--set", one))) as silo:
        count = "SELECT count(*) FROM msilo_ledger WHERE settled IS NOT NULL"
        until(lambda: query(silo.file, count) == [(3,)], 10, "the rest forgotten")
        assert query(silo.file, "SELECT min(settled) FROM msilo_ledger") == [(1_700_000_000 + 3600 * 7,)]
    with closing(Inbox(silo.file)) as inbox:
        assert inbox.count() == 1
