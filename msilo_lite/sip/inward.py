"""Requests from TCP and TLS clients to PJSIP and their answers back, as a proxy without state for them would do it.

Each goes to PJSIP as one datagram over loopback with a Via of ours on top, whose branch tells the answer's way back.
Datagrams, not connections: whatever clients do, PJSIP has one socket more. A share of what may be under way belongs to
each peer, and what is lost on the way is sent again. Lives in the door's thread, but for
`peer_of` and `refuse`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import BadRequest
from .address import Aor, parse_address, remote_of, split_list
from .connection import Connection, Peer
from .framing import Head, Whole, answer, branch_of, first_line, stamped, with_first_via, with_via, without_via
from .window import Window

COOKIE = "z9hG4bK"
WINDOW = 160 * 1024
"Bytes under way to PJSIP, as the kernel counts them: less than the 208 KiB that a socket takes by default on Linux."
SHARE = WINDOW * 3 // 4
"What one peer may have under way of them."
REPEATS = (1.0, 3.0)
"Seconds after which an unanswered request is handed in again, in case the datagram was lost."
PATIENCE = 12.0
"Seconds after which a request that nobody answers is answered 503."


@dataclass(slots=True)
class Waiting:
    """A request that is under way, or waits for room."""

    connection: Connection
    whole: Whole
    cost: int
    serial: bytes = b""
    at: float = 0.0
    repeats: int = 0
    contacts: tuple[tuple[str, str], ...] = ()
    "Of a REGISTER straight from its phone: AoR and Contacts that its connection leads to."


@dataclass(slots=True)
class Inward:
    """What came in and is not answered yet."""

    send: Callable[[bytes], None]
    "Hand a datagram to PJSIP."
    clock: Callable[[], float]
    count: Callable[[str], None]
    learn: Callable[[Waiting], None]
    "A REGISTER was accepted."
    sent_by: bytes = b""
    "Our own end of the loopback link, as host:port."
    _secret: str = field(default_factory=lambda: COOKIE + secrets.token_hex(8))
    _serial: int = 0
    _open: dict[bytes, Waiting] = field(default_factory=dict)
    _window: Window[Waiting] = field(default_factory=lambda: Window(WINDOW, SHARE))

    @property
    def under_way(self) -> int:
        """Requests that PJSIP has."""
        return len(self._open)

    # -- in ----------------------------------------------------------------------------------------------------------
    def request(self, connection: Connection, whole: Whole, contacts: tuple[tuple[str, str], ...] = ()) -> bool:
        """Hand a request in; False where it waits for room."""
        connection.unanswered += 1
        waiting = Waiting(connection, whole, cost_of(whole.raw), contacts=contacts)
        if not self._window.ask(connection.host, waiting.cost, waiting):
            return False
        self._hand_in(waiting)
        return True

    def _hand_in(self, waiting: Waiting) -> None:
        self._serial += 1
        waiting.serial = f"{self._secret}.{self._serial:x}".encode()
        waiting.at = self.clock()
        self._open[waiting.serial] = waiting
        self._put(waiting)

    def _put(self, waiting: Waiting) -> None:
        via = b"SIP/2.0/UDP %s;rport;branch=%s" % (self.sent_by, waiting.serial)
        self.send(with_via(waiting.whole.raw, via))

    # -- what PJSIP's thread asks ------------------------------------------------------------------------------------
    def peer_of(self, raw: bytes) -> tuple[Peer, bytes] | None:
        """Who sent what PJSIP received from us, and the request as he sent it; None where nobody waits for it."""
        waiting = self._open.get(branch_of(first_line(raw)))
        peer = waiting.connection.peer if waiting else None
        return (peer, without_via(raw)) if peer else None

    # -- out ---------------------------------------------------------------------------------------------------------
    def answered(self, raw: bytes) -> None:
        """PJSIP's answer to one of them, as it came over the link."""
        waiting = self._open.get(branch_of(first_line(raw)))
        if waiting is None:  # an answer to a repeat, after the first
            return
        response = _readdressed(without_via(raw), waiting)
        if Head.of(raw[:100]).code < 200:
            waiting.connection.write(response)
            return
        if waiting.contacts and raw[8:9] == b"2":
            self.learn(waiting)
        self._end(waiting, response)

    def refuse(self, raw: bytes, reason: str) -> None:
        """PJSIP could not parse a request and says nothing to it."""
        waiting = self._open.get(branch_of(first_line(raw)))
        if waiting:
            self.count("refused_400")
            self._end(waiting, answer(waiting.whole.head, 400, f"Bad Request, {reason}"))

    def _end(self, waiting: Waiting, response: bytes) -> None:
        del self._open[waiting.serial]
        waiting.connection.answered(response)
        freed = [waiting]
        while freed:
            one = freed.pop()
            for granted in self._window.give_back(one.connection.host, one.cost):
                if granted.connection.gone:
                    freed.append(granted)
                    continue
                self._hand_in(granted)
                granted.connection.granted()

    def close(self) -> None:
        """The end: who still waits is told to come again."""
        for waiting in self._open.values():
            waiting.connection.answered(_busy(waiting))

    def sweep(self) -> None:
        """Repeat what may have been lost; answer what nobody answers."""
        now = self.clock()
        for waiting in list(self._open.values()):
            age = now - waiting.at
            if age > PATIENCE:
                self.count("unanswered")
                self._end(waiting, _busy(waiting))
            elif waiting.repeats < len(REPEATS) and age > REPEATS[waiting.repeats]:
                waiting.repeats += 1
                self._put(waiting)


def _busy(waiting: Waiting) -> bytes:
    return answer(waiting.whole.head, 503, "Service Unavailable", "Retry-After: 5")


def cost_of(raw: bytes) -> int:
    """About what the kernel charges a socket for a datagram: it rounds memory up, and adds its own record."""
    return 2 * len(raw) + 1024


def _readdressed(raw: bytes, waiting: Waiting) -> bytes:
    """The answer, with what the client's Via lacks: where its request came from."""
    peer = waiting.connection.peer
    return with_first_via(raw, lambda via: stamped(via, peer.host, peer.port)) if peer else raw


def registered(whole: Whole) -> tuple[tuple[str, str], ...]:
    """AoR and Contacts of a REGISTER straight from its phone, which has one Via (RFC 5626 5.3); else none."""
    head = whole.head
    vias = [one for value in head.all(b"via") for one in split_list(value.decode("utf-8", "surrogateescape"))]
    if len(vias) != 1:
        return ()
    try:
        aor = Aor.parse(parse_address(_text(head.get(b"to"))).uri)
        listed = [one for value in head.all(b"contact") for one in split_list(_text(value)) if one != "*"]
        uris = [parse_address(one).uri for one in listed]
        return tuple((str(aor), uri) for uri in uris if remote_of(uri).transport in ("tcp", "tls"))
    except BadRequest:
        return ()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
