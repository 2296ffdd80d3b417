"""What we promise: how long a message lives, how large it may be, when a failed one is tried again. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from ..errors import BadRequest, Rejected
from .due import LATEST, due_at

MAX_REQUEST = 3900
"Bytes of a whole request that we send: PJSIP's buffer is 4,000, and a longer Contact than the AoR must still fit."
RECEIVE_BUFFER = 4000
"Bytes of PJSIP's packet buffer: a datagram that fills it was cut."
LAST_SECOND = LATEST
"The last time that msilo's table holds."
FULL_RETRY = 300
"Seconds after which the sender to a full box may try again."
SPACE_RETRY = 60
"Seconds after which a sender may try again where the disk, or the whole store, has no room."
MINUTE = 60
BACKOFF = tuple(minutes * MINUTE for minutes in (1, 2, 5, 10, 30, 60))
"Seconds before the next attempt, by failed attempts in a row; the last one repeats."
PBX_BACKOFF = (30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE)
"Seconds to the next REGISTER or SUBSCRIBE of ours where nobody answered, by failures in a row; the last one repeats."
CLOCK_SLACK = 300
"Seconds by which a sender's Date may lie behind our clock and still be believed (RFC 3428 4 counts Expires from Date)."


@dataclass(frozen=True, slots=True)
class Caps:
    """What may wait, beside a number of messages for each user; 0: any number."""

    each_bytes: int = 0
    "Bytes for one user."
    all_messages: int = 0
    all_bytes: int = 0

    @property
    def counted(self) -> bool:
        """Whether the store has to count."""
        return bool(self.each_bytes or self.all_messages or self.all_bytes)


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of this installation."""

    expire_time: int = 259200
    "Longest life of a message in seconds (msilo: expire_time, 72 hours)."
    max_messages: int = 0
    "Messages that may wait for one user; 0: any number (msilo: max_messages)."
    reminders: bool = False
    "Whether requests may make reminders (msilo: send_time is not 0)."
    zone: tzinfo | None = None
    "Time zone of send times that name none; None: this machine's."
    caps: Caps = Caps()

    def lifetime(self, expires: str | None, date: str | None, now: int) -> int:
        """Seconds a message that arrives `now` may wait.

        Raises Rejected (480) where the sender wants no storing: `Expires: 0` (RFC 3428 7), or already over.
        """
        asked = delta_seconds(expires)
        if asked is None:
            return self.expire_time
        left = asked - _delay(date, now)
        if left <= 0:
            raise Rejected(480, "Expires leaves no time to store it")
        return min(left, self.expire_time)

    def due(self, text: str, now: int) -> int:
        """When a message is to be sent, UTC seconds; 0 for one that is no reminder.

        Raises BadRequest (400) for a time that cannot be understood or kept: it never silently means now.
        """
        if not text:
            return 0
        if not self.reminders:
            raise BadRequest(400, "reminders are off, send_time is 0")
        try:
            return due_at(text, now, self.zone, LAST_SECOND - self.expire_time)
        except ValueError as error:
            raise BadRequest(400, f"send time: {error}") from error


def delta_seconds(value: str | None) -> int | None:
    """A number of a header, cut to ten digits; None when absent or malformed, which means the default (20.19)."""
    text = (value or "").strip()
    return int(text.lstrip("0")[:10] or 0) if text.isascii() and text.isdigit() else None


def _delay(date: str | None, now: int) -> int:
    """Seconds a request was on its way by its Date header, 0 when the two clocks cannot be compared."""
    if not date:
        return 0
    try:
        sent = parsedate_to_datetime(date)
        delay = now - int(sent.replace(tzinfo=sent.tzinfo or UTC).timestamp())
    except (ValueError, OverflowError):
        return 0
    return delay if 0 < delay <= CLOCK_SLACK else 0


def retry_at(now: int, tries: int, retry_after: int | None = None) -> int:
    """UTC second of the next attempt after `tries` (1 or more) failures; never before a Retry-After ends."""
    step = BACKOFF[min(tries, len(BACKOFF)) - 1]
    asked = min(retry_after, 86400) + 1 if retry_after else 0  # `now` is cut to whole seconds
    return now + max(step, asked)


@lru_cache(maxsize=1024)
def sip_date(at: int) -> str:
    """A Date header value (RFC 3261 20.17: always GMT)."""
    return formatdate(min(max(at, 0), 2**37), usegmt=True)
