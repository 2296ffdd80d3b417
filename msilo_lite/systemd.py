"""What systemd hears from a service: sd_notify(3), a datagram of NAME=VALUE lines to the socket in NOTIFY_SOCKET.

The protocol is documented as stable and meant to be spoken without libsystemd. The packages for it on PyPI know no
RELOADING=1, or are no longer kept, so these few lines are ours. Outside systemd nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from .seeing.logs import logger

log = logger(__name__)

SOCKET, PERIOD, WHOSE = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
MOST = 1000
"Characters of a status that are sent."


class Notifier:
    """Says how the service is; never raises, for a silent systemd is no reason to stop serving."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes its variables out of the environment: they are not meant for a `store_hook`."""
        named, period, whose = (environment.pop(name, "") for name in (SOCKET, PERIOD, WHOSE))
        self._address = "\0" + named[1:] if named.startswith("@") else named  # an abstract socket
        ours = whose in ("", str(os.getpid()), str(os.getppid()))  # the parent: what unpacks the single executable
        self.watchdog = int(period) / 1e6 if named and ours and period.isascii() and period.isdigit() else 0.0
        "Seconds without `alive` after which systemd takes us for dead; 0: it does not look."

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The service has started, or has read its configuration again."""
        self._send("READY=1", _status(status))

    def status(self, words: str) -> None:
        """What it is doing, for `systemctl status`."""
        self._send(_status(words))

    def reloading(self) -> None:
        """It reads its configuration again; `ready` ends this. The time tells systemd which of two reloads is over."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """It ends in order."""
        self._send("STOPPING=1", _status(status))

    def alive(self) -> None:
        """It works; to be said twice in each `watchdog` period (sd_watchdog_enabled(3))."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd.deaf", word=lines[0], error=str(error))


def _status(words: str) -> str:
    """One line: a line end would begin another assignment."""
    return f"STATUS={' '.join(words.split())[:MOST]}"
