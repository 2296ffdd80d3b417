"""The text of what leaves by UDP: answers to plain requests, and plain requests; pure.

PJSIP makes the same out of structures, on a pool for each; here a request's own lines are repeated. What is not plain
(folded lines, a Via that needs more than a look, a URI that needs more than an address) is left to PJSIP.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ..errors import BadRequest
from .address import is_literal, next_hop, parse_uri
from .lines import Lines, octets
from .wire import COMPACT, HIDDEN, Outgoing

COOKIE = "z9hG4bK"
"Begins the branch of everybody who follows RFC 3261 (8.1.1.7)."
OURS = COOKIE.encode() + b"Ms"
"Begins ours; RANDOM hexadecimal digits follow."
RANDOM = 24
SIP_PORT = 5060
LARGEST = 1300
"Bytes up to which UDP is right for a request whatever the path is (RFC 3261 18.1.1)."
_COPIED = {name.lower(): name for name in ("Via", "From", "To", "Call-ID", "CSeq", "Record-Route")}
"What an answer repeats as it is (RFC 3261 8.2.6.2, 12.1.1)."
_VIA = re.compile(r"(?ai)[ \t]*SIP/2\.0/UDP[ \t]+([^\s;,]+)((?:;[^\s;,\"]+)+)[ \t]*")
_SENT_BY = re.compile(r"(?a)(\[[0-9A-Fa-f:.]+\]|[^\s:;,\[\]]+)(?::(\d{1,5}))?")
_TO_TAG = re.compile(r"(?i);[ \t]*tag[ \t]*=")
_LEFT_TO_PJSIP = frozenset({"maddr", "received", "ttl"})


class Asked(NamedTuple):
    """A plain request that can be answered by its own lines."""

    fields: list[tuple[str, str, str]]
    "Its header lines, from the topmost Via on."
    sent_by: str
    parameters: list[str]
    "Of the topmost Via."
    branch: str
    host: str
    port: int
    "Where it came from."

    @property
    def back(self) -> tuple[str, int]:
        """Where its answer goes (RFC 3261 18.2.2, RFC 3581 4)."""
        if "rport" in self.parameters:
            return self.host, self.port
        return self.host, _port_in(self.sent_by) or self.port


def asked(text: Lines, host: str, port: int) -> Asked | None:
    """A request that came by UDP, as far as its answer needs it; None where that takes more than a look."""
    if not (text.plain and text.fields and _copied(text.fields[0][0]) == "Via"):
        return None
    via = _VIA.fullmatch(text.fields[0][2])
    if via is None:
        return None
    sent_by, rest = via.groups()
    if not _port_in(sent_by):
        return None
    branch, parameters = "", rest.split(";")[1:]
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        name = name.lower()
        if name == "branch":
            branch = value
        elif name in _LEFT_TO_PJSIP or (name == "rport" and parameter != "rport"):
            return None
    if not branch.startswith(COOKIE):
        return None
    return Asked(text.fields, sent_by, parameters, branch, host, port)


@lru_cache(maxsize=1024)
def _port_in(sent_by: str) -> int:
    """The port that a Via names, or the usual one; 0 where it is no sent-by."""
    form = _SENT_BY.fullmatch(sent_by)
    return int(form[2] or SIP_PORT) if form else 0


def response(to: Asked, status: int, phrase: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """The answer to a request. It has the same To tag each time (RFC 3261 8.2.7: nothing is remembered)."""
    out = [_via_back(to)]
    for name, colon, value in to.fields[1:]:
        name = _copied(name)
        if name == "To" and not _TO_TAG.search(value, value.rfind(">") + 1):
            out.append(f"To:{value};tag={to.branch}")
        elif name and colon:
            out.append(f"{name}:{value}")
    first = b"SIP/2.0 %d %s\r\n" % (status, phrase)
    more = b"".join([b"%s: %s\r\n" % pair for pair in headers])
    return b"%s%s\r\n%sContent-Length: 0\r\n\r\n" % (first, octets("\r\n".join(out)), more)


def _via_back(to: Asked) -> str:
    """The topmost Via with what the transport saw (RFC 3261 18.2.1, RFC 3581 4)."""
    seen = [f"rport={to.port}" if one == "rport" else one for one in to.parameters]
    return f"Via: SIP/2.0/UDP {to.sent_by};{';'.join(seen)};received={to.host}"


@lru_cache(maxsize=1024)
def _copied(name: str) -> str:
    """A header's name as everybody writes it where an answer repeats the header, else nothing."""
    text = name.rstrip(" \t").lower()
    return _COPIED.get(COMPACT.get(text, text), "")


@lru_cache(maxsize=4096)
def address_of(uri: str) -> tuple[str, int] | None:
    """Where a request to this URI goes by UDP, without brackets; None where that takes more than reading it."""
    try:
        found = parse_uri(uri)
    except BadRequest:
        return None
    transport = (found.parameters.get("transport") or "udp").lower()
    odd = {"maddr", "ttl", "method"} & {name.lower() for name in found.parameters}
    if found.scheme != "sip" or transport != "udp" or odd or "?" in uri or not is_literal(found.host):
        return None
    return found.host.strip("[]"), found.port or SIP_PORT


def plain_hop(message: Outgoing) -> tuple[str, int] | None:
    """Where a plain request goes; None where PJSIP has to find out, or may choose another transport."""
    if message.method != "MESSAGE" or message.to_tag or (message.ctype and not message.body):
        return None
    if not message.routes:
        return address_of(message.target)
    return _hop_of_route(message.routes[0])


@lru_cache(maxsize=1024)
def _hop_of_route(route: str) -> tuple[str, int] | None:
    """Of a loose router (RFC 3261 16.12)."""
    uri = next_hop(route)
    return address_of(uri) if "lr" in {name.lower() for name in parse_uri(uri).parameters} else None


def request(message: Outgoing, sent_by: bytes, branch: bytes, tag: bytes, user_agent: bytes) -> bytes | None:
    """A plain request; None where it is too long, or a value would break out of its line."""
    first = octets(
        f"{message.method} {message.target} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {sent_by.decode()};rport;branch={branch.decode()}\r\n"
        f"Max-Forwards: 70\r\nFrom: {message.from_};tag={message.from_tag or tag.decode()}\r\nTo: {message.to}\r\n"
        f"Call-ID: {message.call_id}\r\nCSeq: {message.cseq} {message.method}\r\n"
    )
    lines = [b"User-Agent: %s\r\n" % user_agent]
    lines += [b"%s: %s\r\n" % pair for pair in message.headers]
    lines += [b"Route: %s\r\n" % octets(route) for route in message.routes if not route.endswith(HIDDEN)]
    if message.body:
        lines.append(b"Content-Type: %s\r\n" % message.ctype)
    head = first + b"".join(lines)
    ends = 7 + len(lines)
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        return None
    whole = b"%sContent-Length: %d\r\n\r\n%s" % (head, len(message.body), message.body)
    return whole if len(whole) <= LARGEST else None


def branch_of(raw: bytes) -> bytes | None:
    """The branch of ours that an answer is to, or None where it answers somebody else's."""
    at = raw.find(b"branch=" + OURS) + len("branch=")
    return raw[at : at + len(OURS) + RANDOM] if at >= len("branch=") else None
