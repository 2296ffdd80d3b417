"""A stored message into the request that carries it: what the parameters of msilo add, and how large it may become.

A replay is a new request (RFC 3428 7): From, To, body and the end-to-end headers are the sender's, the rest is ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from ..box.message import Message, Waiting
from ..box.policy import MAX_REQUEST, RECEIVE_BUFFER, sip_date
from ..errors import BadRequest
from ..sip.lines import octets
from ..sip.wire import HIDDEN, Outgoing, is_ours, kept_lines, media_type
from .privacy import ANONYMOUS, hides_sender, shown

FRAME = len("MESSAGE  SIP/2.0\r\nMax-Forwards: 70\r\nFrom: ;tag=\r\nTo: \r\nCall-ID: \r\nCSeq: 1 MESSAGE\r\n") + 32
"Bytes of a replay that PJSIP writes around our values; its tag has 32."
VIA = len("Via: SIP/2.0/UDP [0000:0000:0000:0000:0000:0000:0000:0000]:65535;rport;branch=z9hG4bKPj\r\n") + 32
TAIL = len("Content-Type: \r\nContent-Length:     0\r\n\r\n")
CALL_ID = 40
"Bytes the Call-ID of a replay may have, where it is ours."
MSILO_ID = 32
"Bytes an X-MSilo-ID may have: 15 for the number, a dash and 16 random ones."
LATEST = 2**40
"A time of another program's row beyond this is no time that a calendar has."
LATE = 60
"Seconds after which a reminder says that it is late."
_OWN_LINES = len(f"Date: {sip_date(0)}\r\nX-MSilo-ID: \r\nUser-Agent: \r\n")
LATE_HEADER = len("X-MSilo-Late: \r\n") + 10
_ASCII_BASED = re.compile(
    r"(?i)us-ascii|ascii|utf-?8|iso[-_]?8859-\d+|latin-?\d+|windows-(125\d|874)|cp(125\d|437|85\d|86\d|874)"
    r"|koi8-\w+|gb2312|gbk|gb18030|big5|euc-\w+|tis-620"
)
_CHARSET = re.compile(r'(?i);\s*charset\s*=\s*"?([^";\s]*)')
_ENCODED = re.compile(r"(?im)^(?:content-encoding|content-transfer-encoding|e)\s*:\s*(?!identity|7bit|8bit|binary)\S")
_CALL_ID = re.compile(r"[!-~]+")
"What RFC 3261 25.1 lets a Call-ID have, roughly: no blanks, no control characters."


@dataclass(frozen=True, slots=True)
class Dress:
    """What the parameters put on every message that leaves."""

    user_agent: str
    add_date: bool = True
    "Whether the body tells when the message was written (msilo: add_date)."
    add_contact: bool = False
    "Whether there is a Contact, which RFC 3428 4 forbids (msilo: add_contact)."
    reminder: str = ""
    "From URI of reminders; empty: the sender's own (msilo: reminder)."
    signature: int = 0
    "Bytes that the answer to a PBX's challenge may need, beyond the Request-URI that it repeats."
    keep_call_id: bool = False
    "Whether a replay has the Call-ID of the request that brought the message (msilo: use_mode, bit 0)."


def replay(
    item: Waiting, target: str, routes: tuple[str, ...], dress: Dress, *, call_id: str, trusted: bool, now: int,
    extra: str = "",
) -> Outgoing:  # fmt: skip
    """The request that carries a stored message to `target`.

    `trusted`: the next hop may see who the sender is, whatever he asked for. `extra`: header lines of `extra_hdrs`,
    which give way where there is no room. `now`: UTC seconds, for reminders that are late.
    """
    message, kept = item.message, repeated(item.message.kept)
    hidden = hides_sender(kept, trusted=trusted)
    headers = [("Date", sip_date(message.due or message.arrived)), ("X-MSilo-ID", item.msilo_id)]
    if message.due and now - message.due > LATE:
        headers.append(("X-MSilo-Late", str(now - message.due)))
    headers += [] if hidden else _contact(message, dress) + _reply_to(message, dress)
    if extra and not item.reminder and _has_room(message, dress, target, routes, extra):
        headers += [pair for pair in kept_lines(extra) if pair[0].lower() != "content-type"]
    headers += shown(kept, trusted=trusted)
    if dress.keep_call_id and not hidden and _CALL_ID.fullmatch(message.call_id):
        call_id = message.call_id
    return Outgoing(
        target,
        nobody(message, dress) if hidden else sender(message, dress),
        message.to,
        call_id,
        tuple((octets(name), octets(value)) for name, value in headers),
        octets(_type(message)),
        prefix(message, dress) + message.body,
        routes,
    )


def repeated(block: str) -> list[tuple[str, str]]:
    """The kept headers that a replay repeats: rows of other programs may name some that are ours to make."""
    return [pair for pair in kept_lines(block) if not is_ours(pair[0])]


def _has_room(message: Message, dress: Dress, target: str, routes: tuple[str, ...], extra: str) -> bool:
    """Whether extra lines fit, beside a Contact longer than the AoR and the Routes that are written."""
    longer = max(0, _size(target) - _size(message.target or message.owner.uri))
    written = sum(_size(f"Route: {one}\r\n") for one in routes if not one.endswith(HIDDEN))
    return replay_size(message, dress) + _size(extra) + longer + written <= MAX_REQUEST


def _type(message: Message) -> str:
    """The Content-Type; a body never goes without one, since PJSIP would drop it."""
    return message.ctype or ("text/plain" if message.body else "")


def sender(message: Message, dress: Dress) -> str:
    """From as name-addr: a reminder is from `reminder`, in the name of who wrote it."""
    if not (message.due and dress.reminder):
        return message.from_
    return f'"{_name(message)}" <{dress.reminder}>'


def nobody(message: Message, dress: Dress) -> str:
    """From of a sender who is not to be known."""
    return f'"Anonymous" <{dress.reminder if message.due and dress.reminder else ANONYMOUS}>'


def _name(message: Message) -> str:
    """What a phone shows of a sender, ready to stand between quotes (RFC 3261 25.1, quoted-string)."""
    name = message.from_.rpartition("<")[0].strip()
    if name.startswith('"') and name[1:-1].strip():
        return name[1:-1]
    bare = name.strip('" ') or message.src.partition(":")[2].partition(";")[0]
    return bare.replace("\\", "\\\\").replace('"', '\\"')


def _reply_to(message: Message, dress: Dress) -> list[tuple[str, str]]:
    """Who wrote a reminder, unless he named another address himself."""
    if not (message.due and dress.reminder) or re.search(r"(?im)^reply-to\s*:", message.kept):
        return []
    return [("Reply-To", message.from_)]


def _contact(message: Message, dress: Dress) -> list[tuple[str, str]]:
    """As msilo writes it, `msilo=yes` included."""
    if not dress.add_contact:
        return []
    uri = dress.reminder if message.due and dress.reminder else message.src
    return [("Contact", f"<{uri}>;msilo=yes")]


def prefix(message: Message, dress: Dress) -> bytes:
    """msilo's words before a text, byte for byte: 45 bytes, or 46 for a reminder, in this machine's local time.

    Only for text/plain in a charset that has ASCII in it, and only where the body is not encoded: elsewhere the words
    would destroy it.
    """
    if not dress.add_date or not _takes_words(message.ctype) or (message.kept and _ENCODED.search(message.kept)):
        return b""
    return _words("Reminder", message.due) if message.due else _words("Offline", message.arrived)


@lru_cache(maxsize=1024)
def _takes_words(ctype: str) -> bool:
    """Whether ASCII words may stand before a body of this type."""
    if media_type(ctype) != "text/plain":
        return False
    charset = _CHARSET.search(ctype)
    return charset is None or _ASCII_BASED.fullmatch(charset[1]) is not None


@lru_cache(maxsize=1024)
def _words(kind: str, at: int) -> bytes:
    return f"[{kind} message - {datetime.fromtimestamp(min(max(at, 0), LATEST)).ctime()}] ".encode()


def _size(text: str) -> int:
    """Bytes of a text on the wire."""
    return len(text) if text.isascii() else len(octets(text))


def replay_size(message: Message, dress: Dress) -> int:
    """Bytes of the longest request that carries this message to its AoR, with every header PJSIP and we add."""
    target = message.target or message.owner.uri
    from_ = sender(message, dress)
    if message.kept and "privacy" in message.kept.lower():
        from_ = max(from_, nobody(message, dress), key=_size)
    values = _size("".join((target, from_, message.to, message.kept, _type(message))))
    own = _OWN_LINES + len(dress.user_agent) + MSILO_ID
    own += max(CALL_ID, _size(message.call_id)) if dress.keep_call_id else CALL_ID
    own += dress.signature + _size(target) if dress.signature else 0
    own += LATE_HEADER if message.due else 0
    if dress.add_contact or dress.reminder:
        own += sum(
            _size(name) + _size(value) + 4 for name, value in _contact(message, dress) + _reply_to(message, dress)
        )
    return FRAME + VIA + TAIL + own + values + len(message.body) + len(prefix(message, dress))


def fits(message: Message, dress: Dress, target: int) -> None:
    """Accepted must mean replayable. Raises BadRequest (513) for a message whose replay PJSIP could not send.

    `target`: bytes that Request-URI and Route may need; the AoR's own length where that is more.
    """
    size = replay_size(message, dress)
    longest = size + (max(0, target - _size(message.target or message.owner.uri)) if target else 0)
    if size > MAX_REQUEST or longest >= RECEIVE_BUFFER:
        raise BadRequest(513, f"its replay could have {longest} bytes, more than fit")


def hidden_route(proxy: str) -> str:
    """A Route to a SIP URI that PJSIP follows and does not write: the Request-URI stays the AoR, as with msilo."""
    loose = "" if re.search(r"(?i);lr\b", proxy) else ";lr"
    return f"<{proxy}{loose}{HIDDEN}"
