"""When a reminder is due, as a SIP request says it: text and `now` in, UTC seconds out, or a refusal in one sentence.

msilo takes a bad time for "at once" and forces winter time (one hour late all summer); here each time is read by the
rules of its own date, and what cannot be read is refused. Three choices about clock changes, after PEP 495 (fold=0):
a local time that the clock skips in spring is the instant it would have been without the change, so an hour later by
the new clock; one that comes twice in autumn is the first; a relative time counts seconds that really pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

SLACK = 60
"Seconds by which a time may be over: a request is under way for a while, and clocks differ."
LATEST = 2**31 - 1
"Last UTC second that msilo's table holds (32 bits): 19 January 2038."
FORMS = "write YYYYMMDDHHMMSS, ISO 8601 such as 2027-07-15T12:00:00+02:00, or a distance such as +1d2h30m"
"The forms of a request, as the end of a refusal."
_EPOCH = datetime(1970, 1, 1)
_ISO = re.compile(
    r"""([0-9]{4})(-?)([0-9]{2})\2([0-9]{2}) [Tt\ ] ([0-9]{2})(:?)([0-9]{2})(?:\6([0-9]{2})(?:[.,][0-9]+)?)?
        (?:\ ? (?: ([Zz]) | ([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))? ))?""",
    re.VERBOSE,
)
_DISTANCE = re.compile(r"\+(?=[0-9])" + "".join(rf"(?:([0-9]{{1,10}}){unit})?" for unit in "wdhms"))
_UNITS = (604800, 86400, 3600, 60, 1)
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class _Local(tzinfo):
    """The zone of this machine by the C library: summer time of the date in question, not the offset of today."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        if when is None:
            return None
        naive = when.replace(tzinfo=None, microsecond=0)
        return naive - _EPOCH - timedelta(seconds=naive.timestamp())

    def dst(self, when: datetime | None) -> timedelta | None:
        """Unknown: a naive time tells its offset only."""
        return None

    def tzname(self, when: datetime | None) -> str | None:
        return when.replace(tzinfo=None).astimezone().tzname() if when else None

    def fromutc(self, when: datetime) -> datetime:
        local = datetime.fromtimestamp((when.replace(tzinfo=None) - _EPOCH) // timedelta(seconds=1))
        return local.replace(microsecond=when.microsecond, tzinfo=self)


def zone_of(name: str) -> tzinfo:
    """A zone by its IANA name, "" for that of this machine. Raises ValueError with the nearest known names."""
    if not name:
        return _Local()
    known = available_timezones()  # ZoneInfo() would take right/..., which counts leap seconds
    if name in known:
        return ZoneInfo(name)
    places = {zone.lower().rpartition("/")[2]: zone for zone in sorted(known)} | {zone.lower(): zone for zone in known}
    near = get_close_matches(name.lower()[:_SHOWN], places, n=6, cutoff=0.7)
    names = list(dict.fromkeys(places[match] for match in near))[:3] or ["Europe/Berlin", "America/New_York", "UTC"]
    which = "the nearest" if near else "known"
    raise ValueError(f"{shown(name)} is not a known time zone; {which}: {', '.join(names)}")


def due_at(text: str, now: int, zone: tzinfo | None, latest: int = LATEST) -> int:
    """The UTC second that `text` names; a time without a zone of its own is in `zone` (None: that of this machine).

    Raises ValueError with one sentence: the form is none of ours, no such date exists, it is over, or after `latest`.
    """
    at = exact(text, now, zone)
    if at is None:
        raise ValueError(f"{shown(text)} is not a time; {FORMS}")
    return in_time(text, at, now, latest)


def exact(text: str, now: int, zone: tzinfo | None) -> int | None:
    """The UTC second of one of the exact forms, over or not; None for a text in another form.

    Raises ValueError for a date that does not exist, and for digits that are not 14: those are guesses, never words.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return _fourteen(text, zone)
    if distance := _DISTANCE.fullmatch(text):
        return now + sum(int(number) * unit for number, unit in zip(distance.groups("0"), _UNITS, strict=True))
    if not (iso := _ISO.fullmatch(text)):
        return None
    year, _, month, day, hour, _, minute, second, zulu, sign, hours, minutes = iso.groups()
    if zulu or sign:
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == "-" else offset)
    return _second(text, (year, month, day, hour, minute, second or "0"), zone)


def _fourteen(text: str, zone: tzinfo | None) -> int:
    if len(text) != 14:
        raise ValueError(
            f"{shown(text)} is not the 14 digits of a date and time"
            f" (nothing is guessed, neither for 13 digits nor for HHMMSS); {FORMS}"
        )
    return _second(text, (text[:4], *(text[at : at + 2] for at in range(4, 14, 2))), zone)


def _second(text: str, parts: tuple[str, ...], zone: tzinfo | None) -> int:
    """UTC second of year, month, ... in a zone, each date by its own summer time."""
    year, month, day, hour, minute, second = map(int, parts)
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{shown(text)} does not exist ({error}); {FORMS}") from None


def in_time(text: str, at: int, now: int, latest: int = LATEST) -> int:
    """`at`, when it can still be kept. Raises ValueError where it is over by more than SLACK, or after `latest`."""
    if at < now - SLACK:
        raise ValueError(f"{shown(text)} is already over, it was {now - at} seconds ago; name a time to come")
    if at > latest:
        raise ValueError(
            f"{shown(text)} is too late, a reminder can be due until"
            f" {datetime.fromtimestamp(latest, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
    return at


def shown(text: str) -> str:
    """A text as a refusal quotes it: short, on one line, whatever it holds."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
