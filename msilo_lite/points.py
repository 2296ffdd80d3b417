"""Named places in the life of a message at which a test may end the process: the crash matrix of docs/reliability.md.

`MSILO_CRASH_AT=NAME`, `NAME:3` (the third time it is passed) or `NAME=TEXT` (where the detail holds the text) arms one;
SIGKILL then ends the process there, and with `NAME!` it is SIGABRT, as of an assertion inside PJSIP.
Nothing else can arm them, and what is not armed costs one call of an empty function.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "MSILO_CRASH_AT"
POINTS = {
    "received": "a request was read, nothing is decided",
    "staged": "a request was decided, nothing is written",
    "writing": "the rows are written, the transaction is open",
    "committed": "the transaction is on disk, nobody was told: no 202 has left, no claimed message either",
    "answered": "the answers of the turn have left",
    "sending": "a claimed message is about to leave",
    "sent": "a message has left, its answer is due",
    "heard": "the phone's answer was read, and is not on disk",
    "stopping": "SIGTERM came, the rest of the lanes is given back, not yet on disk",
    "recovering": "a start has read what was under way, and has changed nothing",
    "cleaning": "the cleaner has ended messages, not yet on disk",
    "pruning": "the cleaner has taken one batch of history",
    "migrating": "one statement of a migration was run, the transaction is open",
    "migrated": "every statement of the migrations was run, the transaction is open",
    "importing": "one batch of an import is on disk",
    "purging": "one batch of a purge is on disk",
    "wishing": "a command has written what it wants of the daemon",
}
"Name of each point, and what has happened there."


class _Armed:
    """The point that this process dies at."""

    def __init__(self, order: str) -> None:
        name, _, self._text = order.partition("=")
        name, _, times = name.partition(":")
        self._signal = signal.SIGABRT if name.endswith("!") else signal.SIGKILL
        self._name = name.removesuffix("!")
        if self._name not in POINTS:
            raise SystemExit(f"{VARIABLE}: {self._name!r} is no point; these are: {', '.join(POINTS)}")
        self._left = int(times or 1)

    def reach(self, name: str, detail: object = "") -> None:
        """Die here when it is the place and the time."""
        if name == self._name and self._text in str(detail):
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), self._signal)


def _nothing(name: str, detail: object = "") -> None:
    """What every point is in earnest."""


reach = _Armed(os.environ[VARIABLE]).reach if os.environ.get(VARIABLE) else _nothing
