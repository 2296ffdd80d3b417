"""Is it alive, is it ready? Decided from what the loop last said of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STILL = 10.0
"Seconds without a turn after which the loop counts as stuck; a commit waits a second for a lock, a name longer."
LATE = 5.0
"Seconds after which the scheduler, which looks around every second, counts as late."
LEAST_SPACE = 1 << 20
"Free bytes below which nothing can be written for long."


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the loop says of itself about once a second; never changed once it is published."""

    at: float
    "UTC seconds."
    ticked: float
    "Seconds of the monotonic clock at which it was made."
    listening: tuple[str, ...]
    obstacle: str
    "Why the database cannot be written; empty for nothing."
    free: int
    "Bytes that the disk has left."
    info: Mapping[str, str] = field(default_factory=dict)
    "Version, and the like."
    counters: Mapping[str, int] = field(default_factory=dict)
    "Those of the file, kept over restarts, by their names there."
    gauges: Mapping[str, float] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    "Attempts that ended since the start, by code."
    ended: Mapping[str, int] = field(default_factory=dict)
    "Messages that left the box since the start, by how."
    delays: tuple[int, ...] = ()
    "Deliveries since the start by class of delay."
    delay_sum: float = 0.0


class Published:
    """Where the loop leaves word and another thread finds it: two attributes, each replaced whole."""

    def __init__(self, turned: float) -> None:
        self.turned = turned
        "When the loop turned last, on the monotonic clock."
        self.snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of an answer."""

    name: str
    fine: bool
    words: str


def live(turned: float, now: float) -> list[Check]:
    """Whether the loop turns; `turned`: monotonic seconds of its last turn."""
    ago = now - turned
    return [Check("loop", ago < STILL, f"turned {ago:.1f} s ago")]


def ready(snapshot: Snapshot | None, turned: float, now: float) -> list[Check]:
    """Whether a message would be taken, kept and sent."""
    checks = live(turned, now)
    if snapshot is None:
        return [*checks, Check("scheduler", False, "has not looked around yet")]
    ago = now - snapshot.ticked
    bound = ", ".join(snapshot.listening)
    return [
        *checks,
        Check("scheduler", ago < LATE, f"looked around {ago:.1f} s ago"),
        Check("sip", bool(bound), f"listens on {bound}" if bound else "listens nowhere"),
        Check("database", not snapshot.obstacle, snapshot.obstacle or "can be written"),
        Check("disk", snapshot.free >= LEAST_SPACE, f"{snapshot.free >> 20} MB are free"),
    ]


def body(checks: Sequence[Check], *, verbose: bool) -> str:
    """The answer: a verdict, then a line for each check."""
    fine = all(one.fine for one in checks)
    lines = (f"{one.name} {_said(one.fine)}{f': {one.words}' if verbose or not one.fine else ''}" for one in checks)
    return "\n".join([_said(fine), *lines, ""])


def _said(fine: bool) -> str:
    return "ok" if fine else "failed"
