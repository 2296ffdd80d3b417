"""Ticks by hand: what is due, when the clock runs, jumps, or goes back."""

from __future__ import annotations

import pytest

from msilo_lite.outbound.scheduler import Scheduler
from msilo_lite.sip.address import Aor

from .kit import BOB, CARL

START = 1000.0


def made(settle: float = 0.5, check_time: int = 60, clean_period: int = 3) -> Scheduler:
    """A scheduler that has ticked once, so that nothing but what the test adds is due."""
    scheduler = Scheduler(settle, check_time, clean_period, 10)
    scheduler.tick(START)
    return scheduler


def wakes(scheduler: Scheduler, *times: float) -> list[tuple[Aor, ...]]:
    return [tuple(owner for owner, _ in scheduler.tick(time).wake) for time in times]


def test_the_first_tick_looks_at_everything() -> None:
    due = Scheduler(0.5, 60, 3, 10).tick(START)
    assert (due.wake, due.retries, due.wishes, due.clean, due.purge) == ((), True, True, True, False)


def test_a_phone_that_is_back_wakes_after_it_settled() -> None:
    scheduler = made()
    scheduler.phone_is_back(BOB, START)
    assert wakes(scheduler, START + 0.49, START + 0.5, START + 0.6) == [(), (BOB,), ()]


def test_a_burst_of_registers_is_one_wake_up_at_the_first_ones_time() -> None:
    scheduler = made()
    for late in (0.0, 0.1, 0.4):
        scheduler.phone_is_back(BOB, START + late)
    assert wakes(scheduler, START + 0.5, START + 5) == [(BOB,), ()]


def test_after_a_wake_up_the_next_register_counts_again() -> None:
    scheduler = made()
    scheduler.phone_is_back(BOB, START)
    scheduler.tick(START + 1)
    scheduler.phone_is_back(BOB, START + 1)
    assert wakes(scheduler, START + 1.5) == [(BOB,)]


def test_phones_wake_in_the_order_they_came_and_equal_times_do_not_clash() -> None:
    scheduler = made()
    scheduler.phone_is_back(CARL, START)
    scheduler.phone_is_back(BOB, START + 0.1)
    assert wakes(scheduler, START + 2) == [(CARL, BOB)]
    for owner in (CARL, BOB):
        scheduler.phone_is_back(owner, START + 3)
    assert set(scheduler.tick(START + 4).wake) == {(BOB, 0), (CARL, 0)}


def test_without_a_settle_time_the_wake_up_is_due_at_once() -> None:
    scheduler = made(settle=0)
    scheduler.phone_is_back(BOB, START)
    assert wakes(scheduler, START) == [(BOB,)]


def test_periods() -> None:
    scheduler = made()
    seen = [scheduler.tick(START + tenths / 10) for tenths in range(1, 1801)]
    assert sum(due.retries for due in seen) == 180
    assert sum(due.clean for due in seen) == 3
    assert [due.purge for due in seen if due.clean] == [False, True, False]
    assert 1700 < sum(due.wishes for due in seen) <= 1800


def test_missed_ticks_are_not_made_up_for() -> None:
    scheduler = made()
    late = scheduler.tick(START + 100_000)
    assert late.retries
    assert late.clean
    after = scheduler.tick(START + 100_000.05)
    assert not any((after.retries, after.wishes, after.clean, after.purge))


def test_a_clock_set_forward_makes_everything_due() -> None:
    scheduler = made()
    scheduler.phone_is_back(BOB, START)
    due = scheduler.tick(START + 86400)
    assert due.wake == ((BOB, 0),)
    assert due.retries
    assert due.clean


def test_a_clock_set_back_does_not_stop_the_periods() -> None:
    scheduler = made()
    due = scheduler.tick(START - 900)
    assert due.retries
    assert due.wishes
    assert due.clean
    assert not scheduler.tick(START - 899.95).retries
    assert scheduler.tick(START - 898).retries


def test_a_clock_set_back_does_not_keep_a_phone_waiting() -> None:
    scheduler = made()
    scheduler.phone_is_back(BOB, START)
    scheduler.tick(START - 900)
    scheduler.phone_is_back(BOB, START - 900)
    seen = scheduler.tick(START - 900).wake + scheduler.tick(START - 899).wake
    assert (BOB, 0) in seen


@pytest.mark.parametrize(("now", "wait"), [(START, 0.1), (START + 0.04, 0.06), (START + 0.1, 0.0), (START + 9, 0.0)])
def test_wait_is_until_the_soonest(now: float, wait: float) -> None:
    assert made().wait(now) == pytest.approx(wait)


def test_wait_sees_a_wake_up_that_comes_sooner() -> None:
    scheduler = made(settle=0.03)
    scheduler.phone_is_back(BOB, START)
    assert scheduler.wait(START) == pytest.approx(0.03)


def test_after_any_tick_the_wait_is_short_whatever_the_clock_did() -> None:
    scheduler = made(settle=0.5)
    scheduler.phone_is_back(BOB, START)
    for now in (START, START + 7200, START - 7200, START + 1):
        scheduler.tick(now)
        assert 0 <= scheduler.wait(now) <= 0.1 + 1e-6


def test_a_limit_holds_unless_somebody_wants_all() -> None:
    scheduler = made()
    scheduler.phone_is_back(BOB, START, 3)
    scheduler.phone_is_back(BOB, START + 0.1, 5)
    scheduler.phone_is_back(CARL, START, 3)
    scheduler.phone_is_back(CARL, START + 0.1)
    assert set(scheduler.tick(START + 1).wake) == {(BOB, 5), (CARL, 0)}


def test_the_look_for_reminders_has_its_own_period() -> None:
    scheduler = made()
    assert [scheduler.tick(START + seconds).reminders for seconds in (9, 10, 11, 20)] == [False, True, False, True]
