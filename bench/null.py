"""The null responder: what the load generator and the phone can do when nobody does any work.

Started as ``python -m bench.null EACH``; prints ``ready udp:127.0.0.1:PORT``. It answers 202 to every MESSAGE without
reading more of it than the lines a response repeats. To a REGISTER it answers 200 and then plays a replay it makes up:
EACH messages to that Contact, each after the 200 to the one before. So both ceilings are those of our own tools: one
process without a database, ordered, one in flight for each recipient.
"""

from __future__ import annotations

import signal
import socket
import sys

from bench import wire


class Null:
    """Answers, and forgets."""

    def __init__(self, sock: socket.socket, each: int) -> None:
        self.sock = sock
        self.each = each
        self.port = wire.port_of(sock)
        self.registered: set[int] = set()

    def serve(self) -> None:
        """Answer for ever."""
        receive, send = self.sock.recvfrom, self.sock.sendto
        while True:
            datagram, source = receive(wire.PACKET)
            if datagram.startswith(b"MESSAGE"):
                # Our own template puts everything a response repeats between the first line and Max-Forwards.
                copied = datagram[datagram.find(b"\r\n") : datagram.find(b"\r\nMax-Forwards")]
                send(b"SIP/2.0 202 Accepted" + copied + b"\r\nContent-Length: 0\r\n\r\n", source)
            elif datagram.startswith(b"REGISTER"):
                self._register(datagram, source)
            elif datagram.startswith(b"SIP/2.0 200"):
                self._next(wire.leading_number(datagram), source)
            else:
                send(wire.response(datagram, b"200 OK"), source)

    def _register(self, datagram: bytes, source: tuple[str, int]) -> None:
        self.sock.sendto(wire.response(datagram, b"200 OK"), source)
        user = wire.leading_number(datagram)
        if user not in self.registered:
            self.registered.add(user)
            self._send(user, user * self.each, (wire.HOST, wire.contact_port(datagram)))

    def _next(self, seq: int, source: tuple[str, int]) -> None:
        if (seq + 1) % self.each:
            self._send(seq // self.each, seq + 1, source)

    def _send(self, user: int, seq: int, contact: tuple[str, int]) -> None:
        self.sock.sendto(wire.message(seq, user, self.port, "null"), contact)


def main() -> None:
    """Serve until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sock = wire.datagram_socket()
    sys.stdout.write(f"ready udp:{wire.HOST}:{wire.port_of(sock)}\n")
    sys.stdout.flush()
    Null(sock, int(sys.argv[1])).serve()


if __name__ == "__main__":
    main()
