"""Addresses: SIP URIs, name-addrs and AoRs as values (RFC 3261 19.1, 20.10); no I/O, no policy.

sipmessage checks the syntax and splits; the text of a URI is kept as it came, because only the Request-URI of a replay
may differ from what the sender wrote.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

import sipmessage

from ..errors import BadRequest

URI = sipmessage.URI
USER_SAFE = "-_.!~*'()&=+$,;?/"
"What a user part may hold without escapes (RFC 3261 25.1, user-unreserved)."
_QUOTED = re.compile(r'\s*"(?:[^"\\]|\\.)*"')
_SCHEME = re.compile(r"(?i)\s*sips?:")
_ANY_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")
_ANY_HOST = re.compile(
    r"(?P<before>sips?:(?:[^@]*@)?)(?P<host>[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9.])?)"
    r"(?P<after>(?::\d+)?(?:;.*)?)"
)
_STAND_IN = "host.invalid"
_ADDR_SPEC = re.compile(r"\s*(?P<uri>[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"]*)\s*")
_NAME_ADDR = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^"<>\\]*)\s*<(?P<uri>[^<>]*)>')
_TAG = re.compile(r";tag=[A-Za-z0-9.!%*_+`'~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TEL = re.compile(r"(?i)tel:[0-9A-F*#+.()-]+(;[^\s<>\"]*)?")
_TOKENS = re.compile(r"[A-Za-z0-9.!%*_+`'~ -]+")
_LIST_ITEM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<])+')


class Aor(NamedTuple):
    """Whose mailbox it is: user as RFC 3261 10.3 compares it (escapes decoded, case kept), host in lower case."""

    user: str
    host: str

    @classmethod
    def parse(cls, text: str) -> Aor:
        """`sip:bob@home.lan` or `bob@home.lan`. Raises BadRequest: 400 when malformed, 404 when it names no user."""
        bare = text.strip().removeprefix("<").removesuffix(">")
        aor = aor_of(parse_uri(bare if _SCHEME.match(bare) else f"sip:{bare}"))
        if aor is None:
            raise BadRequest(404, f"{text!r} names no user; write USER@HOST, such as bob@home.lan")
        return aor

    @property
    def uri(self) -> str:
        """The AoR as a SIP URI."""
        return f"sip:{_escaped(self.user)}@{self.host}"

    def __str__(self) -> str:
        return f"{_escaped(self.user)}@{self.host}"


@lru_cache(maxsize=4096)
def _escaped(user: str) -> str:
    """A user part as it stands in a URI."""
    return quote(user, safe=USER_SAFE)


TRANSPORTS = ("udp", "tcp", "tls")
"What is served, and what a request can be sent over."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A transport address to listen on, or one that is listened on."""

    host: str
    port: int
    transport: str = "udp"
    "udp, tcp or tls."

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`udp:127.0.0.1:5070`, `tls:[::1]:5061`; raises ValueError with a sentence."""
        form = re.fullmatch(r"(\w+):(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5})", text.strip())
        if not form:
            raise ValueError(f"{text!r} is not of the form udp:127.0.0.1:5070, tcp:192.168.1.5:5060 or tls:[::1]:5061")
        if form[1].lower() not in TRANSPORTS:
            raise ValueError(f"{text!r} asks for {form[1]}, but only {', '.join(TRANSPORTS)} are served")
        host, port = form[2] or form[3], int(form[4])
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{host!r} is not an IP address; listen on an address, not on a name") from None
        if port > 65535:
            raise ValueError(f"{port} is not a port number")
        return cls(host, port, form[1].lower())

    @property
    def place(self) -> str:
        """host:port, as it stands in a URI."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.transport}:{self.place}"


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a request is sent first."""

    transport: str
    "In lower case: udp, tcp, tls, or another one that a URI asks for."
    host: str
    "IP address or name, without brackets."
    port: int
    name: str
    "What a TLS server's certificate has to name: the host of the URI, where `maddr` leads elsewhere (RFC 5922 7.1)."

    def __str__(self) -> str:
        return str(Endpoint(self.host, self.port, self.transport))


class NameAddr(NamedTuple):
    """The value of From, To or a Contact, split."""

    text: str
    "name-addr without header parameters, always in angle brackets."
    uri: str
    "The URI in it, as written."
    parameters: tuple[tuple[str, str | None], ...]
    "Header parameters such as tag or expires, names in lower case."

    def get(self, name: str) -> str | None:
        """A header parameter; None when absent, empty when it has no value."""
        for key, value in self.parameters:
            if key == name:
                return value or ""
        return None


@lru_cache(maxsize=4096)
def parse_uri(text: str) -> sipmessage.URI:
    """A SIP or SIPS URI, scheme in any case; headers in it (`?subject=x`) are left out, they name nobody.

    Raises BadRequest: 416 for another scheme, 400 when malformed.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() not in ("sip", "sips"):
        raise BadRequest(416, f"the URI scheme {scheme} is not served")
    text = without_headers(f"{scheme.lower()}:{rest}")
    try:
        uri = sipmessage.URI.parse(text)
        if uri.user and "\ufffd" in uri.user:  # two users must not become one mailbox
            raise BadRequest(400, f"{text!r} has escapes that are not UTF-8")
        return uri
    except (ValueError, TypeError) as error:  # TypeError: a parameter named like an argument of sipmessage's own
        form = _ANY_HOST.fullmatch(text)
        if form is None or form["host"] == _STAND_IN:
            raise BadRequest(400, f"{text!r} is not a SIP URI") from error
    # sipmessage refuses hosts such as pbx1 and my_pbx, which home networks have: check the rest with another one
    try:
        return replace(parse_uri(form["before"] + _STAND_IN + form["after"]), host=form["host"])
    except BadRequest as error:
        raise BadRequest(400, f"{text!r} is not a SIP URI") from error


def without_headers(uri: str) -> str:
    """A URI without the headers in it (RFC 3261 19.1.1): a question mark before the @ belongs to the user."""
    before, at, behind = uri.rpartition("@")
    return before + at + behind.partition("?")[0]


def parse_address(text: str, *, tel: bool = False) -> NameAddr:
    """One From, To or Contact value; `tel`: telephone numbers too. Raises BadRequest (400 or 416)."""
    if text.endswith(">"):
        return _untagged(text, tel)
    return _parsed(text, tel)


@lru_cache(maxsize=4096)
def _untagged(text: str, tel: bool) -> NameAddr:
    """An address without header parameters, such as To of a MESSAGE: the same ones come again and again."""
    return _parsed(text, tel)


def _parsed(text: str, tel: bool) -> NameAddr:
    address, closed, tag = text.rpartition(">")
    if closed and text.count("<") == 1 == text.count(">") and (not tag or _TAG.fullmatch(tag)):  # most that ever come
        whole, uri = _name_addr(address + closed, tel)
        return NameAddr(whole, uri, (("tag", tag[5:]),) if tag else ())
    name = _QUOTED.match(text)
    start = -1 if _ANY_SCHEME.match(text) else text.find("<", name.end() if name else 0)
    if start < 0:  # addr-spec: what follows a semicolon belongs to the header (RFC 3261 20)
        head, semicolon, rest = text.partition(";")
    else:
        end = text.find(">", start) + 1
        head, semicolon, rest = text[:end], "", text[end:]
    whole, uri = _name_addr(head, tel)
    try:
        parameters = sipmessage.Parameters.parse(semicolon + rest.strip())
    except (ValueError, TypeError) as error:  # TypeError: a parameter named like an argument of sipmessage's own
        raise BadRequest(400, f"{text!r} is not an address") from error
    return NameAddr(whole, uri, tuple((key.lower(), value) for key, value in parameters.items()))


@lru_cache(maxsize=4096)
def _name_addr(text: str, tel: bool) -> tuple[str, str]:
    """The part of an address that repeats, without its parameters: in angle brackets, and the URI alone."""
    form = _ADDR_SPEC.fullmatch(text) or _NAME_ADDR.fullmatch(text.strip())
    if form is None or _CONTROL.search(text):  # one could break out of the header it is sent in
        raise BadRequest(400, f"{text!r} is not an address")
    uri = form["uri"].strip()
    if not (tel and _TEL.fullmatch(uri)):
        parse_uri(uri)
    name = (form.groupdict().get("name") or "").strip()
    if name and not name.startswith('"') and not _TOKENS.fullmatch(name):
        name = f'"{name}"'  # more than tokens and yet no quotes (RFC 3261 25.1), as many phones send it
    return f"{name} <{uri}>".strip(), uri


def split_list(value: str) -> list[str]:
    """The items of a comma-separated header value; commas in quotes and angle brackets do not count."""
    return [item.strip() for item in _LIST_ITEM.findall(value) if item.strip()]


def aor_of(uri: sipmessage.URI) -> Aor | None:
    """The AoR a URI names: no port, no parameters, IPv6 hosts in brackets; None without user part."""
    return Aor(uri.user, uri.host.lower().rstrip(".")) if uri.user and uri.host else None


@lru_cache(maxsize=4096)
def aor_in(uri: str) -> Aor | None:
    """The AoR that the text of a URI names. Raises BadRequest as `parse_uri` does."""
    return aor_of(parse_uri(uri))


def named_in(uri: str) -> str:
    """Whom a URI names, for a log: user and host without a password or parameters; a dash for nobody."""
    try:
        found = aor_of(parse_uri(uri))
    except BadRequest:
        found = None
    return str(found) if found else "-"


def same_uri(a: str, b: str) -> bool:
    """RFC 3261 19.1.4: host without case, user with case, escapes decoded, parameters of both sides equal."""
    left, right = parse_uri(a), parse_uri(b)
    mine = {key.lower(): value.lower() if value else value for key, value in left.parameters.items()}
    other = {key.lower(): value.lower() if value else value for key, value in right.parameters.items()}
    # a parameter that only one side has is ignored, but for these (19.1.4)
    if any(mine.get(key) != other.get(key) for key in ("user", "ttl", "method", "maddr", "transport")):
        return False
    shared = mine.keys() & other.keys()
    return (
        (left.scheme, left.user, left.password, left.port) == (right.scheme, right.user, right.password, right.port)
        and left.host.lower() == right.host.lower()
        and all(mine[key] == other[key] for key in shared)
    )


@lru_cache(maxsize=1024)
def next_hop(route: str) -> str:
    """The URI of a Route value. Raises BadRequest (400) where there is none."""
    return parse_address(route).uri


@lru_cache(maxsize=4096)
def next_host(uri: str) -> str:
    """The host that a request to this URI is sent to, without brackets: `maddr` before the host (RFC 3261 19.1.1)."""
    parsed = parse_uri(uri)
    return (parsed.parameters.get("maddr") or parsed.host).strip("[]")


def remote_of(uri: str) -> Remote:
    """Where a request to this URI is sent (RFC 3263 4.1, 4.2 without DNS). Raises BadRequest."""
    parsed = parse_uri(uri)
    asked = (parsed.parameters.get("transport") or "udp").lower()
    transport = "tls" if parsed.scheme == "sips" and asked in TRANSPORTS else asked
    port = parsed.port or (5061 if transport == "tls" else 5060)
    return Remote(transport, next_host(uri), port, parsed.host.strip("[]"))


def finds_its_way(uri: str) -> bool:
    """Whether a request to this URI can leave: its host is an address, or the door looks the name up (TCP, TLS)."""
    return is_literal(next_host(uri)) or remote_of(uri).transport in ("tcp", "tls")


@lru_cache(maxsize=4096)
def is_literal(host: str) -> bool:
    """Whether a host needs no look-up: PJSIP resolves names blocking, on our only thread."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
