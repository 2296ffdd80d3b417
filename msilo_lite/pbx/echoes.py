"""Messages that `check` sends through the PBX to see whether they come to us: known by a number, and never stored.

Only what was announced a moment before is taken for one, by the command through the file; a text that somebody writes
stays a text. The number stands in the body, which passes every PBX, and in `X-MSilo-ID`, which some let pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..sip.wire import Request

MARK = "check-"
"How an X-MSilo-ID of such a message begins."
WORDS = "msilo-lite check "
"How its body begins; the number follows, and what fills it up to a length."
LIFE = 120
"Seconds for which a number is waited for."
_BODY = re.compile(rb"msilo-lite check ([0-9a-f]{16})\b")
_ID = re.compile(rf"{MARK}([0-9a-f]{{16}})")


@dataclass(frozen=True, slots=True)
class Echo:
    """One that came."""

    number: int
    host: str
    "The IP address it came from."
    size: int
    "Bytes of its body."


def mark_of(number: int) -> str:
    """Its X-MSilo-ID."""
    return f"{MARK}{number:016x}"


def body_of(number: int, size: int = 0) -> bytes:
    """Its body, filled up to `size` bytes."""
    text = f"{WORDS}{number:016x}"
    return text.ljust(size, ".").encode()


def number_in(request: Request) -> int | None:
    """The number that a MESSAGE carries, if it looks like one of these."""
    found = _BODY.match(request.body) or _ID.fullmatch(request.get("x-msilo-id") or "")
    return int(found[1], 16) if found else None


class Echoes:
    """Those that are waited for."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def expect(self, number: int, now: float) -> None:
        """Announce one. What was announced long ago is forgotten."""
        self._until = {key: until for key, until in self._until.items() if 0 <= until - now <= LIFE}
        self._until[number] = now + LIFE

    def take(self, request: Request, host: str, now: float) -> Echo | None:
        """The echo that a MESSAGE is, or None for one that is somebody's."""
        if not self._until:
            return None
        number = number_in(request)
        if number is None or not 0 <= self._until.get(number, 0) - now <= LIFE:
            return None
        return Echo(number, host, len(request.body))
