"""What keeps us in touch with the PBX: our registration as an extension, and subscriptions to users who have mail.

Everything is decided in `extension` and `watch`; here requests are sent and their ends come back.
"""

from __future__ import annotations

import secrets
import socket

from ..box.store import Store
from ..errors import SipError
from ..outbound.compose import hidden_route
from ..seeing.logs import logger
from ..settings.config import Config
from ..sip.address import Aor, Endpoint, next_host, parse_uri, remote_of
from ..sip.asker import Asker
from ..sip.wire import Answer, Outgoing, Request
from .extension import Extension
from .watch import Watches

log = logger(__name__)

TICK = 1.0
"Seconds between two looks at what is due, and at who has mail."
GOODBYE = 2.0
"Seconds that a stop waits for the PBX to hear that we leave; one that is down forgets us by itself."
OWNERS = 2000
"Users with mail that are looked at for subscriptions at the same time, unless somebody says otherwise."
PAGE = 600.0
"Seconds until the next ones are looked at, where there are more."
LOOK = 10.0
"Seconds between two looks at who has mail where nobody has written."


class Liaison:
    """The relations with one PBX. Without `registrar` and `watch` it does nothing."""

    def __init__(
        self, config: Config, asker: Asker, store: Store, listening: tuple[Endpoint, ...], most: int = OWNERS
    ) -> None:
        """`most`: users with mail that are looked at for subscriptions at the same time."""
        self._asker = asker
        self._store = store
        self._most = most
        self._extension: Extension | None = None
        self._watches: Watches | None = None
        self._next = 0.0
        self._mark = (-1, -1)
        self._looked = self._turned = 0.0
        self._page: Aor | None = None
        "The users looked at begin after this one."
        self._last_owner: Aor | None = None
        "The last of them, where there are more."
        self._left: float | None = None
        "When we began to leave; None: we have not."
        self._last = 0
        "Token of the REGISTER that ends the registration, until it is answered."
        self._towards = config.registrar or config.outbound_proxy or ""
        self._begins = config if config.registrar or (self._towards and config.watch != "off") else None
        "Until it is known by which of our addresses the PBX reaches us; None: it is, or nothing is wanted of the PBX."
        self._listening = listening
        self._begin()

    def _begin(self) -> None:
        """Begin as soon as the PBX has an address."""
        config = self._begins
        address = self._asker.address_of(next_host(self._towards)) if config else None
        if config is None or address is None:
            return
        self._begins = None
        place = reachable(self._listening, address, remote_of(self._towards).transport)
        contact = f"sip:{config.user or 'msilo-lite'}@{place}"
        me = f"sip:{config.user}@{parse_uri(self._towards).host}" if config.user else contact
        if config.registrar:
            straight = (hidden_route(config.registrar),)
            self._extension = Extension(
                f"sip:{parse_uri(config.registrar).host}", me, contact, straight, config.register_expires, _fresh
            )
        if config.watch != "off":
            routes = (hidden_route(config.outbound_proxy),) if config.outbound_proxy else ()
            self._watches = Watches(config.watch, me, contact, routes, config.watch_most, fresh=_fresh)

    def tick(self, now: float) -> None:
        """Send what is due. Raises StoreError where the file cannot be read."""
        if 0 <= self._next - now <= TICK:
            return
        self._next = now + TICK
        self._begin()
        if self._extension and (request := self._extension.tick(now)):
            self._send(self._extension.token, request, now)
        if self._watches:
            self._want(now)
            for token, request in self._watches.tick(now):
                self._send(token, request, now)

    def _want(self, now: float) -> None:
        """Who has mail, as far as that may have changed."""
        assert self._watches is not None
        mark = self._store.mark()
        if mark == self._mark and 0 <= now - self._looked < LOOK:
            return
        self._looked = now
        if not 0 <= now - self._turned < PAGE:
            self._turned, self._page = now, self._last_owner
        owners = self._store.owners(self._most, int(now), self._page)
        self._last_owner = owners[-1] if len(owners) == self._most else None
        if self._page is not None and len(owners) < self._most:  # round to the first ones
            first = self._store.owners(self._most - len(owners), int(now))
            owners += [one for one in first if one not in set(owners)]
        self._watches.want(owners, now)
        self._mark = mark

    def _send(self, token: int, request: Outgoing, now: float) -> None:
        try:
            self._asker.send(token, request)
        except SipError as error:
            self.answered(token, Answer(503, str(error), local=True), now)

    def answered(self, token: int, answer: Answer, now: float) -> bool:
        """The end of a request; whether it was one of ours."""
        if self._extension and token == self._extension.token:
            self._last = 0
            before = self._extension.words
            self._extension.answered(answer, now)
            if self._extension.words != before:
                if self._extension.until:
                    log.info("pbx.registered", words=self._extension.words)
                else:
                    log.warning("pbx.not_registered", words=self._extension.words)
            return True
        return bool(self._watches and self._watches.answered(token, answer, now))

    def notified(self, request: Request, now: float) -> tuple[int, Aor | None]:
        """A NOTIFY: the status it is answered with, and who is to be woken."""
        return self._watches.notified(request, now) if self._watches else (481, None)

    def parting(self, now: float) -> bool:
        """Say goodbye: called each turn of a stop; whether the PBX is still to answer.

        The registration ends, and so do the subscriptions, a few at a time, for GOODBYE seconds at the most.
        """
        if self._left is None:
            self._left = now
            if self._extension and (request := self._extension.leave()):
                self._last = self._extension.token
                self._send(self._last, request, now)
        if not 0 <= now - self._left < GOODBYE:
            return False
        for token, request in self._watches.leave(now) if self._watches else ():
            self._send(token, request, now)
        return bool(self._last or (self._watches and self._watches.leaving))

    @property
    def registered(self) -> bool | None:
        """Whether the PBX takes our registration; None where there is none to be taken."""
        return bool(self._extension.until) if self._extension else None

    def facts(self) -> dict[str, object]:
        """For `status`."""
        found: dict[str, object] = {}
        if self._begins and self._begins.registrar:
            found["extension"] = f"not registered: {next_host(self._towards)} has no address now"
        if self._extension:
            found["extension"] = self._extension.words
        if self._watches:
            found["watched"] = self._watches.states()
        return found


def reachable(listening: tuple[Endpoint, ...], host: str, transport: str) -> str:
    """The address under which an IP address reaches us, as a URI has it behind its @: for Contact headers.

    `transport`: by which we reach it, and it us where we listen on that.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    same = [one for one in listening if (":" in one.host) == (":" in host)] or list(listening)
    chosen = next((one for one in same if one.transport == transport), same[0])
    shown = chosen.host
    if chosen.host in ("0.0.0.0", "::"):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((host, 9))  # sends nothing: the system only looks up its routes
                shown = probe.getsockname()[0]
            except OSError:
                shown = "127.0.0.1"
    place = Endpoint(shown, chosen.port).place
    return place if chosen.transport == "udp" else f"{place};transport={chosen.transport}"


def _fresh() -> str:
    return secrets.token_hex(8)
