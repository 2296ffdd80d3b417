"""The short way over PJSIP's own UDP sockets: answers and requests that are plain text, sent in one system call.

PJSIP listens, receives and parses as ever; what leaves here would leave there, but for the order of its lines. What
is not plain goes the long way: `asked` and `send` say so, and the agent lets PJSIP do it.
"""

from __future__ import annotations

import secrets
import select
import socket
from collections.abc import Callable
from time import monotonic

from ..errors import SipError
from .datagram import OURS, RANDOM, Asked, asked, branch_of, plain_hop, request, response
from .lines import Lines
from .rdata import Packet
from .transaction import Transaction, Transactions
from .wire import Answer, Outgoing

BUFFER = 4 << 20
"Bytes asked for in front of a socket, so that a burst waits and is not lost: every phone of a PBX after its restart."
PATIENCE_MS = 50
"Milliseconds to wait for room in a full send buffer."


class Udp:
    """Plain requests and answers over the sockets that PJSIP has opened."""

    def __init__(self, phrase: Callable[[int], bytes], user_agent: str) -> None:
        """`phrase`: the reason phrase of a status code."""
        self._phrase = phrase
        self._user_agent = user_agent.encode()
        self._sockets: list[tuple[socket.socket, bytes]] = []
        "With what the Via of a request says (sent-by)."
        self.transports: dict[int, int] = {}
        "By the address of PJSIP's transport: which of the sockets is its own."
        self._asked: dict[int, tuple[Asked, int]] = {}
        self._last = 0
        self._transactions = Transactions()

    def add(self, transport: int, descriptor: int, sent_by: str) -> None:
        """PJSIP has opened a socket; `sent_by`: host and port that a Via names."""
        self.transports[transport] = len(self._sockets)
        shared = socket.socket(fileno=descriptor)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # the kernel gives as much of it as it allows
            shared.setsockopt(socket.SOL_SOCKET, buffer, BUFFER)
        self._sockets.append((shared, sent_by.encode()))

    # -- answers -----------------------------------------------------------------------------------------------------
    def asked(self, text: Lines, packet: Packet) -> int:
        """A request came: what its answer is to be given with, below 0; or 0 where PJSIP has to answer it."""
        number = self.transports.get(packet.transport)
        found = None if number is None else asked(text, packet.host, packet.port)
        if found is None or number is None:
            return 0
        self._last -= 1
        self._asked[self._last] = found, number
        return self._last

    def answer(self, handle: int, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Answer a request, once. Raises OSError."""
        to, number = self._asked.pop(handle)
        self._put(number, response(to, status, self._phrase(status), headers), to.back)

    def _put(self, number: int, datagram: bytes, to: tuple[str, int]) -> None:
        sender = self._sockets[number][0]
        try:
            sender.sendto(datagram, to)
        except BlockingIOError:  # a burst has filled the buffer: a moment, then it is as good as lost on the way
            poller = select.poll()
            poller.register(sender, select.POLLOUT)
            if poller.poll(PATIENCE_MS):
                sender.sendto(datagram, to)

    # -- requests ----------------------------------------------------------------------------------------------------
    def send(self, token: int, message: Outgoing) -> bool:
        """Send a plain request and repeat it until it is answered; False where PJSIP has to send it.

        Raises SipError when it cannot leave.
        """
        to = plain_hop(message)
        number = None if to is None else self._socket_for(":" in to[0])
        if to is None or number is None:
            return False
        random = secrets.token_hex(RANDOM // 2 + 8)
        branch = OURS + random[:RANDOM].encode()
        sent_by = self._sockets[number][1]
        datagram = request(message, sent_by, branch, random[RANDOM:].encode(), self._user_agent)
        if datagram is None:
            return False
        try:
            self._put(number, datagram, to)
        except BlockingIOError:
            pass  # its timer repeats it
        except OSError as error:
            raise SipError(f"sending: {error.strerror}") from error
        self._transactions.begin(Transaction(branch, token, datagram, to, number, monotonic()))
        return True

    def _socket_for(self, six: bool) -> int | None:
        family = socket.AF_INET6 if six else socket.AF_INET
        return next((number for number, (one, _) in enumerate(self._sockets) if one.family == family), None)

    def heard(self, raw: bytes) -> tuple[bool, tuple[int, Answer] | None]:
        """An answer came: whether it is to a request of ours, and which one ended by it."""
        branch = branch_of(raw)
        if branch is None:
            return False, None
        status = int(raw[8:11])
        one = self._transactions.heard(branch, status)
        if one is None:  # provisional, or a repeat
            return True, None
        reason = raw[12 : raw.find(b"\r\n")].decode("utf-8", "replace")
        return True, (one.token, Answer(status, reason, raw))

    def tick(self) -> list[tuple[int, Answer]]:
        """Repeat what is due; returns the requests that nobody answered."""
        again, over = self._transactions.due(monotonic())
        ended = [(one.token, Answer(408, "Request Timeout", local=True)) for one in over]
        for one in again:
            try:
                self._put(one.sender, one.datagram, one.to)
            except BlockingIOError:
                pass
            except OSError as error:
                self._transactions.end(one)
                ended.append((one.token, Answer(503, error.strerror or "not sent", local=True)))
        return ended

    def wait(self, most: int) -> int:
        """Milliseconds until something may be due, `most` at the most."""
        if not len(self._transactions):
            return most
        return int(1000 * self._transactions.wait(monotonic(), most / 1000) + 0.999)

    def close(self) -> None:
        """Give up our hold on the sockets."""
        for one, _ in self._sockets:
            one.close()
