"""What a phone can see of a MESSAGE, without what differs between any two: to compare what two stores sent."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from ..phone import Seen

OF_EACH_HOP = frozenset({"via", "call-id", "cseq", "max-forwards", "user-agent", "x-msilo-id", "content-length"})
"Not compared. X-MSilo-ID is ours alone; Content-Length is checked and not kept."
GMT = "GMT"
"Stands for a Date in the form of RFC 3261."
_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


@dataclass(frozen=True, slots=True)
class Shown:
    """A MESSAGE without tags, dates and the headers of each hop."""

    uri: str
    headers: tuple[tuple[str, str], ...]
    "Sorted by name."
    prefix: str
    "`Offline` when the body began with msilo's words and the time of the Date header."
    body: bytes
    "What came after those words."

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def without(self, *names: str) -> "Shown":
        """The same, but for the headers that only one of two sends."""
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0] not in names))


def shown(seen: Seen, zone: str = "UTC") -> Shown:
    """`zone`: time zone of the store."""
    assert int(seen["Content-Length"]) == len(seen.body)
    prefix, body = _parted(seen, zone)
    headers = [(name, _plain(name, value)) for name, value in seen.headers if name not in OF_EACH_HOP]
    return Shown(seen.uri, tuple(sorted(headers)), prefix, body)


def _plain(name: str, value: str) -> str:
    if name == "from":
        return re.sub(";tag=[^;]*", "", value)
    return GMT if name == "date" and _DATE.fullmatch(value) else value


def _parted(seen: Seen, zone: str) -> tuple[str, bytes]:
    if not seen.all("Date"):
        return "", seen.body
    prefix = offline_prefix(seen, zone)
    return ("Offline", seen.body.removeprefix(prefix)) if seen.body.startswith(prefix) else ("", seen.body)


def offline_prefix(seen: Seen, zone: str = "UTC") -> bytes:
    """msilo's words before a text that arrived when its Date header says."""
    return b"[Offline message - %b] " % ctime(seconds(seen["Date"]), zone)


def seconds(date: str) -> int:
    """UTC seconds of a Date header."""
    return int(parsedate_to_datetime(date).timestamp())


def ctime(at: int, zone: str = "UTC") -> bytes:
    """UTC seconds as C's ctime writes them in a zone, without the line end."""
    return datetime.fromtimestamp(at, ZoneInfo(zone)).ctime().encode()
