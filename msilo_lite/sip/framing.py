"""Where a SIP message ends in a stream of bytes, and the answers that need nothing but its head; pure.

A stream has no other borders than Content-Length (RFC 3261 18.3), so whatever could be read in two ways is refused: one
plain Content-Length, a start line of SIP/2.0, no NUL and no lone CR or LF in the head. Whatever the pieces in which the
bytes arrive, the same messages come out of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

LIMIT = 3900
"Bytes of a message that is taken; PJSIP's buffer holds 4,000, and the door puts a Via on top."
HEAD_MOST = 16384
"Bytes of a head that are looked at; no end within them means that the stream cannot be followed."
SKIP_MOST = 1 << 20
"Bytes of a message too long that are read and thrown away, so that the connection lives on."
COMPACT = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id", b"l": b"content-length", b"m": b"contact"}
"The compact forms of what is looked at here (RFC 3261 7.3.3)."
ECHOED = (b"via", b"from", b"to", b"call-id", b"cseq")
"What an answer repeats (RFC 3261 8.2.6.2), and what every request has (8.1.1; Max-Forwards is often left out)."
ESSENTIAL = (*ECHOED, b"retry-after", b"contact", b"www-authenticate", b"proxy-authenticate")
"What is left of the head of an answer that is too long to be passed on."
_REQUEST = re.compile(rb"([A-Za-z0-9.!%*_+`'~-]{1,40}) +([^\s\x00-\x1f\x7f]+) +(SIP/(\d{1,3})\.(\d{1,3}))", re.I)
_STATUS = re.compile(rb"SIP/2\.0 ([1-6]\d\d)(?: .*)?", re.I | re.S)
_LONE = re.compile(rb"\x00|(?<!\r)\n|\r(?!\n)")
_FOLD = re.compile(rb"\r\n[ \t]+")
_DIGITS = re.compile(rb"\d{1,9}")
_END = b"\r\n\r\n"
_PING, _RPORT = b"\r\n\r\n", re.compile(rb";[ \t]*rport[ \t]*(?=[;,]|$)", re.I)
_RECEIVED = re.compile(rb";[ \t]*received[ \t]*=", re.I)


@dataclass(frozen=True)
class Head:
    """Start line and header lines of a message, unfolded."""

    start: bytes
    lines: tuple[bytes, ...]

    @classmethod
    def of(cls, raw: bytes) -> Head:
        """From bytes that hold a head, with or without what follows it."""
        start, *lines = _FOLD.sub(b" ", raw.partition(_END)[0]).split(b"\r\n")
        return cls(start, tuple(lines))

    @cached_property
    def _named(self) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        for line in self.lines:
            name, colon, value = line.partition(b":")
            if colon:
                key = name.rstrip(b" \t").lower()
                found.setdefault(COMPACT.get(key, key), []).append(value.strip(b" \t"))
        return found

    def all(self, name: bytes) -> list[bytes]:
        """The values of a header, named in lower case and long form; lists are not taken apart."""
        return self._named.get(name, [])

    def get(self, name: bytes) -> bytes:
        """The first of them; empty when there is none."""
        return next(iter(self.all(name)), b"")

    @property
    def code(self) -> int:
        """Status code of a response; 0: a request."""
        form = _STATUS.fullmatch(self.start)
        return int(form[1]) if form else 0

    @property
    def method(self) -> bytes:
        """Method of a request as written; empty: a response."""
        form = None if self.code else _REQUEST.fullmatch(self.start)
        return form[1] if form else b""

    @property
    def answerable(self) -> bool:
        """Whether it has what every request has."""
        return all(self.get(name) for name in ECHOED)


@dataclass(frozen=True, slots=True)
class Whole:
    """One message, from its start line to the last byte of its body."""

    head: Head
    raw: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Two line ends between messages, which want one back (RFC 5626 3.5.1)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that goes no further."""

    status: int
    reason: str
    head: Head
    "As far as it was understood."
    closes: bool
    "Whether the stream cannot be followed any longer."


class Unframed(ValueError):
    """A head that two readers could understand in two ways."""


def body_length(head: Head) -> int:
    """Content-Length. Raises Unframed unless there is exactly one, a plain number."""
    found = head.all(b"content-length")
    if len(found) != 1 or not _DIGITS.fullmatch(found[0]):
        raise Unframed("exactly one Content-Length is needed, a number (RFC 3261 18.3)")
    return int(found[0])


def _checked(raw: bytes) -> tuple[Head, int]:
    """A head and the length of what follows. Raises Unframed."""
    if _LONE.search(raw):
        raise Unframed("a NUL or a lone line end in the head")
    head = Head.of(raw)
    if not (_REQUEST.fullmatch(head.start) or head.code):
        raise Unframed("this is no SIP message")
    return head, body_length(head)


@dataclass(slots=True)
class Framer:
    """Cuts one stream: `feed` it, then ask `next` until it has nothing more to say."""

    limit: int = LIMIT
    _buffer: bytearray = field(default_factory=bytearray)
    _skip: int = 0
    "Bytes of a message too long that are still to come."
    _seen: int = 0
    "Bytes that were searched for the end of a head."
    _found: tuple[Head, int] | None = None
    "A head, and how long its whole message is."
    _broken: bool = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived."""
        if not self._broken:
            self._buffer += data

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._skip or self._buffer.lstrip(b"\r\n"))

    def next(self) -> Whole | Ping | Refusal | None:
        """What comes next in the stream; None until more arrives."""
        if self._broken or not self._skipped():
            return None
        if self._found is None:
            said = self._between() or self._read_head()
            if said or self._found is None:
                return said
        head, size = self._found
        if len(self._buffer) < size:
            return None
        raw = bytes(self._buffer[:size])
        self._drop(size)
        return Whole(head, raw)

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._seen, self._found = 0, None

    def _skipped(self) -> bool:
        """Throw away what belongs to a message too long; whether all of it has come."""
        if self._skip:
            gone = min(self._skip, len(self._buffer))
            self._drop(gone)
            self._skip -= gone
        return not self._skip

    def _between(self) -> Ping | None:
        """Line ends before a message: two are a ping, one is ignored (RFC 3261 7.5)."""
        while self._buffer[:2] == b"\r\n":
            if self._buffer[:4] == _PING:
                self._drop(4)
                return Ping()
            if _PING.startswith(self._buffer[:4]):  # one, and perhaps the first half of a ping
                return None
            self._drop(2)
        return None

    def _read_head(self) -> Refusal | None:
        """Look for the end of the head; what is wrong with it."""
        if len(self._buffer) < len(_PING) and _PING.startswith(self._buffer):
            return None
        end = self._buffer.find(_END, max(0, self._seen - 3), HEAD_MOST)
        if end < 0:
            self._seen = len(self._buffer)
            if self._seen < HEAD_MOST:
                return None
            return self._break(513, "Message Too Large", bytes(self._buffer[:HEAD_MOST]))
        raw = bytes(self._buffer[:end])
        try:
            head, length = _checked(raw)
        except Unframed as error:
            return self._break(400, str(error), raw)
        size = end + len(_END) + length
        if size <= self.limit:
            self._found = head, size
            return None
        if size > SKIP_MOST:
            return self._break(513, "Message Too Large", raw)
        self._skip = size
        return Refusal(513, "Message Too Large", head, closes=False)

    def _break(self, status: int, reason: str, raw: bytes) -> Refusal:
        """Nothing that follows can be understood."""
        self._broken = True
        self._buffer.clear()
        head = Head.of(raw)
        sound = tuple(line for line in head.lines if not _LONE.search(line))
        return Refusal(status, reason, Head(head.start, sound), closes=True)


def objection(head: Head) -> tuple[int, str] | None:
    """What is wrong with a request that is framed well, and that PJSIP would not answer; None: nothing."""
    form = _REQUEST.fullmatch(head.start)
    if form is None or (form[4], form[5]) != (b"2", b"0"):
        return 505, "Version Not Supported"
    if not head.answerable:
        return 400, "Via, From, To, Call-ID and CSeq are needed"
    return None


def answer(head: Head, status: int, reason: str, *more: str) -> bytes:
    """The answer to a request; `more`: header lines. Repeats what the request has of Via, From, To, Call-ID, CSeq."""
    lines = [b"SIP/2.0 %d %s" % (status, reason.encode("ascii", "replace").replace(b"\r", b"").replace(b"\n", b" "))]
    for line in _kept(head, ECHOED):
        name, _, value = line.partition(b":")
        untagged = name.lower() in (b"to", b"t") and not re.search(rb";[ \t]*tag[ \t]*=", value, re.I)
        lines.append(line + (b";tag=" + _tag(head) if untagged else b""))
    lines += [one.encode("ascii", "replace") for one in more]
    return b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])


def _tag(head: Head) -> bytes:
    """The tag of an answer without state: the same for the same request (RFC 3261 8.2.7)."""
    named = b"\0".join(head.get(name) for name in ECHOED)
    return hashlib.sha256(named).hexdigest()[:16].encode()


def _kept(head: Head, names: Iterable[bytes]) -> list[bytes]:
    """The lines of these headers, in order, with the white space around their names gone."""
    kept = []
    for line in head.lines:
        name, _, value = line.partition(b":")
        key = name.rstrip(b" \t").lower()
        if COMPACT.get(key, key) in names:
            kept.append(name.rstrip(b" \t") + b":" + value)
    return kept


def shortened(head: Head, limit: int = LIMIT) -> bytes:
    """A response that was too long, without its body; of a head too long only what the sender of the request needs."""
    bodiless = [line for line in head.lines if _name(line) not in (b"content-length", b"content-type")]
    whole = b"\r\n".join([head.start, *bodiless, b"Content-Length: 0", b"", b""])
    if len(whole) <= limit:
        return whole
    return b"\r\n".join([head.start[:200], *_kept(head, ESSENTIAL), b"Content-Length: 0", b"", b""])


def _name(line: bytes) -> bytes:
    key = line.partition(b":")[0].rstrip(b" \t").lower()
    return {b"c": b"content-type"}.get(key, COMPACT.get(key, key))


# -- Via ---------------------------------------------------------------------------------------------------------------
def with_via(raw: bytes, via: bytes) -> bytes:
    """The message with a Via of our own on top; `via`: its value."""
    start, _, rest = raw.partition(b"\r\n")
    return start + b"\r\nVia: " + via + b"\r\n" + rest


def without_via(raw: bytes) -> bytes:
    """The message without its first header line, which is the Via that `with_via` put there."""
    start, _, rest = raw.partition(b"\r\n")
    return start + b"\r\n" + rest.partition(b"\r\n")[2]


def first_line(raw: bytes) -> bytes:
    """The first header line."""
    return raw.partition(b"\r\n")[2].partition(b"\r\n")[0]


def with_first_via(raw: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The message with its first Via line changed; `change`: from the old value to the new one."""
    head, end, body = raw.partition(_END)
    lines = _FOLD.sub(b" ", head).split(b"\r\n")
    for number, line in enumerate(lines[1:], 1):
        if _name(line) == b"via":
            lines[number] = b"Via: " + change(line.partition(b":")[2].strip(b" \t"))
            break
    return b"\r\n".join(lines) + end + body


def stamped(via: bytes, host: str, port: int) -> bytes:
    """The Via of a request that came from `host` and `port`, as its answer repeats it (RFC 3261 18.2.1, RFC 3581 4)."""
    first, comma, others = _first_of(via)
    place = b"[%s]" % host.encode() if ":" in host else host.encode()
    sent_by = b"".join(first.split(None, 1)[1:]).partition(b";")[0].strip()
    more = b""
    told = re.fullmatch(re.escape(place) + rb"([ \t]*:[ \t]*\d+)?", sent_by, re.I)
    if not _RECEIVED.search(first) and (_RPORT.search(first) or not told):
        more = b";received=" + host.encode()
    return _RPORT.sub(b";rport=%d" % port, first) + more + comma + others


def _first_of(value: bytes) -> tuple[bytes, bytes, bytes]:
    """The first item of a Via value, the comma, and the rest."""
    quoted = False
    for at, byte in enumerate(value):
        if byte == 0x22:
            quoted = not quoted
        elif byte == 0x2C and not quoted:
            return value[:at].rstrip(b" \t"), b",", value[at + 1 :]
    return value.rstrip(b" \t"), b"", b""


def branch_of(via: bytes) -> bytes:
    """The branch of the first Via; empty when it has none."""
    form = re.search(rb";[ \t]*branch[ \t]*=[ \t]*([^;,\s]+)", _first_of(via)[0], re.I)
    return form[1] if form else b""
