"""What the tests build on: requests as bytes, records with defaults, and the parts joined as the daemon joins them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

from msilo_lite.box.delivery import Hop, State
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Contact, Message, Waiting
from msilo_lite.box.policy import Policy
from msilo_lite.box.silo import Places, Reading, Silo
from msilo_lite.box.store import Store
from msilo_lite.errors import SipError, StoreError
from msilo_lite.outbound.bindings import Bindings
from msilo_lite.outbound.compose import Dress
from msilo_lite.outbound.lanes import Send
from msilo_lite.outbound.replay import Replay
from msilo_lite.outbound.ways import Ways
from msilo_lite.pbx.registration import judge
from msilo_lite.sip import wire
from msilo_lite.sip.address import Aor
from msilo_lite.sip.lines import split
from msilo_lite.sip.wire import Answer, Request

NOW = 1_800_000_000
"Where the clock of every test starts."
AGENT = "msilo-lite/test"
PLAIN = Dress(AGENT, add_date=False)
PROXY = "sip:127.0.0.1:5060"
BOB, CARL = Aor("bob", "home.lan"), Aor("carl", "home.lan")
_numbers = count(1)


def read(raw: bytes) -> Request:
    """The request that a text is."""
    return wire.read(split(raw))


def text_of(
    method: str = "MESSAGE",
    target: str = "sip:bob@home.lan",
    *more: str,
    body: bytes = b"hello",
    **changed: str | None,
) -> bytes:
    """A sound request. `more`: further header lines; `changed`: from_, content_length, ... with None for absent."""
    number = next(_numbers)
    values: dict[str, str | None] = {
        "via": f"SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bK{number}",
        "max_forwards": "70",
        "from": "<sip:alice@home.lan>;tag=a1",
        "to": "<sip:bob@home.lan>",
        "call_id": f"call-{number}",
        "cseq": f"1 {method}",
        "content_type": "text/plain" if body else None,
        "content_length": str(len(body)),
    }
    values |= {name.rstrip("_"): value for name, value in changed.items()}
    lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in values.items() if value is not None]
    head = "\r\n".join([f"{method} {target} SIP/2.0", *lines, *more])
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def request(
    method: str = "MESSAGE",
    target: str = "sip:bob@home.lan",
    *more: str,
    body: bytes = b"hello",
    **changed: str | None,
) -> Request:
    """The same, read."""
    return read(text_of(method, target, *more, body=body, **changed))


def register(*contacts: str, user: str = "bob", more: tuple[str, ...] = (), **changed: str | None) -> Request:
    """A REGISTER with these Contact lines."""
    lines = [*(f"Contact: {one}" for one in contacts), *more]
    to = changed.pop("to", f"<sip:{user}@home.lan>")
    return request("REGISTER", "sip:home.lan", *lines, body=b"", to=to, **changed)


def message(owner: Aor = BOB, body: bytes = b"hello", **changed: object) -> Message:
    """A message with defaults."""
    made = Message(
        owner=owner,
        src="sip:alice@home.lan",
        dst=owner.uri,
        from_="<sip:alice@home.lan>",
        to=f"<{owner.uri}>",
        ctype="text/plain",
        body=body,
        kept="",
        arrived=NOW,
        expires=NOW + 3600,
        call_id="call",
        key=next(_numbers).to_bytes(16),
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # any field by name


def waiting(what: Message | None = None, **changed: object) -> Waiting:
    """A message in the box with defaults."""
    made = Waiting(7, what or message(), 9, "9-0123456789abcdef", State.PENDING, 0, None, None)
    return replace(made, **changed)  # type: ignore[arg-type]  # any field by name


def contact(uri: str = "sip:bob@127.0.0.1:5090", **changed: object) -> Contact:
    """A live binding of bob with defaults."""
    made = Contact(BOB, uri, (), NOW + 3600, takes_message=True, updated=NOW, call_id="reg", cseq=1)
    return replace(made, **changed)  # type: ignore[arg-type]  # any field by name


def heard(code: int, reason: str = "Because", *headers: str) -> Answer:
    """A final answer from the wire."""
    raw = "\r\n".join([f"SIP/2.0 {code} {reason}", *headers, "", ""]).encode()
    return Answer(code, reason, raw)


NO_ANSWER = Answer(408, "Request Timeout", local=True)


class Rig:
    """Silo, lanes and a real file, driven in the order of the daemon's turn: answers, wakes, claim, commit, send."""

    def __init__(
        self,
        file: Path,
        *,
        proxy: str | None = None,
        most: int = 64,
        now: int = NOW,
        domains: tuple[str, ...] = (),
        policy: Policy | None = None,
        reading: Reading | None = None,
        hop: Hop | None = None,
    ) -> None:
        self.now = now
        self.file = file
        self.store = Store(file, served=True)
        self.interrupted = self.store.recover()
        places = Places(domains, frozenset({"127.0.0.1"}))
        self.silo = Silo(self.store, policy or Policy(), places, PLAIN, reading=reading)
        self.bindings = Bindings(self.store.contacts())
        troubled = {one.owner: one for one in self.store.recipients()}
        self.replay = Replay(self.silo, Ways(self.bindings, proxy, hop=lambda _: hop or Hop()), most, troubled)

    def write(self, *texts: str, to: str = "bob", **changed: str | None) -> None:
        """Take messages for a user, and commit."""
        for text in texts:
            target = f"sip:{to}@home.lan"
            self.silo.accept(request("MESSAGE", target, body=text.encode(), to=f"<{target}>", **changed), self.now)
        self.silo.commit(self.now)

    def register(self, user: str = "bob", uri: str | None = None, expires: int = 3600) -> None:
        """A REGISTER, without the wake-up."""
        line = f"<{uri or f'sip:{user}@127.0.0.1:5090'}>;expires={expires}"
        change = judge(register(line, user=user), self.silo.places.aor, self.now)
        self.bindings.apply(change, self.now, self.silo.turn)

    def wake(self, *owners: Aor) -> list[Send]:
        """Wake owners and take a turn."""
        for owner in owners:
            self.replay.wake(owner)
        return self.turn()

    def answer(self, send: Send, answer: Answer | int, after: int = 0) -> list[Send]:
        """An attempt ends, and a turn is taken; returns everything that leaves in it."""
        self.now += after
        return self.turn((send.token, heard(answer) if isinstance(answer, int) else answer))

    def turn(self, *ended: tuple[int, Answer], lazy: bool = False) -> list[Send]:
        """One turn of the loop. `lazy`: settled answers alone are not committed yet, as in the daemon."""
        sends = [send for token, answer in ended for send in self.replay.answered(token, answer, self.now)]
        self.replay.claim(self.now)
        if lazy and not self.silo.turn.urgent:
            return sends
        try:
            self.silo.commit(self.now)
        except StoreError:
            self.silo.turn.new, self.silo.turn.claimed = [], []
            self.replay.unclaim(self.now)
            return sends
        return sends + self.replay.claimed(self.now)

    def cannot(self, send: Send, *, permanent: bool) -> list[Send]:
        """A send could not start; what the daemon does then, and the turn after it."""
        sends = self.replay.failed(send.token, SipError("too long", permanent=permanent), self.now)
        return sends + self.turn()

    def due(self) -> list[Send]:
        """The look for due retries, and a turn."""
        for owner in self.store.due(self.now, 100):
            self.replay.retry(owner)
        return self.turn()

    def box(self, owner: Aor | None = None) -> list[Waiting]:
        """What is in the box, read by a connection of its own."""
        inbox = Inbox(self.file)
        try:
            return list(inbox.waiting(owner))
        finally:
            inbox.close()

    def states(self, owner: Aor = BOB) -> list[str]:
        """`text state` of each message in the box."""
        return [f"{one.message.body.decode()} {one.state.name.lower()}" for one in self.box(owner)]

    def counters(self) -> dict[str, int]:
        """The counters on disk."""
        inbox = Inbox(self.file)
        try:
            return inbox.counters()
        finally:
            inbox.close()

    def close(self) -> None:
        """An orderly end; what is not committed is gone."""
        self.store.close()

    def crash(self) -> None:
        """An end that leaves the file as it is."""
        kill(self.store)


def kill(store: Store) -> None:
    """End a store as a kill does: its file stays as it is."""
    store._checkpoints.close()
    store._c.close()


def texts(sends: list[Send]) -> list[str]:
    """The bodies of what leaves."""
    return [send.item.message.body.decode() for send in sends]
