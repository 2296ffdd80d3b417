"""A soak: load, phones that come and go, kills and locks for minutes; memory, descriptors and sums are watched.

`make soak ARGS='--minutes 10'`; a short form is in the tests. It ends with figures, and exit code 1 when one is wrong.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from msilo_lite.box.delivery import State

from . import harness
from .harness import Serve
from .traffic import Tally, Town

MOST_GROWTH = 0.2
"Share by which memory may grow between the second and last quarter of the last life: a busier minute keeps more."
WARM = 90.0
"Seconds of such a life after which it has to be flat: PJSIP keeps a transaction with a silent phone for 37."
MOST_KB = 200_000
"Kilobytes that it may have at any time."


@dataclass(slots=True)
class Report:
    """What a soak saw."""

    seconds: float
    tally: Tally
    kills: int
    locks: int
    refused: int
    rss_kb: list[int] = field(default_factory=list)
    "Resident memory of the silo's last life, sampled evenly."
    descriptors: list[int] = field(default_factory=list)
    drift: dict[str, tuple[int, int]] = field(default_factory=dict)
    "Where counters and rows do not agree: what the one says, and what the other."

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words."""
        found = [f"{name}: {len(what)}" for name in ("lost", "doubled") if (what := getattr(self.tally, name))]
        found += [f"{name}: counted {counted}, there are {rows}" for name, (counted, rows) in self.drift.items()]
        middle, end = self._halves(self.rss_kb)
        if self.seconds / 2 >= WARM and end > middle * (1 + MOST_GROWTH):
            found.append(f"memory grew from {middle:.0f} to {end:.0f} kB")
        if max(self.rss_kb, default=0) > MOST_KB:
            found.append(f"memory reached {max(self.rss_kb)} kB")
        if self.descriptors and max(self.descriptors) > min(self.descriptors) + 3:
            found.append(f"descriptors between {min(self.descriptors)} and {max(self.descriptors)}")
        return found

    @staticmethod
    def _halves(samples: list[int]) -> tuple[float, float]:
        """Means of the second and of the last quarter."""
        quarter = max(1, len(samples) // 4)
        first, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
        return (sum(first) / len(first), sum(last) / len(last)) if samples else (0.0, 0.0)

    def lines(self) -> list[str]:
        """The figures."""
        middle, end = self._halves(self.rss_kb)
        return [
            f"{self.seconds:.0f} s, {self.tally.accepted} accepted ({self.tally.accepted / self.seconds:.0f}/s), "
            f"{self.tally.delivered} delivered, {self.tally.waiting} waiting",
            f"{self.kills} kills, {self.locks} locks, {self.refused} refused 503, lost {len(self.tally.lost)}, "
            f"doubled {len(self.tally.doubled)}, documented repeats {self.tally.repeats}",
            f"memory {middle / 1000:.1f} MB after a quarter, {end / 1000:.1f} MB at the end; "
            f"descriptors {min(self.descriptors, default=0)} to {max(self.descriptors, default=0)}",
            *(f"WRONG: {problem}" for problem in self.problems),
        ]


class Soak:
    """One run."""

    def __init__(self, folder: Path, seconds: float, seed: int = 0) -> None:
        self._folder = folder
        self._seconds = seconds
        self._chance = random.Random(seed)
        self._options = ("--settle", "0.1", "--check-time", "2", "--clean-period", "2", "--history-time", "86400")
        self.kills = self.locks = 0

    def run(self) -> Report:
        """Half the time with kills, then half the time one life long, whose memory and descriptors are watched."""
        with Serve(self._folder, *self._options) as first, Town(first.address, 6, 12, window=3, seed=1) as town:
            silo = first
            end = time.monotonic() + self._seconds / 2
            while time.monotonic() < end:
                self._disturb(town, silo)
                if self._chance.random() < 0.5:
                    town.kill(silo)
                    self.kills += 1
                    silo = town.start(self._folder, *self._options)
            rss, descriptors = self._long_life(town, silo)
            town.silent.clear()
            town.quiet(silo, 60)
            silo.stop(40)
        tally = town.tally(silo, in_order=False)
        drift = self._drift(silo, tally)
        return Report(self._seconds, tally, self.kills, self.locks, town.refused, rss, descriptors, drift)

    def _long_life(self, town: Town, silo: Serve) -> tuple[list[int], list[int]]:
        rss, descriptors = list[int](), list[int]()
        end = time.monotonic() + self._seconds / 2
        while time.monotonic() < end:
            self._disturb(town, silo)
            status = Path(f"/proc/{silo.pid}/status").read_text()
            rss += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
            descriptors.append(len(os.listdir(f"/proc/{silo.pid}/fd")))
        return rss, descriptors

    def _disturb(self, town: Town, silo: Serve) -> None:
        """A second or so of life: phones are switched off and on, and now and then somebody locks the database."""
        town.silent = {phone.user for phone in town.phones if self._chance.random() < 0.2}
        town.refresh = self._chance.choice((0.5, 1.0, 3.0))
        if self._chance.random() < 0.15:
            self.locks += 1
            with contextlib.suppress(OSError), harness.locked(silo.file):
                town.run(0.4)
        town.run(self._chance.uniform(0.3, 1.2))

    def _drift(self, silo: Serve, tally: Tally) -> dict[str, tuple[int, int]]:
        """Every message that was stored has gone one way or is there; the counters say the same as the rows."""
        counted = dict(harness.query(silo.file, "SELECT name, value FROM msilo_counter"))
        states = dict(harness.query(silo.file, "SELECT state, count(*) FROM msilo_ledger GROUP BY state"))
        stored = harness.query(silo.file, "SELECT count(*) FROM msilo_ledger")[0][0]
        pairs = {
            "stored": (counted.get("stored_messages", 0), stored),
            "delivered": (counted.get("dumped_messages", 0), states.get(State.DELIVERED, 0)),
            "waiting": (stored - sum(states.get(one, 0) for one in (3, 4, 5, 6)), tally.waiting),
            "under way after the stop": (0, states.get(State.SENDING, 0)),
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="what happens when")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="msilo-lite-soak-") as folder:
        report = Soak(Path(folder), given.minutes * 60, given.seed).run()
    for line in report.lines():
        sys.stdout.write(line + "\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
