"""A scripted SIP phone on a UDP socket: writes, registers, takes messages and answers 200. For `demo` and `check`."""

from __future__ import annotations

import secrets
import socket
import time

import sipmessage

from ..errors import SipError
from ..sip.digest import Credentials, best_of

BUFFER = 65535
T1, T2 = 0.5, 4.0
"Seconds between two sends, at first and at the most (RFC 3261 17.1.1.1)."
CHALLENGES = {401: "WWW-Authenticate", 407: "Proxy-Authenticate"}


class Phone:
    """One phone. `silo` is the address it talks to. Methods raise SipError when nobody answers in time."""

    def __init__(
        self,
        name: str,
        silo: tuple[str, int],
        domain: str = "home.lan",
        *,
        host: str = "127.0.0.1",
        password: str | None = None,
    ) -> None:
        """`host`: where it is itself; `password`: what it answers a challenge with, None for nothing."""
        self.name = name
        self._account = Credentials(name, password) if password else None
        self.uri = sipmessage.URI(scheme="sip", user=name, host=domain)
        self._silo = silo
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._place = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.received: list[sipmessage.Request] = []
        "MESSAGEs it took, in order."

    def write(self, to: str, text: str, timeout: float = 5) -> int:
        """Send a MESSAGE to a user of the same domain; returns the final status code, after a password if asked."""
        uri = sipmessage.URI(scheme="sip", user=to, host=self.uri.host)
        request = self._request("MESSAGE", uri, uri)
        request.body = text.encode()
        request.headers.add("Content-Type", "text/plain;charset=utf-8")
        return self._ask(request, timeout)

    def register(self, timeout: float = 5) -> int:
        """Say where this phone is; returns the final status code."""
        request = self._request("REGISTER", sipmessage.URI(scheme="sip", host=self.uri.host), self.uri)
        request.headers.add("Contact", f"<sip:{self.name}@{self._place}>")
        request.headers.add("Expires", "60")
        return self._ask(request, timeout)

    def take(self, count: int, timeout: float = 5) -> None:
        """Answer MESSAGEs with 200 until `count` were taken in all. Raises SipError when they do not come."""
        deadline = time.monotonic() + timeout
        while len(self.received) < count:
            message, source = self._next(deadline, f"{self.name} got {len(self.received)} of {count} messages")
            if isinstance(message, sipmessage.Request):
                self._take(message, source)

    def _request(self, method: str, target: sipmessage.URI, to: sipmessage.URI) -> sipmessage.Request:
        request = sipmessage.Request(method, target)
        via = f"SIP/2.0/UDP {self._place};rport;branch=z9hG4bK{secrets.token_hex(8)}"
        for name, value in (
            ("Via", via),
            ("Max-Forwards", "70"),
            ("From", f"<{self.uri}>;tag={secrets.token_hex(4)}"),
            ("To", f"<{to}>"),
            ("Call-ID", secrets.token_hex(8)),
            ("CSeq", f"1 {method}"),
        ):
            request.headers.add(name, value)
        return request

    def _ask(self, request: sipmessage.Request, timeout: float) -> int:
        """The final status code, after the password where one is asked for and known."""
        request.headers.add("Content-Length", str(len(request.body)))
        answer = self._exchange(request, timeout)
        challenge = best_of(answer.headers.getlist(CHALLENGES.get(answer.code, "-")))
        if self._account is None or challenge is None:
            return answer.code
        value = challenge.answer(self._account, request.method, str(request.uri), secrets.token_hex(8))
        request.headers.add("Authorization" if answer.code == 401 else "Proxy-Authorization", value)
        request.headers.set("CSeq", f"2 {request.method}")
        via = f"SIP/2.0/UDP {self._place};rport;branch=z9hG4bK{secrets.token_hex(8)}"
        request.headers.set("Via", via)
        return self._exchange(request, timeout).code

    def _exchange(self, request: sipmessage.Request, timeout: float) -> sipmessage.Response:
        """Send it, again while nobody answers (RFC 3261 17.1.2.2, Timer E), until a final answer comes."""
        deadline, pause = time.monotonic() + timeout, T1
        while True:
            self._socket.sendto(bytes(request), self._silo)
            again = min(deadline, time.monotonic() + pause)
            pause = min(2 * pause, T2)
            try:
                while True:
                    message, source = self._next(again, f"nobody answered the {request.method} of {self.name}")
                    if isinstance(message, sipmessage.Request):
                        self._take(message, source)
                    elif message.code >= 200:
                        return message
            except SipError:
                if time.monotonic() >= deadline:
                    raise

    def _take(self, request: sipmessage.Request, source: tuple[str, int]) -> None:
        answer = sipmessage.Response(200, "OK")
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            for value in request.headers.getlist(name):
                answer.headers.add(name, value if name != "To" else f"{value};tag={self.name}")
        answer.headers.add("Content-Length", "0")
        self._socket.sendto(bytes(answer), source)
        if all(old.headers["Call-ID"] != request.headers["Call-ID"] for old in self.received):
            self.received.append(request)

    def _next(self, deadline: float, problem: str) -> tuple[sipmessage.Request | sipmessage.Response, tuple[str, int]]:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data, source = self._socket.recvfrom(BUFFER)
        except TimeoutError:
            raise SipError(f"{problem} in time") from None
        return sipmessage.Message.parse(data), source

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
