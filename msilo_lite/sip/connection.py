"""One TCP or TLS connection of the door: bytes in, messages to the desk, messages out.

It reads no further than it can hand on, and buffers no more than the other side reads: a client that sends without
reading, or reads without sending, costs a few kilobytes. Lives in the door's thread.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

from .framing import Framer, Ping, Refusal, Whole, answer, objection, shortened

WRITE_MOST = 65536
"Bytes written and not read by the other side, beyond which nothing more is read from it."
SCRATCH = 16384
"Bytes taken from the system at once."


class Peer(NamedTuple):
    """Who is at the other end."""

    host: str
    "IP address, without brackets or scope."
    port: int
    transport: str
    "tcp or tls."
    verified: bool
    "Whether it showed a certificate that we believe: a client one of `tls_client_ca`, or that of the server we sought."


class Desk(Protocol):
    """What the door offers to its connections."""

    scratch: memoryview

    def opened(self, connection: Connection) -> None:
        """It is ready."""

    def request(self, connection: Connection, whole: Whole) -> bool:
        """A sound request; False: there is no room, nothing more is to be read until `granted`."""

    def response(self, connection: Connection, whole: Whole) -> None:
        """A response."""

    def count(self, name: str) -> None:
        """Something worth counting happened."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""


class Connection(asyncio.BufferedProtocol):
    """Made before its handshake, so that it is counted from the first moment."""

    def __init__(self, desk: Desk, host: str, clock: Callable[[], float], *, outbound: bool = False) -> None:
        self._desk = desk
        self._clock = clock
        self.outbound = outbound
        self.host = host
        self.peer: Peer | None = None
        "None until the handshake is over."
        self.local = ("", 0)
        self.abandon: Callable[[], object] | None = None
        "Ends what has no transport yet."
        self.active = self.since = clock()
        "When something whole last came or left; when the message that is coming has begun."
        self.choked = 0.0
        "Since when the other side reads nothing; 0: it reads."
        self.unanswered = 0
        "Requests from here that wait for their answers."
        self.flights: set[bytes] = set()
        "Branches of requests of ours that wait for theirs."
        self.flows: set[tuple[str, str]] = set()
        "AoRs and Contacts that registered on it."
        self.heard = False
        "Whether the other side has answered a request of ours on it."
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._held = False
        self._ending = False
        self.gone = False

    # -- what asyncio calls ------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast(asyncio.Transport, transport)
        made.set_write_buffer_limits(high=WRITE_MOST)
        tls = cast("ssl.SSLObject | None", made.get_extra_info("ssl_object"))
        host, port = (made.get_extra_info("peername") or (self.host, 0))[:2]
        self.local = (made.get_extra_info("sockname") or ("", 0))[:2]
        verified = bool(tls and tls.getpeercert())  # empty unless it was checked
        self.peer = Peer(plain_host(host), port, "tls" if tls else "tcp", verified)
        self.active = self._clock()
        self._desk.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._desk.scratch

    def buffer_updated(self, nbytes: int) -> None:
        begun = self._framer.partial
        self._framer.feed(self._desk.scratch[:nbytes])
        if not begun:
            self.since = self._clock()
        self._go_on()

    def eof_received(self) -> bool:
        """The other side has no more to say, and may still wait for answers; TLS knows no such half."""
        self._ending = True
        return bool(self.unanswered)

    def pause_writing(self) -> None:
        self.choked = self._clock()
        self._read_on()

    def resume_writing(self) -> None:
        self.choked = 0.0
        self._read_on()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._desk.closed(self)

    # -- what came ---------------------------------------------------------------------------------------------------
    def _go_on(self) -> None:
        while not (self._held or self.choked or self.gone):
            event = self._framer.next()
            if event is None:
                return
            self.active = self.since = self._clock()
            self._take(event)

    def _take(self, event: Whole | Ping | Refusal) -> None:
        if isinstance(event, Ping):
            self.write(b"\r\n")
        elif isinstance(event, Refusal):
            self._refuse(event)
        elif event.head.code:
            self._desk.response(self, event)
        else:
            self._take_request(event)

    def _take_request(self, whole: Whole) -> None:
        method = whole.head.method.upper()
        if method == b"ACK":  # never answered (RFC 3261 17), and of no INVITE of ours
            return
        wrong = objection(whole.head)
        if wrong is None and method == b"CANCEL":
            wrong = 481, "Call/Transaction Does Not Exist"  # what is answered at once has nothing to cancel (9.2)
        if wrong:
            self._desk.count(f"refused_{wrong[0]}")
            self.write(answer(whole.head, *wrong))
        elif not self._desk.request(self, whole):
            self._held = True
            self._read_on()

    def _refuse(self, event: Refusal) -> None:
        if event.head.code and not event.closes:  # a response: its head is what matters
            self._desk.response(self, Whole(event.head, shortened(event.head)))
            return
        self._desk.count(f"refused_{event.status}")
        if event.head.method not in (b"", b"ACK"):
            self.write(answer(event.head, event.status, event.reason))
        if event.closes:
            self.close()

    def granted(self) -> None:
        """There is room again."""
        self._held = False
        self._read_on()
        self._go_on()

    def _read_on(self) -> None:
        """Read exactly while what is read can go somewhere."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self.choked:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # -- what leaves -------------------------------------------------------------------------------------------------
    def write(self, data: bytes) -> None:
        """Send it; nothing happens where the connection is gone."""
        if self._transport and not self._transport.is_closing():
            self.active = self._clock()
            self._transport.write(data)

    def answered(self, data: bytes) -> None:
        """The final answer to one of its requests."""
        self.unanswered -= 1
        self.write(data)
        if self._ending and not self.unanswered:
            self.close()

    # -- its end -----------------------------------------------------------------------------------------------------
    @property
    def usable(self) -> bool:
        """Whether a request can be sent over it."""
        closing = self._transport is None or self._transport.is_closing()
        return not (closing or self.gone or self._ending or self.choked)

    @property
    def busy(self) -> bool:
        """Whether an answer is due, to it or from it."""
        return bool(self.unanswered or self.flights)

    @property
    def slow(self) -> float:
        """Seconds since the beginning of a message that has not come whole; 0: none has begun."""
        return self._clock() - self.since if self._framer.partial and not self._held else 0.0

    def close(self) -> None:
        """End it when all is written."""
        if self._transport:
            self._transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        """End it now."""
        if self._transport:
            self._transport.abort()
        elif self.abandon:
            self.abandon()


def plain_host(host: str) -> str:
    """An IP address as `ipaddress` reads it: no scope, and IPv4 that came through an IPv6 socket as IPv4."""
    return host.partition("%")[0].removeprefix("::ffff:") if ":" in host else host
