"""A request's or an answer's text taken apart into lines, once, for whoever reads or repeats some of them; pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END, _FOLD = re.compile(r"\r?\n"), re.compile(r"\r?\n[ \t]+")
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_OTHERS = bytes(set(range(0x100)) - set(_CONTROLS))


class Lines(NamedTuple):
    """Lines and body of a request or an answer; a tuple, since a frozen dataclass takes twice as long to make."""

    raw: bytes
    "The whole of it, exact."
    start: str
    "The request line, or the status line."
    fields: list[tuple[str, str, str]]
    "Each header line, unfolded: what stands before its colon, the colon, and what stands behind."
    body: bytes
    "Everything after the head, before any check against Content-Length."
    plain: bool
    "Whether every line of the head stands there as it came: none was folded, all end with CR LF, all are `clean`."
    clean: bool
    "Whether no header holds a control character."
    torn: bool
    "Whether a carriage return stands alone: others, such as the PBX that strips our headers, read it otherwise."


def octets(text: str) -> bytes:
    """Text of a request as it stands on the wire: bytes that are no UTF-8 come out as they came."""
    return text.encode("utf-8", "surrogateescape")


def unfolded(text: str) -> list[str]:
    """The lines of a text; one that goes on in the next is one (RFC 3261 7.3.1)."""
    return _LINE_END.split(_FOLD.sub(" ", text))


def split(raw: bytes) -> Lines:
    """The lines of a request or an answer, whatever it is.

    Where every line ends with CR LF, a few looks for bytes take a tenth of what the regular expressions take.
    """
    end = raw.find(b"\r\n\r\n")
    if end >= 0:
        head = raw[:end]
        returns = head.count(b"\r\n")
        tidy = len(head.translate(None, _OTHERS)) == 2 * returns
        if tidy and b"\n " not in head and b"\n\t" not in head:
            start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
            return Lines(raw, start, [line.partition(":") for line in lines], raw[end + 4 :], True, True, False)
    return _split_odd(raw)


def _split_odd(raw: bytes) -> Lines:
    found = _HEAD_END.search(raw)
    head, body = (raw[: found.start()], raw[found.end() :]) if found else (raw, b"")
    returns = head.count(b"\r\n")
    clean = len(head.translate(None, _CONTROLS)) == len(head) - returns - head.count(b"\n")
    start, *lines = unfolded(head.decode("utf-8", "surrogateescape"))
    return Lines(raw, start, [line.partition(":") for line in lines], body, False, clean, head.count(b"\r") != returns)
