"""What one run of the benchmark measures, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.targets import LITE, NULL, ORDERED, SHIPPED, STRAIGHT, TUNED, Null, Target


@dataclass(frozen=True, slots=True)
class StoreCase:
    """So many messages with so many outstanding; the original, far slower, gets fewer."""

    outstanding: int
    messages: int
    messages_original: int
    users: int = 100

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"store-{self.outstanding}"

    @property
    def title(self) -> str:
        """Its name in the table."""
        return f"store, {self.outstanding} outstanding"

    @property
    def targets(self) -> tuple[Target, ...]:
        """Who takes part."""
        return (NULL, LITE, SHIPPED, TUNED)

    def count(self, target: Target) -> int:
        """How many messages this target gets."""
        return self.messages if target in (NULL, LITE) else self.messages_original


@dataclass(frozen=True, slots=True)
class ReplayCase:
    """So many users who register at once, each with so many messages waiting."""

    users: int
    each: int

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"replay-{self.users}x{self.each}"

    @property
    def title(self) -> str:
        """Its name in the table."""
        people = "one user" if self.users == 1 else f"{self.users} users"
        return f"replay, {self.each:,} for {people}" if self.users == 1 else f"replay, {self.each} for each of {people}"

    @property
    def targets(self) -> tuple[Target, ...]:
        """Who takes part; the null responder has to know what to make up."""
        return (Null(self.each), LITE, SHIPPED, STRAIGHT, ORDERED)


Case = StoreCase | ReplayCase


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one run does."""

    cases: tuple[Case, ...]
    repeat: int
    upkeep: tuple[Target, ...]
    """Whose memory, idle processor time and syncs are looked at."""
    idle_seconds: float
    sync_messages: int
    """Messages stored under strace to count syncs; those rates are not used."""
    limit: float = 60.0
    """Seconds after which one load run is cut off."""
    patience: float = 8.0
    """Seconds without a new message after which a replay is over; longer than T2, so that a retransmission counts."""


def make(quick: bool, repeat: int | None, only: str | None) -> Plan:
    """The plan for these options."""
    # The original keeps each transaction for 5 s in 64 MB of shared memory, which about 5,000 of them fill: beyond that
    # it would refuse for a reason that has nothing to do with storing.
    stores: tuple[Case, ...]
    if quick:
        stores = (StoreCase(1, 500, 200), StoreCase(16, 4000, 1000), StoreCase(64, 6000, 1000))
    else:
        stores = (StoreCase(1, 3000, 1500), StoreCase(16, 20000, 4000), StoreCase(64, 20000, 4000))
    replays: tuple[Case, ...] = (ReplayCase(1, 1000), ReplayCase(100, 10))
    cases = {"store": stores, "replay": replays}.get(only or "", stores + replays)
    return Plan(
        cases=cases,
        repeat=repeat or (1 if quick else 3),
        upkeep=(LITE, SHIPPED, TUNED) if only != "replay" else (),
        idle_seconds=1.0 if quick else 5.0,
        sync_messages=100 if quick else 400,
    )
