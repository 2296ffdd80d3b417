"""Lifetimes, back-off, dates."""

from __future__ import annotations

import pytest

from msilo_lite.box.policy import BACKOFF, Policy, retry_at, sip_date
from msilo_lite.errors import Rejected

from .kit import NOW

MOST = 259200
DATE = sip_date(NOW)


@pytest.mark.parametrize(
    ("expires", "date", "seconds"),
    [
        (None, None, MOST),
        ("", None, MOST),
        ("60", None, 60),
        (" 60 ", None, 60),
        ("259200", None, MOST),
        ("259201", None, MOST),
        ("4294967295", None, MOST),
        ("99999999999999999999", None, MOST),
        ("00000000000060", None, 60),
        ("-1", None, MOST),
        ("1.5", None, MOST),
        ("soon", None, MOST),
        ("٣", None, MOST),
        # Date: what it was under way is taken off, where the two clocks agree
        ("60", DATE, 60),
        ("60", sip_date(NOW - 20), 40),
        ("60", sip_date(NOW + 20), 60),
        ("600", sip_date(NOW - 300), 300),
        ("600", sip_date(NOW - 301), 600),
        (None, sip_date(NOW - 20), MOST),
        # a Date that is none does not count
        ("60", "", 60),
        ("60", "yesterday", 60),
        ("60", "Sat, 13 Nov 2010 23:29:00", 60),
        ("60", "Sat, 13 Nov 99999999999999999999 23:29:00 GMT", 60),
        ("60", "Sat, 13 Nov 2010 23:29:00 +999999999999999999", 60),
        ("60", "Sat, 13 Nov 0001 00:00:00 +2300", 60),
        ("60", "Sat, 13 Nov 2010 99:99:99 GMT", 60),
        ("60", "\udcff\udcfe", 60),
    ],
)
def test_lifetime(expires: str | None, date: str | None, seconds: int) -> None:
    assert Policy().lifetime(expires, date, NOW) == seconds


@pytest.mark.parametrize(("expires", "date"), [("0", None), ("00", None), ("0", DATE), ("60", sip_date(NOW - 60))])
def test_no_time_left_to_store(expires: str, date: str | None) -> None:
    with pytest.raises(Rejected) as caught:
        Policy().lifetime(expires, date, NOW)
    assert caught.value.status == 480


def test_the_longest_life_is_a_setting() -> None:
    assert Policy(expire_time=100).lifetime(None, None, NOW) == 100
    assert Policy(expire_time=100).lifetime("101", None, NOW) == 100
    assert Policy(expire_time=100).lifetime("99", None, NOW) == 99


def test_back_off_grows_to_an_hour_and_stays_there() -> None:
    waits = [retry_at(NOW, tries) - NOW for tries in range(1, 9)]
    assert waits == [60, 120, 300, 600, 1800, 3600, 3600, 3600]
    assert list(BACKOFF) == sorted(BACKOFF)


@pytest.mark.parametrize(
    ("tries", "asked", "wait"),
    [(1, None, 60), (1, 0, 60), (1, 30, 60), (1, 90, 91), (6, 90, 3600), (1, 86400, 86401), (1, 10**9, 86401)],
)
def test_retry_after_only_ever_lengthens_the_wait(tries: int, asked: int | None, wait: int) -> None:
    assert retry_at(NOW, tries, asked) == NOW + wait


def test_a_date_is_gmt() -> None:
    assert sip_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert sip_date(NOW) == "Fri, 15 Jan 2027 08:00:00 GMT"
