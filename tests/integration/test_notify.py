"""What systemd hears: a datagram socket of the test stands where systemd's would (sd_notify(3))."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

from . import harness
from .harness import Peer, Serve

PERIOD = "600000"
"Microseconds of the watchdog."


class Listener:
    """The end of the socket that systemd holds."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self, seconds: float = 5) -> dict[str, str]:
        """One datagram as names and values; fails the test when none comes."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            lines = self._socket.recv(65535).decode().splitlines()
        except TimeoutError:
            pytest.fail(f"nothing was told within {seconds:g} s")
        return dict(line.split("=", 1) for line in lines)

    def until(self, name: str, seconds: float = 5) -> dict[str, str]:
        """The next datagram that says `name`."""
        deadline = time.monotonic() + seconds
        while True:
            told = self.next(deadline - time.monotonic())
            if name in told:
                return told

    def drain(self) -> list[dict[str, str]]:
        """What has come so far."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(dict(line.split("=", 1) for line in self._socket.recv(65535).decode().splitlines()))
        except BlockingIOError:
            return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with Listener(str(tmp_path / "notify")) as one:
        yield one


def test_ready_is_told_when_requests_are_taken(systemd: Listener, tmp_path: Path) -> None:
    with Serve(tmp_path) as silo:
        told = systemd.next()
        assert told["READY"] == "1"
        host, port = silo.address
        assert told["STATUS"] == f"serving udp:{host}:{port}; 0 under way"
        with Peer("alice", silo.address) as alice:
            alice.write("bob", "hello")
        silo.stop()
    assert systemd.until("STOPPING")["STATUS"].startswith("stopping ")
    assert systemd.drain() == []  # and nothing about a watchdog that nobody asked for


def test_an_abstract_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"msilo-lite-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with Listener(f"\0{name}") as systemd, Serve(tmp_path):
        assert systemd.next()["READY"] == "1"


def test_a_socket_that_is_gone_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "hello")
        silo.stop()
        assert "READY=1" in [one["word"] for one in silo.events("systemd.deaf")]
        assert "Traceback" not in silo.log


def test_a_start_that_fails_is_never_ready(systemd: Listener, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "serve", "--bind", "udp:192.0.2.1:5070", *harness.on(tmp_path / "silo.sqlite"))
    assert ran.code == 1
    assert systemd.drain() == []


def test_the_watchdog_hears_of_us_while_the_loop_turns(
    systemd: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", PERIOD)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))  # the parent, as where the single executable unpacks itself
    with Serve(tmp_path) as silo:
        for _ in range(3):
            assert systemd.until("WATCHDOG")["WATCHDOG"] == "1"
        silo.signal(signal.SIGSTOP)  # a loop that hangs
        until(lambda: Path(f"/proc/{silo.pid}/stat").read_text().split()[2] == "T", 5, "a stopped process")
        systemd.drain()
        time.sleep(2 * int(PERIOD) / 1e6)  # nothing can be waited for: it is silence that counts
        assert systemd.drain() == []
        silo.signal(signal.SIGCONT)
        systemd.until("WATCHDOG")


def test_the_watchdog_hears_of_us_during_a_stop(
    systemd: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", PERIOD)
    options = ("--settle", "0.1")
    with Serve(tmp_path, *options) as silo, Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob:
        alice.write("bob", "hello")
        bob.register()
        message = bob.receive()
        silo.signal(signal.SIGTERM)
        assert "1 under way" in systemd.until("STOPPING")["STATUS"]
        systemd.until("WATCHDOG")
        bob.reply(message)
        assert silo.ended(5) == 0


def test_a_watchdog_of_somebody_else_is_not_fed(
    systemd: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        systemd.until("READY")
        for _ in range(20):
            alice.write("bob", "hello")
        silo.stop()
    assert not any("WATCHDOG" in one for one in systemd.drain())


def test_a_file_that_cannot_be_read_is_told_to_nobody(
    systemd: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop turns and the file is of no use: systemd is to start us again, and `check` says what is wrong."""
    monkeypatch.setenv("WATCHDOG_USEC", PERIOD)
    with Serve(tmp_path) as silo:
        systemd.until("WATCHDOG")
        for part in silo.folder.glob("silo.sqlite*"):
            if not part.name.endswith(".lock"):
                part.write_bytes(b"\xff" * part.stat().st_size)
        until(lambda: silo.log, 5, "a complaint about the file")
        systemd.drain()
        time.sleep(2 * int(PERIOD) / 1e6)
        assert not any("WATCHDOG" in one for one in systemd.drain())


def test_a_reload_begins_and_ends(systemd: Listener, tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.write_text("")
    with Serve(tmp_path, "--config", str(file)) as silo:
        systemd.until("READY")
        file.write_text('db_table = "other"')
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        silo.signal(signal.SIGHUP)
        begun = systemd.until("RELOADING")
        assert begun["RELOADING"] == "1"
        assert before <= int(begun["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert systemd.next()["STATUS"].endswith("db_table changed and waits for a restart")
        file.write_text("nonsense = [")
        silo.signal(signal.SIGHUP)
        systemd.until("RELOADING")
        ended = systemd.next()
        assert ended["READY"] == "1"
        assert "refused, the old one stays in force" in ended["STATUS"]


def test_the_hook_cannot_speak_in_our_name(systemd: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", PERIOD)
    made = tmp_path / "made"
    hook = f"store_hook=sh -c 'env >{made}.part; mv {made}.part {made}'"
    with Serve(tmp_path, "--set", hook) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "hello")
        until(made.exists, 10, "the hook's trace")
    assert "MSILO_OWNER" in made.read_text()
    assert "NOTIFY_SOCKET" not in made.read_text()
    assert "WATCHDOG" not in made.read_text()
