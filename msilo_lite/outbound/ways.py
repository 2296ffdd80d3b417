"""Where a message goes now: through the outbound proxy, or straight to the Contact that registered last; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..box.delivery import Hop
from ..box.holds import HELD, Holds
from ..box.message import Contact
from ..sip.address import Aor, finds_its_way, is_literal, next_hop, next_host
from .bindings import Bindings
from .compose import hidden_route

NOTHING_KNOWN = Hop()
NOBODY = Aor("", "")
"In place of an owner, where only the host counts."
NO_WAY = "not registered, and no outbound_proxy is set"


@dataclass(frozen=True, slots=True)
class Way:
    """Where a replay goes."""

    target: str
    routes: tuple[str, ...]
    by_proxy: bool
    extra: str = ""
    "Header lines that `extra_hdrs` gives for this recipient."
    hop: Hop = NOTHING_KNOWN


def first_hop(contact: Contact) -> str:
    """The URI that a message to a Contact is handed to."""
    return next_hop(contact.path[0]) if contact.path else contact.uri


def contact_host(contact: Contact) -> str:
    """The host that a message to a Contact is handed to."""
    return next_host(first_hop(contact))


class Ways:
    """Finds the way to a recipient."""

    def __init__(
        self,
        bindings: Bindings,
        proxy: str | None,
        extra: str = "",
        hop: Callable[[str], Hop] | None = None,
        *,
        asks: bool = True,
        holds: Holds | None = None,
    ) -> None:
        """`extra`: header lines where no REGISTER is known; `asks`: whether those of a REGISTER count.

        `hop`: what is known of a host. `holds`: what the operator holds back.
        """
        self._asks = asks
        self._holds = holds or Holds()
        self._bindings = bindings
        self._proxy = proxy
        self._extra = extra
        self._hop = hop or (lambda _: NOTHING_KNOWN)
        self._next = next_host(proxy) if proxy else ""
        self._proxy_hop = self._hop(self._next) if is_literal(self._next) else None
        "What is known of the proxy; None: its name may mean another address each time."

    def learn(self) -> None:
        """Look again at what is known of the proxy: the configuration is another one."""
        self._proxy_hop = self._hop(self._next) if is_literal(self._next) else None

    def to(self, owner: Aor, now: float, target: str = "") -> Way | str:
        """The way to an owner, or why there is none; `target`: a Request-URI that was asked for."""
        contact = self._bindings.newest(owner, now)
        extra = contact.extra if contact and self._asks else self._extra
        if self._proxy:
            if self._holds.on(owner, self._next):
                return HELD
            route = hidden_route(self._proxy)
            hop = self._proxy_hop or self._hop(self._next)
            return Way(target or owner.uri, (route,), by_proxy=True, extra=extra, hop=hop)
        first = first_hop(contact) if contact else ""
        host = next_host(first) if first else ""
        if self._holds.on(owner, host):
            return HELD
        if contact is None:
            return NO_WAY
        if not finds_its_way(first):  # PJSIP would look it up on our only thread
            return f"its Contact leads to the host name {host}, which only an outbound_proxy can reach"
        return Way(contact.uri, contact.path, by_proxy=False, extra=extra, hop=self._hop(host.strip("[]")))

    def by_redirect(self, target: str, old: Way) -> Way | None:
        """The way to where a 3xx points; None where that is a host name."""
        if not finds_its_way(target) or self._holds.on(NOBODY, next_host(target)):
            return None
        return Way(target, (), by_proxy=False, extra=old.extra, hop=self._hop(next_host(target)))
