"""The door: TCP and TLS in front of PJSIP, in a thread and an event loop of its own.

PJSIP aborts the process when some 64 of its sockets are open or were closed within half a second, stalls on a TCP
message of more than 4,000 bytes, writes beyond its memory on a descriptor over 1,023, and brings OpenSSL 1.0.2. So it
never gets a TCP socket: connections in both directions end here, and to PJSIP the door is one UDP peer on loopback
(`inward`, `outward`). Between the two threads there are only datagrams, two dictionaries that one side fills and the
other reads, and counters. Idle, half-open and slow clients cost a connection here and nothing behind it; when all
places are taken, whoever holds most of them loses the one that was silent for the longest time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..errors import ConfigError, SipError
from ..seeing.logs import logger
from .address import Endpoint, Remote
from .certificates import load, signature
from .connection import SCRATCH, Connection, plain_host
from .framing import Whole
from .inward import Inward, Waiting, registered
from .outward import Outward
from .sockets import HANDSHAKE, connect, link_socket, listen_all, room_for, words_of
from .threshold import DoorTerms, TlsFiles

log = logger(__name__)

MESSAGE = 60.0
"Seconds in which a message that has begun must have come whole."
CHOKED = 30.0
"Seconds for which the other side may leave unread what we wrote."
TICK = 0.25
"Seconds between two looks at what has taken too long."
FILES_EVERY = 5.0
"Seconds between two looks at the files of certificates."
FAREWELL = 1.0
"Seconds that the last answers get to leave, at the end."


class Door:
    """Listeners, connections, and the link to PJSIP. Raises SipError and ConfigError from the constructor."""

    def __init__(self, backend: Endpoint, binds: tuple[Endpoint, ...], ours: tuple[Endpoint, ...], terms: DoorTerms):
        """`backend`: PJSIP's end of the link. `ours`: all that we listen on, whose addresses we connect from."""
        self._terms = terms
        self._clock = time.monotonic
        self._backend = backend
        self.secret = secrets.token_hex(16)
        "What only our own answers can know."
        self._counts: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._contexts = load(terms.tls)
        self._most = room_for(terms.clients)
        self._marks = signature(terms.tls)
        self._complaint = ""
        self._link = link_socket(backend)
        self.source = self._link.getsockname()[:2]
        "Our end of the link, from which PJSIP hears us."
        self._listeners = listen_all(binds)
        self.listening = tuple(
            Endpoint(bind.host, sock.getsockname()[1], bind.transport)
            for bind, sock in zip(binds, self._listeners, strict=True)
        )
        self._sources = (*self.listening, *ours)
        self.scratch = memoryview(bytearray(SCRATCH))
        self._clients: dict[Connection, Endpoint] = {}
        self.inward = Inward(self._tell, self._clock, self.count, self._learn, b"%s:%d" % (_ascii(self.source)))
        self.outward = Outward(self._tell, self._clock, self._connect, self._sent_by, self.secret)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._loop is None:
            raise SipError("the door for TCP and TLS does not start; the log tells why")

    # -- what the other thread may call ------------------------------------------------------------------------------
    @property
    def alive(self) -> bool:
        """Whether anything comes and goes; after `close` it does not."""
        return self._thread.is_alive()

    def take_counts(self) -> dict[str, int]:
        """What was counted since the last call."""
        if not self._counts:
            return {}
        with self._guard:
            taken, self._counts = self._counts, Counter()
        return dict(taken)

    def facts(self) -> dict[str, int]:
        """How much is going on, for `status`."""
        return {
            "clients": len(self._clients),
            "outbound": self.outward.connections,
            "under_way": self.inward.under_way,
        }

    def refuse(self, raw: bytes, reason: str) -> None:
        """PJSIP could not parse what it got from us."""
        self._later(lambda: self.inward.refuse(raw, reason))

    def reload(self, files: TlsFiles) -> None:
        """Take new certificates for connections to come; those that are open live on.

        Raises ConfigError where the files are no good; then the old ones stay.
        """
        if files.certificate is None and any(one.transport == "tls" for one in self.listening):
            raise ConfigError("tls_certificate is not set, and this listens on TLS; the old one stays")
        marks = signature(files)
        contexts = load(files)
        self._terms = replace(self._terms, tls=files)
        self._contexts, self._marks, self._complaint = contexts, marks, ""

    def close(self) -> None:
        """Let the last answers leave, then close all; returns when the thread has ended."""
        self._later(lambda: self._stop.set() if self._stop else None)
        self._thread.join(FAREWELL + 5)

    def _later(self, call: Callable[[], object]) -> None:
        if self._loop:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(call)

    # -- the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # the one broad catch of this thread of control
            log.exception("door.failed")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        link, _ = await self._loop.create_datagram_endpoint(lambda: _Link(self), sock=self._link)
        accepting = [
            asyncio.create_task(self._accept(sock, endpoint))
            for sock, endpoint in zip(self._listeners, self.listening, strict=True)
        ]
        sweeping = asyncio.create_task(self._sweep())
        self._ready.set()
        await self._stop.wait()
        for task in accepting:
            task.cancel()
        for sock in self._listeners:
            sock.close()
        await self._farewell()
        sweeping.cancel()
        link.close()

    async def _farewell(self) -> None:
        """What is answered already leaves; then all connections end."""
        end = self._clock() + FAREWELL
        await asyncio.sleep(0.01)  # answers that PJSIP gave a moment ago are in the link
        while self.inward.under_way and self._clock() < end:
            await asyncio.sleep(0.01)
        self.inward.close()
        for connection in list(self._clients):
            connection.close()
        self.outward.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FAREWELL)
        await asyncio.sleep(0.01)

    # -- who comes ---------------------------------------------------------------------------------------------------
    async def _accept(self, listener: socket.socket, endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left
                self.count("accept_errors")
                log.warning("door.full", listener=str(endpoint), error=error.strerror)
                self._give_way()
                await asyncio.sleep(0.1)
                continue
            self.count(f"{endpoint.transport}_connections")
            if len(self._clients) >= self._most:
                self._give_way()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection = Connection(self, plain_host(address[0]), self._clock)
            self._clients[connection] = endpoint
            task = asyncio.create_task(self._welcome(connection, sock, endpoint))
            connection.abandon = partial(_hang_up, sock)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _welcome(self, connection: Connection, sock: socket.socket, endpoint: Endpoint) -> None:
        """From an accepted socket to a connection that can be read; TLS takes its time."""
        context = self._contexts.server if endpoint.transport == "tls" else None
        patience = HANDSHAKE if context else None
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, sock, ssl=context, ssl_handshake_timeout=patience)
        except OSError as error:  # ssl.SSLError and time-outs are some; asyncio has closed the socket
            self._clients.pop(connection, None)
            self.count("tls_failures")
            log.info("tls.refused", peer=connection.host, error=words_of(error))

    def _give_way(self) -> None:
        """One client has to go: of those who hold most places, the one that was silent for the longest time."""
        held = Counter(one.host for one in self._clients)
        if not held:
            return
        most = held.most_common(1)[0][1]
        able = [one for one in self._clients if held[one.host] == most]
        gone = min(able, key=lambda one: (one.busy, one.active))
        self._clients.pop(gone)
        self.count("clients_given_up")
        gone.abort()

    # -- where we go -------------------------------------------------------------------------------------------------
    async def _connect(self, remote: Remote) -> Connection:
        """A connection to there. Raises OSError with words for the operator."""
        context = self._contexts.client if remote.transport == "tls" else None

        def arrived(host: str) -> Connection:
            return Connection(self, plain_host(host), self._clock, outbound=True)

        return await connect(remote, self._source_for, context, arrived)

    def _source_for(self, family: int) -> str | None:
        """The address we are known by: the first that we listen on, unless that is all of them."""
        six = family == socket.AF_INET6
        hosts = [one.host for one in self._sources if (":" in one.host) == six]
        return hosts[0] if hosts and not ipaddress.ip_address(hosts[0]).is_unspecified else None

    def _sent_by(self, connection: Connection) -> bytes:
        """Where we can be reached again (RFC 3261 18.1.1): where we listen, else the connection's own end."""
        host, port = plain_host(connection.local[0]), connection.local[1]
        transport = connection.peer.transport if connection.peer else "tcp"
        for one in self.listening:
            wild = ipaddress.ip_address(one.host).is_unspecified
            if one.transport == transport and (one.host == host or (wild and (":" in one.host) == (":" in host))):
                port = one.port
                break
        return Endpoint(host, port).place.encode()

    # -- what connections call ---------------------------------------------------------------------------------------
    def opened(self, connection: Connection) -> None:
        """It is ready."""
        self.outward.opened(connection)

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        self._clients.pop(connection, None)
        self.outward.closed(connection)

    def request(self, connection: Connection, whole: Whole) -> bool:
        """A sound request; False: there is no room."""
        contacts = registered(whole) if whole.head.method == b"REGISTER" else ()
        return self.inward.request(connection, whole, contacts)

    def response(self, connection: Connection, whole: Whole) -> None:
        """A response."""
        self.outward.response(connection, whole)

    def count(self, name: str) -> None:
        """Something worth counting happened."""
        with self._guard:
            self._counts[name] += 1

    def _learn(self, waiting: Waiting) -> None:
        """A phone's REGISTER was accepted: its connection leads to its Contacts (RFC 5626 5.3, as far as it goes)."""
        for flow in waiting.contacts:
            self.outward.learn(flow, waiting.connection)

    # -- the link ----------------------------------------------------------------------------------------------------
    def _tell(self, datagram: bytes) -> None:
        """To PJSIP; what the socket cannot take now is lost, as on any network, and repeated."""
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self._link.send(datagram)

    def heard(self, datagram: bytes) -> None:
        """From PJSIP."""
        if datagram.startswith(b"SIP/2.0 "):
            self.inward.answered(datagram)
        else:
            self.outward.request(datagram)

    # -- time --------------------------------------------------------------------------------------------------------
    async def _sweep(self) -> None:
        looked = self._clock()
        while True:
            await asyncio.sleep(TICK)
            try:
                self.inward.sweep()
                self.outward.sweep()
                self._sweep_clients()
                if self._clock() - looked > FILES_EVERY:
                    looked = self._clock()
                    self._look_at_files()
            except Exception:  # the next look may go better
                log.exception("door.broken", where="sweep")

    def _sweep_clients(self) -> None:
        now = self._clock()
        for one in list(self._clients):
            if one.slow > MESSAGE or (one.choked and now - one.choked > CHOKED):
                self.count("clients_too_slow")
                one.abort()
            elif now - one.active > self._terms.idle and not one.busy:
                one.close()

    def _look_at_files(self) -> None:
        """Take new files by themselves, as they come from an ACME client; keep the old ones while they are no good."""
        if signature(self._terms.tls) == self._marks:
            return
        try:
            self.reload(self._terms.tls)
        except ConfigError as error:  # also while one of two files is written already
            if str(error) != self._complaint:
                log.warning("tls.not_taken", error=str(error), words="the old certificates stay")
            self._complaint = str(error)
        else:
            log.info("tls.renewed")


def _hang_up(sock: socket.socket) -> None:
    """End a connection in its handshake: asyncio, which has the socket, sees it and closes it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class _Link(asyncio.DatagramProtocol):
    """The door's end of the link; the socket is connected, so that only PJSIP can be heard."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            self._door.heard(data)
        except Exception:
            log.exception("door.broken", where="datagram")

    def error_received(self, exc: Exception) -> None:
        """PJSIP is not there (yet, or any more)."""


def _ascii(place: tuple[str, int]) -> tuple[bytes, int]:
    return place[0].encode(), place[1]
