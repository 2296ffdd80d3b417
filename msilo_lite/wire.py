"""A request's text into a `Request`, a `Message` into the request that replays it; no I/O, no decision about storing.

Header lines are split here and not by sipmessage's Message, which costs 69 us a request and fails on folded lines; each
value that needs syntax goes to sipmessage through `address`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from .address import Aor, aor_of, parse_address, parse_uri, split_list
from .errors import BadRequest
from .message import Message, Waiting
from .policy import MAX_REQUEST, RECEIVE_BUFFER, delta_seconds, sip_date

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
    subscription-state supported to unsupported user-agent via warning www-authenticate
    """.split()  # noqa: SIM905 (a list literal of these would be 45 lines)
)
"Headers of one hop, one dialog or one sender's agent: a replay makes its own or has none."
ALONE = frozenset({"call-id", "content-length", "content-type", "cseq", "from", "max-forwards", "to"})
"Headers that may stand in a request once (RFC 3261 7.3.1)."
OWN_PREFIX = "x-msilo-"
"Headers that steer us are never replayed."
IDENTITY = frozenset({"p-asserted-identity", "p-preferred-identity"})
"Claims that hold inside a trust domain only (RFC 3325 5): not sent outside of it."
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(r"\r?\n")
_FOLD = re.compile(r"\r?\n[ \t]+")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
FRAME = len("MESSAGE  SIP/2.0\r\nMax-Forwards: 70\r\nFrom: ;tag=\r\nTo: \r\nCall-ID: \r\nCSeq: 1 MESSAGE\r\n") + 32
"Bytes of a replay that PJSIP writes around our values; its tag has 32."
VIA = len("Via: SIP/2.0/UDP [0000:0000:0000:0000:0000:0000:0000:0000]:65535;rport;branch=z9hG4bKPj\r\n") + 32
TAIL = len("Content-Type: \r\nContent-Length:     0\r\n\r\n")


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request as it came from the wire."""

    raw: bytes
    "Start line, headers and body, exact."
    host: str
    "Source IP address, without brackets."
    port: int
    handle: int
    "What the edge needs to answer it, once."


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One MESSAGE to send."""

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


@dataclass(frozen=True, slots=True)
class Answer:
    """How an Outgoing ended."""

    code: int
    reason: str
    raw: bytes = b""
    "The whole response; empty when the end was local."
    local: bool = False
    "True when nobody answered: time-out (code 408) or transport failure (503)."


@dataclass(frozen=True, slots=True)
class Request:
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

    def get(self, name: str) -> str | None:
        """The first value of a header, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all(self, name: str) -> list[str]:
        """Every value of a header, lists taken apart."""
        return [item for key, value in self.headers if key == name for item in split_list(value)]


def read(raw: bytes) -> Request:
    """Split a request. Raises BadRequest (400) when it is not one."""
    found = _HEAD_END.search(raw)
    head, body = (raw[: found.start()], raw[found.end() :]) if found else (raw, b"")
    text = head.decode("utf-8", "surrogateescape")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    start, *lines = _LINE_END.split(text)
    parts = start.split(" ")
    if len(parts) != 3:
        raise BadRequest(400, "the request line is malformed")
    headers, names = [], []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.strip()
        if not colon:
            raise BadRequest(400, "a header line has no colon")
        key = name.lower()
        headers.append((COMPACT.get(key, key), value.strip()))
        names.append(COMPACT.get(key, name))
    return Request(parts[0], parts[1], tuple(headers), tuple(names), body, len(raw))


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
    if request.get("max-forwards") == "0":
        raise BadRequest(483, "Max-Forwards is used up")
    required = request.all("require")
    plain(request, "require")
    if required:
        raise BadRequest(420, "an extension is required", headers=(("Unsupported", ", ".join(required)),))
    return request.body[:length]


def _single(request: Request) -> None:
    """Raises BadRequest (400) where a header that goes alone does not: two readers could take different ones."""
    seen = [key for key, _ in request.headers if key in ALONE]
    if len(seen) != len(set(seen)):
        raise BadRequest(400, "a header that goes alone stands there twice")


def _cseq(request: Request) -> tuple[int, str]:
    parts = (request.get("cseq") or "").split()
    return (delta_seconds(parts[0]) or 0, parts[1]) if len(parts) == 2 else (0, "")


def registrar_order(request: Request) -> tuple[str, int]:
    """Call-ID and CSeq number, which order the REGISTERs of one phone (RFC 3261 10.3 step 7)."""
    return request.get("call-id") or "", _cseq(request)[0]


def plain(request: Request, name: str) -> str:
    """A header that will be sent again. Raises BadRequest (400) where a control character could break out of it."""
    values = [value for key, value in request.headers if key == name]
    if any(_CONTROL.search(value) for value in values):
        raise BadRequest(400, f"{name.capitalize()} holds control characters")
    return values[0] if values else ""


def content_type(request: Request, body: bytes) -> str:
    """The whole Content-Type. Raises BadRequest (400) when it is missing for a body or could inject a header."""
    value = plain(request, "content-type")
    if body and not value:
        raise BadRequest(400, "a body needs a Content-Type")  # RFC 3261 20.15
    if body and "/" not in value:
        raise BadRequest(400, "Content-Type is not of the form type/subtype")
    return value


def media_type(ctype: str) -> str:
    """type/subtype of a Content-Type value, in lower case."""
    return ctype.partition(";")[0].strip().lower()


def kept_headers(request: Request) -> str:
    """The end-to-end headers a replay repeats: Subject, Priority, Content-Encoding, unknown ones, ..."""
    lines = [
        f"{name}: {value}\r\n"
        for name, (key, value) in zip(request.names, request.headers, strict=True)
        if key not in NOT_KEPT
        and not key.startswith(OWN_PREFIX)
        and _TOKEN.fullmatch(name)
        and not _CONTROL.search(value)
    ]
    return "".join(lines)


def dedupe_key(request: Request, from_tag: str, owner: Aor, body: bytes) -> bytes:
    """16 bytes that name a request: the body belongs in it, because Kamailio's use_mode repeats the other parts."""
    parts = (request.get("call-id") or "", request.get("cseq") or "", from_tag, str(owner))
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text + b"\0" + hashlib.sha256(body).digest()).digest()[:16]


def replay(item: Waiting, target: str, routes: tuple[str, ...], *, call_id: str, trusted: bool) -> Outgoing:
    """The request that carries a stored message to `target`; `trusted`: the next hop may see identity claims."""
    message = item.message
    headers = [(b"Date", sip_date(message.arrived).encode()), (b"X-MSilo-ID", item.msilo_id.encode())]
    for line in message.kept.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and (trusted or name.lower() not in IDENTITY):
            headers.append((_bytes(name), _bytes(value.strip())))
    return Outgoing(
        target, message.from_, message.to, call_id, tuple(headers), _bytes(message.ctype), message.body, routes
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _size(text: str) -> int:
    """Bytes of a text on the wire."""
    return len(text) if text.isascii() else len(_bytes(text))


def replay_size(message: Message, user_agent: str) -> int:
    """Bytes of the longest request that carries this message to its AoR, with every header PJSIP and we add."""
    values = (message.owner.uri, message.from_, message.to, message.kept, message.ctype)
    own = len(f"Date: {sip_date(0)}\r\nX-MSilo-ID: \r\nUser-Agent: {user_agent}\r\n") + MSILO_ID + CALL_ID
    return FRAME + VIA + TAIL + own + sum(map(_size, values)) + len(message.body)


CALL_ID = 40
"Bytes the Call-ID of a replay may have."
MSILO_ID = 32
"Bytes an X-MSilo-ID may have: 15 for the number, a dash and 16 random ones."


def fits(message: Message, user_agent: str, target: int) -> None:
    """Accepted must mean replayable. Raises BadRequest (513) for a message whose replay PJSIP could not send.

    `target`: bytes that Request-URI and Route may need; the AoR's own length where that is more.
    """
    size = replay_size(message, user_agent)
    longest = size + max(0, target - _size(message.owner.uri))
    if size > MAX_REQUEST or longest >= RECEIVE_BUFFER:
        raise BadRequest(513, f"its replay could have {longest} bytes, more than fit")


def hidden_route(proxy: str) -> str:
    """A Route to a SIP URI that PJSIP follows and does not write: the Request-URI stays the AoR, as with msilo."""
    loose = "" if re.search(r"(?i);lr\b", proxy) else ";lr"
    return f"<{proxy}{loose};hide>"


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
        return uri if uri and aor_of(parse_uri(uri)) else None
    except (BadRequest, IndexError):
        return None


def _response_header(answer: Answer, name: str) -> str | None:
    if not answer.raw:
        return None
    head = _HEAD_END.split(answer.raw, 1)[0].decode("utf-8", "surrogateescape")
    for line in _LINE_END.split(_FOLD.sub(" ", head))[1:]:
        key, _, value = line.partition(":")
        key = key.strip().lower()
        if COMPACT.get(key, key) == name:
            return value.strip()
    return None
