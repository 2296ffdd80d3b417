"""A command on a terminal of its own, for as long as a test wants: what it shows, what is typed, how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from .harness import COMMAND, environment

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


class Terminal:
    """Starts at once; ended at the end of the `with`, at the latest."""

    def __init__(self, folder: Path, *words: str, columns: int = 80, lines: int = 40) -> None:
        self._leader, self._follower = pty.openpty()
        fcntl.ioctl(self._follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.modes = termios.tcgetattr(self._follower)
        self.raw = ""
        self._child = subprocess.Popen(
            [*COMMAND, *words], cwd=folder, env=environment(folder), start_new_session=True,
            stdin=self._follower, stdout=self._follower, stderr=self._follower, preexec_fn=self._own,
        )  # fmt: skip

    def _own(self) -> None:
        """In the child: this is its terminal, whose Ctrl-C reaches it."""
        fcntl.ioctl(self._follower, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        os.close(self._leader)
        os.close(self._follower)

    def _read(self, seconds: float) -> None:
        if select.select([self._leader], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.raw += os.read(self._leader, 65536).decode(errors="replace")

    @property
    def text(self) -> str:
        """All that it has shown, without escapes."""
        return ESCAPES.sub("", self.raw)

    def until(self, pattern: str, seconds: float = 20) -> None:
        """Wait until it has shown something."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds:g} s: {pattern}\n{self.text[-2000:]}")
            self._read(0.1)

    def forget(self) -> None:
        """What was shown so far does not count any more."""
        self.raw = ""

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def ended(self, seconds: float = 10) -> int:
        """The exit code."""
        deadline = time.monotonic() + seconds
        while self._child.poll() is None and time.monotonic() < deadline:
            self._read(0.05)
        assert self._child.poll() is not None, "it still runs"
        self._read(0)
        return self._child.wait()

    def modes_now(self) -> list[object]:
        """Whether a key is seen, and such: they must be as they were."""
        return list(termios.tcgetattr(self._follower))
