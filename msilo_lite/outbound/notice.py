"""Notices: a sender whose message was stored is told that its recipient is away (msilo: offline_message).

Never about what no person wrote: a notice, a replay, a reminder, an automatic message; and one in a while for the same
two people, so that no loop can start (the original's own made 837 rows of one message). It sends nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from ..box.message import Message
from ..box.policy import sip_date
from ..errors import BadRequest
from ..settings.control import OWN_ID, Orders
from ..settings.pseudo import Subject, Template
from ..sip.address import Aor, aor_of, finds_its_way, parse_address, parse_uri, remote_of
from ..sip.lines import octets
from ..sip.wire import Outgoing, Request
from .bindings import Bindings
from .compose import hidden_route

REMEMBERED = 10_000
"Pairs of sender and recipient, and notices, that are remembered at the most."
MARK = "notice-"
"What the X-MSilo-ID of a notice begins with."


@dataclass(frozen=True, slots=True)
class Wording:
    """What the parameters say about notices."""

    from_address: Template
    body: Template
    ctype: Template
    contact: Template | None
    use_contact: bool
    skip_flag: int
    interval: int
    "Seconds in which a sender gets one notice about the same recipient."
    automatic: frozenset[str]
    "From URIs of messages that no person wrote."


class Notices:
    """Who was told what, in memory: after a restart a sender may be told once more."""

    def __init__(self, wording: Wording | None, bindings: Bindings, proxy: str | None) -> None:
        """`wording` None: no notices."""
        self._wording = wording
        self._bindings = bindings
        self._proxy = proxy
        self._told: OrderedDict[tuple[str, Aor], float] = OrderedDict()
        self._sent: OrderedDict[str, None] = OrderedDict()

    def word(self, wording: Wording | None) -> None:
        """Other words from the next notice on; who was told stays told."""
        self._wording = wording

    def returned(self, request: Request) -> bool:
        """Whether a request is a notice of ours that a failure route brought back."""
        return (request.get(OWN_ID) or "") in self._sent

    def about(self, message: Message, subject: Subject, orders: Orders, mark: str) -> Outgoing | None:
        """The notice about a message just stored, or None; `mark`: a fresh X-MSilo-ID for it.

        Raises BadRequest where a template gives no address: nobody can be told then.
        """
        wording = self._wording
        if wording is None or message.due or not self._wanted(wording, message, subject.request, orders):
            return None
        if self._was_told(message, subject.now):
            return None
        return self._compose(wording, message, subject, mark)

    def _was_told(self, message: Message, now: float) -> bool:
        """Whether the sender was told of the same recipient a short while ago; a clock set back does not count."""
        at = self._told.get((message.src, message.owner))
        return at is not None and self._wording is not None and 0 <= now - at < self._wording.interval

    def leaves(self, message: Message, mark: str) -> bool:
        """The message is on disk and its notice may leave, unless another one of the same turn was first."""
        if self._was_told(message, message.arrived):
            return False
        _remember(self._told, (message.src, message.owner), float(message.arrived))
        _remember(self._sent, mark, None)
        return True

    def _wanted(self, wording: Wording, message: Message, request: Request, orders: Orders) -> bool:
        """Whether a person wrote it and nobody asked for silence."""
        automatic = (request.get("auto-submitted") or "no").partition(";")[0].strip().lower() != "no"
        own = _bare(message.src) in wording.automatic
        return not (automatic or own or wording.skip_flag in orders.flags)

    def _compose(self, wording: Wording, message: Message, subject: Subject, mark: str) -> Outgoing | None:
        from_, body = wording.from_address.expand_line(subject), wording.body.expand(subject)
        if not from_ or not body:
            return None
        sender = parse_address(from_)
        reader = parse_address(subject.request.get("from") or "", tel=True).uri  # never srcaddr, as in msilo
        target, routes = self._way(wording, reader, subject)
        lines = wording.ctype.lines(subject) or ()
        headers = [("Date", sip_date(subject.now)), ("X-MSilo-ID", mark), ("Auto-Submitted", "auto-replied")]
        headers += (wording.contact.lines(subject) or ()) if wording.contact else ()
        headers += [(name, value) for name, value in lines if name.lower() != "content-type"]
        ctype = next((value for name, value in lines if name.lower() == "content-type"), "text/plain")
        raw = tuple((octets(name), octets(value)) for name, value in headers)
        call_id = f"{mark}@msilo-lite"
        return Outgoing(target, sender.text, f"<{reader}>", call_id, raw, octets(ctype), octets(body), routes)

    def _way(self, wording: Wording, reader: str, subject: Subject) -> tuple[str, tuple[str, ...]]:
        """Request-URI and Route; raises BadRequest where no address is known that needs no look-up."""
        contact = _contact_of(subject.request) if wording.use_contact else None
        if self._proxy:
            if contact and parse_uri(contact).scheme == "sips" and remote_of(self._proxy).transport != "tls":
                contact = None  # it asks for TLS on every hop (RFC 3261 26.2.2)
            return contact or reader, (hidden_route(self._proxy),)
        ways: list[tuple[str, tuple[str, ...]]] = [(contact, ())] if contact else []
        binding = self._bindings.newest(owner, subject.now) if (owner := _user_of(reader)) else None
        ways += [(binding.uri, binding.path)] if binding else []
        ways += [(reader, ())] if owner else []
        for target, path in ways:
            if finds_its_way(parse_address(path[0]).uri if path else target):
                return target, path
        raise BadRequest(480, f"{reader} can be reached through an outbound_proxy only")


def _user_of(uri: str) -> Aor | None:
    """The AoR of a SIP URI; None for a telephone number."""
    try:
        return aor_of(parse_uri(uri))
    except BadRequest:
        return None


def _contact_of(request: Request) -> str | None:
    """The first Contact URI of a request; None where it is none of SIP."""
    values = request.all("contact")
    try:
        uri = parse_address(values[0]).uri if values else None
        return uri if uri and parse_uri(uri) else None
    except BadRequest:
        return None


def _bare(uri: str) -> str:
    """A URI without parameters and case: one automatic sender is one, however he writes himself."""
    return uri.partition(";")[0].lower()


def _remember(what: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    """Add an entry, forget the oldest."""
    what[key] = value
    what.move_to_end(key)
    while len(what) > REMEMBERED:
        what.popitem(last=False)
