"""SIGHUP: the configuration is read again between two turns. What the peers see, and what `status` says."""

import fcntl
import os
import signal
import socket
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

from . import harness
from .harness import Peer, Serve

HERE, ELSEWHERE = '["127.0.0.0/8"]', '["192.0.2.1/32"]'


class Kept:
    """A daemon that was started with a file, which a test rewrites."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "silo.toml"
        self.silo: Serve

    def write(self, *lines: str) -> None:
        self.file.write_text("\n".join([*lines, ""]), encoding="utf-8")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = harness.run(self.silo.folder, "status", "--json", *harness.on(self.silo.file)).json()
        return found

    def reload(self, *lines: str) -> None:
        """Other lines in the file, and the signal."""
        self.write(*lines)
        self.silo.signal(signal.SIGHUP)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def serving(kept: Kept, *lines: str, options: tuple[str, ...] = ()) -> Serve:
    kept.write(*lines)
    kept.silo = Serve(kept.file.parent, "--config", str(kept.file), *options)
    return kept.silo


@pytest.fixture
def alice(kept: Kept) -> Iterator[Peer]:
    with serving(kept, f"trusted = {ELSEWHERE}") as silo, Peer("alice", silo.address) as one:
        yield one


def code(alice: Peer) -> int:
    return alice.ask(alice.message("bob", "hello")).code


def test_a_peer_that_was_refused_is_served(kept: Kept, alice: Peer) -> None:
    assert code(alice) == 403
    kept.reload(f"trusted = {HERE}")
    until(lambda: code(alice) == 202, 5, "a 202 in place of the 403")
    assert kept.status()["trusted"] == ["127.0.0.0/8"]
    assert kept.silo.log == ""
    kept.reload(f"trusted = {ELSEWHERE}", "[[peer]]", 'address = "127.0.0.1"')
    until(lambda: kept.status()["trusted"] == ["192.0.2.1/32"], 5, "the next one in force")
    assert code(alice) == 202  # a peer is trusted as well
    kept.reload(f"trusted = {ELSEWHERE}")
    until(lambda: code(alice) == 403, 5, "a 403 again")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("trusted = [",), "cannot be read"),
        ((f"trusted = {HERE}", "max_messages = -1"), "max_messages = -1"),
        ((f"trusted = {HERE}", "maximal_messages = 1"), "maximal_messages"),
        ((f"trusted = {HERE}", 'watch = "presence"'), "watch needs an outbound_proxy"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_told(kept: Kept, alice: Peer, lines: tuple[str, ...], words: str) -> None:
    kept.reload(*lines)
    until(lambda: "old one stays in force" in kept.silo.log, 5, "a refusal in the log")
    (said,) = kept.silo.events("configuration.refused")
    assert said["level"] == "error"
    assert words in said["error"]
    assert "Traceback" not in kept.silo.log
    assert code(alice) == 403  # trusted stands in the same file, and was fine
    assert words in kept.status()["configuration"]
    kept.reload(f"trusted = {HERE}")  # mended
    until(lambda: code(alice) == 202, 5, "the mended file in force")
    assert not kept.status()["configuration"]


def test_a_file_that_is_gone_is_no_empty_one(kept: Kept, alice: Peer) -> None:
    kept.file.unlink()
    kept.silo.signal(signal.SIGHUP)
    until(lambda: "does not exist" in kept.silo.log, 5, "a refusal in the log")
    assert code(alice) == 403  # the defaults would trust this machine


def test_what_only_a_restart_can_change_is_named_and_stays(kept: Kept, alice: Peer) -> None:
    other = f'db_table = "other"\nbind = ["udp:127.0.0.2:0"]\ntrusted = {HERE}'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        kept.reload(other)
        until(lambda: "only a restart" in kept.silo.log, 5, "a warning in the log")
    (said,) = kept.silo.events("configuration.waits")
    assert (said["level"], said["settings"]) == ("warning", ["db_table"])  # bind came as an option, which wins
    assert code(alice) == 202  # the rest is in force
    assert kept.status()["configuration"] == "db_table changed and waits for a restart"
    assert harness.query(kept.silo.file, "SELECT count(*) FROM silo") == [(1,)]


def test_an_option_wins_over_the_file_as_at_the_start(kept: Kept) -> None:
    options = ("--set", "max_messages=1")
    with serving(kept, "max_messages = 5", options=options) as silo, Peer("alice", silo.address) as alice:
        kept.reload("max_messages = 9", 'log_level = "info"')
        until(lambda: silo.events("configuration.taken"), 5, "word of the reload")
        assert [code(alice), code(alice)] == [202, 480]


def test_limits_and_the_log_level(kept: Kept) -> None:
    with serving(kept, "max_messages = 1") as silo, Peer("alice", silo.address) as alice:
        assert [code(alice), code(alice)] == [202, 480]
        senseless = alice.message("bob", "x").replace(b"Content-Length: 1", b"Content-Length: 9")
        assert alice.ask(senseless).code == 400
        assert {one["code"] for one in silo.events("request.refused")} == {480}
        kept.reload("max_messages = 2", 'log_level = "info"', "expire_time = 60")
        until(lambda: code(alice) == 202, 5, "room for a second one")
        assert code(alice) == 480
        assert alice.ask(senseless.replace(b"branch=z9hG4bK", b"branch=z9hG4bKagain")).code == 400
        assert 400 in [one["code"] for one in silo.events("request.refused")]
        assert silo.events("configuration.taken")[0]["settings"] == ["log_level", "expire_time", "max_messages"]
        lives = harness.query(silo.file, "SELECT exp_time - inc_time FROM silo ORDER BY id")
        assert lives == [(259200,), (60,)]


def test_a_phone_under_way_is_not_disturbed(kept: Kept) -> None:
    """The lane goes on over the reload: one message after the other, each once."""
    options = ("--settle", "0.1")
    with (
        serving(kept, "max_in_flight = 1", options=options) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        for number in range(4):
            alice.write("bob", f"number {number}")
        bob.register()
        first = bob.receive()
        kept.reload("max_in_flight = 2", 'log_level = "info"')
        until(lambda: silo.events("configuration.taken"), 5, "word of the reload")
        bob.reply(first)
        rest = [one.body for one in bob.take(3)]
        assert rest == [b"number 1", b"number 2", b"number 3"]
        until(lambda: harness.query(silo.file, "SELECT count(*) FROM silo") == [(0,)], 5, "an empty box")


def test_another_hook_runs_from_now_on(kept: Kept) -> None:
    made = kept.file.parent / "made"
    with serving(kept) as silo, Peer("alice", silo.address) as alice:
        assert code(alice) == 202
        kept.reload(f"store_hook = ['/bin/sh', '-c', 'env >{made}']")
        until(lambda: code(alice) == 202 and made.exists(), 10, "the hook's trace")
        until(lambda: "MSILO_OWNER=bob@home.lan" in made.read_text(), 5, "what it was told")


def test_many_signals_in_a_row_end_with_the_last_file(kept: Kept, alice: Peer) -> None:
    for number in range(50):
        kept.reload(f"trusted = {HERE if number % 2 else ELSEWHERE}")
    until(lambda: code(alice) == 202, 5, "the last file in force")
    assert kept.silo.log == ""


# -- the other meaning of SIGHUP ---------------------------------------------------------------------------------------
def on_a_terminal(folder: Path) -> tuple[int, "subprocess.Popen[bytes]", Path]:
    """A daemon in the foreground of a terminal of its own; its leader end, the process, its output."""
    try:
        leader, follower = os.openpty()
    except OSError as error:  # a chroot without devpts
        pytest.skip(f"this machine gives no terminal: {error}")
    out = folder / "out"

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    words = ["serve", "--bind", "udp:127.0.0.1:0", "--db-url", f"sqlite:///{folder}/silo.sqlite"]
    with out.open("wb") as file:
        child = subprocess.Popen(
            [*harness.COMMAND, *words],
            cwd=folder,
            env=harness.environment(folder),
            stdin=follower,
            stdout=file,
            stderr=file,
            preexec_fn=take_terminal,
        )
    os.close(follower)
    until(lambda: b"ready " in out.read_bytes(), 15, f"the ready line {out.read_text()}")
    return leader, child, out


def test_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    leader, child, out = on_a_terminal(tmp_path)
    try:
        os.close(leader)
        assert child.wait(10) == 0, out.read_text()
    finally:
        child.kill()
        child.wait()


def test_a_signal_on_a_terminal_that_is_there_is_a_reload(tmp_path: Path) -> None:
    leader, child, out = on_a_terminal(tmp_path)
    try:
        child.send_signal(signal.SIGHUP)
        ran = harness.run(tmp_path, "health", *harness.on(tmp_path / "silo.sqlite"))
        assert ran.code == 0, ran
        assert child.poll() is None, out.read_text()
    finally:
        child.kill()
        child.wait()
        os.close(leader)
