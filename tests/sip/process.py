"""Child processes and ports for the tests with real peers.

A process is ended by its own process group and never by name; what it printed stays in a file of the test's folder.
Nothing here knows SIP.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tests.waiting import until

T = TypeVar("T")


def program(name: str, package: str) -> str:
    """Path of an installed program. Without it the test skips, and fails where peers are required."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    return found or missing(f"{name} is not installed (apt-get install {package})")


def missing(why: str, *, required: bool | None = None) -> NoReturn:
    """A suite that skips everything must not be green where it counts: where `required`, or where all peers are."""
    if required is None:
        required = os.environ.get("MSILO_REQUIRE_PEERS") == "1" or os.environ.get("CI") == "true"
    if required:
        pytest.fail(why)
    pytest.skip(why)


def free_port(host: str = "127.0.0.1", *, count: int = 1) -> int:
    """The first of `count` neighbouring ports that nobody uses, UDP and TCP; chosen by the kernel."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(50):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if all(_is_free(family, host, port + step) for step in range(count)):
            return port
    pytest.fail(f"no {count} free ports in a row on {host}")


def _is_free(family: int, host: str, port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            try:
                probe.bind((host, port))
            except (OSError, OverflowError):
                return False
    return True


class Process:
    """A child in a process group of its own, output (stdout and stderr) in two files."""

    def __init__(
        self, argv: Sequence[str], folder: Path, name: str, *, env: Mapping[str, str] | None = None, stdin: bool = False
    ) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def output(self) -> str:
        return self._out.read_bytes().decode("utf-8", "replace")

    @property
    def errors(self) -> str:
        return self._err.read_bytes().decode("utf-8", "replace")

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def ready(self, look: Callable[[], T], seconds: float, what: str) -> T:
        """Like `until`, but gives up at once when the process has ended, and shows why."""

        def alive() -> T:
            found = look()
            if not found and not self.running:
                pytest.fail(f"{self.name} ended with {self._child.returncode} before: {what}\n{self.tail()}")
            return found

        return until(alive, seconds, f"{what}\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        return "\n".join([*self.output.splitlines()[-lines:], *self.errors.splitlines()[-lines:]])

    def wait(self, seconds: float) -> int:
        """Exit code; fails the test if the process runs on."""
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} still runs after {seconds:g} s\n{self.tail()}")

    def type(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{line}\n".encode())
        self._child.stdin.flush()

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the process, and go on."""
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 10) -> int:
        """Signal the process and wait. Whatever of its group is left after the deadline is killed."""
        if self.running:
            os.kill(self.pid, number)
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return -1
        finally:
            self._clear()

    def _clear(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # our own group: children that outlived their parent
        self._child.wait()
        if self._child.stdin:
            self._child.stdin.close()
