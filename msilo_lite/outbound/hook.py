"""The operator's own command, run when a message was stored: to send a push, so that the phone wakes and registers.

It never delays the 202: it starts after the commit, in a process of its own, and gets who and when, never the body.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque

from ..box.message import Message
from ..seeing.logs import logger

log = logger(__name__)

MOST = 4
"Commands that run at once."
WAITING = 1000
"Messages whose command has to wait; further ones get none."
SECONDS = 30.0
"How long a command may take."


class Hook:
    """Starts the command, a few at a time. Without one it does nothing."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.command = command
        "What is run; () for nothing."
        self._waiting: deque[Message] = deque()
        self._running: list[tuple[subprocess.Popen[bytes], float]] = []

    def stored(self, message: Message) -> None:
        """A message is on disk."""
        if self.command and len(self._waiting) < WAITING:
            self._waiting.append(message)

    def work(self) -> None:
        """Take away what has ended, end what hangs, start what waits."""
        if not (self._waiting or self._running):
            return
        now = time.monotonic()
        for child, since in self._running:
            if child.poll() is None and now - since > SECONDS:
                log.warning("hook.ended", seconds=SECONDS)
                _end(child)
        self._running = [(child, since) for child, since in self._running if child.poll() is None]
        while self._waiting and len(self._running) < MOST:
            self._start(self._waiting.popleft(), now)

    def _start(self, message: Message, now: float) -> None:
        about = {
            "MSILO_OWNER": str(message.owner),
            "MSILO_FROM": message.src,
            "MSILO_TYPE": message.ctype,
            "MSILO_SIZE": str(len(message.body)),
            "MSILO_ARRIVED": str(message.arrived),
            "MSILO_DUE": str(message.due or ""),
        }
        safe = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in about.items()}
        quiet = subprocess.DEVNULL
        rest = {name: value for name, value in os.environ.items() if not name.startswith("MSILO_")}  # a password
        try:
            child = subprocess.Popen(
                self.command, stdin=quiet, stdout=quiet, env={**rest, **safe}, start_new_session=True
            )
        except (OSError, ValueError) as error:
            log.error("hook.not_started", error=str(error))
            return
        self._running.append((child, now))

    def close(self) -> None:
        """End what still runs."""
        for child, _ in self._running:
            _end(child)
            child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a command and whatever it started: the session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
