"""No burst: how many recipients are begun with, counted, when many are due at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.outbound.pace import Pace
from msilo_lite.outbound.scheduler import Scheduler
from msilo_lite.sip.address import Aor

from .kit import BOB, NOW, PROXY, Rig

START = 1000.0
CROWD = [Aor(f"u{number}", "home.lan") for number in range(300)]


def made(retry_rate: float = 20, wake_rate: float = 0) -> Scheduler:
    scheduler = Scheduler(0.5, 60, 3, 10, retry_rate, wake_rate)
    scheduler.tick(START)
    return scheduler


def test_a_second_gives_what_the_rate_says_and_the_first_comes_at_once() -> None:
    pace = Pace(20)
    assert [pace.take(START) for _ in range(21)] == [True] * 20 + [False]
    assert [pace.room(START + tenth / 10) for tenth in range(4)] == [0, 2, 4, 6]
    assert pace.room(START + 3600) == 20, "what nobody took is not saved up"


def test_a_rate_below_one_a_second_and_none_at_all() -> None:
    slow = Pace(0.5)
    assert [slow.take(START + second) for second in range(5)] == [True, False, True, False, True]
    assert Pace(0).room(START) == math.inf


@given(st.lists(st.floats(-5000, 5000), max_size=200))
def test_a_clock_that_jumps_gives_a_second_s_worth_at_the_most(jumps: list[float]) -> None:
    pace, now = Pace(20), START
    for jump in jumps:
        now += jump
        assert pace.room(now) <= 20
    assert pace.room(now + 1) == 20, "and never stops"


def test_notifies_of_a_pbx_that_was_restarted_are_spread() -> None:
    scheduler = made()
    for owner in CROWD:
        scheduler.phone_is_back(owner, START, crowd=True)
    woken = [len(scheduler.tick(START + 0.5 + second).wake) for second in range(16)]
    assert woken == [20] * 15 + [0]


def test_a_single_phone_never_waits_behind_a_crowd() -> None:
    scheduler = made()
    for owner in CROWD:
        scheduler.line_up(owner)
        scheduler.phone_is_back(owner, START, crowd=True)
    scheduler.tick(START + 0.5)
    scheduler.phone_is_back(BOB, START + 0.5)
    assert (BOB, 0) in scheduler.tick(START + 1).wake


def test_who_stands_in_line_and_registers_is_called_back_at_once_and_once() -> None:
    scheduler = made()
    for owner in CROWD:
        scheduler.phone_is_back(owner, START, crowd=True)
    scheduler.tick(START + 0.5)
    last = CROWD[-1]
    scheduler.phone_is_back(last, START + 0.5)
    assert (last, 0) in scheduler.tick(START + 1).wake
    later = [owner for second in range(60) for owner, _ in scheduler.tick(START + 2 + second).wake]
    assert last not in later
    assert len(later) == len(set(later)) == 300 - 20 - 1 - 10


def test_registers_have_a_rate_of_their_own() -> None:
    scheduler = made(wake_rate=100)
    for owner in CROWD:
        scheduler.phone_is_back(owner, START)
    assert [len(scheduler.tick(START + 0.5 + second).wake) for second in range(4)] == [100, 100, 100, 0]


def test_retries_that_are_due_at_once_are_spread_behind_the_woken() -> None:
    scheduler = made()
    for owner in CROWD[:30]:
        scheduler.line_up(owner)
        scheduler.line_up(owner)
    scheduler.phone_is_back(BOB, START, crowd=True)
    first, second, third = (scheduler.tick(START + after) for after in (0.5, 1.5, 2.5))
    assert [owner for owner, _ in first.wake] == [BOB]
    assert [len(first.retry), len(second.retry), len(third.retry)] == [19, 11, 0]
    assert first.retry + second.retry == tuple(CROWD[:30])


def test_who_is_about_to_be_woken_needs_no_retry() -> None:
    scheduler = made()
    scheduler.line_up(BOB)
    scheduler.phone_is_back(BOB, START)
    scheduler.line_up(CROWD[0])
    assert scheduler.tick(START, lanes=0).retry == ()
    due = scheduler.tick(START + 0.5, lanes=1)
    assert [owner for owner, _ in due.wake] == [BOB]
    assert due.retry == (CROWD[0],)


def test_no_retry_begins_where_no_lane_is_left_for_it() -> None:
    scheduler = made()
    for owner in CROWD[:3]:
        scheduler.line_up(owner)
    assert scheduler.tick(START + 1, lanes=0).retry == ()
    assert scheduler.tick(START + 2, lanes=2).retry == tuple(CROWD[:2])
    assert scheduler.in_line == 1


@pytest.mark.parametrize(("most", "for_timer"), [(64, 32), (5, 2), (1, 1)])
def test_half_of_the_lanes_are_for_who_comes_back(tmp_path: Path, most: int, for_timer: int) -> None:
    rig = Rig(tmp_path / "silo.sqlite", proxy=PROXY, most=most)
    try:
        for number in range(for_timer):
            rig.write("hello", to=f"u{number}")
            rig.replay.expect(CROWD[number], NOW)
        rig.write("hello")
        rig.silo.commit(NOW)
        assert rig.replay.retry_lanes == for_timer
        assert len(rig.due()) == for_timer, "and these stay silent"
        assert rig.replay.retry_lanes == 0
        if most > 1:
            assert [send.item.message.owner for send in rig.wake(BOB)] == [BOB]
            assert rig.replay.retry_lanes == 0, "he took none of theirs"
    finally:
        rig.close()
