"""The operator's own command: real processes, what they are given, how many there are, and how they end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msilo_lite.outbound.hook import MOST, SECONDS, WAITING, Hook
from tests.waiting import until

from .kit import NOW, message

MakeHook = Callable[..., Hook]


@pytest.fixture
def make_hook(tmp_path: Path) -> Iterator[MakeHook]:
    """A hook that runs lines of shell in the test's folder, for example `make_hook("env > out")`."""
    made: list[Hook] = []

    def make(lines: str) -> Hook:
        script = tmp_path / "hook.sh"
        script.write_text(f"#!/bin/sh\ncd {tmp_path}\n{lines}\n")
        made.append(Hook(("/bin/sh", str(script), "an argument")))
        return made[-1]

    yield make
    for hook in made:
        hook.close()


def works(hook: Hook, look: Callable[[], bool], seconds: float, what: str) -> None:
    """Turn the loop until something is so."""

    def turned() -> bool:
        hook.work()
        return look()

    until(turned, seconds, what)


def is_there(path: Path) -> Callable[[], bool]:
    """Whether a file is whole: the scripts end it with a line `end`."""
    return lambda: path.exists() and path.read_text("utf-8").endswith("end\n")


def runs(pid: int) -> bool:
    """Whether a process is alive; one that nobody has waited for is not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# -- what it is given ----------------------------------------------------------------------------------------------
TELL_ALL = 'echo "args: $0 $*"; echo "stdin: $(cat)"; env; echo end'


def told(text: str) -> dict[str, str]:
    """What stood in the environment for it."""
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("MSILO_"))
    return {name: value for name, _, value in pairs}


def test_it_is_told_who_and_when(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(f"({TELL_ALL}) > out")
    hook.stored(message(body=b"0123456789", ctype="text/plain;charset=utf-8", due=NOW + 60))
    works(hook, is_there(tmp_path / "out"), 10, "the command has run")
    assert told((tmp_path / "out").read_text()) == {
        "MSILO_OWNER": "bob@home.lan",
        "MSILO_FROM": "sip:alice@home.lan",
        "MSILO_TYPE": "text/plain;charset=utf-8",
        "MSILO_SIZE": "10",
        "MSILO_ARRIVED": str(NOW),
        "MSILO_DUE": str(NOW + 60),
    }


def test_an_ordinary_message_has_no_due_time(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(f"({TELL_ALL}) > out")
    hook.stored(message(ctype="", body=b""))
    works(hook, is_there(tmp_path / "out"), 10, "the command has run")
    found = told((tmp_path / "out").read_text())
    assert (found["MSILO_DUE"], found["MSILO_TYPE"], found["MSILO_SIZE"]) == ("", "", "0")


def test_it_never_gets_the_body(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(f"({TELL_ALL}) > out")
    hook.stored(message(body=b"a secret", kept="Subject: another secret\r\n"))
    works(hook, is_there(tmp_path / "out"), 10, "the command has run")
    found = (tmp_path / "out").read_text()
    assert "secret" not in found
    assert "stdin: \n" in found
    assert f"args: {tmp_path / 'hook.sh'} an argument\n" in found


@pytest.mark.parametrize(
    ("src", "shown"),
    [
        ("sip:jos\udce9@home.lan", "sip:jos\\udce9@home.lan"),
        ("sip:zoë@home.lan", "sip:zoë@home.lan"),
        ("sip:$(touch evil);touch evil@home.lan", "sip:$(touch evil);touch evil@home.lan"),
    ],
)
def test_odd_bytes_reach_it_as_text_and_do_nothing(make_hook: MakeHook, tmp_path: Path, src: str, shown: str) -> None:
    hook = make_hook(f"({TELL_ALL}) > out")
    hook.stored(message(src=src))
    works(hook, is_there(tmp_path / "out"), 10, "the command has run")
    assert told((tmp_path / "out").read_text("utf-8"))["MSILO_FROM"] == shown
    assert not (tmp_path / "evil").exists()


def test_it_has_the_environment_of_the_daemon(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(f"({TELL_ALL}) > out")
    hook.stored(message())
    works(hook, is_there(tmp_path / "out"), 10, "the command has run")
    assert f"PATH={os.environ['PATH']}\n" in (tmp_path / "out").read_text()


def test_what_cannot_stand_in_an_environment_stops_nothing(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(f"({TELL_ALL}) > out")
    hook.stored(message(src="sip:a\x00b@home.lan"))
    hook.stored(message(src="sip:next@home.lan"))
    works(hook, is_there(tmp_path / "out"), 10, "the command has run")
    assert told((tmp_path / "out").read_text())["MSILO_FROM"] == "sip:next@home.lan"


# -- how many ------------------------------------------------------------------------------------------------------
def started(folder: Path) -> int:
    return len(list(folder.glob("started.*")))


WAIT_FOR_GO = "touch started.$$; until [ -e go ]; do sleep 0.02; done"


def test_four_at_once_and_the_others_after_them(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(WAIT_FOR_GO)
    for _ in range(MOST + 3):
        hook.stored(message())
    works(hook, lambda: started(tmp_path) >= MOST, 10, "four have started")
    for _ in range(20):
        hook.work()
    assert MOST == 4
    assert started(tmp_path) == MOST
    (tmp_path / "go").touch()
    works(hook, lambda: started(tmp_path) == MOST + 3, 10, "the others have started")


def test_work_does_not_wait(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook(WAIT_FOR_GO)
    hook.stored(message())
    for _ in range(3):
        hook.work()  # a command that would have been waited for never ends
    works(hook, lambda: started(tmp_path) == 1, 10, "it has started")


def test_one_for_each_message_and_no_more(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook('echo "$MSILO_SIZE" >> out')
    for size in range(9):
        hook.stored(message(body=b"x" * size))
    out = tmp_path / "out"
    works(hook, lambda: out.exists() and len(out.read_text().split()) == 9, 10, "nine have run")
    assert sorted(map(int, out.read_text().split())) == list(range(9))


def test_a_flood_is_cut(make_hook: MakeHook, tmp_path: Path) -> None:
    """More messages than can wait get no command; those that wait do."""
    hook = make_hook("echo >> out")
    for _ in range(WAITING + 500):
        hook.stored(message())
    out = tmp_path / "out"
    works(hook, lambda: out.exists() and out.stat().st_size >= WAITING, 60, "those that waited have run")
    for _ in range(10):
        hook.work()
    assert out.stat().st_size == WAITING


# -- how they end --------------------------------------------------------------------------------------------------
def test_what_has_ended_is_taken_away(make_hook: MakeHook, tmp_path: Path) -> None:
    """No zombies, whatever the exit code."""
    hook = make_hook("echo $$ > pid; echo end >> pid; exit 3")
    hook.stored(message())
    works(hook, is_there(tmp_path / "pid"), 10, "it has run")
    pid = int((tmp_path / "pid").read_text().split()[0])
    works(hook, lambda: not Path(f"/proc/{pid}").exists(), 10, "nothing is left of it")


def test_a_missing_program_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    not_executable = tmp_path / "text"
    not_executable.write_text("no program")
    for path in (tmp_path / "missing", not_executable, tmp_path):
        hook = Hook((str(path),))
        caplog.clear()
        hook.stored(message())
        hook.stored(message())
        hook.work()
        hook.work()
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
        assert all("hook.not_started" in record.getMessage() for record in caplog.records)
        assert "hello" not in caplog.text
        hook.close()


def test_without_a_command_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(())
    hook.stored(message())
    hook.work()
    hook.close()
    assert caplog.records == []


def test_close_ends_what_still_runs(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook("echo $$ > pid; echo end >> pid; exec sleep 300")
    hook.stored(message())
    works(hook, is_there(tmp_path / "pid"), 10, "it runs")
    pid = int((tmp_path / "pid").read_text().split()[0])
    hook.close()
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_command_started_ends_with_it(make_hook: MakeHook, tmp_path: Path) -> None:
    """A script that waits for its curl: the curl must not stay behind."""
    hook = make_hook("sleep 300 & echo $! > pid; echo end >> pid; wait")
    hook.stored(message())
    works(hook, is_there(tmp_path / "pid"), 10, "it runs")
    pid = int((tmp_path / "pid").read_text().split()[0])
    hook.close()
    try:
        until(lambda: not runs(pid), 2, "the child of the command has ended")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_close_starts_nothing(make_hook: MakeHook, tmp_path: Path) -> None:
    hook = make_hook("touch started.$$")
    hook.stored(message())
    hook.close()
    assert started(tmp_path) == 0


@pytest.mark.slow
def test_one_that_hangs_is_ended(make_hook: MakeHook, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = make_hook("[ -e go ] && { touch started.$$; exit; }; echo $$ > pid; echo end >> pid; exec sleep 300")
    hook.stored(message())
    works(hook, is_there(tmp_path / "pid"), 10, "it hangs")
    hanging = int((tmp_path / "pid").read_text().split()[0])
    (tmp_path / "go").touch()
    for _ in range(MOST + 1):
        hook.stored(message())
    works(hook, lambda: started(tmp_path) == MOST + 1, 10, "the others run beside it")
    works(hook, lambda: not runs(hanging), SECONDS + 5, "it has been ended")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert "hook.ended" in caplog.records[0].getMessage()
