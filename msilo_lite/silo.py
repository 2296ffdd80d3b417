"""The verbs on stored messages: accept, begin, settle, release, lapse, recover. Knows no SIP stack and no clock.

Each verb stages what it wants on disk in the current `Turn`; `commit` writes the turn in one transaction. Only after it
returns may a 202 be sent or a claimed message leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .address import Aor, NameAddr, aor_of, parse_address, parse_uri
from .delivery import Event, State, move
from .errors import BadRequest, Rejected, StoreError
from .message import Message, Settled, Turn, Waiting
from .policy import Policy
from .store import Store
from .wire import Request, check, content_type, dedupe_key, fits, kept_headers, media_type, plain

NEVER_STORED = frozenset({"application/im-iscomposing+xml"})
"Media types that are worthless later (RFC 3994): answered 200 and forgotten."


@dataclass(frozen=True, slots=True)
class Places:
    """Which hosts are ours."""

    domains: tuple[str, ...]
    "Domains whose users are ours, lower case; empty: every host counts."
    own: frozenset[str]
    "Hosts of our own addresses as they stand in a URI."

    def aor(self, uri: str) -> Aor | None:
        """The AoR of ours that a URI names, or None. Our own address means the first domain, where there is one."""
        aor = aor_of(parse_uri(uri))
        if aor is None or not self.domains or aor.host in self.domains:
            return aor
        return Aor(aor.user, self.domains[0]) if aor.host in self.own else None

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

    def __init__(self, store: Store, policy: Policy, places: Places, user_agent: str, target: int = 0) -> None:
        """`target`: bytes that Request-URI and Route of a replay may need, beyond the AoR."""
        self._store = store
        self._policy = policy
        self.places = places
        self._user_agent = user_agent
        self._target = target
        self.turn = Turn()

    # -- in ----------------------------------------------------------------------------------------------------------
    def accept(self, request: Request, now: int) -> Message | None:
        """Stage a MESSAGE for the next commit; None when it is to be answered 200 and forgotten.

        Raises BadRequest or Rejected with the answer it gets, and StoreError.
        """
        body = check(request)
        own_id = request.get("x-msilo-id")
        if own_id and self._store.by_msilo_id(own_id):
            # a failure route brought our own replay back: the 480 becomes the answer to that very replay
            self.turn.count("returned_messages")
            raise Rejected(480, "our own replay, the recipient is still away")
        ctype = content_type(request, body)
        if media_type(ctype) in NEVER_STORED:
            self.turn.count("forgotten_messages")
            return None
        message = self._message(request, ctype, body, now)
        fits(message, self._user_agent, self._target)
        self.turn.new.append(message)
        return message

    def _message(self, request: Request, ctype: str, body: bytes, now: int) -> Message:
        from_ = parse_address(plain(request, "from"), tel=True)  # a text from the telephone network
        to = parse_address(plain(request, "to"), tel=True)
        owner = self.places.aor(request.target) or self.places.aor(to.uri)
        if owner is None:
            raise BadRequest(404, "neither the Request-URI nor To names a user of ours")
        shown, dst = self.places.shown(to)
        return Message(
            owner=owner,
            src=from_.uri,
            dst=dst,
            from_=from_.text,
            to=shown,
            ctype=ctype,
            body=body,
            kept=kept_headers(request),
            arrived=now,
            expires=now + self._policy.lifetime(request.get("expires"), request.get("date"), now),
            call_id=request.get("call-id") or "",
            key=dedupe_key(request, from_.get("tag") or "", owner, body),
        )

    def has_mail(self, owner: Aor) -> bool:
        """Whether anything waits for an owner, on disk or in this turn."""
        return any(message.owner == owner for message in self.turn.new) or self._store.has_mail(owner)

    # -- out ---------------------------------------------------------------------------------------------------------
    def begin(self, owner: Aor, after: int, most: int) -> list[Waiting]:
        """Claim the oldest messages of an owner above a silo id; they may leave after the next commit."""
        claimed = self._store.pending(owner, after, most)
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
        name = {Event.ACCEPTED: "dumped_messages", Event.RELEASE: None, Event.LAPSE: "expired_messages"}
        counted = name.get(event, "failed_messages")
        if counted:
            self.turn.count(counted)

    def release(self, items: Iterable[Waiting], now: int) -> None:
        """Give claimed messages back that were never sent; no attempt is counted."""
        for item in items:
            self.settle(item, Event.RELEASE, now, item.code, item.reason or "")

    def lapse(self, now: int, most: int) -> int:
        """Stage the end of messages whose time is over; returns how many."""
        lapsed = self._store.lapsed(now, most)
        for item in lapsed:
            end = move(item.state, Event.LAPSE)
            self.turn.settled.append(Settled(item, end, now, item.code, "its time ran out", item.attempts))
            self.turn.count("expired_messages")
        return len(lapsed)

    def give_up(self) -> None:
        """Drop what a sender or a lane waits for in this turn; the rest is written with the next one."""
        self.turn.new, self.turn.claimed = [], []

    # -- disk --------------------------------------------------------------------------------------------------------
    def commit(self, now: int) -> None:
        """Write the turn. On StoreError what a sender or a lane waits for is given up, and the rest is kept."""
        turn = self.turn
        try:
            if not turn.empty:
                self._store.write(turn, now)
        except StoreError as error:
            self.give_up()
            if error.lasting:  # it would fail for ever: what it wanted to say about old messages, a restart says again
                self.turn = Turn()
            raise
        self.turn = Turn()
