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
from ..sip.address import Aor, Endpoint, parse_uri
from ..sip.asker import Asker
from ..sip.wire import Answer, Outgoing, Request
from .extension import Extension
from .watch import Watches

log = logger(__name__)

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
                if self._extension.until:
                    log.info("pbx.registered", words=self._extension.words)
                else:
                    log.warning("pbx.not_registered", words=self._extension.words)
            return True
        return bool(self._watches and self._watches.answered(token, answer, now))

    def notified(self, request: Request, now: float) -> tuple[int, Aor | None]:
        """A NOTIFY: the status it is answered with, and who is to be woken."""
        return self._watches.notified(request, now) if self._watches else (481, None)

    def leave(self, now: float) -> None:
        """End the registration; the PBX forgets the subscriptions by themselves."""
        if self._extension and (request := self._extension.leave()):
            self._send(self._extension.token, request, now)

    @property
    def registered(self) -> bool | None:
        """Whether the PBX takes our registration; None where there is none to be taken."""
        return bool(self._extension.until) if self._extension else None

    def facts(self) -> dict[str, object]:
        """For `status`."""
        found: dict[str, object] = {}
        if self._extension:
            found["extension"] = self._extension.words
        if self._watches:
            found["watched"] = self._watches.states()
        return found


def reachable(listening: tuple[Endpoint, ...], uri: str) -> str:
    """The address, as host:port of a URI, under which the host of a URI reaches us: for Contact headers."""
    host = parse_uri(uri).host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    same = [one for one in listening if (":" in one.host) == (":" in host)] or list(listening)
    chosen = same[0]
    shown = chosen.host
    if chosen.host in ("0.0.0.0", "::"):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((host, 9))  # sends nothing: the system only looks up its routes
                shown = probe.getsockname()[0]
            except OSError:
                shown = "127.0.0.1"
    return f"[{shown}]:{chosen.port}" if ":" in shown else f"{shown}:{chosen.port}"


def _fresh() -> str:
    return secrets.token_hex(8)
