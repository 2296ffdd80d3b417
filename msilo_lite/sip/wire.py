"""A request's text into a `Request`, an answer's into what it asks for; no I/O, no decision about storing.

Header lines are split here and not by sipmessage's Message, which costs 69 us a request and fails on folded lines; each
value that needs syntax goes to sipmessage through `address`.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from ..box.policy import RECEIVE_BUFFER, delta_seconds
from ..errors import BadRequest
from ..value import value
from .address import Aor, parse_address, parse_uri, split_list
from .lines import Lines, octets, unfolded

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"Compact forms (RFC 3261 7.3.3 and the IANA registry)."
NOT_KEPT = frozenset(
    """
    accept accept-contact accept-encoding accept-language allow allow-events authorization call-id contact
    content-length content-type cseq date event expires from identity identity-info max-forwards min-expires min-se
    path proxy-authenticate proxy-authorization proxy-require reason record-route refer-to reject-contact
    request-disposition require retry-after route server service-route session-expires sip-etag sip-if-match
    subscription-state supported to unsupported user-agent via warning www-authenticate x-fs-sending-message
    """.split()  # noqa: SIM905 (a list literal of these would be 45 lines)
)
"Headers of one hop, one dialog or one sender's agent: a replay makes its own or has none."
ALONE = frozenset({"call-id", "content-length", "content-type", "cseq", "from", "max-forwards", "to"})
"Headers that may stand in a request once (RFC 3261 7.3.1)."
PATH = "X-MSilo-Path"
"The X-MSilo-IDs that a message had in silos before this one: two that point at each other must not circle."
OWN_PREFIX = "x-msilo-"
"Headers that steer us are never replayed."
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL_BYTE, _TOKEN_BYTES = re.compile(_CONTROL.pattern.encode()), re.compile(_TOKEN.pattern.encode())
_TEXT = r"\x00-\x08\x0a-\x1f\x7f"
_ONE_ADDRESS = re.compile(rf'(?:"(?:[^"\\{_TEXT}]|\\[^{_TEXT}])*"|[^"<>{_TEXT}]*)[ \t]*<[^<>"\x00-\x20\x7f]+>')
"A name-addr and nothing else."


class Incoming(NamedTuple):
    """One request as it came from the wire; a tuple, since a frozen dataclass takes twice as long to make."""

    text: Lines
    host: str
    "Source IP address, without brackets."
    port: int
    handle: int
    "What the edge needs to answer it, once."
    transport: str = "udp"
    "udp, tcp or tls."
    verified: bool = False
    "Whether its sender showed a TLS certificate of a CA in `tls_client_ca`."


HIDDEN = ";hide>"
"End of a Route that PJSIP follows and does not write."
CSEQ_STEP = 3
"A request that a PBX wants a password for is repeated with the numbers in between (`asker`, RFC 3261 22.2)."


@value
class Outgoing:
    """One request to send."""

    target: str
    "Request-URI."
    from_: str
    "name-addr without parameters; the edge adds the tag."
    to: str
    call_id: str
    headers: tuple[tuple[bytes, bytes], ...]
    ctype: bytes
    "Whole value of Content-Type, sent as it is; empty for none."
    body: bytes
    routes: tuple[str, ...] = ()
    "Route values to follow, first one first (RFC 3261 16.12)."
    method: str = "MESSAGE"
    cseq: int = 1
    "Of requests that follow one another in a dialog, CSEQ_STEP apart."
    from_tag: str = ""
    "Tag of From; empty: the edge makes one."
    to_tag: str = ""
    "Tag of To; empty: none, outside of a dialog."

    def flaw(self) -> str:
        """What of it could be read as more than was meant, in words; empty for a sound request.

        Our own parts write none such. Rows of other programs may: the last look is here, whatever way they came.
        """
        for name, address in (("From", self.from_), ("To", self.to)):
            if not _is_address(address):
                return f"its {name} is no address"
        texts = "".join((self.target, self.call_id, self.from_tag, self.to_tag, *self.routes))
        values = b"".join([self.ctype, *[value for _, value in self.headers]])
        if _CONTROL.search(texts) or _CONTROL_BYTE.search(values):
            return "a header holds control characters"
        return "" if all(_is_name(name) for name, _ in self.headers) else "a header has no name"


@lru_cache(maxsize=1024)
def _is_name(name: bytes) -> bool:
    return bool(_TOKEN_BYTES.fullmatch(name))


@lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    """Whether it is one name-addr and nothing else; a peer's answer to any other could not even be read."""
    try:
        return bool(_ONE_ADDRESS.fullmatch(text) and parse_address(text, tel=True))
    except BadRequest:
        return False


@value
class Answer:
    """How an Outgoing ended."""

    code: int
    reason: str
    raw: bytes = b""
    "The whole response; empty when the end was local."
    local: bool = False
    "True when nobody answered: time-out (code 408) or transport failure (503)."


class Request(NamedTuple):
    """A request, split into its parts."""

    method: str
    target: str
    "Request-URI as written."
    headers: tuple[tuple[str, str], ...]
    "Names in lower case and long form, values unfolded."
    names: tuple[str, ...]
    "The names as written, in the same order."
    body: bytes
    "Everything after the head, before any check against Content-Length."
    size: int
    "Bytes of the whole datagram as PJSIP handed it over."
    first: dict[str, str]
    "The first value of each header."
    clean: bool
    "Whether no header holds a control character."
    steered: bool
    "Whether there are headers that steer us."

    def get(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return self.first.get(name)

    @property
    def repeats(self) -> bool:
        """Whether any header stands there more than once."""
        return len(self.first) != len(self.headers)

    def without(self, *prefixes: str) -> Request:
        """The same request as if headers whose names begin so were not there."""
        pairs = zip(self.headers, self.names, strict=True)
        left = [(pair, name) for pair, name in pairs if not pair[0].startswith(prefixes)]
        headers, names = tuple(pair for pair, _ in left), tuple(name for _, name in left)
        steered = any(key.startswith(OWN_PREFIX) for key, _ in headers)
        return self._replace(headers=headers, names=names, first=dict(reversed(headers)), steered=steered)

    def all(self, name: str) -> list[str]:
        """Every value of a header, lists taken apart."""
        if name not in self.first:
            return []
        return [item for key, value in self.headers if key == name for item in split_list(value)]


def read(text: Lines) -> Request:
    """The request that these lines are. Raises BadRequest (400) when they are none."""
    if text.torn:
        raise BadRequest(400, "a carriage return stands alone")
    parts = text.start.split(" ")
    if len(parts) != 3:
        raise BadRequest(400, "the request line is malformed")
    headers, names, steered = [], [], False
    for name, colon, rest in text.fields:
        if not colon:
            raise BadRequest(400, "a header line has no colon")
        if known := _known(name):
            key, written, steers = known
            headers.append((key, rest.strip()))
            names.append(written)
            steered |= steers
    return Request(
        parts[0], parts[1], tuple(headers), tuple(names), text.body, len(text.raw), dict(reversed(headers)),
        text.clean, steered,
    )  # fmt: skip


class _Name(NamedTuple):
    """A header's name."""

    key: str
    "In long form and lower case."
    name: str
    "As it is written, but in long form."
    steers: bool
    "Whether it is one of those that steer us."


@lru_cache(maxsize=1024)
def _known(name: str) -> _Name | None:
    """What a header's name means; None for one that nobody could know."""
    name = name.rstrip(" \t")
    if not _TOKEN.fullmatch(name):
        return None
    key = name.lower()
    key, name = COMPACT.get(key, key), COMPACT.get(key, name)
    return _Name(key, name, key.startswith(OWN_PREFIX))


def check(request: Request) -> bytes:
    """The body of a sound request, cut to its Content-Length. Raises BadRequest: 400, 416, 420, 483, 513."""
    declared = request.get("content-length")
    _single(request)
    length = delta_seconds(declared) if declared is not None else len(request.body)  # absent: the rest of the datagram
    if request.size >= RECEIVE_BUFFER:
        raise BadRequest(513, "longer than the 4,000 bytes this stack takes")
    if length is None:
        raise BadRequest(400, "Content-Length is not a number")
    if length > len(request.body):
        raise BadRequest(400, "Content-Length is larger than the body that came")
    if _cseq(request)[1] != request.method:
        raise BadRequest(400, "CSeq names another method")
    parse_uri(request.target)
    if request.get("max-forwards") == "0" and request.method != "OPTIONS":  # which we answer ourselves (RFC 3261 11)
        raise BadRequest(483, "Max-Forwards is used up")
    if required := request.all("require"):
        plain(request, "require")
        raise BadRequest(420, "an extension is required", headers=(("Unsupported", ", ".join(required)),))
    return request.body[:length]


def _single(request: Request) -> None:
    """Raises BadRequest (400) where a header that goes alone does not: two readers could take different ones."""
    if not request.repeats:
        return
    seen = [key for key, _ in request.headers if key in ALONE]
    if len(seen) != len(set(seen)):
        raise BadRequest(400, "a header that goes alone stands there twice")


def _cseq(request: Request) -> tuple[int, str]:
    return _split_cseq(request.get("cseq") or "")


@lru_cache(maxsize=1024)
def _split_cseq(value: str) -> tuple[int, str]:
    parts = value.split()
    return (delta_seconds(parts[0]) or 0, parts[1]) if len(parts) == 2 else (0, "")


def registrar_order(request: Request) -> tuple[str, int]:
    """Call-ID and CSeq number, which order the REGISTERs of one phone (RFC 3261 10.3 step 7)."""
    return request.get("call-id") or "", _cseq(request)[0]


def plain(request: Request, name: str) -> str:
    """A header that will be sent again. Raises BadRequest (400) where a control character could break out of it."""
    if request.clean:
        return request.first.get(name, "")
    values = [value for key, value in request.headers if key == name]
    if any(_CONTROL.search(value) for value in values):
        raise BadRequest(400, f"{name.capitalize()} holds control characters")
    return values[0] if values else ""


def bad_header(name: str, value: str) -> bool:
    """Whether a header cannot be kept: its name is no token, its value could break out of it, or it is ours to make."""
    return name == PATH or is_ours(name) or not _TOKEN.fullmatch(name) or bool(_CONTROL.search(value))


@lru_cache(maxsize=1024)
def is_ours(name: str) -> bool:
    """Whether a header is ours to make, so that none that was kept is repeated under its name."""
    key = COMPACT.get(name.lower(), name.lower())
    return name != PATH and (key in NOT_KEPT or key.startswith(OWN_PREFIX))


def bad_type(ctype: str, body: bytes) -> bool:
    """Whether a Content-Type cannot go with a body: it is missing, no type at all, or could break out of its header."""
    return bool(_CONTROL.search(ctype) or (body and "/" not in ctype))


def kept_lines(block: str) -> list[tuple[str, str]]:
    """Names and values of kept headers; those of others may be folded, or lack the last line end."""
    if not block:
        return []
    pairs = (line.partition(":") for line in unfolded(block))
    named = ((name.strip(), value.strip()) for name, colon, value in pairs if colon)
    return [(name, _CONTROL.sub(" ", value)) for name, value in named if _TOKEN.fullmatch(name)]


def content_type(request: Request, body: bytes) -> str:
    """The whole Content-Type. Raises BadRequest (400) when it is missing for a body or could inject a header."""
    value = plain(request, "content-type")
    if body and not value:
        raise BadRequest(400, "a body needs a Content-Type")  # RFC 3261 20.15
    if body and "/" not in value:
        raise BadRequest(400, "Content-Type is not of the form type/subtype")
    return value


@lru_cache(maxsize=1024)
def media_type(ctype: str) -> str:
    """type/subtype of a Content-Type value, in lower case."""
    return ctype.partition(";")[0].strip().lower()


def kept_headers(request: Request) -> str:
    """The end-to-end headers a replay repeats: Subject, Priority, Content-Encoding, unknown ones, ..."""
    if NOT_KEPT.issuperset(request.first):
        return ""
    lines = [
        f"{name}: {value}\r\n"
        for name, (key, value) in zip(request.names, request.headers, strict=True)
        if key not in NOT_KEPT and not key.startswith(OWN_PREFIX) and not _CONTROL.search(value)
    ]
    return "".join(lines)


def dedupe_key(request: Request, from_tag: str, owner: Aor, body: bytes) -> bytes:
    """16 bytes that name a request: the body belongs in it, because Kamailio's use_mode repeats the other parts."""
    parts = (request.get("call-id") or "", request.get("cseq") or "", from_tag, str(owner), "")
    return hashlib.blake2b(octets("\0".join(parts)) + body, digest_size=16).digest()
