"""A stored message and the records that travel with it: plain values, no I/O.

Every time is UTC, in whole seconds since 1970. Text from the wire is decoded as UTF-8 with surrogateescape, so that any
bytes survive the way in and out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..sip.address import Aor
from ..value import value
from .delivery import State


@value
class Message:
    """One MESSAGE as it will be sent to its owner later."""

    owner: Aor
    src: str
    "From URI as written (msilo: src_addr)."
    dst: str
    "To URI; its host is `domain` where it was one of our own addresses (msilo: dst_addr)."
    from_: str
    "From as name-addr, without tag."
    to: str
    "To as name-addr, without tag."
    ctype: str
    "Whole value of Content-Type, exact; empty for none."
    body: bytes
    kept: str
    "Other end-to-end headers, one `Name: value` a line, lines ended by CR LF (msilo: extra_hdrs)."
    arrived: int
    expires: int
    "From this second on it is never sent."
    call_id: str
    "Call-ID of the request that brought it."
    key: bytes
    "Names the request, so that a retransmission is known; 16 bytes."
    due: int = 0
    "A reminder is not sent before this second; 0: no reminder (msilo: snd_time)."
    target: str = ""
    "Request-URI that was asked for (m_store_addrs); empty: the owner's AoR."

    def carrying(self, line: str) -> Message:
        """The same with one more header line, ended by CR LF."""
        return replace(self, kept=self.kept + line)

    def named(self, key: bytes) -> Message:
        """The same with a name of its own."""
        return replace(self, key=key)

    def living(self, seconds: int) -> Message:
        """The same with so much more of life."""
        return replace(self, expires=self.expires + seconds)

    def at(self, arrived: int, expires: int, target: str) -> Message:
        """The same with its times, and with the Request-URI that was asked for."""
        return replace(self, arrived=arrived, expires=expires, target=target)


def size_of(message: Message) -> int:
    """Bytes that it counts for where bytes are limited: body and kept headers."""
    return len(message.body) + len(message.kept.encode("utf-8", "surrogateescape"))


@value
class Waiting:
    """A message in the box together with what our ledger knows of it."""

    silo_id: int
    message: Message
    ledger_id: int
    msilo_id: str
    "Value of X-MSilo-ID: the ledger id in hexadecimal, a dash, 64 random bits."
    state: State
    attempts: int
    code: int | None
    "Final code of the last attempt."
    reason: str | None
    "Words for it."
    crashes: int = 0
    "How often the silo crashed while it was under way."
    known: bool = True
    "False for a message that somebody else, such as Kamailio, put into the box: its ledger row is still to be written."

    @property
    def reminder(self) -> bool:
        """Whether it was written for a certain time."""
        return self.message.due > 0


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a phone said it can be reached: one Contact of a REGISTER."""

    aor: Aor
    uri: str
    path: tuple[str, ...]
    "Route values to preload (RFC 3327 5.3)."
    expires: int
    "UTC second at which the binding ends."
    takes_message: bool
    "False when its `methods` or the Allow header leave MESSAGE out."
    updated: float
    "UTC seconds of the REGISTER that set it last."
    call_id: str
    cseq: int
    extra: str = ""
    "Header lines that `extra_hdrs` gave for this REGISTER, ended by CR LF."


@dataclass(frozen=True, slots=True)
class Recipient:
    """What stands between an owner with waiting mail and the next attempt."""

    owner: Aor
    next_try: int | None
    "UTC second of the next attempt by timer; None: only a wake-up helps."
    tries: int
    "Failed attempts in a row; the step of the back-off."
    code: int | None
    reason: str
    "Why the last attempt failed, in words."

    def moved(self, by: int) -> Recipient:
        """The same by a clock that was set by so many seconds."""
        return self if self.next_try is None else replace(self, next_try=self.next_try + by)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a command asks of the daemon."""

    number: int
    verb: str
    "`dump`: deliver to an owner. `try`: the same by the way. `look`: something came. `reload`: something left the box."
    "`listen`: a message of `check` is on its way, which is not mail. `ping`: answer."
    owner: Aor
    most: int = 0
    "Messages to send at the most; 0: all. Of `listen`: the number of that message."


@value
class Settled:
    """How one attempt, or a whole life, ended: the next state and what is to be written beside it."""

    item: Waiting
    state: State
    at: int
    code: int | None = None
    reason: str | None = None
    attempts: int = 0


SEEN_BY = ("register", "notify", "options")
"Wake-ups by somebody who saw the phone; the others are a command, a timer and a reminder."


@dataclass(slots=True)
class Turn:
    """All that one turn of the loop wants on disk: written in one transaction or not at all."""

    new: list[Message] = field(default_factory=list)
    claimed: list[Waiting] = field(default_factory=list)
    "Messages about to be sent: the attempt is on disk before the packet leaves."
    settled: list[Settled] = field(default_factory=list)
    recipients: dict[Aor, Recipient | None] = field(default_factory=dict)
    "None: nothing stands in the way any more."
    contacts: dict[tuple[Aor, str], Contact | None] = field(default_factory=dict)
    "None: the binding is gone."
    counters: dict[str, int] = field(default_factory=dict)
    wishes: dict[int, dict[str, object]] = field(default_factory=dict)
    "Wishes of the commands that are granted: id to result."

    asked: list[dict[str, object]] = field(default_factory=list)
    "Wishes of a program that writes in place of the daemon, as rows."
    woken: list[tuple[Aor, str]] = field(default_factory=list)
    "Owners with mail who were seen again, and by what."
    told: dict[str, str] = field(default_factory=dict)
    "Words about the daemon itself, by name: they are written when the next thing is."
    flush: bool = False
    "Whether a lane waits for what this turn gives back."

    def count(self, name: str, by: int = 1) -> None:
        """Add to one of the daemon's counters."""
        self.counters[name] = self.counters.get(name, 0) + by

    def earned(self, fresh: int, repeats: int) -> dict[str, int]:
        """Counters that only the commit itself can know, with what they have."""
        known = {"stored_messages": fresh, "duplicate_messages": repeats}
        return {name: by + self.counters.get(name, 0) for name, by in known.items() if by}

    def woke(self, owner: Aor, source: str) -> None:
        """An owner with mail was seen again; `source`: register, notify, options, command, timer or reminder."""
        if source in SEEN_BY:
            self.count("wakeups")
        self.count(f"wakeups_{source}")
        self.woken.append((owner, source))

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for this commit: a sender, a phone, a command or a lane."""
        return bool(self.new or self.claimed or self.wishes or self.asked or self.flush)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.urgent or self.settled or self.recipients or self.contacts or self.counters or self.told)
