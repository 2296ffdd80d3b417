"""Requests that a PBX asks a password for, and that are asked again with it (RFC 3261 22).

Stands between the daemon and the edge: what is sent through it ends once, with the answer to the last try. The password
is for our own PBX alone, known by host and port of the next hop; a phone that asks for one is not answered, nor a proxy
that a dialog or a redirection leads to.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from ..errors import BadRequest, SipError
from .address import next_hop
from .agent import Agent
from .digest import Challenge, Credentials, best_of
from .lines import octets
from .lookup import Lookup
from .response import response_headers
from .wire import Answer, Outgoing

HEADERS = {401: (b"Authorization", "www-authenticate"), 407: (b"Proxy-Authorization", "proxy-authenticate")}
"By the code that asks: where the answer goes, and where the question stands."
TRIES = 2
"Times a request is repeated with a password: a nonce may have become stale in between."


class Asker:
    """Sends requests, with the password where our own PBX wants one."""

    def __init__(self, agent: Agent, who: Credentials | None, ours: frozenset[str], lookup: Lookup) -> None:
        """`ours`: SIP URIs of the PBX that the password is for."""
        self._agent = agent
        self._who = who
        self._ours = ours
        self._lookup = lookup
        self._open: dict[int, tuple[Outgoing, int]] = {}
        self._known: tuple[int, Challenge] | None = None
        "The last challenge and the code it came with: the next request answers it without being asked."
        self._count = 0

    def send(self, token: int, message: Outgoing) -> None:
        """Send a request; `answered` is told its end. Raises SipError when it cannot even start."""
        message = self._lookup.lead(message)
        if self._who is None or not self._is_ours(message):
            self._agent.send(token, message)
            return
        self._open[token] = message, 0
        try:
            self._agent.send(token, self._signed(message) if self._known else message)
        except SipError:
            del self._open[token]
            raise

    def address_of(self, host: str) -> str | None:
        """The IP address of a host; None where it is not known, or not yet."""
        return self._lookup.address(host)

    def _is_ours(self, message: Outgoing) -> bool:
        """Whether it goes to our own PBX."""
        hop = next_hop(message.routes[0]) if message.routes else message.target
        return self._lookup.same_place(hop, self._ours)

    def answered(self, token: int, answer: Answer) -> Answer | None:
        """The end of a request, or None when it was asked again with the password."""
        message, tries = self._open.pop(token, (None, 0))
        if message is None or answer.local or answer.code not in HEADERS or tries >= TRIES:
            return answer
        challenge = best_of(response_headers(answer, HEADERS[answer.code][1]))
        if challenge is None or (tries and not challenge.stale and self._known and self._known[1] == challenge):
            return answer
        self._known, self._count = (answer.code, challenge), 0
        again = replace(message, cseq=message.cseq + 1)  # RFC 3261 22.2: the same request with a higher CSeq
        self._open[token] = again, tries + 1
        try:
            self._agent.send(token, self._signed(again))
        except (SipError, BadRequest):
            del self._open[token]
            return answer
        return None

    def _signed(self, message: Outgoing) -> Outgoing:
        """The request with the answer to the challenge we know."""
        assert self._known is not None
        assert self._who is not None
        code, challenge = self._known
        self._count += 1
        value = challenge.answer(self._who, message.method, message.target, secrets.token_hex(8), self._count)
        header = (HEADERS[code][0], octets(value))
        return replace(message, headers=(*message.headers, header))
