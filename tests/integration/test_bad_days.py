"""Bad days, each with a real process: disks full, read-only or damaged, files that go, locks, clocks, limits."""

import contextlib
import itertools
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from msilo_lite.box.message import Turn
from msilo_lite.box.store import Store
from tests.figures import Figures
from tests.waiting import until

from . import harness
from .harness import Peer, Serve, Sip, on
from .samples import NOW, message
from .traffic import Town

FAST = ("--settle", "0.1")
LOCKED = float(os.environ.get("BAD_DAY_SECONDS", "5"))
"How long the database is locked; `make crash` makes it 30."
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk, or make a file immutable")


def bodies(file: Path) -> list[bytes]:
    return [row[0] for row in harness.query(file, "SELECT body FROM silo ORDER BY id")]


def is_sound(file: Path) -> bool:
    return harness.query(file, "PRAGMA integrity_check") == [("ok",)]


def accepted_again(alice: Peer, raw: bytes, seconds: float = 15) -> None:
    """A sender that got 503, or nothing, comes again until it is 202."""
    mine = Sip.parse(raw).call_id

    def accepted() -> bool:
        alice.send(raw)
        seen = alice.glance(0.5)
        return seen is not None and (seen.code, seen.call_id) == (202, mine)

    until(accepted, seconds, "a 202")


# -- SIGTERM with a silent phone: 33 seconds that pass while the other tests run ---------------------------------------
@dataclass(frozen=True, slots=True)
class Stopping:
    silo: Serve
    began: float


@pytest.fixture(scope="module", autouse=True)
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopping]:
    """A silo that was told to stop while two phones have a message and say nothing."""
    folder = tmp_path_factory.mktemp("stopping")
    with (
        Serve(folder, *FAST) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
        Peer("carol", silo.address) as carol,
    ):
        for peer in (bob, carol):
            alice.write(peer.user, "one")
            alice.write(peer.user, "two")
            peer.register()
            peer.receive()
        silo.signal(signal.SIGTERM)
        yield Stopping(silo, time.monotonic())


# -- the disk ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path) -> Path:
    """Take what is left of a disk."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return filler


@root_only
def test_a_full_disk(disk: Path, figures: Figures) -> None:
    """503 while it is full, nothing half-written, and no restart when there is room again."""
    with (
        Serve(disk.parent, *FAST, disk=disk) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        alice.write("bob", "before")
        filler = fill(disk)
        raws = [alice.message("bob", f"{n} " + "x" * 3000) for n in range(30)]
        codes = [alice.ask(raw).code for raw in raws]
        assert codes[-1] == 503
        assert set(codes) <= {202, 503}  # what fits into the log that is there, and then no more
        assert alice.ask(alice.request("OPTIONS", "home")).code == 200
        assert sorted(bodies(silo.file))[-1] == b"before"
        assert len(bodies(silo.file)) == 1 + codes.count(202)
        assert "full" in silo.log
        filler.unlink()
        for raw in raws:
            accepted_again(alice, raw)
        bob.register()
        got = bob.take(31, 20)
        assert [one.body for one in got[:1]] == [b"before"]
        assert len({one.body for one in got}) == 31
        silo.stop()
        assert is_sound(silo.file)
    figures.add("bad days", survived=1, refused_503=codes.count(503), lost=0)


def test_a_full_disk_by_a_limit_of_the_process(tmp_path: Path, figures: Figures) -> None:
    """The same where nobody may mount: no file may grow any more."""
    with Serve(tmp_path, *FAST) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        largest = max(one.stat().st_size for one in tmp_path.glob("silo.sqlite*"))
        _, hard = resource.prlimit(silo.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(silo.pid, resource.RLIMIT_FSIZE, (largest, hard))
        raws = [alice.message("bob", f"{n} " + "x" * 3000) for n in range(30)]
        codes = [alice.ask(raw).code for raw in raws]
        assert codes[-1] == 503
        assert set(codes) <= {202, 503}
        assert len(bodies(silo.file)) == 1 + codes.count(202)
        resource.prlimit(silo.pid, resource.RLIMIT_FSIZE, (hard, hard))
        for raw in raws:
            accepted_again(alice, raw)
        silo.stop()
    assert len(bodies(silo.file)) == 31
    assert is_sound(silo.file)
    figures.add("bad days", survived=1, refused_503=codes.count(503), lost=0)


@root_only
def test_a_start_on_a_disk_that_is_full_or_read_only(disk: Path) -> None:
    """One sentence, exit code 1, and the same file serves when that is over."""
    with Serve(disk.parent, *FAST, disk=disk) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "kept")
        silo.stop()
    before = silo.file.read_bytes()
    serve = ("serve", "--bind", "udp:127.0.0.1:0", *on(silo.file))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    ran = harness.run(disk.parent, *serve)
    assert (ran.code, len(ran.sentence.splitlines())) == (1, 1), ran
    assert "Read-only file system" in ran.sentence or "readonly database" in ran.sentence
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    filler = fill(disk)
    ran = harness.run(disk.parent, *serve)
    assert (ran.code, len(ran.sentence.splitlines())) == (1, 1), ran
    assert "full" in ran.sentence or "No space left" in ran.sentence
    assert silo.file.read_bytes() == before
    filler.unlink()
    with Serve(disk.parent, *FAST, disk=disk) as again, Peer("bob", again.address) as bob:
        bob.register()
        assert [one.body for one in bob.take(1)] == [b"kept"]


@contextlib.contextmanager
def immutable(*files: Path) -> Iterator[None]:
    """Files that cannot be written any more, also not by who has them open: as on a disk that turned read-only."""
    try:
        if subprocess.run(["chattr", "+i", *files], capture_output=True, check=False).returncode:
            pytest.skip("this file system knows no immutable files")
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=False)


@root_only
def test_a_database_that_becomes_read_only(tmp_path: Path, figures: Figures) -> None:
    with Serve(tmp_path, *FAST) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        raw = alice.message("bob", "during")
        with immutable(silo.file, tmp_path / "silo.sqlite-wal"):
            assert alice.ask(raw).code == 503
            assert alice.ask(alice.request("OPTIONS", "home")).code == 200
        accepted_again(alice, raw)
        silo.stop()
    assert bodies(silo.file) == [b"before", b"during"]
    figures.add("bad days", survived=1, refused_503=1, lost=0)


@root_only
def test_a_disk_that_becomes_read_only(tmp_path: Path, figures: Figures) -> None:
    """SQLite's shared memory is a file too: writing there is a bus error. The silo dies, and is back when it can be."""
    with Serve(tmp_path, *FAST, supervised=True) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        raw = alice.message("bob", "during")
        with immutable(*tmp_path.glob("silo.sqlite*")):
            alice.send(raw)
            until(lambda: "ended with exit code 1" in silo.log, 20, "a start that failed")
            assert "died of SIGBUS" in silo.log
        accepted_again(alice, raw, 40)
        silo.stop()
    assert bodies(silo.file) == [b"before", b"during"]
    figures.add("bad days", survived=1, lost=0)


# -- the file ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["silo.sqlite*", "silo.sqlite"])
def test_a_file_that_is_deleted(tmp_path: Path, what: str, figures: Figures) -> None:
    """No 202 goes for what nobody would ever see; what was in it is copied; moved back, it is served again."""
    with Serve(tmp_path, *FAST, supervised=True) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        for part in tmp_path.glob(what):
            part.unlink()
        raw = alice.message("bob", "during")
        assert alice.ask(raw).code == 503
        assert alice.ask(alice.request("OPTIONS", "home")).code == 200
        until(lambda: silo.events("file.lost"), 5, "the alarm")
        assert "deleted or moved away while the silo ran" in silo.events("file.lost")[0]["error"]
        (copy,) = tmp_path.glob("silo.sqlite.rescued-*")
        assert bodies(copy) == [b"before"]
        assert copy.stat().st_mode & 0o777 == 0o600
        assert alice.ask(raw).code == 503  # still
        assert len(list(tmp_path.glob("silo.sqlite.rescued-*"))) == 1
        copy.rename(silo.file)
        accepted_again(alice, raw, 30)  # by a silo that was started again
        assert "another file was put in its place" in silo.log
        assert bodies(silo.file) == [b"before", b"during"]
        silo.stop()
    figures.add("bad days", survived=1, lost=0)


def test_a_file_that_is_moved_away_and_back(tmp_path: Path, figures: Figures) -> None:
    with Serve(tmp_path, *FAST) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        away = tmp_path / "away"
        silo.file.rename(away)
        raw = alice.message("bob", "during")
        assert alice.ask(raw).code == 503
        until(lambda: silo.events("file.lost"), 5, "the alarm")
        away.rename(silo.file)
        accepted_again(alice, raw)
        until(lambda: silo.events("file.back"), 5, "the end of the alarm")
        assert bodies(silo.file) == [b"before", b"during"]
        silo.stop()
    figures.add("bad days", survived=1, lost=0)


def test_a_file_that_is_replaced(tmp_path: Path, figures: Figures) -> None:
    """The one that is there is served from the next start on, a moment later; the old one is kept beside it."""
    (tmp_path / "other").mkdir()
    with closing(Store(tmp_path / "other" / "silo.sqlite")) as store:
        store.write(Turn(new=[message("of another box")]), NOW)
    with Serve(tmp_path, *FAST, supervised=True) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        (tmp_path / "other" / "silo.sqlite").rename(silo.file)
        until(lambda: silo.out.count("\nready ") == 2, 20, "a new start")
        alice.write("bob", "after")
        silo.stop()
    (copy,) = tmp_path.glob("silo.sqlite.rescued-*")
    assert bodies(copy) == [b"before"]
    assert bodies(silo.file) == [b"of another box", b"after"]  # and nothing of the old log got into it
    assert is_sound(silo.file)
    checked = harness.run(tmp_path, "check", *on(silo.file))
    assert f"warning\tdatabase\t{copy} holds what was in a file that was taken away" in checked.out
    saved = tmp_path / "saved.jsonl"
    assert harness.run(tmp_path, "export", "-o", str(saved), *on(copy)).code == 0
    assert "Imported 1 message" in harness.run(tmp_path, "import", str(saved), *on(silo.file)).out
    assert bodies(silo.file)[-1] == b"before"
    figures.add("bad days", survived=1, lost=0)


def spoil(file: Path, where: str) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        if where == "cut":
            opened.truncate(size // 2 + 100)
            return
        opened.seek({"header": 0, "middle": size // 3}[where])
        opened.write(b"\xa5" * {"header": 100, "middle": size // 3}[where])


@pytest.mark.parametrize("where", ["header", "middle", "cut"])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, where: str) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(f"text {n} " + "x" * 500) for n in range(300)]), NOW)
    spoil(file, where)
    before = file.read_bytes()
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", *on(file))
    assert (ran.code, len(ran.sentence.splitlines()), ran.out) == (1, 1, ""), ran
    if where == "header":
        assert "is no SQLite database" in ran.sentence
    else:
        assert f"{file} is damaged (" in ran.sentence
        assert "`sqlite3 FILE .recover | sqlite3 NEW`, or move it away" in ran.sentence
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.glob("silo.sqlite-*")] == []


def test_a_file_that_is_damaged_while_it_is_served(tmp_path: Path, figures: Figures) -> None:
    """No 202 for what cannot be written, no crash, and the next start says what is wrong."""
    with Serve(tmp_path, *FAST, "--check-time", "1") as silo, Peer("alice", silo.address) as alice:
        for n in range(30):
            alice.write("bob", f"text {n} " + "x" * 2000)
        checkpoint = sqlite3.connect(silo.file)
        checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        checkpoint.close()
        size = silo.file.stat().st_size
        with silo.file.open("r+b") as opened:
            opened.seek(4096)
            opened.write(b"\xa5" * (size - 8192))
        harness.query(silo.file, "PRAGMA user_version")
        codes = {alice.ask(alice.message("bob", f"after {n}" + "y" * 2000), 10).code for n in range(5)}
        assert codes <= {503, 202}
        assert alice.ask(alice.request("OPTIONS", "home"), 10).code == 200
        with Peer("bob", silo.address) as bob:
            assert bob.ask(bob.request("REGISTER", "bob", "Contact: <sip:bob@127.0.0.1:9>"), 10).code in (200, 503)
        assert alice.ask(alice.request("OPTIONS", "home"), 10).code == 200
        silo.signal(signal.SIGTERM)
        assert silo.ended(40) in (0, 1)
    assert "Traceback" not in silo.log
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", *on(silo.file))
    assert (ran.code, "is damaged (" in ran.sentence) == (1, True), ran
    figures.add("bad days", survived=1)


# -- somebody else's lock ----------------------------------------------------------------------------------------------
def test_a_database_that_is_locked_for_long(tmp_path: Path, figures: Figures) -> None:
    """Every sender gets its 503 within 4 seconds and OPTIONS its 200, as long as it lasts; then all are stored."""
    with (
        Serve(tmp_path, *FAST) as silo,
        contextlib.ExitStack() as stack,
    ):
        senders = [stack.enter_context(Peer(f"sender{n}", silo.address)) for n in range(6)]
        watcher = stack.enter_context(Peer("watcher", silo.address))
        raws = {peer: peer.message("bob", f"by {peer.user}") for peer in senders}
        longest, refused, pings = 0.0, 0, 0
        with harness.locked(silo.file):
            end = time.monotonic() + LOCKED
            while time.monotonic() < end:
                began = time.monotonic()
                for peer in senders:
                    peer.send(raws[peer])
                watcher.send(watcher.request("OPTIONS", "home"))
                assert watcher.receive(4).code == 200
                pings += 1
                for peer in senders:
                    answer = peer.receive(max(0.1, began + 4 - time.monotonic()))
                    assert (answer.code, answer.headers["retry-after"]) == (503, "5")
                    refused += 1
                longest = max(longest, time.monotonic() - began)
        for peer in senders:
            accepted_again(peer, raws[peer])
        silo.stop()
    assert sorted(bodies(silo.file)) == sorted(f"by {peer.user}".encode() for peer in senders)
    figures.add("bad days", survived=1, refused_503=refused, lost=0, per_503_longest_ms=longest * 1000)


@pytest.mark.parametrize("command", ["purge", "retry", "import", "export"])
def test_a_long_command_keeps_no_sender_waiting(tmp_path: Path, command: str, figures: Figures) -> None:
    """Ten thousand messages go by in short commits: while they do, nobody gets a 503."""
    count, file = 10_000, tmp_path / "silo.sqlite"
    old = tmp_path / "old"
    old.mkdir()
    with closing(Store(file)) as store:
        for start in range(0, count, 1000):
            store.write(Turn(new=[message(f"{n:06d} " + "x" * 200) for n in range(start, start + 1000)]), NOW)
    if command == "retry":
        harness.change(file, "UPDATE msilo_ledger SET state = 2")
    if command == "import":
        assert harness.run(tmp_path, "export", "--output", str(old / "box.jsonl"), *on(file)).code == 0
        file.unlink()
    words = {
        "purge": ("--to", "bob@home.lan", "--yes"),
        "retry": ("--to", "bob@home.lan"),
        "import": (str(old / "box.jsonl"),),
        "export": ("--output", str(old / "box.jsonl")),
    }[command]
    with Serve(tmp_path, *FAST) as silo, Town(silo.address, 2, 2, window=2) as town:
        child = subprocess.Popen(
            [*harness.COMMAND, command, *words, *on(file)],
            env=harness.environment(tmp_path),
            stdout=subprocess.DEVNULL,
        )
        assert town.run(60, lambda: child.poll() is not None)
        assert child.returncode == 0
        assert town.quiet(silo)
        tally = town.tally(silo, in_order=False)
        assert (town.refused, tally.lost, tally.doubled) == (0, [], [])
        assert tally.accepted > 0
        silo.stop()
    left = harness.query(file, "SELECT count(*) FROM silo WHERE username = 'bob'")
    assert left == [(0 if command == "purge" else count,)]
    figures.add("bad days", survived=1, accepted_meanwhile=tally.accepted, lost=0)


# -- the clock ---------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not FAKETIME.exists(), reason="faketime is not installed")
@pytest.mark.parametrize("first", [86400, -86400])
def test_a_clock_that_is_set_by_a_day_and_back(tmp_path: Path, first: int, figures: Figures) -> None:
    """Mail keeps the life it had left, a binding lasts, a try that was to come in a minute does not wait for a day."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    env = {
        "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip

    def set_clock(seconds: int) -> None:
        fresh = tmp_path / "clock.new"
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(clock)

    short = ("--expire-time", "3600", "--check-time", "1")
    with (
        Serve(tmp_path, *FAST, *short, env=env) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
        Peer("carol", silo.address) as carol,
    ):
        bob.register()
        carol.register()
        alice.write("bob", "one")
        alice.write("carol", "busy")
        next_try = "SELECT next_try FROM msilo_recipient WHERE username = 'carol'"

        def jump(offset: int) -> None:
            set_clock(offset)
            until(lambda: len(silo.events("clock.set")) == (1 if offset else 2), 5, "the jump noticed")
            until(lambda: abs(harness.query(silo.file, next_try)[0][0] - offset - time.time()) < 70, 5, "moved")

        for offset in (first, 0):
            jump(offset)
            assert alice.ask(alice.message("bob", f"at {offset}")).code == 202
            time.sleep(1.5)  # the cleaner has been by
            assert len(bodies(silo.file)) >= 2
        bob.register()
        assert [one.body for one in bob.take(3)] == [b"one", f"at {first}".encode(), b"at 0"]
        carol.register()
        assert [one.body for one in carol.take(1)] == [b"busy"]
        silo.stop()
    figures.add("bad days", survived=2, lost=0)


# -- limits of the process ---------------------------------------------------------------------------------------------
def test_no_file_descriptor_left(tmp_path: Path, figures: Figures) -> None:
    """What is open does: mail comes and goes on."""
    with Serve(tmp_path, *FAST) as silo, Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob:
        alice.write("bob", "before")
        highest = max(int(name) for name in os.listdir(f"/proc/{silo.pid}/fd"))
        _, hard = resource.prlimit(silo.pid, resource.RLIMIT_NOFILE)
        free = set(range(highest + 1)) - {int(name) for name in os.listdir(f"/proc/{silo.pid}/fd")}
        resource.prlimit(silo.pid, resource.RLIMIT_NOFILE, (min(free, default=highest + 1), hard))
        alice.write("bob", "during")
        bob.register()
        assert [one.body for one in bob.take(2)] == [b"before", b"during"]
        assert alice.ask(alice.request("OPTIONS", "home")).code == 200
        silo.stop()
    figures.add("bad days", survived=1, lost=0)


def test_a_hook_that_cannot_be_started_for_want_of_descriptors(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\necho called >> {tmp_path}/called\n")
    hook.chmod(0o700)
    with Serve(tmp_path, "--set", f"store_hook={hook}") as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "before")
        until(lambda: (tmp_path / "called").exists(), 10, "the hook called")
        soft, hard = resource.prlimit(silo.pid, resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir(f"/proc/{silo.pid}/fd")}
        free = next(number for number in itertools.count() if number not in used)
        resource.prlimit(silo.pid, resource.RLIMIT_NOFILE, (free, hard))
        alice.write("bob", "during")
        assert alice.ask(alice.request("OPTIONS", "home")).code == 200
        resource.prlimit(silo.pid, resource.RLIMIT_NOFILE, (soft, hard))
        alice.write("bob", "after")
        until(lambda: (tmp_path / "called").read_text().count("called") >= 2, 10, "the hook called again")
        silo.stop()
    assert bodies(silo.file) == [b"before", b"during", b"after"]


@pytest.mark.parametrize("most", [8, 12, 16])
def test_a_start_with_too_few_descriptors(tmp_path: Path, most: int) -> None:
    """One sentence and exit code 1, or it serves."""
    sh = shutil.which("sh") or "/bin/sh"
    words = ["serve", "--no-supervise", "--bind", "udp:127.0.0.1:0", *on(tmp_path / "silo.sqlite")]
    child = subprocess.Popen(
        [sh, "-c", f'ulimit -n {most}; exec "$@"', sh, *harness.COMMAND, *words],
        cwd=tmp_path, env=harness.environment(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout
        ready = any(line.startswith("ready ") for line in child.stdout)
        if ready:
            child.terminate()
        _, complaint = child.communicate(timeout=20)
    finally:
        child.kill()
    assert child.returncode in ((0, -signal.SIGTERM) if ready else (1,)), complaint
    if not ready:
        assert "Traceback" not in complaint, complaint


# -- two of them -------------------------------------------------------------------------------------------------------
def test_two_daemons_on_one_file(tmp_path: Path) -> None:
    """Whatever name the second one knows it by."""
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        (tmp_path / "link.sqlite").symlink_to(silo.file)
        for name in ("silo.sqlite", "link.sqlite", "./silo.sqlite"):
            ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", "--db-url", f"sqlite:///{name}")
            assert (ran.code, ran.out) == (1, "")
            assert f"process {silo.pid}) already serves" in ran.sentence
        alice.write("bob", "still there")


def test_a_stop_with_silent_phones_is_over_within_35_seconds(stopping: Stopping, figures: Figures) -> None:
    """Nothing is in doubt: what the phones had is one failed attempt, what they had not is none. The last test."""
    left = 36 - (time.monotonic() - stopping.began)
    assert stopping.silo.ended(max(left, 0.1)) == 0
    rows = harness.query(stopping.silo.file, "SELECT state, attempts FROM msilo_ledger ORDER BY id")
    assert rows == [(0, 1), (0, 0), (0, 1), (0, 0)]
    figures.add("bad days", survived=1, lost=0)
