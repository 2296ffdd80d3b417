"""What keeps us in touch with the PBX: our registration as an extension, and subscriptions to users who have mail.

Everything is decided in `extension` and `watch`; here requests are sent and their ends come back.
"""

from __future__ import annotations

import logging
import secrets
import socket

from ..box.store import Store
from ..errors import SipError
from ..outbound.compose import hidden_route
from ..settings.config import Config
from ..sip.address import Aor, Endpoint, parse_uri, remote_of
from ..sip.asker import Asker
from ..sip.wire import Answer, Outgoing, Request
from .extension import Extension
from .watch import Watches

log = logging.getLogger(__name__)

TICK = 1.0
"Seconds between two looks at what is due, and at who has mail."
OWNERS = 2000
"Users with mail that are looked at for subscriptions."


class Liaison:
    """The relations with one PBX. Without `registrar` and `watch` it does nothing."""

    def __init__(self, config: Config, asker: Asker, store: Store, listening: tuple[Endpoint, ...]) -> None:
        self._asker = asker
        self._store = store
        self._extension: Extension | None = None
        self._watches: Watches | None = None
        self._next = 0.0
        routes = (hidden_route(config.outbound_proxy),) if config.outbound_proxy else ()
        towards = config.registrar or config.outbound_proxy
        if towards is None or not (config.registrar or config.watch != "off"):
            return
        place = reachable(listening, towards)
        contact = f"sip:{config.user or 'msilo-lite'}@{place}"
        me = f"sip:{config.user}@{parse_uri(towards).host}" if config.user else contact
        if config.registrar:
            straight = (hidden_route(config.registrar),)
            self._extension = Extension(
                f"sip:{parse_uri(config.registrar).host}", me, contact, straight, config.register_expires, _fresh
            )
        if config.watch != "off":
            self._watches = Watches(config.watch, me, contact, routes, config.watch_most, fresh=_fresh)

    def tick(self, now: float) -> None:
        """Send what is due. Raises StoreError where the file cannot be read."""
        if 0 <= self._next - now <= TICK:
            return
        self._next = now + TICK
        if self._extension and (request := self._extension.tick(now)):
            self._send(self._extension.token, request, now)
        if self._watches:
            self._watches.want(self._store.owners(OWNERS), now)
            for token, request in self._watches.tick(now):
                self._send(token, request, now)

    def _send(self, token: int, request: Outgoing, now: float) -> None:
        try:
            self._asker.send(token, request)
        except SipError as error:
            self.answered(token, Answer(503, str(error), local=True), now)

    def answered(self, token: int, answer: Answer, now: float) -> bool:
        """The end of a request; whether it was one of ours."""
        if self._extension and token == self._extension.token:
            before = self._extension.words
            self._extension.answered(answer, now)
            if self._extension.words != before:
                log.log(logging.INFO if self._extension.until else logging.WARNING, "%s", self._extension.words)
            return True
        return bool(self._watches and self._watches.answered(token, answer, now))

    def notified(self, request: Request, now: float) -> tuple[int, Aor | None]:
        """A NOTIFY: the status it is answered with, and who is to be woken."""
        return self._watches.notified(request, now) if self._watches else (481, None)

    def leave(self, now: float) -> None:
        """End the registration; the PBX forgets the subscriptions by themselves."""
        if self._extension and (request := self._extension.leave()):
            self._send(self._extension.token, request, now)

    def facts(self) -> dict[str, object]:
        """For `status`."""
        found: dict[str, object] = {}
        if self._extension:
            found["extension"] = self._extension.words
        if self._watches:
            found["watched"] = self._watches.states()
        return found


def reachable(listening: tuple[Endpoint, ...], uri: str) -> str:
    """The address under which the host of a URI reaches us, as a URI has it behind its @: for Contact headers.

    Of the transport that leads there where we listen on it, else of another one.
    """
    host, transport = parse_uri(uri).host.strip("[]"), remote_of(uri).transport
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
