"""The loop of `top`: look, draw, wait for a key. The only module that knows the terminal's own modes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import closing
from types import FrameType
from typing import Any

from ..box.inbox import Inbox
from ..settings.config import Config
from .overview import overview_of
from .panels import RATES, picture, total
from .views import screen

LEAVE = (b"q", b"Q", b"\x1b", b"\x04")
"Keys that end it; Ctrl-C does as well."
SHARE = 10
"A look that takes long is made at the most every so many times as long."
LEAST_ROWS, FIXED_LINES = 2, 18
"Rows of each list on a low terminal; lines that the rest takes."


@contextlib.contextmanager
def _keys() -> Iterator[int]:
    """Standard input, a key at a time and unseen."""
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield number
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _orderly() -> Iterator[None]:
    """SIGTERM leaves like Ctrl-C: the terminal gets its modes back."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def watch(config: Config, interval: float) -> None:
    """Draw until somebody leaves. Raises NotFound and StoreError."""
    with closing(Inbox(config.db_file, config.names)) as inbox, _orderly(), contextlib.suppress(KeyboardInterrupt):
        looker = Looker(inbox, config)
        record = looker.look()
        with _keys() as keys, screen() as draw:
            while True:
                rows = max(LEAST_ROWS, (os.get_terminal_size(keys).lines - FIXED_LINES) // 5)
                draw(picture(record, looker.rates, rows))
                if select.select([keys], [], [], max(interval, SHARE * looker.cost))[0] and os.read(keys, 1) in LEAVE:
                    return
                record = looker.look()


class Looker:
    """Looks at the file again and again, and knows what happened between two looks."""

    def __init__(self, inbox: Inbox, config: Config) -> None:
        self._inbox, self._config = inbox, config
        self._before: tuple[float, dict[str, int]] | None = None
        self.rates = {name: 0.0 for name, _ in RATES}
        "What happens a second, by name."
        self.cost = 0.0
        "Seconds that the last look took."

    def look(self) -> dict[str, Any]:
        """The record of now."""
        began = time.monotonic()
        record = overview_of(self._inbox, self._config)
        counters = record["counters"]
        if self._before and began > self._before[0]:
            passed, old = began - self._before[0], self._before[1]
            self.rates = {name: (total(counters, parts) - total(old, parts)) / passed for name, parts in RATES}
        self._before, self.cost = (began, counters), time.monotonic() - began
        return record
