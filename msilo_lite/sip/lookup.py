"""Host names of next hops, looked up beside the loop: PJSIP would do it on our only thread, and everything would wait.

One thread of its own asks the system's resolver. Who asks gets what is known, at once; an address is asked for again
after a minute and kept until there is a new one, so that a name server that is down stops nothing that worked before.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from ..errors import SipError
from .address import finds_its_way, is_literal, next_hop, next_host, parse_uri, remote_of
from .wire import HIDDEN, Outgoing

FRESH = 60.0
"Seconds for which an address is good."
AGAIN = 5.0
"Seconds until a name that was not found is looked up again."
PATIENCE = 3.0
"Seconds that a start waits for the first answer."


class Lookup:
    """The addresses of host names. Every method is called by one thread and never blocks, but for `first`."""

    def __init__(
        self,
        families: frozenset[socket.AddressFamily],
        resolve: Callable[[str, frozenset[socket.AddressFamily]], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`families`: those we can send by. `resolve` blocks: the address of a name, None where there is none."""
        self._clock = clock
        self._families = families
        self._resolve = resolve or resolve_name
        self._known: dict[str, str] = {}
        self._due: dict[str, float] = {}
        "When a name is to be asked for again; infinity while that is under way."
        self._wanted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def address(self, host: str) -> str | None:
        """The IP address of a host without brackets; None where it is not known, or not yet."""
        if is_literal(host):
            return host.strip("[]")
        name = host.lower().rstrip(".")
        if self._due.get(name, 0.0) <= self._clock():
            self._due[name] = float("inf")
            self._wanted.put(name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lookup", daemon=True)
                self._thread.start()
        return self._known.get(name)

    def first(self, host: str) -> str | None:
        """The same, waiting for the first answer for PATIENCE seconds at the most: for the start."""
        end = time.monotonic() + PATIENCE
        while (found := self.address(host)) is None and time.monotonic() < end:
            if self.settled:
                break  # it has been answered: there is none
            time.sleep(0.01)
        return found

    @property
    def settled(self) -> bool:
        """Whether every name that was asked for has been answered."""
        return float("inf") not in self._due.values()

    def lead(self, message: Outgoing) -> Outgoing:
        """The request with a way that needs no look-up. Raises SipError while the name has no address."""
        hop = next_hop(message.routes[0]) if message.routes else message.target
        host = next_host(hop)
        if finds_its_way(hop):  # for TCP and TLS the door looks up, and needs the name itself
            return message
        address = self.address(host)
        if address is None:
            raise SipError(f"the host name {host} has no address now; is it right, and is the name server up?")
        uri = parse_uri(hop)
        transport = uri.parameters.get("transport")
        shown = f"[{address}]" if ":" in address else address
        place = f"{uri.scheme}:{shown}" + (f":{uri.port}" if uri.port else "")
        route = f"<{place}{f';transport={transport}' if transport else ''};lr{HIDDEN}"
        hidden = bool(message.routes) and message.routes[0].endswith(HIDDEN)
        return replace(message, routes=(route, *message.routes[hidden:]))

    def same_place(self, hop: str, others: frozenset[str]) -> bool:
        """Whether a request to this URI goes to the host and port of one of the others, as names or as addresses."""
        return bool(self._places(hop) & frozenset(place for one in others for place in self._places(one)))

    def _places(self, uri: str) -> frozenset[tuple[str, int]]:
        host, port = next_host(uri).lower(), remote_of(uri).port
        return frozenset((one, port) for one in (host, self.address(host)) if one)

    def _work(self) -> None:
        while True:
            name = self._wanted.get()
            found = self._resolve(name, self._families)
            if found:
                self._known[name] = found
            self._due[name] = self._clock() + (FRESH if found else AGAIN)


def resolve_name(name: str, families: frozenset[socket.AddressFamily]) -> str | None:
    """The first address of a name in one of the families, by the system's resolver; None where there is none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that is too long
        return None
    return next((str(place[0]).partition("%")[0] for family, _, _, _, place in found if family in families), None)
