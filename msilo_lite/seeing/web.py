"""/livez, /readyz and /metrics on a port of their own: a thread that reads what the loop has published, and only that.

GET and HEAD alone, a few connections at once, seconds for a slow one: whoever reaches this port can slow nobody down.
"""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import MsiloError
from .health import Published, body, live, ready
from .logs import logger
from .metrics import exposition

log = logger(__name__)

AT_ONCE = 16
"Connections; further ones are closed."
SECONDS = 5.0
"What a connection may take."
TEXT = "text/plain; charset=utf-8"
PLACES = "/livez, /readyz and /metrics"


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS
    server: Web

    def version_string(self) -> str:
        """Says no more than it has to."""
        return "msilo-lite"

    def do_GET(self) -> None:
        """One of the three."""
        try:
            status, words, ctype = self._found()
        except Exception:  # the broad catch of this thread: a bad scrape must not be silent
            log.exception("web.failed", path=self.path)
            status, words, ctype = 500, b"failed\n", TEXT
        self._say(status, words, ctype)

    do_HEAD = do_GET

    def _found(self) -> tuple[int, bytes, str]:
        asked, seen, now = urlsplit(self.path), self.server.published, time.monotonic()
        verbose = "verbose" in parse_qs(asked.query, keep_blank_values=True)
        if asked.path in ("/livez", "/readyz"):
            checks = live(seen.turned, now) if asked.path == "/livez" else ready(seen.snapshot, seen.turned, now)
            return 200 if all(one.fine for one in checks) else 503, body(checks, verbose=verbose).encode(), TEXT
        if asked.path == "/metrics":
            if seen.snapshot is None:
                return 503, b"nothing is measured yet\n", TEXT
            return 200, *exposition(seen.snapshot, self.headers.get("Accept", ""))
        return 404, f"here are {PLACES}\n".encode(), TEXT

    def _say(self, status: int, words: bytes, ctype: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(words)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(words)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """In place of a page: one line. What is no GET is answered 405 (RFC 9110 15.5.6)."""
        self.close_connection = True
        status = 405 if code == 501 else code
        self.send_response(status)
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Who scrapes every few seconds is no news."""


class Web(ThreadingHTTPServer):
    """Listens from the constructor on. Raises MsiloError where it cannot."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = AT_ONCE

    def __init__(self, address: tuple[str, int], published: Published) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.published = published
        self._places = threading.BoundedSemaphore(AT_ONCE)
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            host = f"[{address[0]}]" if ":" in address[0] else address[0]
            raise MsiloError(
                f"cannot listen on http://{host}:{address[1]}: {error.strerror}; http_listen names another place"
            ) from error
        self._thread = threading.Thread(target=self.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def server_bind(self) -> None:
        """Without the look-up of a host name that the base class makes."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for it, where there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Its place is free again afterwards, whatever happens, and soon: who sends a byte a second is cut off."""
        end = threading.Timer(2 * SECONDS, self.shutdown_request, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is its own affair."""

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()
