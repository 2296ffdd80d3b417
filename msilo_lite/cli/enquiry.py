"""`check` asks the PBX: OPTIONS, MESSAGE, SUBSCRIBE and REGISTER by the same edge that the daemon uses.

Nothing that it sends is mail: the messages are for a user that does not exist, or for one whom the person named, and
are known by a number when they come to us. What the answers mean is said in `verdicts`.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import Self

from ..box.inbox import Inbox
from ..errors import BadRequest, MsiloError, SipError
from ..outbound.compose import hidden_route
from ..pbx.dialog import Dialog, Form
from ..pbx.echoes import Echo, body_of, mark_of, number_in
from ..pbx.liaison import reachable
from ..settings.config import Config
from ..sip import wire
from ..sip.address import Aor, Endpoint, next_host, parse_uri, remote_of
from ..sip.agent import Agent
from ..sip.asker import Asker
from ..sip.digest import Credentials
from ..sip.lookup import Lookup
from ..sip.wire import Answer, Incoming, Outgoing
from .verdicts import Asked

NOBODY = "msilo-lite-check"
"A user that no PBX has."
PATIENCE = 5.0
"Seconds for an answer; a PBX is near."
ECHO_PATIENCE = 5.0
"Seconds for a message to come round: FreeSWITCH and Asterisk queue it."
POLL_MS = 50
ACK_PATIENCE = 5.0
"Seconds for the daemon to take note of a number; it looks ten times a second."
ACCEPT = {"presence": "application/pidf+xml", "reg": "application/reginfo+xml"}


@dataclass(slots=True)
class Ear:
    """What comes in while we ask; nothing of it is kept."""

    trusted: Callable[[str], bool]
    answers: dict[int, Answer] = field(default_factory=dict)
    echoes: dict[int, Echo] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    "Addresses that sent something and are not trusted."
    agent: Agent | None = None
    asker: Asker | None = None

    def hears(self, host: str) -> bool:
        """Everybody is listened to; who is not trusted is remembered."""
        if not self.trusted(host):
            self.strangers.add(host)
        return True

    def received(self, request: Incoming) -> None:
        """A NOTIFY, an OPTIONS, or one of our own messages come round; any other is told to come again."""
        assert self.agent is not None
        status = 200
        with contextlib.suppress(BadRequest):
            parsed = wire.read(request.text)
            if parsed.method in ("MESSAGE", "REGISTER"):
                number = number_in(parsed) if parsed.method == "MESSAGE" else None
                if number is None:
                    status = 503  # mail that comes while no daemon runs: its sender has to know
                elif request.host not in self.strangers:
                    self.echoes[number] = Echo(number, request.host, len(parsed.body))
        self.agent.answer(request.handle, status, () if status == 200 else (("Retry-After", "30"),))

    def answered(self, token: int, answer: Answer) -> None:
        """The end of a request."""
        assert self.asker is not None
        final = self.asker.answered(token, answer)
        if final is not None:
            self.answers[token] = final

    def dropped(self, reason: str) -> None:
        """Nothing is counted here."""

    def counted(self, name: str, number: int) -> None:
        """Nor what happens at the door."""


class Enquiry:
    """A conversation with one PBX. Raises SipError where no socket can be had."""

    def __init__(self, config: Config, towards: str, inbox: Inbox | None, *, in_place: bool) -> None:
        """`towards`: SIP URI of the PBX; `inbox`: the file that a daemon serves, None without a daemon.

        `in_place`: whether the addresses of `bind` are free, so that we ask as the daemon would; else from free ports.
        """
        self._config, self._uri, self._inbox, self._in_place = config, towards, inbox, in_place
        networks = config.networks
        self._ear = Ear(lambda host: any(ip_address(host) in network for network in networks))
        binds = config.endpoints
        if not in_place:
            binds = tuple(replace(one, port=0) for one in binds)
        self._agent = Agent(binds, self._ear, "msilo-lite check", config.door)
        credentials = Credentials(config.user, config.secret or "") if config.user else None
        self._route = hidden_route(towards)
        lookup = Lookup(frozenset(AF_INET6 if ":" in one.host else AF_INET for one in self._agent.listening))
        self.host = lookup.first(next_host(towards)) or next_host(towards)
        "The IP address of the PBX."
        self._asker = Asker(self._agent, credentials, frozenset({towards}), lookup)
        self._ear.agent, self._ear.asker = self._agent, self._asker
        self._token = 0
        parsed = parse_uri(towards)
        self.pbx = f"{parsed.host}:{parsed.port or 5060}"
        self.source = str(_same_family(self._agent.listening, next_host(towards)))
        self.domain = config.domain[0] if config.domain else parsed.host
        self._turned_away = self._untrusted()
        self._place = reachable(self._agent.listening, self.host, remote_of(towards).transport)
        self.source_host = _bare_host(self._place.partition(";")[0])
        "The IP address from which the PBX hears us."
        self._me = f"sip:{config.user or NOBODY}@{self.domain}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._agent.close()

    @property
    def address(self) -> tuple[str, int]:
        """The PBX, as a socket wants it."""
        return self.host, remote_of(self._uri).port

    @property
    def strangers(self) -> tuple[str, ...]:
        """Addresses from which something came, and that are not trusted."""
        return tuple(sorted(self._ear.strangers))

    @property
    def turned_away(self) -> bool:
        """Whether the daemon has refused somebody meanwhile whom it does not trust."""
        return self._untrusted() > self._turned_away

    def _untrusted(self) -> int:
        return self._inbox.counters().get("untrusted", 0) if self._inbox else 0

    # -- questions ---------------------------------------------------------------------------------------------------
    def options(self) -> Asked:
        """Is somebody there?"""
        return self._asked(self._outgoing("OPTIONS", self._uri, self._uri))

    def register(self) -> Asked:
        """Who is registered as our extension? It changes nothing."""
        me = f"sip:{self._config.user}@{parse_uri(self._uri).host}"
        return self._asked(self._outgoing("REGISTER", f"sip:{parse_uri(self._uri).host}", me, me))

    def message(self, user: str, number: int, size: int = 0) -> Asked:
        """Would a message of ours be taken? It goes to a user of our domain, and is no mail."""
        to = f"sip:{user}@{self.domain}"
        headers = ((b"X-MSilo-ID", mark_of(number).encode()),)
        return self._asked(self._outgoing("MESSAGE", to, to, headers=headers, body=body_of(number, size)))

    def subscribe(self, event: str, user: str) -> Asked:
        """Would we be told about a user? The subscription is ended at once."""
        contact = f"sip:{self._config.user or 'msilo-lite'}@{self._place}"
        me = f"sip:{self._config.user}@{parse_uri(self._uri).host}" if self._config.user else contact
        form = Form(event, ACCEPT[event], me, contact, (self._route,))
        dialog = Dialog(form, Aor(user, self.domain), lambda: secrets.token_hex(8))
        asked = self._asked(dialog.subscribe(60))
        if asked.answer and 200 <= asked.code < 300:
            dialog.learn(asked.answer)
            with contextlib.suppress(SipError):
                self._send(dialog.subscribe(0))
                self._wait(lambda: False, 0.5)
        return asked

    def _outgoing(
        self, method: str, target: str, to: str, from_: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes = b"",
    ) -> Outgoing:  # fmt: skip
        ctype = b"text/plain" if body else b""
        call_id = f"{secrets.token_hex(12)}@msilo-lite"
        who = f"<{from_ or self._me}>"
        return Outgoing(target, who, f"<{to}>", call_id, headers, ctype, body, (self._route,), method=method)

    def _asked(self, request: Outgoing) -> Asked:
        try:
            answer = self._answer_to(request)
        except SipError as error:
            answer = Answer(503, str(error), local=True)
        has_password = self._config.user is not None
        return Asked(self.pbx, self.source, self._in_place, has_password, answer, time.time())

    def _answer_to(self, request: Outgoing) -> Answer | None:
        token = self._send(request)
        self._wait(lambda: token in self._ear.answers, PATIENCE)
        return self._ear.answers.pop(token, None)

    def _send(self, request: Outgoing) -> int:
        self._token += 1
        self._asker.send(self._token, request)
        return self._token

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let the edge work until something is true; whether it became so."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self._agent.poll(POLL_MS, 50)
        return True

    def beside(self, work: Callable[[], int]) -> int:
        """Do something in a thread that does not go by our edge, while the edge listens."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            while not future.done():
                self._agent.poll(POLL_MS, 50)
            return future.result()

    # -- what comes round --------------------------------------------------------------------------------------------
    def announce(self) -> int:
        """A new number, known to the daemon where one runs. Raises MsiloError when it does not take note."""
        number = secrets.randbits(62)
        if self._inbox is not None:
            wish = self._inbox.ask("listen", Aor(NOBODY, self.domain), int(time.time()), number)
            if not self._wait(lambda: self._is_granted(wish), ACK_PATIENCE):
                raise MsiloError("the daemon took no note of it; `msilo-lite status` tells more")
        return number

    def _is_granted(self, wish: int) -> bool:
        return self._inbox is None or self._inbox.granted(wish) is not None

    def came(self, number: int, seconds: float = ECHO_PATIENCE) -> Echo | None:
        """The message with this number, where it comes to us in time."""
        self._wait(lambda: self._echo(number) is not None or bool(self._ear.strangers), seconds)
        return self._echo(number)

    def _echo(self, number: int) -> Echo | None:
        if self._inbox is None:
            return self._ear.echoes.get(number)
        return next((Echo(**one) for one in self._inbox.echoes() if one["number"] == number), None)


def closed_port(uri: str, source: str) -> str:
    """Why nothing can be there, as the network tells it at once (ICMP), or nothing. Raises MsiloError for no such name.

    `source`: the IP address to ask from.
    """
    parsed = parse_uri(uri)
    host, port = next_host(uri), parsed.port or 5060
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise MsiloError(f"{host} is not known here ({error}); name its address") from error
    with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.3)
        try:
            if (":" in source) == (found[0] == AF_INET6):
                probe.bind((source, 0))
            probe.connect(found[4])
            probe.send(b"\r\n\r\n")  # a keep-alive, which nobody has to answer (RFC 5626 3.5.1)
            probe.recv(1)
        except TimeoutError:
            return ""
        except ConnectionRefusedError:
            return "no program listens there"
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _bare_host(place: str) -> str:
    return place.rpartition(":")[0].strip("[]")


def _same_family(listening: tuple[Endpoint, ...], host: str) -> Endpoint:
    return next((one for one in listening if (":" in one.host) == (":" in host)), listening[0])
