"""Client transactions by the clock of RFC 3261 17.1.2: when a request is repeated, and when nobody will answer it."""

import pytest

from msilo_lite.sip.transaction import Transaction, Transactions

TO = ("127.0.0.1", 5060)


def begun(at: float = 0.0, branch: bytes = b"z9hG4bKMs1", token: int = 1) -> tuple[Transactions, Transaction]:
    many = Transactions()
    one = Transaction(branch, token, b"MESSAGE", TO, 0, at)
    many.begin(one)
    return many, one


def sendings(many: Transactions, until: float, step: float = 0.1) -> tuple[list[float], list[float]]:
    """When something was sent again, and when something ended, seen by a clock that looks so often."""
    again, ended = [], []
    for tick in range(1, round(until / step) + 1):
        now = round(tick * step, 3)
        due = many.due(now)
        again += [now] * len(due.again)
        ended += [now] * len(due.ended)
    return again, ended


def test_silence_is_asked_eleven_times_and_ends_after_32_seconds() -> None:
    many, _ = begun()
    again, ended = sendings(many, 60)
    assert again == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]  # Timer E: T1, doubling up to T2
    assert ended == [32.0]  # Timer F: 64 * T1
    assert len(many) == 0


def test_a_provisional_answer_makes_repeats_rare_and_ends_nothing() -> None:
    many, one = begun()
    assert many.due(0.5).again == [one]
    assert many.heard(one.branch, 100) is None
    again, ended = sendings(many, 60)
    assert again == [1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5]  # Proceeding: E was set already, then T2
    assert ended == [32.0]


@pytest.mark.parametrize("status", [200, 202, 302, 404, 486, 503, 603])
def test_a_final_answer_ends_it_once(status: int) -> None:
    many, one = begun()
    assert many.heard(one.branch, status) is one
    assert many.heard(one.branch, status) is None  # a repeat of the answer: what Timer K would absorb
    assert sendings(many, 40) == ([], [])
    assert len(many) == 0


def test_an_answer_to_nothing_of_ours_ends_nothing() -> None:
    many, _ = begun()
    assert many.heard(b"z9hG4bKMs2", 200) is None
    assert len(many) == 1


def test_each_of_many_has_a_clock_of_its_own() -> None:
    many, first = begun()
    second = Transaction(b"z9hG4bKMs2", 2, b"MESSAGE", TO, 0, 0.3)
    many.begin(second)
    assert many.due(0.5).again == [first]
    assert many.due(0.8).again == [second]
    many.heard(first.branch, 200)
    assert many.due(1.8).again == [second]


def test_a_loop_that_slept_repeats_once_and_not_for_each_time_it_missed() -> None:
    many, one = begun()
    assert many.due(10.0).again == [one]
    assert many.due(10.0).again == []
    assert many.due(10.6).again == [one]


def test_a_loop_that_slept_too_long_gives_up() -> None:
    many, one = begun()
    due = many.due(40.0)
    assert (due.again, due.ended) == ([], [one])


def test_the_loop_sleeps_no_longer_than_until_the_next_is_due() -> None:
    many, one = begun(at=5.0)
    assert many.wait(5.0, 0.1) == pytest.approx(0.1)
    assert many.wait(5.45, 0.1) == pytest.approx(0.05)
    assert many.wait(6.0, 0.1) == 0
    many.due(5.5)
    assert many.wait(5.5, 9) == pytest.approx(1.0)
    many.heard(one.branch, 200)
    many.due(7.0)
    assert many.wait(7.0, 9) == 9


def test_nothing_is_kept_of_what_is_over() -> None:
    many = Transactions()
    for number in range(1000):
        one = Transaction(b"b%d" % number, number, b"x" * 1000, TO, 0, number / 1000)
        many.begin(one)
        many.heard(one.branch, 200)
        many.due(number / 1000)
    assert len(many) == 0
    assert not many._first
    assert not many._later
