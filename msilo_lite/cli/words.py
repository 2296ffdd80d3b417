"""When a reminder is due, as a person says it: "tomorrow 9:00", "in 2 hours". The only module that knows dateparser.

dateparser understands a lot by accident ("may", "7", "tomorrow 25:00" as this time tomorrow), and none of its settings
tells a time from an accident. So a grammar here decides what is plainly a time, and dateparser is asked only which one.
It works with naive times of the wanted zone; the zone is attached here, so that each date has its own summer time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from ..box import due
from ..errors import ConfigError

EXAMPLES = "write for example: tomorrow 9:00, monday 8am, next friday 17:00, july 15 noon, in 2 hours, or +90m"
"Words that work, as the end of a refusal."
ZONES = {
    "z": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3,
    "edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8,
}  # fmt: skip
"Hours from UTC of the zones that have one meaning: RFC 5322 4.3 and Europe; IST, BST and others have several."
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks", "mo": "months", "y": "years"}
_COUNT = (
    r"(?:[0-9]{1,6}(?:\.[0-9]{1,3})? ?"
    r"|(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve) )"
)
_UNIT = r"(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|months?|years?)(?![a-z])"
_SPAN = rf"{_COUNT}{_UNIT}(?:(?: and)? ?{_COUNT}{_UNIT})*"
_WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKDAY = r"(?:mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_NUMBER = r"(?:0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th)?"
_DATE = rf"(?:(?:the )?{_NUMBER}(?: of)? {_MONTH}|{_MONTH} {_NUMBER})(?: [0-9]{{4}})?|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}"
_DAY = (
    rf"(?:today|tonight|tomorrow|yesterday|(?:the )?day after tomorrow|in {_COUNT}(?:days?|weeks?|months?|years?)"
    rf"|(?:on )?(?:(?:next|this|last) )?{_WEEKDAY}|(?:on )?(?:{_DATE}))"
)
_HOURS = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?|(?:0?[1-9]|1[0-2])(?::[0-5][0-9])? ?(?:am|pm)"
_CLOCK = rf"(?:at )?(?P<clock>{_HOURS}|noon|midnight)(?: ?(?P<zone>{'|'.join(ZONES)}|[+-][01][0-9]:?[0-5][0-9]))?"
_AFTER = re.compile(rf"in (?P<ahead>{_SPAN})|(?P<later>{_SPAN}) from now|(?P<ago>{_SPAN}) ago")
_AT = re.compile(rf"(?:(?P<before>{_DAY}) )?{_CLOCK}(?: (?P<behind>{_DAY}))?|(?P<lone>{_DAY})")


def seconds_in(text: str, option: str) -> int:
    """The length of a span such as 90m or 1d12h. Raises ConfigError that names the option."""
    try:
        length = due.exact(f"+{text.strip().removeprefix('+')}", 0, None)
    except ValueError:
        length = None
    if length is None:
        raise ConfigError(f"{option}: {due.shown(text)} is no length of time; write for example 90m, 2h, 1d12h")
    return length


def when(text: str, now: int, zone: tzinfo | None) -> int:
    """The UTC second that `text` names, in `zone` (None: that of this machine) unless it names another.

    Takes the forms of `due` and English words. A day without a time of day means the present time of that day; hours,
    minutes and seconds are ones that really pass, while "in 2 days" keeps the clock time; midnight goes without a day,
    since half the world means its end. Raises ValueError with one sentence for what is not plainly a time, and for
    what is over or too late to be kept.
    """
    at = due.exact(text, now, zone)
    if at is None:
        plain = " ".join(text.lower().replace(",", " ").replace("a.m.", "am").replace("p.m.", "pm").split())
        at = _distance(plain, now, zone) or _moment(plain, now, zone)
    if at is None:
        raise ValueError(f"{due.shown(text)} is not plainly a time; {EXAMPLES}")
    return due.in_time(text, at, now)


def _distance(plain: str, now: int, zone: tzinfo | None) -> int | None:
    """Texts like "in 2 hours", "3 days from now", "an hour ago"; counted in UTC as soon as they name hours or less."""
    found = _AFTER.fullmatch(plain)
    if not found:
        return None
    counted = re.findall(rf"({_COUNT})({_UNIT})", found["ahead"] or found["later"] or found["ago"])
    units = [_UNITS["mo" if unit.startswith("mo") else unit[0]] for _, unit in counted]
    if len(set(units)) < len(units):  # dateparser would take the last one and forget the others
        return None
    base = datetime.fromtimestamp(now, UTC if {"hours", "minutes", "seconds"} & set(units) else zone)
    span = " ".join(f"{_number(count)} {unit}" for (count, _), unit in zip(counted, units, strict=True))
    return _second(f"{span} ago" if found["ago"] else f"in {span}", base)


def _number(count: str) -> str:
    count = count.strip()
    return "1" if count in ("a", "an") else count


def _moment(plain: str, now: int, zone: tzinfo | None) -> int | None:
    """Texts like "monday 8am", "9:00 UTC", "next friday": the next moment that fits."""
    found = _AT.fullmatch(plain)
    if not found or (found["before"] and found["behind"]):
        return None
    day, clock = found["before"] or found["behind"] or found["lone"] or "", found["clock"]
    if day and clock == "midnight":
        return None
    base = datetime.fromtimestamp(now, _zone(found["zone"]) if found["zone"] else zone)
    day = day.removeprefix("on ").replace("tonight", "today")
    if clock and day[:3] in ("", _WEEK[base.weekday()]):  # dateparser skips today's weekday even before that hour
        today = _second(f"today {clock}", base)
        if today is not None and today >= now:
            return today
        day = day or "tomorrow"  # left alone, dateparser goes from 28 February to 1 February
    at = _second(f"{day} {clock or format(base, '%H:%M:%S')}", base)
    return None if at == now and not clock else at  # "today" alone names no time


def _zone(text: str) -> tzinfo:
    """A zone as a clock time names it: `cet`, `+02:00`."""
    if text in ZONES:
        return timezone(timedelta(hours=ZONES[text]))
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _second(text: str, base: datetime) -> int | None:
    """The UTC second that dateparser reads in a text of the grammar, seen from `base` and in its zone."""
    import dateparser  # type: ignore[import-untyped]  # imported here, since it takes longer than most commands

    settings = {
        "RELATIVE_BASE": base.replace(tzinfo=None, fold=0),
        "PREFER_DATES_FROM": "future",
        "TIMEZONE": "UTC",  # or it would ask this machine for its zone
        "RETURN_AS_TIMEZONE_AWARE": False,
    }
    naive = dateparser.parse(text.strip(), languages=["en"], settings=settings)
    if naive is None:
        return None
    try:
        first, second = (int(naive.replace(tzinfo=base.tzinfo, fold=fold).timestamp()) for fold in (0, 1))
    except (ValueError, OverflowError):  # the first and the last year of the calendar
        return None
    return second if first < base.timestamp() else first  # in the hour that comes twice: the one still to come
