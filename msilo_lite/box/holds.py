"""What the operator holds back: mail for one user, mail that would go to one host, or all mail. Pure.

A hold is a row of its own, looked at when a lane opens and before each message leaves. So it cannot get out of step
with the messages, holds those that are still to come, and costs nothing where there is none.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from ..sip.address import Aor

HELD = "held by the operator"
"The reason of a lane that did not open."
LET_GO = "let go by the operator"


class Kind(enum.StrEnum):
    """What a hold is about; the word is what the table stores."""

    ALL = "all"
    PEER = "peer"
    "A host that messages are handed to: an address, a network (CIDR) or a name."
    USER = "user"


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold."""

    kind: Kind
    name: str
    "The user's AoR, or the host; empty where all mail is held."
    since: int
    "UTC second at which the operator said so."

    def covers(self, owner: Aor, host: str) -> bool:
        """Whether it holds mail of an owner that would be handed to `host` (empty: nobody knows where to)."""
        if self.kind is Kind.ALL:
            return True
        return self.name == str(owner) if self.kind is Kind.USER else _is_in(host, self.name)

    @property
    def option(self) -> str:
        """The option of `hold` and `unhold` that names it."""
        if self.kind is Kind.ALL:
            return "--all"
        return f"--{'to' if self.kind is Kind.USER else 'peer'} {self.name}"


def _is_in(host: str, place: str) -> bool:
    try:
        return ip_address(host.strip("[]")) in ip_network(place)
    except ValueError:  # one of them is a name
        return bool(host) and host.lower() == place


def peer_name(text: str) -> str:
    """A host as a hold keeps it: a network, or a name in lower case. Raises ValueError for what is neither."""
    bare = text.strip().strip("[]").lower()
    try:
        return str(ip_network(bare))
    except ValueError as error:
        if "/" in bare or not bare or not all(c.isalnum() or c in ".-_" for c in bare) or bare[-1].isdigit():
            raise ValueError(f"{text!r} is no address, no network and no host name ({error})") from None
        return bare


class Holds:
    """The holds in force. The daemon has one, and loads it again when another process has written."""

    def __init__(self, holds: Iterable[Hold] = ()) -> None:
        self.all: tuple[Hold, ...] = ()
        self.load(holds)

    def load(self, holds: Iterable[Hold]) -> bool:
        """Take over what is in force now; whether that is a change."""
        before, self.all = self.all, tuple(holds)
        self._users = {one.name: one for one in self.all if one.kind is Kind.USER}
        self._others = tuple(one for one in self.all if one.kind is not Kind.USER)
        return before != self.all

    def on(self, owner: Aor, host: str) -> Hold | None:
        """The hold that keeps mail of an owner from going to a host, or None."""
        if not self.all:
            return None
        return self._users.get(str(owner)) or next((one for one in self._others if one.covers(owner, host)), None)
