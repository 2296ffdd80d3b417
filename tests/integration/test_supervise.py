"""`serve` comes back: the parent that starts it again, and what becomes of the message it died of."""

import os
import pty
import signal
import socket
import time
from pathlib import Path

import pytest

from msilo_lite.points import VARIABLE
from msilo_lite.supervise import AT_ONCE, LONGEST, STEADY, End, Patience, is_over, wanted
from tests.figures import Figures
from tests.waiting import until

from . import harness
from .harness import Peer, Serve, on

PARKED = "SELECT count(*) FROM msilo_ledger WHERE state = 2"
FAST = ("--settle", "0.1")


def child_of(silo: Serve) -> int:
    """The process that serves, under its supervisor."""
    found = Path(f"/proc/{silo.pid}/task/{silo.pid}/children").read_text().split()
    return int(found[0]) if found else 0


def is_there(pid: int) -> bool:
    """Whether a process still runs: one that has ended and that nobody waits for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def ready_again(silo: Serve, times: int, seconds: float = 20) -> None:
    until(lambda: silo.out.count("\nready ") >= times, seconds, f"ready {times} times\n{silo.log}")


# -- what is decided ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "yes"),
    [
        (["serve"], True),
        (["serve", "--settle", "1"], True),
        (["serve", "--no-supervise"], False),
        (["serve", "--help"], False),
        (["list"], False),
        ([], False),
        (["--version"], False),
    ],
)
def test_who_is_supervised(argv: list[str], yes: bool) -> None:
    assert wanted(argv) is yes


@pytest.mark.parametrize(
    ("end", "asked", "was_ready", "over"),
    [
        (End(0), False, True, True),  # somebody sent SIGTERM to the child itself
        (End(143), False, True, True),  # twice
        (End(0, signal.SIGHUP), False, True, True),  # its terminal was closed
        (End(1), False, False, True),  # the port is taken
        (End(2), False, False, True),  # bad configuration
        (End(1), False, True, False),  # the same, but it has served: whatever it is may pass
        (End(1), True, True, True),
        (End(0, signal.SIGABRT), False, False, False),  # an assertion while starting
        (End(0, signal.SIGABRT), False, True, False),
        (End(0, signal.SIGKILL), False, True, False),
        (End(0, signal.SIGKILL), True, True, True),
    ],
)
def test_what_ends_it(end: End, asked: bool, was_ready: bool, over: bool) -> None:
    assert is_over(end, asked=asked, was_ready=was_ready) is over


def test_patience_grows_and_is_forgotten() -> None:
    patience = Patience()
    assert [patience.after(1) for _ in range(AT_ONCE)] == [0.0] * AT_ONCE
    assert [patience.after(1) for _ in range(8)] == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST]
    assert patience.after(STEADY) == 0.0
    assert patience.deaths == 1


# -- the process -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_it_is_back_on_the_same_port_with_nothing_lost(
    tmp_path: Path, number: signal.Signals, figures: Figures
) -> None:
    with Serve(tmp_path, *FAST, supervised=True) as silo, Peer("alice", silo.address) as alice:
        first = child_of(silo)
        alice.write("bob", "before")
        os.kill(first, number)
        raw = alice.message("bob", "meanwhile")
        while (answer := alice.glance(0.3)) is None or answer.code != 202:  # a sender repeats
            alice.send(raw)
            assert not silo.over, silo.log
        assert child_of(silo) not in (0, first)
        ready_again(silo, 2)
        assert len({line for line in silo.out.splitlines() if line.startswith("ready ")}) == 1  # the same address
        with Peer("bob", silo.address) as bob:
            bob.register()
            assert [one.body for one in bob.take(2)] == [b"before", b"meanwhile"]
        assert f"(process {first}) died of {number.name}" in silo.log
        assert "started again at once" in silo.log
        crashed = "was killed" if number == signal.SIGKILL else "crashed: "
        assert f"the last run (process {first}) {crashed}" in silo.log
        silo.stop()
    figures.add("supervised", deaths_survived=1)


def test_the_parent_is_small(tmp_path: Path) -> None:
    with Serve(tmp_path, supervised=True) as silo:
        status = Path(f"/proc/{silo.pid}/status").read_text()
        (resident,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        assert resident < 15_000, status
        loaded = Path(f"/proc/{silo.pid}/maps").read_text()
        assert not [name for name in ("pjsua2", "pydantic", "sqlite") if name in loaded]


def test_a_killed_parent_takes_the_child_along(tmp_path: Path) -> None:
    with Serve(tmp_path, supervised=True) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "kept")
        child = child_of(silo)
        silo.kill()
        until(lambda: not is_there(child), 5, "the child gone")
        with Serve(tmp_path, *FAST) as again, Peer("bob", again.address) as bob:  # the lock is free
            bob.register()
            assert [one.body for one in bob.take(1)] == [b"kept"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_and_exit_codes_are_passed_on(tmp_path: Path, number: signal.Signals) -> None:
    with (
        Serve(tmp_path, *FAST, supervised=True) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        alice.write("bob", "nobody answers")
        bob.register()
        first = bob.receive()
        child = child_of(silo)
        silo.signal(number)
        until(lambda: silo.events("daemon.stopping"), 5, "the stop begun")
        assert is_there(child)
        bob.reply(first)
        assert silo.ended(10) == 0
        assert not is_there(child)
    assert harness.query(silo.file, "SELECT state FROM msilo_ledger") == [(3,)]


def test_a_second_signal_is_passed_on_too(tmp_path: Path) -> None:
    with (
        Serve(tmp_path, *FAST, supervised=True) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        alice.write("bob", "nobody answers")
        bob.register()
        bob.receive()
        silo.signal(signal.SIGTERM)
        until(lambda: silo.events("daemon.stopping"), 5, "the stop begun")
        silo.signal(signal.SIGTERM)
        assert silo.ended(5) == 128 + signal.SIGTERM


def test_ctrl_c_on_a_terminal_is_one_signal(tmp_path: Path) -> None:
    """The whole foreground group gets it; the silo must not take it for a second one and break off."""
    leader, follower = pty.openpty()
    pid = os.fork()
    if pid == 0:
        os.close(leader)
        os.login_tty(follower) if hasattr(os, "login_tty") else _login(follower)
        words = ("serve", "--bind", "udp:127.0.0.1:0", *on(tmp_path / "silo.sqlite"))
        os.execve(harness.COMMAND[0], [*harness.COMMAND, *words], harness.environment(tmp_path))
    os.close(follower)
    try:
        shown = b""
        while b"ready" not in shown.partition(b"try next")[2]:
            shown += os.read(leader, 65536)
        os.write(leader, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(leader)


def _login(number: int) -> None:
    """Make a terminal the controlling one of this process."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(number, termios.TIOCSCTTY, 0)
    for standard in range(3):
        os.dup2(number, standard)


def test_what_cannot_start_is_not_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        ran = harness.run(tmp_path, "serve", "--bind", f"udp:127.0.0.1:{other.getsockname()[1]}", *on(file))
    assert ran.code == 1
    assert "cannot listen on" in ran.sentence
    assert len(ran.sentence.splitlines()) == 1  # its own words, and none of the parent's
    assert harness.run(tmp_path, "serve", "--set", "nonsense=1").code == 2
    assert harness.run(tmp_path, "serve", "--colour").code == 2
    with Serve(tmp_path, supervised=True) as silo:
        ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", *on(file))
        assert ran.code == 1
        assert f"(process {child_of(silo)}) already serves {file}" in ran.sentence


def test_a_crash_loop_backs_off_and_says_why(tmp_path: Path, figures: Figures) -> None:
    """A silo that dies at each wake-up: restarted at once at first, then with pauses; a SIGTERM in one ends it."""
    with Serve(tmp_path, *FAST, supervised=True, env={VARIABLE: "received!"}) as silo, Peer("eve", silo.address) as eve:
        raw = eve.request("OPTIONS", "home")  # the request that kills on receive cannot be stored

        def pausing() -> bool:
            eve.send(raw)
            return "th time in a row" in silo.log

        until(pausing, 60, "the crash loop noticed")
        log = silo.log
        assert "died of SIGABRT (Aborted)" in log
        assert "for the 4th time in a row; started again in 1 s" in log
        assert "crashed: Aborted in reach (points.py:" in log
        assert f"its last request came from 127.0.0.1:{eve.port}" in log
        assert log.count("started again at once") == AT_ONCE
        silo.signal(signal.SIGTERM)
        assert silo.ended(5) == 0
    figures.add("supervised", deaths_survived=4)


# -- the message it dies of --------------------------------------------------------------------------------------------
def test_a_message_that_kills_the_process_twice_is_parked(tmp_path: Path, figures: Figures) -> None:
    """The third of five aborts inside the send: the others arrive, it is parked with the reason, nobody else waits."""
    with (
        Serve(tmp_path, *FAST, supervised=True, env={VARIABLE: "sending!=3-"}) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
        Peer("carol", silo.address) as carol,
    ):
        for n in range(1, 6):
            alice.write("bob", f"number {n}")
        alice.write("carol", "for carol")
        carol.register()
        bob.register()
        got = set[bytes]()
        while len(got) < 4:  # what was under way at the crash comes again
            got |= {one.body for one in bob.take(1, 40)}
        assert got == {b"number 1", b"number 2", b"number 4", b"number 5"}
        taken = set[bytes]()

        def carol_has_it() -> bool:
            seen = carol.glance(0.1)
            if seen and not seen.code:
                carol.reply(seen)
                taken.add(seen.body)
            return not harness.query(silo.file, "SELECT 1 FROM silo WHERE username = 'carol'")

        until(carol_has_it, 20, "carol's message delivered")
        assert taken == {b"for carol"}
        until(lambda: harness.query(silo.file, PARKED) == [(1,)], 5, "one parked")
        (listed,) = harness.run(tmp_path, "list", "--json", *on(silo.file)).json()
        assert (listed["id"], listed["state"]) == (3, "parked")
        assert "parked: the silo crashed 2 times while it was under way; `retry` sends it again" in listed["why"]
        assert silo.log.count("died of SIGABRT") == 2
        assert "while it sent message h3" in silo.log
        assert [one["count"] for one in silo.events("messages.parked")] == [1]
        alice.write("bob", "life goes on")
        silo.stop()
    figures.add("supervised", deaths_survived=2, messages_parked=1)


def test_an_answer_that_kills_the_process_parks_the_message_it_answers(tmp_path: Path) -> None:
    """Nobody knows which message the crash belongs to: those under way are sent alone, and the second one tells."""
    with (
        Serve(tmp_path, *FAST, supervised=True) as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        for n in range(1, 4):
            alice.write("bob", f"number {n}")
        bob.register()
        deaths, taken = 0, list[bytes]()
        while len(set(taken)) < 2 or deaths < 2:
            seen = bob.receive(20)
            if seen.code:
                continue
            if seen.body == b"number 2" and deaths < 2:
                os.kill(child_of(silo), signal.SIGABRT)
                deaths += 1
                ready_again(silo, deaths + 1)
                continue
            bob.reply(seen)
            taken.append(seen.body)
        assert set(taken) == {b"number 1", b"number 3"}
        assert harness.query(silo.file, "SELECT silo_id, crashes FROM msilo_ledger WHERE state = 2") == [(2, 2)]
        alice.write("bob", "and a new one")
        assert harness.run(tmp_path, "retry", "2", *on(silo.file)).code == 0
        bob.register()
        assert {one.body for one in bob.take(2, 10)} == {b"number 2", b"and a new one"}
        silo.stop()


def test_being_killed_is_nobody_s_fault(tmp_path: Path) -> None:
    """SIGKILL, or the power: however often, no message is parked for it."""
    with Serve(tmp_path, *FAST) as first, Peer("alice", first.address) as alice, Peer("bob", first.address) as bob:
        alice.write("bob", "one")
        bob.register()
        bob.receive()
        first.kill()
        for _ in range(3):
            with Serve(tmp_path, *FAST) as again:  # its phone is known from the file
                bob.receive(10)
                again.kill()
        assert harness.query(first.file, "SELECT state, crashes FROM msilo_ledger") == [(1, 0)]


def test_the_leash_waits_no_longer_than_a_moment(tmp_path: Path) -> None:
    """A parent that dies while its child is still starting leaves none behind."""
    began = time.monotonic()
    parent = Serve(tmp_path, supervised=True)
    child = until(lambda: child_of(parent), 10, "a child")
    parent.kill()
    until(lambda: not is_there(child), 20, "the child gone")
    assert time.monotonic() - began < 20
