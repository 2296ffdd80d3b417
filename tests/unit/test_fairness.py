"""A large box, or a flood, keeps nobody else waiting. Counted in turns and sends, not in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.message import Turn
from msilo_lite.outbound.lanes import Send
from msilo_lite.outbound.replay import CLAIM, SHORT_CLAIM
from msilo_lite.sip.address import Aor

from .kit import BOB, CARL, NOW, PROXY, Rig, message

LARGE = 10_000


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Rig]:
    """Lanes for one recipient at a time: the narrowest there is."""
    with closing(Rig(tmp_path / "silo.sqlite", proxy=PROXY, most=1)) as rig:
        yield rig


def fill(rig: Rig, owner: Aor, number: int) -> None:
    for start in range(0, number, 1000):
        more = [message(owner, f"{start + n}".encode()) for n in range(min(1000, number - start))]
        rig.store.write(Turn(new=more), NOW)


class Line:
    """Answers what leaves, and remembers in which order it left."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.open: list[Send] = []
        self.left: list[tuple[str, int]] = []

    def add(self, sends: list[Send]) -> None:
        self.open += sends
        self.left += [(one.item.message.owner.user, int(one.item.message.body)) for one in sends]

    def until_sent(self, owner: Aor, most: int) -> int:
        """Answer until something leaves for an owner; how many left for others before it."""
        before = len(self.left)
        while len(self.left) - before <= most:
            if any(user == owner.user for user, _ in self.left[before:]):
                return [user for user, _ in self.left[before:]].index(owner.user)
            self.step()
        pytest.fail(f"{most} messages left for others, and none for {owner}")

    def step(self) -> None:
        self.add(self.rig.answer(self.open.pop(0), 200) if self.open else self.rig.turn())

    def drain(self) -> None:
        while self.open or not self.rig.replay.idle:
            self.step()


def test_a_box_of_10000_lets_a_single_message_pass(narrow: Rig) -> None:
    fill(narrow, BOB, LARGE)
    line = Line(narrow)
    line.add(narrow.wake(BOB))
    for _ in range(10):
        line.step()
    fill(narrow, CARL, 1)
    line.add(narrow.wake(CARL))
    assert line.until_sent(CARL, 2 * CLAIM) <= CLAIM


def test_two_large_boxes_take_turns_and_each_keeps_its_order(narrow: Rig) -> None:
    fill(narrow, BOB, 400)
    fill(narrow, CARL, 400)
    line = Line(narrow)
    line.add(narrow.wake(BOB, CARL))
    line.drain()
    for user in ("bob", "carl"):
        assert [number for who, number in line.left if who == user] == list(range(400))
    users = [user for user, _ in line.left]
    for start in range(0, 700, 4 * SHORT_CLAIM):
        assert set(users[start : start + 4 * SHORT_CLAIM]) == {"bob", "carl"}
    assert narrow.box() == []


def test_neither_calls_nor_large_boxes_keep_the_other_out(narrow: Rig) -> None:
    """A stream of wake-ups for others, and still bob's box empties."""
    fill(narrow, BOB, 200)
    others = [Aor(f"user{number}", "home.lan") for number in range(60)]
    for owner in others:
        fill(narrow, owner, 1)
    line = Line(narrow)
    line.add(narrow.wake(BOB, *others))
    line.drain()
    counted = Counter(user for user, _ in line.left)
    assert counted == {"bob": 200} | {owner.user: 1 for owner in others}
    last_bob = max(place for place, (user, _) in enumerate(line.left) if user == "bob")
    first_other = min(place for place, (user, _) in enumerate(line.left) if user != "bob")
    assert first_other <= CLAIM
    assert last_bob < len(line.left) - len(others) // 2, "bob was done long before the last of them"


def test_one_large_box_alone_is_not_slowed(tmp_path: Path) -> None:
    """Whole claims, and no pause, while nobody waits for a place."""
    with closing(Rig(tmp_path / "silo.sqlite", proxy=PROXY, most=2)) as rig:
        fill(rig, BOB, 4 * CLAIM)
        line = Line(rig)
        line.add(rig.wake(BOB))
        assert len(rig.replay._lanes[BOB].queue) == CLAIM - 1
        line.drain()
        assert [number for _, number in line.left] == list(range(4 * CLAIM))


@pytest.mark.parametrize("how", ["stop", "refuse", "reload"])
def test_a_lane_that_waits_for_its_next_turn_loses_nothing(narrow: Rig, how: str) -> None:
    fill(narrow, BOB, 100)
    fill(narrow, CARL, 100)
    line = Line(narrow)
    line.add(narrow.wake(BOB, CARL))
    for _ in range(SHORT_CLAIM + 3):
        line.step()
    assert [owner.user for owner in narrow.replay.line.paused] == ["bob"]
    if how == "stop":
        narrow.replay.stop(NOW)
        line.drain()
    elif how == "refuse":
        line.add(narrow.answer(line.open.pop(0), 480))
        line.drain()
    else:
        narrow.replay.reload()
        line.drain()
    left = [one.message.body for one in narrow.box()]
    sent = [number for _, number in line.left]
    assert len(left) + len(sent) - (how == "refuse") == 200
    assert {one.state.name for one in narrow.box()} <= {"PENDING"}
    assert narrow.replay.idle


def test_a_wake_up_of_a_lane_that_waits_is_not_lost(narrow: Rig) -> None:
    fill(narrow, BOB, 40)
    fill(narrow, CARL, 40)
    line = Line(narrow)
    line.add(narrow.wake(BOB, CARL))
    for _ in range(SHORT_CLAIM + 3):
        line.step()
    assert BOB in narrow.replay.line.paused
    narrow.replay.wake(BOB, wish=7)
    narrow.replay.retry(BOB)
    assert narrow.replay.is_expected(BOB)
    line.drain()
    assert Counter(user for user, _ in line.left) == {"bob": 40, "carl": 40}
