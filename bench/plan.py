"""What one run of the benchmark measures, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.targets import LITE, NULL, ORDERED, OURS, SHIPPED, STRAIGHT, TUNED, Null, Target

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class StoreCase:
    """So many messages with so many outstanding; the original, far slower, gets fewer."""

    outstanding: int
    messages: int
    messages_original: int
    users: int = 100
    waiting: int = 0
    """Rows of others that are in the box already."""
    slow_ms: int = 0
    """Milliseconds that a sync of the disk takes; 0: what it takes here."""

    @property
    def key(self) -> str:
        """Its name in JSON."""
        rows = f"-behind-{self.waiting}" if self.waiting else ""
        return f"store-{self.outstanding}{rows}" + (f"-sync-{self.slow_ms}ms" if self.slow_ms else "")

    @property
    def title(self) -> str:
        """Its name in the table."""
        return f"store, {self.outstanding} outstanding" + _beside(self.waiting, self.slow_ms)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Who takes part."""
        return (LITE, TUNED) if self.waiting or self.slow_ms else (NULL, *OURS, SHIPPED, TUNED)

    def count(self, target: Target) -> int:
        """How many messages this target gets."""
        return self.messages if target in (NULL, *OURS) else self.messages_original


@dataclass(frozen=True, slots=True)
class RateCase:
    """Messages at random times, so many a second; or the highest such rate that goes without loss, looked for."""

    rate: float
    """Messages a second; 0: the highest."""
    seconds: float
    slow_ms: int = 0

    @property
    def key(self) -> str:
        """Its name in JSON."""
        rate = f"rate-{self.rate:.0f}" if self.rate else "open-loop"
        return rate + (f"-sync-{self.slow_ms}ms" if self.slow_ms else "")

    @property
    def title(self) -> str:
        """Its name in the table."""
        rate = f"{self.rate:,.0f} a second" if self.rate else "highest rate without refusal or repeat"
        return f"store, open loop, {rate}" + _beside(0, self.slow_ms)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Who takes part."""
        return (LITE, TUNED) if self.rate else (NULL, *OURS, SHIPPED, TUNED)


@dataclass(frozen=True, slots=True)
class RegisterCase:
    """REGISTERs of users who have no mail."""

    outstanding: int
    count: int
    users: int = 1000
    key: str = "register"
    title: str = "REGISTER without mail, 64 outstanding"

    @property
    def targets(self) -> tuple[Target, ...]:
        """Who takes part."""
        return (*OURS, SHIPPED)


@dataclass(frozen=True, slots=True)
class ReplayCase:
    """So many users who register at once, each with so many messages waiting."""

    users: int
    each: int
    waiting: int = 0
    targets: tuple[Target, ...] = ()

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"replay-{self.users}x{self.each}" + (f"-behind-{self.waiting}" if self.waiting else "")

    @property
    def title(self) -> str:
        """Its name in the table."""
        what = f"{self.each:,} for one user" if self.users == 1 else f"{self.each} for each of {self.users:,} users"
        return f"replay, {what}" + _beside(self.waiting, 0)


Case = StoreCase | RateCase | RegisterCase | ReplayCase


def _beside(waiting: int, slow_ms: int) -> str:
    rows = f", {waiting:,} rows waiting" if waiting else ""
    return rows + (f", a sync takes {slow_ms} ms" if slow_ms else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one run does."""

    cases: tuple[Case, ...]
    """Measured `repeat` times."""
    once: tuple[Case, ...]
    """Long ones, measured once."""
    repeat: int
    upkeep: tuple[Target, ...]
    """Whose memory, idle processor time, syncs and start are looked at."""
    idle_seconds: float
    sync_messages: int
    """Messages stored under strace to count syncs; those rates are not used."""
    listed: int
    """Rows that `list` has to show; 0: it is not measured."""
    limit: float = 60.0
    """Seconds after which one load run is cut off."""
    patience: float = 8.0
    """Seconds without a new message after which a replay is over; longer than T2, so that a retransmission counts."""


def make(quick: bool, repeat: int | None, only: str | None) -> Plan:
    """The plan for these options."""
    cases = {"store": _stores(quick), "replay": _replays(quick)}
    once = {"store": _stores_once(quick), "replay": _replays_once(quick)}
    chosen = [only] if only else ["store", "replay"]
    return Plan(
        cases=tuple(case for half in chosen for case in cases[half]),
        once=tuple(case for half in chosen for case in once[half]),
        repeat=repeat or (1 if quick else 3),
        upkeep=(*OURS, SHIPPED, TUNED) if only != "replay" else (),
        idle_seconds=1.0 if quick else 5.0,
        sync_messages=100 if quick else 400,
        listed=0 if only == "store" else 10_000 if quick else 100_000,
    )


def _stores(quick: bool) -> tuple[Case, ...]:
    # As shipped, the original keeps each transaction for 5 s in 64 MB of shared memory, which about 5,000 of them fill:
    # beyond that it would refuse for a reason that has nothing to do with storing.
    if quick:
        return (StoreCase(1, 500, 200), StoreCase(16, 4000, 1000), StoreCase(64, 6000, 1000))
    sizes = ((1, 3000, 1500), (16, 20000, 4000), (64, 30000, 4000), (256, 30000, 4000))
    return (*(StoreCase(*one) for one in sizes), RateCase(1000, 5.0), RegisterCase(64, 20000))


def _stores_once(quick: bool) -> tuple[Case, ...]:
    if quick:
        return (RateCase(0, 0.7), RegisterCase(64, 5000), StoreCase(64, 500, 100, slow_ms=20))
    behind = tuple(StoreCase(16, 20000, 4000, waiting=rows) for rows in (100_000, MILLION))
    slow = (StoreCase(64, 3000, 300, slow_ms=20), StoreCase(64, 1000, 100, slow_ms=100))
    return (RateCase(0, 2.0), *behind, *slow, RateCase(1000, 4.0, slow_ms=20), RateCase(500, 6.0, slow_ms=100))


def _replays(quick: bool) -> tuple[Case, ...]:
    def all_ways(each: int) -> tuple[Target, ...]:  # the null responder has to know what to make up
        return (Null(each), *OURS, SHIPPED, STRAIGHT, ORDERED)

    many = ReplayCase(100 if quick else 1000, 10, targets=all_ways(10))
    return (ReplayCase(1, 1000, targets=all_ways(1000)), many)


def _replays_once(quick: bool) -> tuple[Case, ...]:
    inbox = ReplayCase(1, 20_000, targets=(LITE, SHIPPED))
    if quick:
        return (replace(inbox, each=3000, targets=(LITE,)),)
    sizes = (100_000, MILLION)
    return (*(ReplayCase(1, 1000, waiting=rows, targets=(LITE, ORDERED)) for rows in sizes), inbox)
