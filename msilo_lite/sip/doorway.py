"""Between PJSIP and the door: what comes over the link is told apart from everything else, what leaves by it is led.

The door is PJSIP's only peer on a loopback transport of its own. A request on that transport counts only when it comes
from the door's socket and when the door waits for its answer; a program that writes to the port itself is not heard.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

from ..errors import BadRequest
from .address import Aor, Endpoint, Remote, parse_address
from .connection import Peer
from .door import Door
from .framing import Head
from .lines import octets
from .outward import LOCAL, Lead, lead_key
from .threshold import DoorTerms
from .wire import Outgoing

TRANSPORT_AT = 8
"Offset of tp_info.transport in pjsip_rx_data (sip_transport.h), behind one pointer; no build-time option precedes it."
SELECTED_AT = 8
"Offset of u.transport in pjsip_tpselector, behind two ints."


class Doorway:
    """The door and PJSIP's transport behind it."""

    def __init__(
        self, link: Endpoint, selector: ctypes.Array[ctypes.c_char], binds: tuple[Endpoint, ...],
        ours: tuple[Endpoint, ...], terms: DoorTerms,
    ) -> None:  # fmt: skip
        """`link`: PJSIP's own loopback address for the door, which `selector` chooses. Raises SipError, ConfigError."""
        self.selector = selector
        self._transport = ctypes.c_void_p.from_buffer(selector, SELECTED_AT).value
        self.door = Door(link, binds, ours, terms)
        self._route = f"<sip:{self.door.source[0]}:{self.door.source[1]};lr;hide>"
        self._mark = f"\r\n{LOCAL}: {self.door.secret}\r\n".encode()

    # -- in ----------------------------------------------------------------------------------------------------------
    def guards(self, rdata: int, host: str, port: int) -> bool:
        """Whether a request came over the link, from whomever, or from the door."""
        arrived_on = ctypes.c_void_p.from_address(rdata + TRANSPORT_AT).value
        return arrived_on == self._transport or (host, port) == self.door.source

    def sender(self, raw: bytes, host: str, port: int) -> tuple[Peer, bytes] | None:
        """Who really sent what came over the link, and the request as he sent it; None: nobody the door knows."""
        return self.door.inward.peer_of(raw) if (host, port) == self.door.source else None

    def dropped(self, transport: int, raw: bytes, why: str) -> None:
        """PJSIP could not parse this and says nothing: the door answers, where it came from there."""
        if transport == self._transport:
            self.door.refuse(raw, why)

    # -- out ---------------------------------------------------------------------------------------------------------
    def lead(self, message: Outgoing, remote: Remote) -> Outgoing:
        """The request as PJSIP is to send it, to the door; the door knows where it leads then."""
        try:
            owner = str(Aor.parse(parse_address(message.to).uri))
        except BadRequest:  # tel:, say
            owner = ""
        lead = Lead(remote, octets(message.target), (owner, message.target))
        self.door.outward.expect(_key(message), lead)
        routes = [one for one in message.routes if not one.endswith(";hide>")]
        scheme, _, rest = message.target.partition(":")
        target = f"sip:{rest}" if scheme.lower() == "sips" else message.target
        return replace(message, target=target, routes=(self._route, *routes))

    def mislead(self, message: Outgoing) -> None:
        """It does not leave after all."""
        self.door.outward.forget(_key(message))

    def failure(self, raw: bytes) -> str | None:
        """Why an answer is only the door's own word; None: the other side gave it."""
        if self._mark not in raw:
            return None
        return Head.of(raw).start.split(b" ", 2)[-1].decode("ascii", "replace")


def _key(message: Outgoing) -> bytes:
    return lead_key(octets(message.call_id), str(message.cseq).encode())
