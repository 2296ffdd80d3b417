"""Why a message still waits, in one line of plain words. Pure: everything it looks at is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..box.delivery import State
from ..box.holds import Hold, Holds
from ..box.message import Contact, Recipient, Waiting
from ..outbound.ways import contact_host
from ..sip.address import Aor


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the reasons depend on besides the message."""

    recipients: dict[Aor, Recipient]
    contacts: dict[Aor, Contact]
    "The newest live binding of each owner."
    daemon_up: bool
    by_proxy: bool
    "Whether replays go through an outbound_proxy."
    proxy_host: str = ""
    "Its host."
    holds: Holds = field(default_factory=Holds)
    "What the operator holds back."


def hold_on(item: Waiting, around: Surroundings, now: int) -> Hold | None:
    """The hold that keeps a message from being sent, or None."""
    if item.state is not State.PENDING or item.message.due > now or not around.holds.all:
        return None
    owner = item.message.owner
    contact = around.contacts.get(owner)
    host = around.proxy_host if around.by_proxy else contact_host(contact) if contact else ""
    return around.holds.on(owner, host)


def state_of(item: Waiting, around: Surroundings, now: int) -> str:
    """The state of a message in the box, as the commands call it."""
    if item.state is State.PENDING and item.message.due > now:
        return "scheduled"
    return "held" if hold_on(item, around, now) else state_name(item.state)


def why(item: Waiting, around: Surroundings, now: int) -> str:
    """One line; times are relative to `now`, UTC seconds."""
    if item.message.expires <= now:
        return "its time ran out; the cleaner will take it away"
    if item.message.due > now and item.state is State.PENDING:
        return f"a reminder, due in {span(item.message.due - now)}"
    if item.state is State.PARKED and item.crashes:
        return f"parked: {item.reason}; `retry` sends it again, `purge` takes it away"
    if item.state is State.PARKED:
        return f"parked: its content was refused ({item.reason}); `purge` takes it away"
    if item.state is State.HANDED:
        return "handed over, unconfirmed: the PBX has it and may bring it back; `retry` sends it again"
    if hold := hold_on(item, around, now):
        return f"held by the operator for {span(now - hold.since)}; `unhold {hold.option}` lets it go"
    if not around.daemon_up:
        return "no daemon is running; start `msilo-lite serve`"
    if item.state is State.SENDING:
        return f"on its way, attempt {item.attempts + 1}"
    return _away(item, around, now)


def _away(item: Waiting, around: Surroundings, now: int) -> str:
    owner = item.message.owner
    trouble = around.recipients.get(owner)
    contact = around.contacts.get(owner)
    if trouble and trouble.next_try is not None:
        wait = trouble.next_try - now
        return f"{trouble.reason}; next attempt {'now' if wait <= 0 else 'in ' + span(wait)}, or when {owner} registers"
    if trouble and contact is None:
        return f"{trouble.reason}; waits until {owner} registers"
    if trouble:
        return f"{trouble.reason}; waits until {owner} registers again"
    if contact:
        return (
            f"{owner} is registered for {span(contact.expires - now)} more; goes at the next REGISTER, or with `dump`"
        )
    return f"waits until {owner} registers"


def state_name(state: State) -> str:
    """A state as the commands spell it: what `purge` took away is purged."""
    return {State.CANCELLED: "purged", State.HANDED: "handed over"}.get(state, state.name.lower())


def span(seconds: int) -> str:
    """A length of time with one unit: 45 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "d" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"
