"""Killed at random, again and again, under load: nothing that was answered 202 is lost, nothing comes twice unsaid.

`make crash` goes a hundred rounds; here it is a few.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.figures import Figures

from . import harness
from .harness import Serve
from .traffic import Town

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "10"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
HOW = (signal.SIGKILL, signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)
"Pulled plugs, and assertions inside PJSIP."


@pytest.mark.timeout(120 + 12 * ROUNDS)
def test_rounds(tmp_path: Path, figures: Figures, record_property: Callable[[str, object], None]) -> None:
    chance = random.Random(SEED)
    record_property("again with", f"CRASH_SEED={SEED}")
    spoken = 0.0
    with Serve(tmp_path, "--settle", "0.1") as first, Town(first.address, 6, 5, seed=SEED) as town:
        silo = first
        for number in range(ROUNDS):
            began = time.monotonic()
            town.run(chance.choice((0.05, 0.3, 0.8)) * chance.uniform(0.5, 1.5))
            spoken += time.monotonic() - began
            how = chance.choice(HOW)
            silo.signal(how)
            assert town.dies(silo)
            assert silo.ended(1) == -how, silo.log
            town.run(0.05)
            tally = town.tally(silo)
            again = f"in round {number}; again with CRASH_SEED={SEED} CRASH_ROUNDS={ROUNDS}"
            assert (tally.lost, tally.doubled, tally.inverted) == ([], [], []), again
            if chance.random() < 0.2:  # also while it starts
                starting = Serve(tmp_path, bind=(f"udp:127.0.0.1:{silo.address[1]}",))
                town.run(chance.uniform(0, 1))
                town.kill(starting)
            silo = town.start(tmp_path, "--settle", "0.1")
            assert silo.ready_line, silo.log
        assert town.quiet(silo, 60), silo.log
        again = f"CRASH_SEED={SEED} CRASH_ROUNDS={ROUNDS}"
        assert town.tally(silo).inverted == [], again
        parked = town.retry_parked(silo)  # a message that was alone under way at two crashes is suspected
        assert town.quiet(silo, 60), silo.log
        silo.stop()
    tally = town.tally(silo, in_order=False)  # what was parked comes after what went on without it
    assert (tally.lost, tally.doubled, tally.waiting, town.odd) == ([], [], 0, []), again
    assert harness.query(silo.file, "PRAGMA integrity_check") == [("ok",)]
    figures.add(
        "random kills", rounds=ROUNDS, accepted=tally.accepted, per_second_accepted=tally.accepted / max(spoken, 0.1),
        parked_and_retried=parked, documented_repeats=tally.repeats, lost=len(tally.lost), doubled=len(tally.doubled),
    )  # fmt: skip
