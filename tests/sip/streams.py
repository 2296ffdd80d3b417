"""Phones on TCP and TLS: one that a test plays by hand on one connection, and many that answer by themselves.

Nothing here shares code with the program: messages are cut by Content-Length, trusting whoever sent them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType

import pytest

from .phone import Address, Phone, Seen


def cut(buffer: bytes) -> tuple[bytes, bytes]:
    """The first whole message and the rest; empty while none is whole."""
    buffer = buffer.lstrip(b"\r\n")
    head, end, _ = buffer.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^(?:content-length|l)\s*:\s*(\d+)", head)
    size = len(head) + 4 + int(length[1] if length else 0)
    return (buffer[:size], buffer[size:]) if end and len(buffer) >= size else (b"", buffer)


class Line(Phone):
    """A phone on one connection."""

    def __init__(
        self,
        user: str,
        to: Address | socket.socket,
        host: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        name: str = "silo.home.lan",
    ) -> None:
        """`to`: where it calls, from the address `host`, or a connection that somebody made to it."""
        self.user = user
        made = to if isinstance(to, socket.socket) else socket.create_connection(to, 10, (host, 0) if host else None)
        self.transport = "TLS" if tls or isinstance(made, ssl.SSLSocket) else "TCP"
        self._socket = tls.wrap_socket(made, server_hostname=name) if tls else made
        self.address = self._socket.getsockname()[:2]
        self._came_from = self._socket.getpeername()[:2]
        self._buffer = b""

    @property
    def contact(self) -> str:
        return f"sip:{self.user}@{self._place};transport={self.transport.lower()}"

    @property
    def socket(self) -> socket.socket:
        return self._socket

    def send(self, raw: bytes, to: Address = ("", 0)) -> None:
        self._socket.sendall(raw)

    def glance(self, seconds: float = 0) -> Seen | None:
        """The next message, or None when none comes in time, or the other side has ended the connection."""
        self._socket.settimeout(max(seconds, 0.001))
        with contextlib.suppress(TimeoutError):
            while True:
                whole, self._buffer = cut(self._buffer)
                if whole:
                    return Seen.parse(whole)
                more = self._socket.recv(65536)
                if not more:
                    return None
                self._buffer += more
        return None

    def say(self, raw: bytes, seconds: float = 10) -> Seen:
        """Send a request and return its final answer."""
        return self.ask(raw, self._came_from, seconds)

    def write(self, owner: str, body: bytes, *extra: str) -> Seen:
        """Send a text and return the answer."""
        return self.message(self._came_from, owner, body, "text/plain", *extra)

    def sign_in(self, contact: str = "", expires: int = 300) -> Seen:
        """REGISTER, under this connection's own address or another."""
        lines = (f"Contact: <{contact or self.contact}>", f"Expires: {expires}")
        return self.say(self.request("REGISTER", f"{self.user}@home.lan", *lines))

    def ended(self, seconds: float = 10) -> bool:
        """Whether the other side ends the connection in time; what it still says is thrown away."""
        self._socket.settimeout(seconds)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


@contextlib.contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket that phones of a test are called on."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.settimeout(15)
        yield server


def pick_up(server: socket.socket, user: str = "bob", tls: ssl.SSLContext | None = None) -> Line:
    """The next connection that comes in; fails the test when none does."""
    try:
        made, _ = server.accept()
    except TimeoutError:
        pytest.fail("nobody called")
    made.settimeout(10)
    return Line(user, tls.wrap_socket(made, server_side=True) if tls else made)


class Switchboard:
    """Many phones, each with a port of its own, that answer every MESSAGE 200; in a thread."""

    def __init__(self, count: int, *, closes: bool, tls: ssl.SSLContext | None = None) -> None:
        """`closes`: each ends its connection when it has answered; else it stays open."""
        self._count, self._closes, self._tls = count, closes, tls
        self.ports: list[int] = []
        self.got: dict[int, list[str]] = defaultdict(list)
        "Bodies by port."
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Switchboard:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    @property
    def total(self) -> int:
        return sum(map(len, self.got.values()))

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._writers)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        servers = [await asyncio.start_server(self._phone, "127.0.0.1", 0, ssl=self._tls) for _ in range(self._count)]
        self.ports = [server.sockets[0].getsockname()[1] for server in servers]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0.01)

    async def _phone(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        self._writers.add(writer)
        buffer = b""
        with contextlib.suppress(OSError):
            while more := await reader.read(65536):
                whole, buffer = cut(buffer + more)
                if not whole:
                    continue
                seen = Seen.parse(whole)
                self.got[port].append(seen.text)
                echoed = [f"{key}: {value}" for key, value in seen.headers if key in ("via", "from", "call-id", "cseq")]
                lines = ["SIP/2.0 200 OK", *echoed, f"To: {seen['To']};tag=x", "Content-Length: 0", "", ""]
                writer.write("\r\n".join(lines).encode())
                await writer.drain()
                if self._closes:
                    break
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._writers.discard(writer)
