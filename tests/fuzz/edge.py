"""A whole daemon in this process, turned by hand, that gets any datagram: it must live and go on answering."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from msilo_lite.daemon import Daemon
from msilo_lite.settings.config import Config
from tests.sip.torture import PLACE
from tests.unit.kit import text_of

SIGN_OF_LIFE = 50
"Datagrams between two questions whether it still answers."
TURNS = 200
"Turns of at most 10 ms in which the answer has to come."


class Edge:
    """One daemon and one peer."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._daemon = Daemon(
            Config.model_validate({"db_url": f"sqlite:///{file}", "bind": "udp:127.0.0.1:0", "settle": 0})
        )
        one = self._daemon.listening[0]
        self._silo = one.host, one.port
        self._peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._peer.bind(("127.0.0.1", 0))
        self._peer.setblocking(False)
        self._place = f"127.0.0.1:{self._peer.getsockname()[1]}".encode()
        self._taken = 0

    def take(self, data: bytes) -> None:
        """One datagram, and a turn or two."""
        self._peer.sendto(data.replace(PLACE, self._place)[:65000], self._silo)
        self._daemon.turn(5)
        self._daemon.turn(0)
        self._drain()
        self._taken += 1
        if self._taken % SIGN_OF_LIFE == 0:
            self.is_alive()

    def is_alive(self) -> None:
        """Fails unless it still answers, and nothing failed inside it."""
        self._ask_for_a_sign_of_life()
        assert self._wrong() == 0, "a request failed inside the silo"

    def close(self) -> None:
        """Give up the sockets and the file."""
        self._peer.close()
        self._daemon.close()

    def _drain(self) -> list[bytes]:
        found = []
        try:
            while True:
                found.append(self._peer.recv(65535))
        except (BlockingIOError, ConnectionRefusedError):
            return found

    def _ask_for_a_sign_of_life(self) -> None:
        via = f"SIP/2.0/UDP {self._place.decode()};rport;branch=z9hG4bKlife{self._taken}"
        self._peer.sendto(text_of("OPTIONS", "sip:home.lan", body=b"", via=via), self._silo)
        for _ in range(TURNS):
            self._daemon.turn(10)
            if any(b"CSeq: 1 OPTIONS" in raw and raw.startswith(b"SIP/2.0 200") for raw in self._drain()):
                return
        raise AssertionError("it does not answer any more")

    def _wrong(self) -> int:
        with closing(sqlite3.connect(self._file, timeout=5)) as connection:
            found = connection.execute("SELECT value FROM msilo_counter WHERE name = 'internal_errors'").fetchone()
        return int(found[0]) if found else 0
