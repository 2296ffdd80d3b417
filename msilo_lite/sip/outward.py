"""Requests of ours to where TCP or TLS leads, and their answers back to PJSIP.

PJSIP sends each as a datagram to the door, which was told beforehand where it leads; here a connection is found or
made, the Via is rewritten, and a failure is reported at once. Open connections are bounded: one that nobody needs gives
way, and where all are needed a request waits. A connection on which a client came in is used where it leads to the same
place (RFC 5923, RFC 5626): a phone behind NAT has no other. Lives in the door's thread, but for `expect` and `forget`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..seeing.logs import logger
from .address import Remote
from .connection import Connection
from .framing import Head, Whole, answer, branch_of, shortened, with_first_via

log = logger(__name__)

PATIENCE = 40.0
"Seconds after which nobody waits any more: PJSIP gives up after 32 (RFC 3261 17.1.2.2, Timer F)."
IDLE = 120.0
"Seconds that a connection of ours stays open for the next request."
MOST = 512
"Connections of ours at once: more than lanes can be open (`max_in_flight`), so that one for the next is free soon."
FLOWS = 20000
"Contacts that connections are remembered for; the oldest is forgotten."
LOCAL = "X-MSilo-Local"
"Header of an answer that nobody gave but we: its value is the door's secret."


@dataclass(frozen=True, slots=True)
class Lead:
    """Where a request leads."""

    remote: Remote
    target: bytes
    "Its Request-URI: PJSIP refuses to send `sips:` over a datagram."
    flow: tuple[str, str]
    "AoR and Contact, by which a phone's own connection is known."


@dataclass(slots=True)
class Flight:
    """A request that is under way."""

    branch: bytes
    raw: bytes
    via: bytes
    "PJSIP's own, which the answer needs."
    lead: Lead
    at: float
    connection: Connection | None = None
    again: bool = False
    "Whether this is the one repeat over a fresh connection."
    untried: bool = True
    "Whether its connection has never served: one that has may have been closed while this was on its way."


@dataclass(slots=True)
class Outward:
    """What went out and is not answered yet, and the connections it goes over."""

    send: Callable[[bytes], None]
    "Hand a datagram to PJSIP."
    clock: Callable[[], float]
    connect: Callable[[Remote], Awaitable[Connection]]
    "Raises OSError with words."
    sent_by: Callable[[Connection], bytes]
    "host:port that a Via over this connection names."
    secret: str
    most: int = MOST
    flows: dict[tuple[str, str], Connection] = field(default_factory=dict)
    "Connections on which phones registered, by AoR and Contact."
    _leads: dict[bytes, Lead] = field(default_factory=dict)
    _flights: dict[bytes, Flight] = field(default_factory=dict)
    _open: dict[Remote, Connection] = field(default_factory=dict)
    _places: dict[tuple[str, str, int], Connection] = field(default_factory=dict)
    "Clients' connections, by transport, host and port of their other end."
    _wanted: dict[Remote, list[Flight]] = field(default_factory=dict)
    "What waits for a connection that is being made, or that waits for room."
    _queue: deque[Remote] = field(default_factory=deque)
    _tasks: dict[Remote, asyncio.Task[None]] = field(default_factory=dict)

    # -- what PJSIP's thread tells -----------------------------------------------------------------------------------
    def expect(self, key: bytes, lead: Lead) -> None:
        """A request with this Call-ID and CSeq comes over the link next."""
        self._leads[key] = lead

    def forget(self, key: bytes) -> None:
        """It does not."""
        self._leads.pop(key, None)

    # -- out ---------------------------------------------------------------------------------------------------------
    def request(self, raw: bytes) -> None:
        """A request of ours from PJSIP."""
        head = Head.of(raw)
        via = head.get(b"via")
        branch = branch_of(via)
        if branch in self._flights:  # PJSIP repeats it, since to PJSIP we are datagrams
            return
        lead = self._leads.pop(lead_key(head.get(b"call-id"), head.get(b"cseq")), None)
        if lead is None:  # a repeat, after the answer
            return
        method = head.method
        raw = method + b" " + lead.target + b" SIP/2.0\r\n" + raw.partition(b"\r\n")[2]
        self._flights[branch] = flight = Flight(branch, raw, via, lead, self.clock())
        self._lead(flight)

    def _lead(self, flight: Flight) -> None:
        found = self._found(flight.lead)
        if found:
            self._put(flight, found)
            return
        remote = flight.lead.remote
        waiting = self._wanted.setdefault(remote, [])
        waiting.append(flight)
        if len(waiting) == 1:
            self._queue.append(remote)
            self.make_room()

    def _found(self, lead: Lead) -> Connection | None:
        """A connection that leads there already."""
        remote = lead.remote
        place = (remote.transport, remote.host, remote.port)
        for one in (self._open.get(remote), self.flows.get(lead.flow), self._places.get(place)):
            if one and one.usable:
                return one
        return None

    def make_room(self) -> None:
        """Begin the connections that were waited for, as far as there is room; idle ones give way."""
        while self._queue and (len(self._tasks) + len(self._open) < self.most or self._give_way()):
            remote = self._queue.popleft()
            self._tasks[remote] = asyncio.create_task(self._open_one(remote))

    def _give_way(self) -> bool:
        """Close the one that nobody has needed for the longest time."""
        idle = [(one.active, remote) for remote, one in self._open.items() if not one.busy]
        if not idle:
            return False
        _, remote = min(idle, key=lambda pair: pair[0])
        self._open.pop(remote).close()
        return True

    async def _open_one(self, remote: Remote) -> None:
        connection, words = None, f"{remote} closed the connection at once"
        try:
            connection = await self.connect(remote)
        except OSError as error:
            words = f"{remote} cannot be reached: {error}"
        except Exception as error:  # a fault of ours must not leave requests waiting for ever
            words = f"{remote} cannot be reached: internal error ({type(error).__name__})"
            log.exception("door.broken", where="connection", peer=str(remote))
        finally:
            del self._tasks[remote]
        usable = connection is not None and connection.usable
        if connection and usable:
            self._open[remote] = connection
        for flight in self._wanted.pop(remote, []):
            if not (connection and usable):
                self._fail(flight, words)
            elif flight.branch in self._flights:
                self._put(flight, connection)
        self.make_room()

    def _put(self, flight: Flight, connection: Connection) -> None:
        flight.connection, flight.untried = connection, connection.outbound and not connection.heard
        connection.flights.add(flight.branch)
        peer = connection.peer
        transport = peer.transport.upper().encode() if peer else b"TCP"
        via = b"SIP/2.0/%s %s;rport;branch=%s" % (transport, self.sent_by(connection), flight.branch)
        connection.write(with_first_via(flight.raw, lambda _: via))

    # -- back --------------------------------------------------------------------------------------------------------
    def response(self, connection: Connection, whole: Whole) -> None:
        """An answer to one of them; from anybody else than who was asked it is none."""
        flight = self._flights.get(branch_of(whole.head.get(b"via")))
        asked = flight.connection if flight else None
        if flight is None or asked is None or connection.host != asked.host:
            return
        connection.heard = True
        head = Head(whole.head.start, tuple(line for line in whole.head.lines if not _ours(line)))
        raw = whole.raw if len(head.lines) == len(whole.head.lines) else shortened(head)
        back = with_first_via(raw, lambda _: flight.via)
        if len(back) > MOST_BACK:
            back = with_first_via(shortened(head), lambda _: flight.via)
        if whole.head.code >= 200:
            self._end(flight)
        self.send(back)

    def _end(self, flight: Flight) -> None:
        self._flights.pop(flight.branch, None)
        if flight.connection:
            flight.connection.flights.discard(flight.branch)
        if self._queue:
            self.make_room()

    def _fail(self, flight: Flight, words: str) -> None:
        """Tell PJSIP that nobody will answer."""
        if self._flights.get(flight.branch) is not flight:
            return
        self._end(flight)
        self.send(answer(Head.of(flight.raw), 503, words, f"{LOCAL}: {self.secret}"))

    # -- connections come and go -------------------------------------------------------------------------------------
    def opened(self, connection: Connection) -> None:
        """A client's connection can lead to the client."""
        if connection.peer and not connection.outbound:
            self._places[_place(connection)] = connection

    def learn(self, flow: tuple[str, str], connection: Connection) -> None:
        """A phone registered on this connection: AoR and Contact."""
        if connection.gone:
            return
        self.flows.pop(flow, None)
        self.flows[flow] = connection
        connection.flows.add(flow)
        if len(self.flows) > FLOWS:
            self.flows.pop(next(iter(self.flows)))

    def closed(self, connection: Connection) -> None:
        """Over it nothing comes back: what it may never have carried goes over a fresh one, once."""
        for remote in [key for key, one in self._open.items() if one is connection]:
            del self._open[remote]
        if connection.peer and self._places.get(_place(connection)) is connection:
            del self._places[_place(connection)]
        for flow in connection.flows:
            if self.flows.get(flow) is connection:
                del self.flows[flow]
        for branch in list(connection.flights):
            flight = self._flights.get(branch)
            if flight is None:
                continue
            if flight.untried or flight.again:
                self._fail(flight, f"{flight.lead.remote} closed the connection before it answered")
            else:
                flight.again, flight.connection = True, None
                self._lead(flight)
        self.make_room()

    def sweep(self) -> None:
        """Close what has been idle for long, and forget what nobody waits for."""
        now = self.clock()
        for flight in [one for one in self._flights.values() if now - one.at > PATIENCE]:
            self._end(flight)
        for remote, one in list(self._open.items()):
            if not one.busy and now - one.active > IDLE:
                del self._open[remote]
                one.close()

    def close(self) -> None:
        """The end: no more answers are waited for."""
        for one in self._open.values():
            one.close()

    @property
    def connections(self) -> int:
        """How many connections are ours."""
        return len(self._open)


MOST_BACK = 3900
"Bytes of an answer that PJSIP can take."


def lead_key(call_id: bytes, cseq: bytes) -> bytes:
    """What names a request on its way from PJSIP to the door: Call-ID and the number of CSeq."""
    return call_id + b" " + cseq.split(None, 1)[0] if cseq else call_id


def _place(connection: Connection) -> tuple[str, str, int]:
    assert connection.peer
    return connection.peer.transport, connection.peer.host, connection.peer.port


def _ours(line: bytes) -> bool:
    """Whether a line pretends to be our own word."""
    return line.partition(b":")[0].strip().lower() == LOCAL.lower().encode()
