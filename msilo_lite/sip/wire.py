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
HEAD_END = re.compile(rb"\r?\n\r?\n")
LINE_END = re.compile(r"\r?\n")
FOLD, FOLDED = re.compile(r"\r?\n[ \t]+"), re.compile(rb"\n[ \t]")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_NO_CONTROLS = bytes(set(range(0x100)) - set(_CONTROLS))
_CONTROL_BYTE, _TOKEN_BYTES = re.compile(_CONTROL.pattern.encode()), re.compile(_TOKEN.pattern.encode())
_TEXT = r"\x00-\x08\x0a-\x1f\x7f"
_ONE_ADDRESS = re.compile(rf'(?:"(?:[^"\\{_TEXT}]|\\[^{_TEXT}])*"|[^"<>{_TEXT}]*)[ \t]*<[^<>"\x00-\x20\x7f]+>')
"A name-addr and nothing else."


class Incoming(NamedTuple):
    """One request as it came from the wire; a tuple, since a frozen dataclass takes twice as long to make."""

    raw: bytes
    "Start line, headers and body, exact."
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
        return made(self.method, self.target, headers, names, self.body, self.size, clean=self.clean)

    def all(self, name: str) -> list[str]:
        """Every value of a header, lists taken apart."""
        if name not in self.first:
            return []
        return [item for key, value in self.headers if key == name for item in split_list(value)]


def octets(text: str) -> bytes:
    """Text of a request as it stands on the wire: bytes that are no UTF-8 come out as they came."""
    return text.encode("utf-8", "surrogateescape")


def made(
    method: str, target: str, headers: tuple[tuple[str, str], ...], names: tuple[str, ...], body: bytes, size: int,
    *, clean: bool,
) -> Request:  # fmt: skip
    """A request of these parts."""
    first = dict(reversed(headers))
    steered = f"\n{OWN_PREFIX}" in "\n" + "\n".join(first)  # one look, where a loop would be one for each header
    return Request(method, target, headers, names, body, size, first, clean, steered)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Head and body; where every line ends with CR LF, two looks for bytes take a tenth of a search."""
    end = raw.find(b"\r\n\r\n")
    if end >= 0 and raw.find(b"\n\r\n", 0, end + 2) < 0 and raw.find(b"\n\n", 0, end) < 0:
        return raw[:end], raw[end + 4 :]
    found = HEAD_END.search(raw)
    return (raw[: found.start()], raw[found.end() :]) if found else (raw, b"")


def read(raw: bytes) -> Request:
    """Split a request. Raises BadRequest (400) when it is not one."""
    head, body = _split(raw)
    returns = head.count(b"\r\n")
    clean = tidy = len(head.translate(None, _NO_CONTROLS)) == 2 * returns
    text = head.decode("utf-8", "surrogateescape")
    if not tidy:
        if head.count(b"\r") != returns:  # others, such as the PBX that strips our headers, read it otherwise
            raise BadRequest(400, "a carriage return stands alone")
        clean = len(head.translate(None, _CONTROLS)) == len(head) - returns - head.count(b"\n")
    if FOLDED.search(head):
        text = FOLD.sub(" ", text)
    start, *lines = text.split("\r\n") if tidy else LINE_END.split(text)
    parts = start.split(" ")
    if len(parts) != 3:
        raise BadRequest(400, "the request line is malformed")
    headers, names = [], []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400, "a header line has no colon")
        known = _known(name)
        if known:
            headers.append((known[0], value.strip()))
            names.append(known[1])
    return made(parts[0], parts[1], tuple(headers), tuple(names), body, len(raw), clean=clean)


@lru_cache(maxsize=1024)
def _known(name: str) -> tuple[str, str] | None:
    """A header's name in long form, in lower case and as it is written; None for no header that anybody knows."""
    name = name.rstrip(" \t")
    if not _TOKEN.fullmatch(name):
        return None
    key = name.lower()
    return COMPACT.get(key, key), COMPACT.get(key, name)


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
    pairs = (line.partition(":") for line in LINE_END.split(FOLD.sub(" ", block)))
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
    parts = (request.get("call-id") or "", request.get("cseq") or "", from_tag, str(owner))
    text = octets("\0".join(parts))
    return hashlib.sha256(text + b"\0" + hashlib.sha256(body).digest()).digest()[:16]
