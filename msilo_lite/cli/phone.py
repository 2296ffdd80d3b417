"""A scripted SIP phone on a loopback UDP socket, for `demo`: writes, registers, takes messages and answers 200."""

from __future__ import annotations

import secrets
import socket
import time

import sipmessage

from ..errors import SipError

BUFFER = 65535


class Phone:
    """One phone. `silo` is the address it talks to. Methods raise SipError when nobody answers in time."""

    def __init__(self, name: str, silo: tuple[str, int], domain: str = "home.lan") -> None:
        self.name = name
        self.uri = sipmessage.URI(scheme="sip", user=name, host=domain)
        self._silo = silo
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.received: list[sipmessage.Request] = []
        "MESSAGEs it took, in order."

    def write(self, to: str, text: str, timeout: float = 5) -> int:
        """Send a MESSAGE to a user of the same domain; returns the final status code."""
        uri = sipmessage.URI(scheme="sip", user=to, host=self.uri.host)
        request = self._request("MESSAGE", uri, uri)
        request.body = text.encode()
        request.headers.add("Content-Type", "text/plain;charset=utf-8")
        return self._ask(request, timeout)

    def register(self, timeout: float = 5) -> int:
        """Say where this phone is; returns the final status code."""
        request = self._request("REGISTER", sipmessage.URI(scheme="sip", host=self.uri.host), self.uri)
        request.headers.add("Contact", f"<sip:{self.name}@127.0.0.1:{self.port}>")
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
        via = f"SIP/2.0/UDP 127.0.0.1:{self.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"
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
        request.headers.add("Content-Length", str(len(request.body)))
        self._socket.sendto(bytes(request), self._silo)
        deadline = time.monotonic() + timeout
        while True:
            message, source = self._next(deadline, f"nobody answered the {request.method} of {self.name}")
            if isinstance(message, sipmessage.Request):
                self._take(message, source)
            elif message.code >= 200:
                return message.code

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
