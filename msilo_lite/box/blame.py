"""Which message is at fault when the silo crashed. Pure.

Messages that were under way at a crash are sent alone from then on, so that a second crash has one suspect. A message
that was being handed to PJSIP at the crash is the only one in question. Being killed from outside is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

CRASHES = 2
"Crashes after which a message is parked that was the only one in question at the last of them."
CRASHES_AMONG_OTHERS = 5
"Crashes after which a message is parked that was under way at each of them."


class UnderWay(NamedTuple):
    """A message whose attempt had begun and not ended."""

    ledger_id: int
    crashes: int
    "Before this one."


class Blame(NamedTuple):
    """Ledger ids."""

    suspects: list[int]
    "One crash more is counted against these."
    culprits: list[int]
    "Those of them that are never sent again unless somebody says so."


def blame(under_way: Sequence[UnderWay], sending: int) -> Blame:
    """Who is to blame for a crash; `sending`: ledger id of the message that PJSIP had in its hands, 0 for none."""
    caught = [one for one in under_way if one.ledger_id == sending]
    asked = caught or list(under_way)
    enough = CRASHES if len(asked) == 1 else CRASHES_AMONG_OTHERS
    return Blame([one.ledger_id for one in asked], [one.ledger_id for one in asked if one.crashes + 1 >= enough])


def alone(found: Sequence[int]) -> int:
    """How many of the next messages of a lane may be claimed at once, given their crashes: a suspect only alone."""
    for place, crashes in enumerate(found):
        if crashes:
            return max(place, 1)
    return len(found)


def words(crashes: int) -> str:
    """Why a message is parked, for `list`."""
    return f"the silo crashed {crashes} times while it was under way"


def spread(owners: Iterable[object], now: int) -> list[int]:
    """When to try each of the owners whose messages were under way at a crash: one after the other."""
    return [now + 2 * place for place, _ in enumerate(owners)]
