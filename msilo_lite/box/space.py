"""Whether the disk has room: a full one would fail in the middle of what keeps the mail, so we refuse before."""

from __future__ import annotations

import os
import time
from pathlib import Path

EACH = 0.005
"Seconds that an answer holds: in them a storm writes less than a megabyte."
SHARE = 20
"A small disk keeps this part of it free, rather than more than it has."


class Space:
    """The disk that a file is on."""

    def __init__(self, file: Path, floor: int) -> None:
        """`floor`: bytes that stay free; 0: all may be used. It may be changed."""
        self._folder = file.parent
        self.floor = floor
        "Bytes that stay free."
        self._asked = -EACH
        self._short = False

    def is_short(self) -> bool:
        """Whether less than the floor is free, as the disk said lately. A disk that cannot be asked has room."""
        now = time.monotonic()
        if now - self._asked >= EACH:
            self._asked, self._short = now, self._is_short()
        return self._short

    def _is_short(self) -> bool:
        if not self.floor:
            return False
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return False
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        return free < min(self.floor, size // SHARE)
