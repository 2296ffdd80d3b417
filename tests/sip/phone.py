"""SIP text as peers see it, and a phone of one UDP socket that a test plays by hand.

The phone is for what SIPp cannot do: raw bytes, the same request twice, an answer given late or never.
It has no transactions: what is to be repeated, the test repeats.
"""

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pytest

Address = tuple[str, int]

_serial = itertools.count(1)
_ECHOED = ("via", "from", "to", "call-id", "cseq")  # what an answer repeats, RFC 3261 8.2.6


@dataclass(frozen=True, slots=True)
class Seen:
    """One SIP message from the wire: its first line, its headers in order, its body byte for byte."""

    first: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Seen":
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(first, tuple((name.strip().lower(), value.strip()) for name, _, value in pairs), body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def __getitem__(self, name: str) -> str:
        """The one header of that name; fails the test unless there is exactly one."""
        values = self.all(name)
        if len(values) != 1:
            pytest.fail(f"{len(values)} {name} headers in {self.first}: {values}")
        return values[0]

    @property
    def code(self) -> int:
        """Status code of an answer, 0 for a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        return "" if self.code else self.first.split()[0]

    @property
    def uri(self) -> str:
        return self.first.split()[1]

    @property
    def text(self) -> str:
        return self.body.decode()


class Phone:
    """A UDP socket with a user in front of it."""

    transport = "UDP"

    def __init__(self, user: str, host: str = "127.0.0.1") -> None:
        self.user = user
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.address: Address = (host, int(self._socket.getsockname()[1]))
        self._came_from: Address = self.address
        self.since = 0.0
        "When the last datagram came, by the monotonic clock."

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    @property
    def contact(self) -> str:
        return f"sip:{self.user}@{self._place}"

    @property
    def _place(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def request(self, method: str, owner: str, *extra: str, body: bytes = b"", call_id: str = "") -> bytes:
        """A request From this phone's user To the owner; `extra` header lines come before Content-Length."""
        mark = call_id or f"{next(_serial)}.{time.time_ns()}"
        head = [
            f"{method} sip:{owner} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self._place};rport;branch=z9hG4bK{mark}",
            "Max-Forwards: 70",
            f"From: <sip:{self.user}@home.lan>;tag={mark}",
            f"To: <sip:{owner}>",
            f"Call-ID: {mark}",
            f"CSeq: 1 {method}",
            *extra,
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body

    def send(self, raw: bytes, to: Address) -> None:
        self._socket.sendto(raw, to)

    def receive(self, seconds: float = 5) -> Seen:
        """The next datagram; fails the test when none comes."""
        seen = self.glance(seconds)
        if seen is None:
            pytest.fail(f"nothing reached {self.contact} within {seconds:g} s")
        return seen

    def glance(self, seconds: float = 0) -> Seen | None:
        """The next datagram, or None when none comes in time."""
        self._socket.settimeout(max(seconds, 0.001))
        with contextlib.suppress(TimeoutError):
            raw, source = self._socket.recvfrom(65535)
            self._came_from, self.since = (str(source[0]), int(source[1])), time.monotonic()
            return Seen.parse(raw)
        return None

    def during(self, seconds: float) -> Iterator[Seen]:
        """Every datagram of the next seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if seen := self.glance(left):
                yield seen

    def ask(self, raw: bytes, to: Address, seconds: float = 5) -> Seen:
        """Send a request and return its final answer."""
        self.send(raw, to)
        while (answer := self.receive(seconds)).code < 200:
            pass
        return answer

    def message(self, to: Address, owner: str, body: bytes, ctype: str = "text/plain", *extra: str) -> Seen:
        return self.ask(self.request("MESSAGE", owner, f"Content-Type: {ctype}", *extra, body=body), to)

    def register(self, to: Address, *, expires: int = 300, domain: str = "home.lan") -> Seen:
        """REGISTER this phone's own address."""
        lines = (f"Contact: <{self.contact}>", f"Expires: {expires}")
        return self.ask(self.request("REGISTER", f"{self.user}@{domain}", *lines), to)

    def answer(self, request: Seen, code: int, *extra: str) -> None:
        """Answer the request last received, to where it came from."""
        echoed = [f"{name}: {value}" for name, value in request.headers if name in _ECHOED]
        tagged = [
            f"{line};tag={self.user}" if line.startswith("to:") and ";tag=" not in line else line for line in echoed
        ]
        head = [f"SIP/2.0 {code} {'OK' if code < 300 else 'No'}", *tagged, *extra, "Content-Length: 0", "", ""]
        self.send("\r\n".join(head).encode("utf-8", "surrogateescape"), self._came_from)

    def take(self, code: int = 200, *extra: str, seconds: float = 5) -> Seen:
        """Receive one MESSAGE and answer it.

        An answer on the way is let go, as a phone does (RFC 3261 18.1.2): a PBX that was started anew passes on what
        its last run had asked the silo.
        """
        end = time.monotonic() + seconds
        while (request := self.receive(seconds)).code and time.monotonic() < end:
            pass
        if request.method != "MESSAGE":
            pytest.fail(f"expected a MESSAGE, got {request.first}")
        self.answer(request, code, *extra)
        return request


def answers_options(address: Address, *codes: int) -> bool:
    """Whether a peer answers OPTIONS with one of these codes."""
    with Phone("probe") as probe:
        probe.send(probe.request("OPTIONS", f"{address[0]}:{address[1]}"), address)
        answer = probe.glance(0.2)
    return bool(answer and answer.code in codes)
