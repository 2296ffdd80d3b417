"""The load generator: a process of its own that keeps N MESSAGEs outstanding over one UDP socket.

Started as ``python -m bench.load ORDER``, where ORDER is a `LoadOrder` in JSON; prints a `LoadResult` in JSON. All
datagrams are made before the clock starts. Unanswered ones are repeated as a client transaction does (RFC 3261
17.1.2.2: T1 500 ms, doubling up to T2 4 s, given up after 32 s). A refused message is not tried again.

With a rate it does not wait for answers: messages leave at random times (Poisson), as from many senders who know
nothing of one another.
"""

from __future__ import annotations

import gc
import json
import random
import secrets
import select
import socket
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter

from bench import wire

REPEAT_AFTER = (0.5, 1.0, 2.0, 4.0)
GIVE_UP = 32.0
BATCH = 256


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to send, and where to."""

    port: int
    count: int
    outstanding: int
    users: int
    limit: float
    """Seconds after which the run ends, whatever is still outstanding."""
    rate: float = 0.0
    """Requests a second, sent whether or not others are answered; 0: as fast as `outstanding` allows."""
    method: str = "MESSAGE"
    """Or REGISTER: of users who have no mail."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of it."""

    sent: int
    accepted: int
    seconds: float
    """From the first datagram sent to the last final response."""
    refused: dict[str, int] = field(default_factory=dict)
    """Final responses other than 2xx, by status."""
    unanswered: int = 0
    resent: int = 0
    p50: float = 0.0
    """Seconds from first sending to the 2xx, half of the accepted messages below it."""
    p99: float = 0.0
    gone: bool = False
    """The kernel said that nobody listens at the port any more."""

    @property
    def rate(self) -> float:
        """Accepted messages in a second."""
        return self.accepted / self.seconds if self.seconds else 0.0


class Generator:
    """A window of outstanding requests over a prepared list of datagrams."""

    def __init__(self, sock: socket.socket, datagrams: Sequence[bytes], outstanding: int, rate: float = 0.0) -> None:
        self.sock = sock
        self.datagrams = datagrams
        self.outstanding = outstanding
        self.rate = rate
        self.starts: deque[float] = deque()
        self.launched = 0
        self.open = 0
        self.resent = 0
        self.sent_at = [0.0] * len(datagrams)
        self.took = [0.0] * len(datagrams)
        self.status = [0] * len(datagrams)
        self.last_answer = 0.0
        # One queue for each interval: within one the due times only grow, so its head is always the next due.
        self.due: list[deque[tuple[float, int]]] = [deque() for _ in REPEAT_AFTER]

    def run(self, limit: float) -> None:
        """Send everything, and return once all is answered, given up, or `limit` seconds have passed."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        end = perf_counter() + limit
        if self.rate:
            self._start_at(perf_counter())
        for _ in range(0 if self.rate else min(self.outstanding, len(self.datagrams))):
            self._launch()
        while (self.open or self.starts) and (now := perf_counter()) < end:
            self._repeat(now)
            while self.starts and self.starts[0] <= now:
                self.starts.popleft()
                self._launch()
            poller.poll(self._wait_ms(perf_counter()))
            self._drain()

    def _start_at(self, now: float) -> None:
        """When each request leaves."""
        chance = random.Random(1)
        for _ in self.datagrams:
            now += chance.expovariate(self.rate)
            self.starts.append(now)

    def _launch(self) -> None:
        number = self.launched
        if number == len(self.datagrams):
            return
        self.launched += 1
        self.open += 1
        now = perf_counter()
        self.sent_at[number] = now
        self.due[0].append((now + REPEAT_AFTER[0], number))
        self._send(number)

    def _send(self, number: int) -> None:
        try:
            self.sock.send(self.datagrams[number])
        except BlockingIOError:
            return  # as good as lost on the way: the timer repeats it

    def _drain(self) -> None:
        """Read what has arrived; each final response lets the next message go."""
        receive = self.sock.recv
        for _ in range(BATCH):
            try:
                answer = receive(wire.PACKET)
            except BlockingIOError:
                return
            self._settle(answer)

    def _settle(self, answer: bytes) -> None:
        status = int(answer[8:11])
        number = wire.leading_number(answer)
        if status < 200 or number < 0 or self.status[number]:
            return
        now = perf_counter()
        self.status[number] = status
        self.took[number] = now - self.sent_at[number]
        self.last_answer = now
        self.open -= 1
        self._next()

    def _next(self) -> None:
        """One is over: another may leave, unless they leave by the clock."""
        if not self.rate:
            self._launch()

    def _repeat(self, now: float) -> None:
        """Send again what is overdue, give up what is hopeless."""
        for level, queue in enumerate(self.due):
            while queue and (queue[0][0] <= now or self.status[queue[0][1]]):
                _, number = queue.popleft()
                if self.status[number]:
                    continue
                if now - self.sent_at[number] > GIVE_UP:
                    self.status[number] = -1
                    self.open -= 1
                    self._next()
                    continue
                self.resent += 1
                self._send(number)
                later = min(level + 1, len(REPEAT_AFTER) - 1)
                self.due[later].append((now + REPEAT_AFTER[later], number))

    def _wait_ms(self, now: float) -> int:
        soonest = min((queue[0][0] for queue in self.due if queue), default=now + 0.1)
        if self.starts:
            return max(0, int((min(soonest, self.starts[0]) - now) * 1000))
        return max(1, int((soonest - now) * 1000))

    def result(self, gone: bool) -> LoadResult:
        """Count what was seen."""
        codes = Counter(self.status[: self.launched])
        good = sorted(took for took, code in zip(self.took, self.status, strict=True) if 200 <= code < 300)
        return LoadResult(
            sent=self.launched,
            accepted=len(good),
            seconds=max(0.0, self.last_answer - self.sent_at[0]),
            refused={str(code): count for code, count in sorted(codes.items()) if code >= 300},
            unanswered=codes[0] + codes[-1],
            resent=self.resent,
            p50=good[len(good) // 2] if good else 0.0,
            p99=good[len(good) * 99 // 100] if good else 0.0,
            gone=gone,
        )


def run(order: LoadOrder) -> LoadResult:
    """Carry out one order."""
    sock = wire.datagram_socket()
    sock.connect((wire.HOST, order.port))
    sock.setblocking(False)
    mark, port = secrets.token_hex(4), wire.port_of(sock)
    generator = Generator(sock, datagrams(order, port, mark), order.outstanding, order.rate)
    gc.disable()
    try:
        generator.run(order.limit)
    except ConnectionRefusedError:
        return generator.result(gone=True)
    finally:
        sock.close()
    return generator.result(gone=False)


def datagrams(order: LoadOrder, port: int, mark: str) -> list[bytes]:
    """All requests of an order."""
    numbers = range(order.count)
    if order.method == "REGISTER":
        return [wire.register(number % order.users, port, mark, number) for number in numbers]
    return [wire.message(number, number % order.users, port, mark) for number in numbers]


if __name__ == "__main__":
    json.dump(asdict(run(LoadOrder(**json.loads(sys.argv[1])))), sys.stdout)
