"""The scripted phone: registers its users all at once and answers 200 to every MESSAGE at once.

Started as ``python -m bench.phone``. Prints its port on a line, reads a `PhoneOrder` in JSON from a line of its
standard input, prints a `PhoneResult` in JSON. The two steps are apart because a target may have to know the phone's
port before it starts, while the phone cannot register before the target has something stored.
"""

from __future__ import annotations

import gc
import json
import secrets
import select
import socket
import sys
from dataclasses import asdict, dataclass
from time import perf_counter

from bench import wire

REPEAT_AFTER = 0.5
LINGER = 0.7
"""Seconds to stay after the last expected message, so that a repeat of it (T1 is 500 ms) is still seen."""


@dataclass(frozen=True, slots=True)
class PhoneOrder:
    """Whom to register where, and how much to wait for."""

    port: int
    users: int
    expect: int
    patience: float
    """Seconds without anything new after which the rest counts as missing."""


@dataclass(frozen=True, slots=True)
class PhoneResult:
    """What the phone saw; times count from the first REGISTER sent."""

    delivered: int
    first: float
    last: float
    missing: int
    disordered: int
    """Messages that came after a later one for the same recipient."""
    duplicates: int
    """Messages delivered again in another transaction."""
    resent: int
    """MESSAGE retransmissions, plus REGISTERs we had to repeat."""
    strays: int
    """Messages that reached the Contact of somebody else."""

    @property
    def rate(self) -> float:
        """Messages delivered in a second, counted from the REGISTER."""
        return self.delivered / self.last if self.last else 0.0


class Phone:
    """One socket, many users."""

    def __init__(self, sock: socket.socket, order: PhoneOrder) -> None:
        self.sock = sock
        self.order = order
        self.target = (wire.HOST, order.port)
        mark, port = secrets.token_hex(4), wire.port_of(sock)
        self.unregistered = {user: wire.register(user, port, mark) for user in range(order.users)}
        self.seen: set[int] = set()
        self.branches: set[bytes] = set()
        self.highest = [-1] * order.users
        self.disordered = self.duplicates = self.resent = self.strays = 0
        self.start = self.first = self.last = 0.0

    def run(self) -> PhoneResult:
        """Register, and answer until all is there or nothing new comes."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        self.start = self.last = perf_counter()
        self._register()
        repeat_at = self.start + REPEAT_AFTER
        while (now := perf_counter()) < self._end():
            if now >= repeat_at:
                self.resent += len(self.unregistered)
                self._register()
                repeat_at = now + REPEAT_AFTER
            poller.poll(50)
            self._drain()
        return self._result()

    def _end(self) -> float:
        complete = len(self.seen) >= self.order.expect
        return self.last + (LINGER if complete else self.order.patience)

    def _register(self) -> None:
        for datagram in self.unregistered.values():
            self.sock.sendto(datagram, self.target)

    def _drain(self) -> None:
        while True:
            try:
                datagram, source = self.sock.recvfrom(wire.PACKET)
            except BlockingIOError:
                return
            if datagram.startswith(b"SIP/2.0 "):
                self._answered(datagram)
            else:
                self.sock.sendto(wire.response(datagram, b"200 OK"), source)
                self._received(datagram)

    def _answered(self, datagram: bytes) -> None:
        if datagram[8:9] == b"2":
            self.unregistered.pop(wire.leading_number(datagram), None)

    def _received(self, datagram: bytes) -> None:
        branch = wire.top_via(datagram)
        if branch in self.branches:
            self.resent += 1
            return
        self.branches.add(branch)
        tags = wire.tags_of(datagram)
        if tags is None:
            self.strays += 1
            return
        seq, user = tags
        if seq in self.seen:
            self.duplicates += 1
            return
        self.seen.add(seq)
        self.last = perf_counter()
        self.first = self.first or self.last
        self.strays += wire.target_of(datagram) != user
        self.disordered += seq < self.highest[user]
        self.highest[user] = max(seq, self.highest[user])

    def _result(self) -> PhoneResult:
        return PhoneResult(
            delivered=len(self.seen),
            first=self.first - self.start if self.seen else 0.0,
            last=self.last - self.start if self.seen else 0.0,
            missing=max(0, self.order.expect - len(self.seen)),
            disordered=self.disordered,
            duplicates=self.duplicates,
            resent=self.resent,
            strays=self.strays,
        )


def main() -> None:
    """The two lines of conversation with whoever started us."""
    sock = wire.datagram_socket()
    sock.setblocking(False)
    sys.stdout.write(f"{wire.port_of(sock)}\n")
    sys.stdout.flush()
    order = PhoneOrder(**json.loads(sys.stdin.readline()))
    gc.disable()
    json.dump(asdict(Phone(sock, order).run()), sys.stdout)


if __name__ == "__main__":
    main()
