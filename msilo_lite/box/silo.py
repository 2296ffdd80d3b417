"""The verbs on stored messages: accept, begin, settle, release, lapse, recover. Knows no SIP stack and no clock.

Each verb stages what it wants on disk in the current `Turn`; `commit` writes the turn in one transaction. Only after it
returns may a 202 be sent or a claimed message leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import BadRequest, Rejected, StoreError
from ..outbound.compose import Dress, fits, prefix
from ..settings.control import Orders, obeyed, orders_of, silos_before
from ..settings.pseudo import Subject, Template
from ..sip.address import Aor, NameAddr, aor_in, parse_address, parse_uri, without_headers
from ..sip.wire import PATH, Request, bad_header, check, content_type, dedupe_key, kept_headers, media_type, plain
from ..value import value
from .blame import alone
from .delivery import Event, State, move
from .message import Message, Settled, Turn, Waiting
from .policy import Policy
from .quota import Quota
from .store import Store

MOST_SILOS = 3
"Silos that a message may go through one after the other."
CAME_BACK = "its PBX brought it back, the phone was away"
NEVER_STORED = frozenset({"application/im-iscomposing+xml"})
"Media types that are worthless later (RFC 3994): answered 200 and forgotten."


@value
class Source:
    """Where a request came from."""

    host: str = ""
    port: int = 0
    control: bool = False
    "Whether it may steer the silo with X-MSilo-* headers."


@dataclass(frozen=True, slots=True)
class Reading:
    """What the parameters say about reading a request."""

    snd_time: Template | None = None
    "Gives the time at which a message is to be sent (msilo: snd_time_avp)."
    headers: Template | None = None
    "Gives the headers to keep, in place of the request's own (msilo: extra_hdrs_avp)."
    ignored: frozenset[str] = NEVER_STORED


@dataclass(frozen=True, slots=True)
class Places:
    """Which hosts are ours."""

    domains: tuple[str, ...]
    "Domains whose users are ours, lower case; empty: every host counts."
    own: frozenset[str]
    "Hosts of our own addresses as they stand in a URI."

    def aor(self, uri: str) -> Aor | None:
        """The AoR of ours that a URI names, or None. Our own address means the first domain, where there is one."""
        aor = aor_in(uri)
        if aor is None or not self.domains or aor.host in self.domains:
            return aor
        return Aor(aor.user, self.domains[0]) if aor.host in self.own else None

    def named(self, target: str, to: str) -> Aor | None:
        """The AoR of ours that a Request-URI names, else the one that To does."""
        return self.aor(target) or self.aor(to)

    def shown(self, address: NameAddr) -> tuple[str, str]:
        """To as it is replayed, name-addr and URI: our own address becomes the first domain."""
        if address.uri.lower().startswith("tel:"):
            return address.text, address.uri
        uri = parse_uri(address.uri)
        if not self.domains or uri.host.lower() not in self.own:
            return address.text, address.uri
        changed = str(replace(uri, host=self.domains[0], port=None))
        return address.text.replace(f"<{address.uri}>", f"<{changed}>"), changed


class Silo:
    """The box of every recipient."""

    def __init__(
        self, store: Store, policy: Policy, places: Places, dress: Dress, room: int = 0, reading: Reading | None = None,
        quota: Quota | None = None,
    ) -> None:  # fmt: skip
        """`room`: bytes that Request-URI and Route of a replay may need, beyond the AoR."""
        self._store = store
        self._policy = policy
        self._quota = quota or Quota(policy, store)
        self.places = places
        self._dress = dress
        self._room = room
        self._reading = reading or Reading()
        self.turn = Turn()

    def obey(self, policy: Policy, places: Places, reading: Reading) -> None:
        """Other rules, from the next request on; what is stored already stays as it is."""
        self._policy, self.places, self._reading = policy, places, reading

    # -- in ----------------------------------------------------------------------------------------------------------
    def accept(self, request: Request, now: int, source: Source | None = None) -> Message | None:
        """Stage a MESSAGE for the next commit; None when it is to be answered 200 and forgotten.

        Raises BadRequest or Rejected with the answer it gets, and StoreError.
        """
        source = source or Source()
        body = check(request)
        path = silos_before(request)
        if path and any(self._store.by_msilo_id(one) for one in path):
            # a failure route brought our own replay back: the 480 becomes the answer to that very replay
            self.turn.count("returned_messages")
            raise Rejected(480, "our own replay, the recipient is still away")
        if len(path) > MOST_SILOS:
            raise Rejected(483, "it went through too many silos")
        request = obeyed(request, control=source.control)
        ctype = content_type(request, body)
        if media_type(ctype) in self._reading.ignored:
            self.turn.count("forgotten_messages")
            return None
        message = self._message(request, ctype, body, now, source)
        if path:  # of other silos: should it come back through one of them, we know it again
            message = message.carrying(f"{PATH}: {', '.join(path)}\r\n")
        fits(message, self._dress, self._room)
        self._quota.check(message, self.turn.new, now)
        self.turn.new.append(message)
        return message

    def _message(self, request: Request, ctype: str, body: bytes, now: int, source: Source) -> Message:
        orders = orders_of(request)
        from_ = parse_address(plain(request, "from"), tel=True)  # a text from the telephone network
        to = parse_address(plain(request, "to"), tel=True)
        owner = self._owner(request, to, orders)
        shown, dst = (orders.dst.text, orders.dst.uri) if orders.dst else self.places.shown(to)
        subject = Subject(request, source.host, source.port, now)
        due = self._policy.due(_expanded(self._reading.snd_time, subject), now)
        return Message(
            owner=owner,
            src=(orders.src or from_).uri,
            dst=dst,
            from_=(orders.src or from_).text,
            to=shown,
            ctype=ctype,
            body=body,
            kept=self._kept(request, subject),
            arrived=now,
            expires=(due or now) + self._policy.lifetime(request.get("expires"), request.get("date"), now),
            call_id=plain(request, "call-id"),
            key=dedupe_key(request, from_.get("tag") or "", owner, body),
            due=due,
            target=without_headers(dst) if orders.dst else "",
        )

    def owner_by(self, request: Request) -> Aor | None:
        """Whom a request of any peer names, by Request-URI or To; None for nobody of ours."""
        try:
            return self.places.named(request.target, parse_address(request.get("to") or "").uri)
        except BadRequest:
            return None

    def _owner(self, request: Request, to: NameAddr, orders: Orders) -> Aor:
        """Whose message it is. Raises BadRequest (404) where that is nobody of ours."""
        given = orders.owner is not None
        owner = self.places.aor(orders.owner or "") if given else self.places.named(request.target, to.uri)
        if owner is None:
            raise BadRequest(404, "neither the Request-URI nor To names a user of ours")
        return owner

    def _kept(self, request: Request, subject: Subject) -> str:
        """The headers that a replay repeats."""
        if self._reading.headers is not None:
            chosen = self._reading.headers.lines(subject)
            if chosen is not None:
                return "".join(f"{name}: {value}\r\n" for name, value in chosen if not bad_header(name, value))
        return kept_headers(request)

    def has_mail(self, owner: Aor, now: int) -> bool:
        """Whether anything that may be sent waits for an owner, on disk or in this turn."""
        new = any(message.owner == owner and message.due <= now for message in self.turn.new)
        return new or self._store.has_mail(owner, now)

    # -- out ---------------------------------------------------------------------------------------------------------
    def begin(
        self, owner: Aor, after: int, most: int, now: int, but: frozenset[int] | set[int] = frozenset()
    ) -> list[Waiting]:
        """Claim the oldest messages of an owner above a silo id; they may leave after the next commit.

        `but`: silo ids to leave alone.
        """
        found = [item for item in self._store.pending(owner, after, most, now) if item.silo_id not in but]
        claimed = found[: alone([item.crashes for item in found])]
        for item in claimed:
            move(item.state, Event.BEGIN)
        self.turn.claimed += claimed
        return claimed

    def unwritten(self, owner: Aor) -> bool:
        """Whether messages of an owner came, were given back or lapsed and the file does not know it yet."""
        changed = (State.PENDING, State.EXPIRED)
        found = any(one.state in changed and one.item.message.owner == owner for one in self.turn.settled)
        found = found or any(message.owner == owner for message in self.turn.new)
        self.turn.flush |= found
        return found

    def still_there(self, items: Iterable[Waiting]) -> set[int]:
        """Silo ids of those that nobody took out of the box meanwhile."""
        ids = [item.silo_id for item in items]
        return self._store.present(ids) if ids else set()

    def settle(self, item: Waiting, event: Event, now: int, code: int | None, reason: str) -> None:
        """Stage how an attempt at a claimed message ended."""
        attempts = item.attempts + (event not in (Event.RELEASE, Event.LAPSE))
        self.turn.settled.append(Settled(item, move(move(item.state, Event.BEGIN), event), now, code, reason, attempts))
        counted = _COUNTERS.get(event, ("failed_messages", "failed_reminders"))
        if counted:
            self.turn.count(counted[item.reminder])

    def came_back(self, own_id: str, owner: Aor, now: int) -> bool:
        """A message that was handed over was brought back; whether it is one of this owner that waits for that."""
        for number, one in enumerate(self.turn.settled):
            if one.item.msilo_id == own_id and one.state is State.HANDED and one.item.message.owner == owner:
                self.turn.settled[number] = replace(one, state=State.PENDING, code=None, reason=CAME_BACK)
                break
        else:
            item = self._store.held(own_id)
            if item is None or item.state is not State.HANDED or item.message.owner != owner:
                return False
            end = move(item.state, Event.RETURNED)
            self.turn.settled.append(Settled(item, end, now, None, CAME_BACK, item.attempts))
        self.turn.count("failed_messages")
        return True

    def believe(self, before: int, now: int, most: int) -> int:
        """Stage the end of messages handed over before a second and never brought back; returns how many."""
        found = self._store.handed(before, most)
        for item in found:
            self._end(item, Event.BELIEVED, now)
        return len(found)

    def _end(self, item: Waiting, event: Event, now: int) -> None:
        """Stage the end of a message that nobody answers for any more."""
        end = move(item.state, event)
        over = end is State.EXPIRED
        words = "its time ran out" if over else "handed over, never confirmed"
        self.turn.settled.append(Settled(item, end, now, item.code, words, item.attempts))
        self.turn.count("expired_messages" if over else _COUNTERED[item.reminder])

    def body_size(self, item: Waiting) -> int:
        """Bytes of the body that a replay of it has."""
        return len(item.message.body) + len(prefix(item.message, self._dress))

    def release(self, items: Iterable[Waiting], now: int) -> None:
        """Give claimed messages back that were never sent; no attempt is counted."""
        for item in items:
            self.settle(item, Event.RELEASE, now, item.code, item.reason or "")

    def lapse(self, now: int, most: int) -> int:
        """Stage the end of messages whose time is over; returns how many."""
        lapsed = self._store.lapsed(now, most)
        for item in lapsed:
            self._end(item, Event.LAPSE, now)
        return len(lapsed)

    def give_up(self) -> None:
        """Drop what a sender or a lane waits for in this turn; the rest is written with the next one."""
        self.turn.new, self.turn.claimed = [], []

    # -- disk --------------------------------------------------------------------------------------------------------
    def commit(self, now: int) -> frozenset[bytes]:
        """Write the turn; returns the keys of messages that were stored, without repeats of others.

        On StoreError what a sender or a lane waits for is given up, and the rest is kept.
        """
        turn = self.turn
        try:
            fresh = frozenset[bytes]() if turn.empty else self._store.write(turn, now)
        except StoreError as error:
            self.give_up()
            if error.lasting:  # it would fail for ever: what it wanted to say about old messages, a restart says again
                self.turn = Turn()
            raise
        self.turn = Turn()
        return fresh


_COUNTERED = ("dumped_messages", "dumped_reminders")
_COUNTERS: dict[Event, tuple[str, str] | None] = {
    Event.ACCEPTED: _COUNTERED,
    Event.HANDED_OVER: None,
    Event.RELEASE: None,
    Event.LAPSE: ("expired_messages", "expired_messages"),
}
"Statistics by how an attempt ended, for messages and for reminders: msilo's names, the right way round."


def _expanded(template: Template | None, subject: Subject) -> str:
    """What a parameter gives for a request; nothing where a lone variable is not there."""
    return (template.expand(subject) or "").strip() if template else ""
