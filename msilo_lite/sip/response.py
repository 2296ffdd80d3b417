"""What an answer to a request of ours says in its headers; no I/O."""

from __future__ import annotations

import re

from ..errors import BadRequest
from .address import aor_of, parse_address, parse_uri, split_list, without_headers
from .lines import split
from .wire import COMPACT, Answer


def retry_after(answer: Answer) -> int | None:
    """Seconds of a Retry-After header (RFC 3261 20.33), None when there is none."""
    value = _response_header(answer, "retry-after")
    number = re.match(r"\d{1,9}", value or "")
    return int(number[0]) if number else None


def redirect(answer: Answer) -> str | None:
    """The first Contact URI of a 3xx that names a user by SIP, or None."""
    value = _response_header(answer, "contact")
    try:
        uri = parse_address(split_list(value)[0]).uri if value else None
        return without_headers(uri) if uri and aor_of(parse_uri(uri)) else None
    except (BadRequest, IndexError):
        return None


def response_headers(answer: Answer, name: str) -> list[str]:
    """Every value of a header of a response, in order; empty when nobody answered."""
    if not answer.raw:
        return []
    keys = ((key.strip().lower(), value.strip()) for key, _, value in split(answer.raw).fields)
    return [value for key, value in keys if COMPACT.get(key, key) == name]


def _response_header(answer: Answer, name: str) -> str | None:
    """The first of them, or None."""
    return next(iter(response_headers(answer, name)), None)
