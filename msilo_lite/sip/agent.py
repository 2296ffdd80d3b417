"""The SIP edge: pjsua2 and one `pjsip_module`, behind records in and records out.

Requests come in as `wire.Incoming` before any module of pjsua sees them and are answered later, when the daemon has
committed; requests go out as `Outgoing` and come back as `Answer` with the caller's token. Nothing is decided here.
One thread owns everything: PJSIP has no worker threads and works only inside `poll`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import BadRequest, ConfigError, SipError
from ..seeing.logs import logger
from .address import Endpoint, Remote, parse_address, remote_of
from .binding import load_binding, log_writer
from .lines import Lines, octets, split
from .pjsip import (
    SEND_DONE,
    CApi,
    P,
    header_list,
    interface_addresses,
    learn_layout,
    register_module,
    selected_socket,
    status_phrase,
    stay_on_udp,
    watch_dropped,
)
from .rdata import Packet, Packets
from .threshold import DoorTerms
from .txdata import Builder
from .udp import Udp
from .wire import Answer, Incoming, Outgoing

if TYPE_CHECKING:  # asyncio and ssl cost 60 ms, which UDP alone need not wait for
    from .doorway import Doorway

log = logger(__name__)

OURS = frozenset({b"MESSAGE", b"REGISTER", b"OPTIONS", b"NOTIFY"})
"Methods handed to the listener."
LEFT = frozenset({b"ACK", b"CANCEL"})
"Methods left to PJSIP."
AT_ONCE = 10
"Packets that PJSIP reads from a socket at once (MAX_IMMEDIATE_PACKET); after fewer, no more are there."
ALLOW = b"MESSAGE, REGISTER, OPTIONS, NOTIFY"


class Listener(Protocol):
    """What the daemon offers to the edge."""

    def hears(self, host: str) -> bool:
        """Whether requests from this IP address are worth a look; others get 403."""

    def received(self, request: Incoming) -> None:
        """A MESSAGE, REGISTER, OPTIONS or NOTIFY from an address that is heard."""

    def answered(self, token: int, answer: Answer) -> None:
        """The final answer to the Outgoing that was sent with this token."""

    def dropped(self, reason: str) -> None:
        """A request that gets no further, with the name of the counter it belongs to."""

    def counted(self, name: str, number: int) -> None:
        """What happened at the door for TCP and TLS so many times, with the name of its counter."""


class Agent:
    """A SIP user agent on one or more addresses. Raises SipError from the constructor and from `send`."""

    def __init__(
        self, binds: tuple[Endpoint, ...], listener: Listener, user_agent: str, door: DoorTerms | None = None
    ) -> None:
        """`door`: how TCP and TLS behave. Raises ConfigError as well, where certificates are no good."""
        self._pj, extension = load_binding()
        self._listener = listener
        self._api = CApi(extension, "pjsua2")
        self._api.pj_log_set_level(0)  # libCreate() prints before any level can be configured
        self._sending: int | None = None
        self._early: Answer | None = None
        self._heard = 0
        self._sent_by: dict[Endpoint, str] = {}
        "What a Via says of a transport."
        self._udp = Udp(lru_cache(maxsize=700)(lambda status: status_phrase(self._api, status)), user_agent)
        self.packets = Packets(self._copied, self._udp.transports)
        self._start(user_agent)
        self._door_terms = door
        self._doorway: Doorway | None = None
        self._transports: list[tuple[Endpoint, Any]] = []
        try:
            stay_on_udp(self._api)
            self._transports += [self._bind(bind) for bind in binds if bind.transport == "udp"]
            streams = tuple(bind for bind in binds if bind.transport != "udp")
            if streams or (door and door.tls.named):
                self._open_doorway(streams)
        except (SipError, ConfigError):
            self.close()
            raise
        for one, (selector, _) in self._transports:
            self._share(one, selector)
        bound: dict[str, list[Endpoint]] = {"udp": [endpoint for endpoint, _ in self._transports]}
        streaming: tuple[Endpoint, ...] = self._doorway.door.listening if self._doorway else ()
        for one in streaming:
            bound.setdefault(one.transport, []).append(one)
        self.listening = tuple(bound[bind.transport].pop(0) for bind in binds)
        "The bound addresses, in the order asked for, with their ports."

    def _open_doorway(self, streams: tuple[Endpoint, ...] = ()) -> Doorway:
        """Begin with TCP and TLS: at start where something listens there, else when somebody is to be reached so."""
        from .doorway import Doorway

        link, self._link = self._bind(Endpoint("127.0.0.1", 0))
        ours = tuple(endpoint for endpoint, _ in self._transports)
        self._doorway = Doorway(link, self._link[0], streams, ours, self._door_terms or DoorTerms())
        return self._doorway

    def _start(self, user_agent: str) -> None:
        pj = self._pj
        self._log_writer = log_writer(pj)
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.userAgent = user_agent
        config.medConfig.threadCnt, config.medConfig.hasIoqueue = 0, False
        config.logConfig.level, config.logConfig.consoleLevel = 1, 0
        config.logConfig.msgLogging, config.logConfig.writer = 0, self._log_writer
        self._endpoint: Any = pj.Endpoint()
        try:
            self._endpoint.libCreate()
            self._endpoint.libInit(config)
            self._endpoint.libStart()
        except pj.Error as error:
            raise SipError(f"PJSIP does not start: {error.info()}") from error
        self._endpt = self._api.pjsua_get_pjsip_endpt()
        self._builder = Builder(self._api, self._endpt, learn_layout(self._api, pj.SipTxOption()))
        self._rx, self._event = pj.SipRxData(), pj.SipEvent()
        self._rx_at, self._event_at = int(self._rx.this), int(self._event.this)
        self._on_done = SEND_DONE(self._done)
        self._kept = register_module(self._api, self._endpt, self._on_request, self._on_response)
        self._kept_too = watch_dropped(self._api, self._endpt, self._on_dropped)

    def _bind(self, bind: Endpoint) -> tuple[Endpoint, Any]:
        """Listen on one address; an account of its own is pjsua's way to a transport selector."""
        pj = self._pj
        config = pj.TransportConfig()
        config.port, config.boundAddress = bind.port, bind.host
        six = ":" in bind.host
        try:
            number = self._endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP6 if six else pj.PJSIP_TRANSPORT_UDP, config)
            info = self._endpoint.transportGetInfo(number)
            port = int(info.localAddress.rpartition(":")[2])
            bound = Endpoint(bind.host, port)
            account = pj.AccountConfig()
            account.idUri = f"sip:msilo-lite@{str(bound).partition(':')[2]}"
            account.sipConfig.transportId = number
            owner = pj.Account()
            owner.create(account)
        except pj.Error as error:
            hint = "this machine has no such address." if "assign" in error.reason else "is another program there?"
            raise SipError(
                f"cannot listen on {bind}: {error.reason}; {hint} Name another one with --bind, port 0 takes a free one"
            ) from error
        selector = ctypes.create_string_buffer(64)
        self._api.pjsua_init_tpselector(owner.getId(), selector)
        name = Endpoint(info.localName.rpartition(":")[0].strip("[]"), port)  # what PJSIP writes into a Via
        self._sent_by[bound] = str(name).partition(":")[2]
        return bound, (selector, owner)

    def _share(self, bound: Endpoint, selector: Any) -> None:
        """Let plain answers and requests leave by the socket of a transport."""
        transport, descriptor = selected_socket(self._api, selector)
        self._udp.add(transport, os.dup(descriptor), self._sent_by[bound])

    # -- in ----------------------------------------------------------------------------------------------------------
    def poll(self, wait: int, most: int) -> None:
        """Wait up to `wait` milliseconds for something, then take what is there, about `most` packets at the most."""
        self._heard = 0
        handled, before = self._endpoint.libHandleEvents(self._udp.wait(wait)), 0
        while handled > 0 and self._heard - before >= AT_ONCE and self._heard < most:
            before = self._heard
            handled = self._endpoint.libHandleEvents(0)
        for token, answer in self._udp.tick():
            self._listener.answered(token, answer)
        if self._doorway:
            if not self._doorway.door.alive:  # better a new start than half a service
                raise SipError("the door for TCP and TLS has died; the log tells why")
            for name, number in self._doorway.door.take_counts().items():
                self._listener.counted(name, number)

    def _copied(self, rdata: int) -> Packet:
        """A packet through the binding's own copy of it."""
        self._api.SipRxData_fromPj(self._rx_at, rdata)
        host, _, port = self._rx.srcAddress.rpartition(":")
        return Packet(octets(self._rx.wholeMsg), host.strip("[]"), int(port))

    def _on_request(self, rdata: int) -> int:
        """PJSIP's callback; total, because a 0 returned on an error would let pjsua answer 200 to a lost MESSAGE."""
        ours = True
        self._heard += 1
        try:
            packet = self.packets.read(rdata)
            method = packet.raw.split(None, 1)[0]  # PJSIP skips any white space here, so must we
            ours = method in OURS
            peer: tuple[str, int, str, bool] = (packet.host, packet.port, "udp", False)
            raw = packet.raw
            if self._doorway and self._doorway.guards(rdata, packet.host, packet.port):
                found = self._doorway.sender(raw, packet.host, packet.port)
                if found is None:  # not from the door: a program of this machine, which is no way in
                    self._listener.dropped("bypassing")
                    return 1
                peer, raw = found
            if not self._listener.hears(peer[0]):
                if method != b"ACK":  # never answered (RFC 3261 17)
                    self._listener.dropped("untrusted")
                    self._respond(rdata, 403, ())
                return 1
            if ours:
                text = split(raw)
                self._hand_over(text, peer, self._udp.asked(text, packet) or self._clone(rdata))
            elif method not in LEFT:  # RFC 3261 8.2.1; pjsua would look for a call, or say nothing
                self._respond(rdata, 405, ((b"Allow", ALLOW),))
                ours = True
            return int(ours)
        except Exception:  # the one broad catch of this thread of control
            log.exception("request.broken", where="edge")
            return self._apologize(rdata) if ours else 0

    def _hand_over(self, text: Lines, peer: tuple[str, int, str, bool], handle: int) -> None:
        try:
            host, port, transport, verified = peer
            self._listener.received(Incoming(text, host, port, handle, transport, verified))
        except Exception:
            log.exception("request.broken", where="daemon")
            self.answer(handle, 500)

    def _clone(self, rdata: int) -> int:
        clone = P()
        self._api.check(self._api.pjsip_rx_data_clone(rdata, 0, ctypes.byref(clone)), "keeping a request")
        return clone.value or 0

    def _on_response(self, rdata: int) -> int:
        """PJSIP's callback for a response that belongs to no transaction of its own; 1 where it is to one of ours."""
        self._heard += 1
        try:
            taken, ended = self._udp.heard(self.packets.read(rdata).raw)
            if ended:
                self._listener.answered(*ended)
            return int(taken)
        except Exception:  # the one broad catch of this thread of control
            log.exception("transaction.broken")
            return 1

    def _on_dropped(self, transport: int, what: bytes, why: str) -> None:
        self._listener.dropped("malformed")
        log.warning("request.malformed", size=len(what), why=why)
        if self._doorway:
            self._doorway.dropped(transport, what, why)

    # -- answers -----------------------------------------------------------------------------------------------------
    def answer(self, handle: int, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer a request once; the handle is spent. Never raises: an answer that cannot go is only logged."""
        encoded = tuple((name.encode(), octets(value)) for name, value in headers) if headers else ()
        if handle < 0:
            try:
                self._udp.answer(handle, status, encoded)
            except OSError as error:
                log.warning("answer.not_sent", code=status, error=error.strerror)
            return
        self._respond(handle, status, encoded)
        self._api.pjsip_rx_data_free_cloned(handle)

    def _apologize(self, rdata: int) -> int:
        """Answer 500 where everything else failed; whatever happens, PJSIP must not go on with the request."""
        with contextlib.suppress(Exception):
            self._respond(rdata, 500, ())
        return 1

    def _respond(self, rdata: int, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        if headers:
            with header_list(self._api, headers) as made:
                failed = self._api.pjsip_endpt_respond_stateless(self._endpt, rdata, status, None, made.at, None)
        else:
            failed = self._api.pjsip_endpt_respond_stateless(self._endpt, rdata, status, None, None, None)
        if failed:
            log.warning("answer.not_sent", code=status, error=self._api.why(failed))

    # -- out ---------------------------------------------------------------------------------------------------------
    def send(self, token: int, message: Outgoing) -> None:
        """Send a MESSAGE in a client transaction; `listener.answered(token, ...)` follows exactly once, later.

        Raises SipError when it cannot even start; then no answer follows. `token` is a positive integer.
        """
        if flaw := message.flaw():
            raise SipError(flaw, permanent=True)
        if self._udp.send(token, message):
            return
        try:
            remote = remote_of(parse_address(message.routes[0]).uri if message.routes else message.target)
        except BadRequest as error:
            raise SipError(str(error)) from error
        if remote.transport in ("tcp", "tls"):
            self._send_by_door(token, message, remote)
        else:
            self._send(token, message, self._selector_for(remote))

    def _send_by_door(self, token: int, message: Outgoing, remote: Remote) -> None:
        doorway = self._doorway or self._open_doorway()
        led = doorway.lead(message, remote)
        try:
            self._send(token, led, doorway.selector)
        except SipError:
            doorway.mislead(message)
            raise

    def _send(self, token: int, message: Outgoing, selector: Any) -> None:
        data = self._builder.create(message, selector)
        self._sending, self._early = token, None
        status = self._api.pjsip_endpt_send_request(self._endpt, data, -1, token, self._on_done)
        early: Answer | None = self._early
        self._sending, self._early = None, None
        self._api.check(status, "sending")  # PJSIP may have called back as well: the error tells more
        if early:
            self._listener.answered(token, early)

    def _selector_for(self, remote: Remote) -> Any:
        """The first transport of the address family that the next hop has; PJSIP does not choose IPv6 by itself."""
        if remote.transport != "udp":  # PJSIP would say so as well, and leak 7 kB each time
            raise SipError(f"{remote} asks for {remote.transport}, which is not spoken; an outbound_proxy can reach it")
        six = ":" in remote.name
        for endpoint, (selector, _) in self._transports:
            if (":" in endpoint.host) == six:
                return selector
        family = "IPv6" if six else "IPv4"
        raise SipError(f"nothing listens on {family}, so {remote} cannot be reached; add a --bind for it")

    def _done(self, token: int, event: int) -> None:
        """PJSIP's callback at the end of a client transaction."""
        try:
            self._api.SipEvent_fromPj(self._event_at, event)
            state = self._event.body.tsxState
            heard = state.type == self._pj.PJSIP_EVENT_RX_MSG
            raw = octets(state.src.rdata.wholeMsg) if heard else b""
            reason = octets(state.tsx.statusText).decode("utf-8", "replace")
            failure = self._doorway.failure(raw) if self._doorway else None
            answer = Answer(state.tsx.statusCode, failure or reason, raw, local=not heard or bool(failure))
            if token == self._sending:
                self._early = answer
            else:
                self._listener.answered(token, answer)
        except Exception:
            log.exception("transaction.broken")
            self._listener.answered(token, Answer(500, "internal error", local=True))

    def reload(self, door: DoorTerms) -> None:
        """Take new certificates without a restart; connections live on. Raises ConfigError, and keeps the old ones."""
        if self._doorway:
            self._doorway.door.reload(door.tls)
        self._door_terms = door

    def facts(self) -> dict[str, int]:
        """What goes on at the door for TCP and TLS, for `status`; empty while there is none."""
        return self._doorway.door.facts() if self._doorway else {}

    def own_hosts(self) -> frozenset[str]:
        """The hosts by which a peer may name us, as they stand in a URI; every interface's for a wildcard address."""
        hosts: set[str] = set()
        for one in self.listening:
            wild = ip_address(one.host).is_unspecified
            hosts.update(interface_addresses(self._api, ":" in one.host) if wild else (one.host,))
        return frozenset(f"[{host}]" if ":" in host else host for host in hosts)

    def close(self) -> None:
        """Stop PJSIP; nothing may be called afterwards."""
        self._udp.close()
        if self._doorway:
            self._doorway.door.close()
        self._endpoint.libDestroy(self._pj.PJSUA_DESTROY_NO_NETWORK)
        self._endpoint = None  # PJSIP takes only one at a time
