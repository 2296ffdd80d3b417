"""Due times in words: what is plainly a time, seen from several zones; what only looks like one is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msilo_lite.box.due import LATEST, SLACK
from msilo_lite.cli.words import EXAMPLES, when

BERLIN, ROME, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Rome"), ZoneInfo("America/New_York")
ZONES = [UTC, BERLIN, ROME, NEW_YORK, ZoneInfo("Asia/Kathmandu"), ZoneInfo("Pacific/Apia")]


def second(text: str, zone: tzinfo = BERLIN) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


FRIDAY, WEDNESDAY = "2027-01-15T08:37:12", "2027-01-13T17:05"


@pytest.mark.parametrize(
    ("text", "friday", "wednesday"),
    [
        ("tomorrow 9:00", "2027-01-16T09:00", "2027-01-14T09:00"),
        ("Tomorrow  at 9:00", "2027-01-16T09:00", "2027-01-14T09:00"),
        ("tomorrow, 9 a.m.", "2027-01-16T09:00", "2027-01-14T09:00"),
        ("9am tomorrow", "2027-01-16T09:00", "2027-01-14T09:00"),
        ("tomorrow 12:30 am", "2027-01-16T00:30", "2027-01-14T00:30"),
        ("tomorrow at 23:59:59", "2027-01-16T23:59:59", "2027-01-14T23:59:59"),
        ("the day after tomorrow 5 pm", "2027-01-17T17:00", "2027-01-15T17:00"),
        ("today 18:00", "2027-01-15T18:00", "2027-01-13T18:00"),
        ("tonight at 8 pm", "2027-01-15T20:00", "2027-01-13T20:00"),
        # a clock time alone is the next one
        ("9:00", "2027-01-15T09:00", "2027-01-14T09:00"),
        ("09:00", "2027-01-15T09:00", "2027-01-14T09:00"),
        ("at 9:00", "2027-01-15T09:00", "2027-01-14T09:00"),
        ("8:37", "2027-01-16T08:37", "2027-01-14T08:37"),
        ("17:05", "2027-01-15T17:05", "2027-01-13T17:05"),
        ("5 pm", "2027-01-15T17:00", "2027-01-14T17:00"),
        ("5pm", "2027-01-15T17:00", "2027-01-14T17:00"),
        ("12 pm", "2027-01-15T12:00", "2027-01-14T12:00"),
        ("12 am", "2027-01-16T00:00", "2027-01-14T00:00"),
        ("noon", "2027-01-15T12:00", "2027-01-14T12:00"),
        ("midnight", "2027-01-16T00:00", "2027-01-14T00:00"),
        # a weekday is the next one that is not over; "next" is never today, "this" never next week
        ("monday 8am", "2027-01-18T08:00", "2027-01-18T08:00"),
        ("8am on mon", "2027-01-18T08:00", "2027-01-18T08:00"),
        ("friday 18:00", "2027-01-15T18:00", "2027-01-15T18:00"),
        ("friday 8:00", "2027-01-22T08:00", "2027-01-15T08:00"),
        ("on wednesday at 6 pm", "2027-01-20T18:00", "2027-01-13T18:00"),
        ("wed noon", "2027-01-20T12:00", "2027-01-20T12:00"),
        ("next friday 18:00", "2027-01-22T18:00", "2027-01-15T18:00"),
        ("this friday 18:00", "2027-01-15T18:00", "2027-01-15T18:00"),
        # a day without a time of day is the present time of that day
        ("tomorrow", "2027-01-16T08:37:12", "2027-01-14T17:05"),
        ("next friday", "2027-01-22T08:37:12", "2027-01-15T17:05"),
        ("friday", "2027-01-22T08:37:12", "2027-01-15T17:05"),
        ("july 15", "2027-07-15T08:37:12", "2027-07-15T17:05"),
        # dates
        ("july 15 9:00", "2027-07-15T09:00", "2027-07-15T09:00"),
        ("15th of July, 2028 at 9 pm", "2028-07-15T21:00", "2028-07-15T21:00"),
        ("noon on Jul 15th", "2027-07-15T12:00", "2027-07-15T12:00"),
        ("15 january 8:00", "2028-01-15T08:00", "2027-01-15T08:00"),
        ("may 1 9:00", "2027-05-01T09:00", "2027-05-01T09:00"),
        ("feb 29 9:00", "2028-02-29T09:00", "2028-02-29T09:00"),
        ("2027-04-05 9:00", "2027-04-05T09:00", "2027-04-05T09:00"),
        ("2027-04-05 9 pm", "2027-04-05T21:00", "2027-04-05T21:00"),
        # distances
        ("in 2 hours", "2027-01-15T10:37:12", "2027-01-13T19:05"),
        ("in two hours", "2027-01-15T10:37:12", "2027-01-13T19:05"),
        ("in an hour", "2027-01-15T09:37:12", "2027-01-13T18:05"),
        ("in 1.5 hours", "2027-01-15T10:07:12", "2027-01-13T18:35"),
        ("in 2 hours and 30 minutes", "2027-01-15T11:07:12", "2027-01-13T19:35"),
        ("in 2h30m", "2027-01-15T11:07:12", "2027-01-13T19:35"),
        ("in 90 min", "2027-01-15T10:07:12", "2027-01-13T18:35"),
        ("in 30 secs", "2027-01-15T08:37:42", "2027-01-13T17:05:30"),
        ("2 hours from now", "2027-01-15T10:37:12", "2027-01-13T19:05"),
        ("in 3 days", "2027-01-18T08:37:12", "2027-01-16T17:05"),
        ("in 3 days at 9:00", "2027-01-18T09:00", "2027-01-16T09:00"),
        ("in a week", "2027-01-22T08:37:12", "2027-01-20T17:05"),
        ("in 1w", "2027-01-22T08:37:12", "2027-01-20T17:05"),
        ("in 6 months", "2027-07-15T08:37:12", "2027-07-13T17:05"),
        ("in a year", "2028-01-15T08:37:12", "2028-01-13T17:05"),
        # the forms of a request
        ("20270715120000", "2027-07-15T12:00", "2027-07-15T12:00"),
        ("2027-07-15T12:00", "2027-07-15T12:00", "2027-07-15T12:00"),
        ("2027-07-15T12:00:00+02:00", "2027-07-15T12:00", "2027-07-15T12:00"),
        ("+1d2h30m", "2027-01-16T11:07:12", "2027-01-14T19:35"),
    ],
)
def test_a_time(text: str, friday: str, wednesday: str) -> None:
    assert when(text, second(FRIDAY), BERLIN) == second(friday)
    assert when(text, second(WEDNESDAY), BERLIN) == second(wednesday)


JUNK = """\
7|9|12|143000|20270715|2027071512000|1800000090|1609459200000|-1|+1|9.30|9-30|9:0|1:2|12:|:30|12 12|20 9:00
25:00|9:60|9:00:60|24:00|tomorrow 25:00|tomorrow 9:60|13 pm|0 am|13:00 pm|9a|9p|9 A|9 M|5 z
may|march|jan|july|sun 9|mon 9|A|M|a|x|z|am|pm|at|next|in|on|utc|9|to|second|minute|hour|day|week|month|2 hours
blah 5|5 blah|9:00 bob|bob 9:00|hello|remind me|tomorow|not tomorrow|every monday|monday or tuesday|weekend
tomorrow at 9|on monday at 9|tonight at 8|the 20th|20th|the 20th at 9|in 5|in hours|in -2 hours|in 1e9 hours
today|tonight|now|soon|later|morgen|morgen 9 Uhr|mañana 9:00|demain 9:00|domani alle 9|завтра 9:00
tomorrow tomorrow|tomorrow yesterday|monday tuesday|9:00 10:00|tomorrow 9:00 tomorrow|friday 9:00 monday
in 1 day 1 day|in 2 hours in 3 hours|in 2 hours at 9:00|in 2 hours tomorrow|tomorrow in 2 hours|in 1.5 months
tomorrow midnight|friday at midnight|tomorrow morning|this afternoon|next week|next month|next year|this week
feb 30 9:00|31 february|june 31 2027 9:00|2027-02-29 9:00|32 july|july 0|15.7.2027 12:00|7/15/2027|1/2/2027 9:00
9:00 IST|9:00 BST|9:00 MSK|9:00 local|9:00 Europe/Berlin|tomorrow UTC|9:00 utc+2|9:00 +25:00|9:00 UTC CET
2027-W28|2027-196|2027|1795|MMXXVII|Q3 2027|christmas|half past nine|9 o'clock|²:00
in 99999999 years|in 9000 years|9:00 am am|9:00, or so|tomorrow?|"tomorrow"|9:00\0|<9:00>
"""


@pytest.mark.parametrize("text", ["", " ", *JUNK.strip().replace("\n", "|").split("|")])
def test_what_is_not_plainly_a_time_is_refused_with_words_that_work(text: str) -> None:
    for now in (FRIDAY, WEDNESDAY, "2027-12-31T12:00"):
        with pytest.raises(ValueError, match="; write ") as caught:
            when(text, second(now), BERLIN)
        assert str(caught.value).isprintable()


def test_this_very_moment_is_not_what_a_day_means() -> None:
    assert when("this friday", second(WEDNESDAY), BERLIN) == second("2027-01-15T17:05")
    with pytest.raises(ValueError, match="not plainly a time"):
        when("this friday", second(FRIDAY), BERLIN)


@pytest.mark.parametrize(
    ("now", "text", "at"),
    [
        # dateparser alone makes 1 December 2028 of the first one, and 1 February of the second
        ("2027-12-31T10:00", "9:00", "2028-01-01T09:00"),
        ("2027-02-28T10:00", "9 am", "2027-03-01T09:00"),
        ("2028-02-28T10:00", "9:00", "2028-02-29T09:00"),
        ("2027-04-30T10:00", "noon", "2027-04-30T12:00"),
        ("2027-04-30T10:00", "midnight", "2027-05-01T00:00"),
        ("2027-12-31T10:00", "friday 9:00", "2028-01-07T09:00"),
        ("2027-12-31T10:00", "saturday", "2028-01-01T10:00"),
        ("2027-01-31T10:00", "in 1 month", "2027-02-28T10:00"),
        ("2027-01-31T10:00", "january 31 9:00", "2028-01-31T09:00"),
        ("2028-02-29T10:00", "feb 29 9:00", "2032-02-29T09:00"),
    ],
)
def test_the_end_of_a_month(now: str, text: str, at: str) -> None:
    assert when(text, second(now), BERLIN) == second(at)


def test_the_words_that_a_refusal_names_work() -> None:
    examples = EXAMPLES.removeprefix("write for example: ").replace(" or ", " ").split(", ")
    assert [when(text, second(FRIDAY), BERLIN) for text in examples] == [
        *map(second, ("2027-01-16T09:00", "2027-01-18T08:00", "2027-01-22T17:00", "2027-07-15T12:00")),
        second(FRIDAY) + 7200,
        second(FRIDAY) + 5400,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2 hours ago", "an hour ago", "3 days ago", "yesterday", "yesterday 9:00", "last friday", "last friday 9:00",
        "today 8:00", "8:00 today", "today noon UTC", "this friday 8:00", "14 january 2027 9:00", "2027-01-14",
        "20270115083610", "2027-01-15 8:36",
    ],
)  # fmt: skip
def test_what_is_over_is_refused(text: str) -> None:
    now = second("2027-01-15T14:37:12") if "noon" in text else second(FRIDAY)
    with pytest.raises(ValueError, match="is already over"):
        when(text, now, BERLIN)


@pytest.mark.parametrize("text", ["in 12 years", "july 15 2038 9:00", "in 999999 hours", "2038-01-20"])
def test_what_the_table_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is too late"):
        when(text, second(FRIDAY), BERLIN)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        # Berlin has 08:37:12, UTC 07:37:12, New York 02:37:12
        ("9:00 UTC", "2027-01-15T09:00+00:00"),
        ("9:00Z", "2027-01-15T09:00+00:00"),
        ("8:00 gmt", "2027-01-15T08:00+00:00"),
        ("7:37 UTC", "2027-01-16T07:37+00:00"),
        ("9:00 CET", "2027-01-15T09:00+01:00"),
        ("9:00 CEST", "2027-01-16T09:00+02:00"),
        ("2:37 EST", "2027-01-16T02:37+-05:00"),
        ("2:38 EST", "2027-01-15T02:38+-05:00"),
        ("july 15 9:00 CET", "2027-07-15T09:00+01:00"),  # it names winter time, also in July
        ("july 15 9:00 UTC", "2027-07-15T09:00+00:00"),
        ("tomorrow 9:00 +05:30", "2027-01-16T09:00+05:30"),
        ("9 am +0530 tomorrow", "2027-01-16T09:00+05:30"),
        ("tomorrow noon -11:00", "2027-01-15T12:00-11:00"),  # still the 14th over there
        ("friday 9:00 UTC", "2027-01-15T09:00+00:00"),
        ("thursday 23:00 -11:00", "2027-01-14T23:00-11:00"),
    ],
)
def test_a_zone_in_the_text_is_kept(text: str, at: str) -> None:
    instant = int(datetime.fromisoformat(at.replace("+-", "-")).timestamp())
    for zone in ZONES:
        assert when(text, second(FRIDAY), zone) == instant


@pytest.mark.parametrize("zone", [BERLIN, ROME], ids=str)
@pytest.mark.parametrize(
    ("now", "text", "at"),
    [
        # spring: 02:00 becomes 03:00 on 28 March
        ("2027-03-27T12:00+01:00", "tomorrow 9:00", "2027-03-28T09:00+02:00"),
        ("2027-03-27T12:00+01:00", "tomorrow", "2027-03-28T12:00+02:00"),
        ("2027-03-27T12:00+01:00", "in 1 day", "2027-03-28T12:00+02:00"),
        ("2027-03-27T12:00+01:00", "in 24 hours", "2027-03-28T13:00+02:00"),
        ("2027-03-27T12:00+01:00", "in 1 day 1 hour", "2027-03-28T14:00+02:00"),
        ("2027-03-27T12:00+01:00", "sunday 2:30", "2027-03-28T03:30+02:00"),
        ("2027-03-28T01:30+01:00", "2:30", "2027-03-28T03:30+02:00"),
        ("2027-03-28T01:30+01:00", "in an hour", "2027-03-28T03:30+02:00"),
        ("2027-03-28T01:30+01:00", "9:00", "2027-03-28T09:00+02:00"),
        ("2027-03-28T01:30+01:00", "9:00 CET", "2027-03-28T10:00+02:00"),
        ("2027-01-15T12:00+01:00", "july 15 9:00", "2027-07-15T09:00+02:00"),
        ("2027-01-15T12:00+01:00", "in 6 months", "2027-07-15T12:00+02:00"),
        # autumn: 03:00 becomes 02:00 on 31 October
        ("2027-10-30T12:00+02:00", "tomorrow 9:00", "2027-10-31T09:00+01:00"),
        ("2027-10-30T12:00+02:00", "in 24 hours", "2027-10-31T11:00+01:00"),
        ("2027-10-30T12:00+02:00", "tomorrow 2:30", "2027-10-31T02:30+02:00"),
        ("2027-10-31T01:30+02:00", "2:30", "2027-10-31T02:30+02:00"),
        ("2027-10-31T02:15+02:00", "2:30", "2027-10-31T02:30+02:00"),
        ("2027-10-31T02:15+01:00", "2:30", "2027-10-31T02:30+01:00"),  # only the second one is still to come
        ("2027-10-31T02:15+02:00", "in 1 hour", "2027-10-31T02:15+01:00"),
        ("2027-10-31T02:15+01:00", "in 1 hour", "2027-10-31T03:15+01:00"),
        ("2027-10-31T02:15+01:00", "9:00", "2027-10-31T09:00+01:00"),
        ("2027-07-15T12:00+02:00", "in 6 months", "2028-01-15T12:00+01:00"),
    ],
)
def test_the_clock_changes(zone: tzinfo, now: str, text: str, at: str) -> None:
    moments = [int(datetime.fromisoformat(moment).timestamp()) for moment in (now, at)]
    assert when(text, moments[0], zone) == moments[1]


PROGRAM = """
from msilo_lite.cli.words import when
from zoneinfo import ZoneInfo
texts = ("tomorrow 9:00", "9:00", "july 15 noon", "in 2 hours", "9:00 UTC", "next friday", "in 6 months")
for zone in (None, ZoneInfo("Asia/Kathmandu")):
    print(*(when(text, {now}, zone) for text in texts))
"""


@pytest.mark.parametrize("local", ["Europe/Berlin", "America/New_York", "UTC"])
def test_the_machine_only_gives_the_zone_that_nobody_names(local: str) -> None:
    environment = os.environ | {"TZ": local, "LC_ALL": "de_DE.UTF-8", "LANG": "it_IT.UTF-8"}
    now = second(FRIDAY)
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(now=now)],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    texts = ("tomorrow 9:00", "9:00", "july 15 noon", "in 2 hours", "9:00 UTC", "next friday", "in 6 months")
    zones = (ZoneInfo(local), ZoneInfo("Asia/Kathmandu"))
    assert output == [" ".join(str(when(text, now, zone)) for text in texts) for zone in zones]


def test_dateparser_is_loaded_when_words_are_read_and_not_before() -> None:
    program = (
        "import sys; from msilo_lite.cli.words import when; when('20270715120000', 1800000000, None);"
        "assert 'dateparser' not in sys.modules; when('9:00', 1800000000, None); assert 'dateparser' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_long_text_is_refused_at_once() -> None:
    start = time.perf_counter()
    for text in ("in " + "1 hour " * 99999, "in " + "1h" * 99999 + "!", "9:00 " * 99999, "mon " * 99999, " " * 999999):
        with pytest.raises(ValueError, match="not plainly a time"):
            when(text, second(FRIDAY), BERLIN)
    assert time.perf_counter() - start < 2


nows = st.integers(0, LATEST - 800 * 86400)
zones = st.sampled_from([*ZONES, None])
words = st.sampled_from(
    """
    in 2 1.5 an hour hours days weeks month years ago from now and at on next this last monday fri sun may 15 july 2028
    9:00 17:00:30 5 pm am noon midnight today tomorrow yesterday the day after utc cet +02:00 , . 7 31st - 0 s m
    """.split()  # noqa: SIM905 (a list literal of these would be 52 lines)
)
texts = st.lists(words, max_size=5).map(" ".join) | st.lists(words, max_size=4).map("".join) | st.text(max_size=12)


@given(texts, nows, zones)
@example("in 7972 years", second(FRIDAY), None)
@example("in 7972 years", second(FRIDAY), NEW_YORK)
@example("2026 years ago", second(FRIDAY), None)
@example("0001-01-01", second(FRIDAY), BERLIN)
@example("9999-12-31 23:59 -11:00", second(FRIDAY), BERLIN)
def test_any_text_is_a_time_to_come_or_refused(text: str, now: int, zone: tzinfo | None) -> None:
    try:
        at = when(text, now, zone)
    except ValueError as error:
        assert "; " in str(error) or "too late" in str(error)  # noqa: PT017 (either outcome is fine)
        return
    assert now - SLACK <= at <= LATEST


@given(nows, st.sampled_from(ZONES), st.times())
def test_a_clock_time_is_the_next_one(now: int, zone: tzinfo, clock: object) -> None:
    text = str(clock)[:5]
    base = datetime.fromtimestamp(now, zone).replace(tzinfo=None, fold=0)
    wanted = datetime.fromisoformat(f"{base:%Y-%m-%d}T{text}")
    wanted += timedelta(days=wanted < base)
    possible = {int(wanted.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1)}
    assert when(text, now, zone) in possible


@given(nows, st.sampled_from(ZONES), st.times(), st.integers(1, 7))
def test_a_weekday_is_that_of_the_coming_week(now: int, zone: tzinfo, clock: object, days: int) -> None:
    base = datetime.fromtimestamp(now, zone).replace(tzinfo=None, fold=0)
    day = base + timedelta(days=days)
    name = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")[day.weekday()]
    wanted = datetime.fromisoformat(f"{day:%Y-%m-%d}T{str(clock)[:5]}").replace(tzinfo=zone)
    assert when(f"next {name} {str(clock)[:5]}", now, zone) == int(wanted.timestamp())


@given(nows, st.sampled_from(ZONES), st.integers(1, 366), st.sampled_from(["%B %d %Y %H:%M:%S", "%H:%M:%S %d %b %Y"]))
def test_a_date_is_the_one_written(now: int, zone: tzinfo, days: int, form: str) -> None:
    wanted = (datetime.fromtimestamp(now, zone).replace(tzinfo=None) + timedelta(days=days)).replace(fold=0)
    assert when(format(wanted, form), now, zone) == int(wanted.replace(tzinfo=zone).timestamp())


@given(nows, st.sampled_from(ZONES), st.integers(1, 999999), st.sampled_from(["seconds", "minutes", "hours"]))
def test_short_distances_are_seconds_that_pass(now: int, zone: tzinfo, count: int, unit: str) -> None:
    at = now + count * {"seconds": 1, "minutes": 60, "hours": 3600}[unit]
    if at <= LATEST:
        assert when(f"in {count} {unit}", now, zone) == at
