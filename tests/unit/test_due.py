"""Due times of a request: each form, each refusal, and both changes of summer time."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from msilo_lite.box.due import FORMS, LATEST, SLACK, due_at, in_time, zone_of

from .kit import NOW

BERLIN, ROME, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Rome"), ZoneInfo("America/New_York")
ZONES = [UTC, BERLIN, ROME, NEW_YORK, *map(ZoneInfo, ("Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"))]


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "at"),
    [
        # the original is one hour late here, all summer
        ("20270715120000", "2027-07-15T10:00:00"),
        ("20271215120000", "2027-12-15T11:00:00"),
        (" 20270715120000\t", "2027-07-15T10:00:00"),
        ("20280229000000", "2028-02-28T23:00:00"),
        # ISO 8601 with a zone of its own
        ("2027-07-15T12:00:00Z", "2027-07-15T12:00:00"),
        ("2027-07-15t12:00:00z", "2027-07-15T12:00:00"),
        ("2027-07-15 12:00Z", "2027-07-15T12:00:00"),
        ("2027-07-15T12:00:00+02:00", "2027-07-15T10:00:00"),
        ("2027-07-15T12:00:00-0330", "2027-07-15T15:30:00"),
        ("2027-07-15 12:00:00 +02", "2027-07-15T10:00:00"),
        ("2027-07-15T12:00-00:00", "2027-07-15T12:00:00"),
        ("20270715T100000Z", "2027-07-15T10:00:00"),
        ("20270715T1000+0200", "2027-07-15T08:00:00"),
        ("2027-07-15T12:00:00.999999Z", "2027-07-15T12:00:00"),
        ("2027-07-15T12:00:00,5Z", "2027-07-15T12:00:00"),
        # and without: in the zone asked for
        ("2027-07-15T12:00:00", "2027-07-15T10:00:00"),
        ("2027-12-15 12:00", "2027-12-15T11:00:00"),
        ("20270715T100000", "2027-07-15T08:00:00"),
        # the last second of msilo's table
        ("20380119041407", "2038-01-19T03:14:07"),
    ],
)
def test_a_moment(text: str, at: str) -> None:
    assert due_at(text, NOW, BERLIN) == utc(at)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+0s", 0),
        ("+90s", 90),
        ("+30m", 1800),
        ("+2h", 7200),
        ("+1d", 86400),
        ("+1w", 604800),
        ("+1d2h30m", 95400),
        ("+1w1d1h1m1s", 694861),
        ("+000000090s", 90),
    ],
)
def test_a_distance(text: str, seconds: int) -> None:
    assert due_at(text, NOW, BERLIN) == NOW + seconds


@pytest.mark.parametrize("zone", [BERLIN, ROME], ids=str)
@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("20270328015959", "2027-03-28T00:59:59"),
        ("20270328020000", "2027-03-28T01:00:00"),  # skipped: the instant it would have been, 03:00 by the new clock
        ("20270328023000", "2027-03-28T01:30:00"),
        ("20270328025959", "2027-03-28T01:59:59"),
        ("20270328030000", "2027-03-28T01:00:00"),
        ("2027-03-28T02:30", "2027-03-28T01:30:00"),
        ("20271031015959", "2027-10-30T23:59:59"),
        ("20271031020000", "2027-10-31T00:00:00"),  # comes twice: the first
        ("20271031023000", "2027-10-31T00:30:00"),
        ("20271031030000", "2027-10-31T02:00:00"),
        ("2027-10-31T02:30:00+01:00", "2027-10-31T01:30:00"),  # the second one needs its offset
    ],
)
def test_the_clock_changes(zone: tzinfo, text: str, at: str) -> None:
    assert due_at(text, NOW, zone) == utc(at)


@pytest.mark.parametrize("now", ["2027-03-27T12:00:00", "2027-10-30T12:00:00"])
def test_a_distance_counts_seconds_that_pass_through_a_change(now: str) -> None:
    assert due_at("+1d", utc(now), BERLIN) == utc(now) + 86400


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("143000", "HHMMSS"),
        ("2027071512000", "13 digits"),
        ("2027", "not the 14 digits"),
        ("20270715", "not the 14 digits"),
        ("202707151200000", "not the 14 digits"),
        ("1800000090", "not the 14 digits"),
        ("7", "not the 14 digits"),
        ("20270231120000", "does not exist"),
        ("20270229120000", "does not exist"),
        ("20270015120000", "does not exist"),
        ("20271315120000", "does not exist"),
        ("20270700120000", "does not exist"),
        ("20270715240000", "does not exist"),
        ("20270715126000", "does not exist"),
        ("20270715120060", "does not exist"),
        ("00000715120000", "does not exist"),
        ("2027-02-31T12:00:00Z", "does not exist"),
        ("2027-07-15T24:00:00Z", "does not exist"),
        ("2027-07-15T23:59:60Z", "does not exist"),
        ("", "not a time"),
        ("soon", "not a time"),
        ("now", "not a time"),
        ("2027-07-15", "not a time"),
        ("2027-07-15T12", "not a time"),
        ("2027-0715T12:00", "not a time"),
        ("2027-07-15T12:0000", "not a time"),
        ("2027-07-15T12:00:00.Z", "not a time"),
        ("2027-07-15T12:00:00+24:00", "not a time"),
        ("2027-07-15T12:00:00+02:60", "not a time"),
        ("2027-07-15T12:00:00 CET", "not a time"),
        ("2027-W28-4T12:00", "not a time"),
        ("٢٠٢٧٠٧١٥١٢٠٠٠٠", "not a time"),
        ("²0270715120000", "not a time"),
        ("20270715120000\n20270715120000", "not a time"),
        ("-20270715120000", "not a time"),
        ("+", "not a time"),
        ("+5", "not a time"),
        ("+h", "not a time"),
        ("+٣h", "not a time"),
        ("+1h1d", "not a time"),
        ("+1h1h", "not a time"),
        ("+1.5h", "not a time"),
        ("-1h", "not a time"),
        ("+1y", "not a time"),
        ("+00000000000000000090s", "not a time"),
    ],
)
def test_a_wrong_form_is_refused_with_the_right_ones(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        due_at(text, NOW, BERLIN)
    assert str(caught.value).endswith(FORMS)


def test_a_time_that_is_over_is_refused_after_the_slack() -> None:
    text = f"{datetime.fromtimestamp(NOW, BERLIN):%Y%m%d%H%M%S}"
    assert due_at(text, NOW, BERLIN) == NOW
    assert due_at(text, NOW + SLACK, BERLIN) == NOW
    with pytest.raises(ValueError, match=rf"^'{text}' is already over, it was {SLACK + 1} seconds ago"):
        due_at(text, NOW + SLACK + 1, BERLIN)
    with pytest.raises(ValueError, match="is already over"):
        due_at("00010101000000", NOW, BERLIN)


@pytest.mark.parametrize("text", ["20380119041408", "2038-01-19T03:14:08Z", "+9999999999s", "+9999999999w"])
def test_a_time_that_the_table_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too late, a reminder can be due until 2038-01-19 03:14:07 UTC"):
        due_at(text, NOW, BERLIN)


def test_the_latest_time_is_a_setting() -> None:
    assert due_at("+1h", NOW, None, latest=NOW + 3600) == NOW + 3600
    with pytest.raises(ValueError, match="until 2027-01-15 08:59:59 UTC"):
        due_at("+1h", NOW, None, latest=NOW + 3599)
    assert in_time("", NOW, NOW) == NOW


def test_a_refusal_is_one_short_line_whatever_it_quotes() -> None:
    with pytest.raises(ValueError, match="not a time") as caught:
        due_at("\r\nX: ë\udcff" + "x" * 9999, NOW, BERLIN)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


LOCAL = """
from datetime import datetime
from msilo_lite.box.due import due_at, zone_of
texts = ("20270715120000", "20271215120000", "20270328023000", "20271031023000", "2027-07-15 12:00")
print([due_at(text, {now}, zone) for zone in (None, zone_of("")) for text in texts])
local = zone_of("")
print(*(datetime.fromtimestamp(at, local).isoformat() for at in (1816336800, 1824973200, 1824976800)))
print(datetime.fromtimestamp(1816336800, local).tzname(), datetime.now(local).dst())
print(*(int(datetime.fromtimestamp(at, local).timestamp()) for at in (1816336800, 1824944400, 1824948000)))
"""


def test_the_local_zone_follows_the_summer_time_of_each_date() -> None:
    environment = os.environ | {"TZ": "Europe/Berlin"}
    program = LOCAL.format(now=NOW)
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    moments = ["2027-07-15T10:00:00", "2027-12-15T11:00:00", "2027-03-28T01:30:00", "2027-10-31T00:30:00"]
    assert output == [
        str([utc(at) for at in [*moments, moments[0]] * 2]),
        "2027-07-23T12:00:00+02:00 2027-10-31T10:00:00+01:00 2027-10-31T11:00:00+01:00",
        "CEST None",
        "1816336800 1824944400 1824948000",  # the hour that comes twice, told apart by fold
    ]


def test_a_zone_by_name() -> None:
    assert zone_of("Europe/Berlin") == BERLIN
    assert zone_of("UTC").utcoffset(None) == timedelta(0)
    assert zone_of("") == zone_of("")
    assert zone_of("").utcoffset(None) is None
    assert zone_of("").tzname(None) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Berlin", "the nearest: Europe/Berlin"),
        ("europe/berlin", "the nearest: Europe/Berlin"),
        ("Europe/Berln", "the nearest: Europe/Berlin"),
        ("rome", "the nearest: Europe/Rome"),
        ("New_York", "the nearest: America/New_York"),
        ("right/Europe/Berlin", "the nearest: Europe/Berlin"),
        ("Europe", "the nearest: Europe/"),
        ("W. Europe Standard Time", "known: Europe/Berlin, America/New_York, UTC"),
        ("../etc/passwd", "known: "),
        ("\0\udcff", "known: "),
        ("x" * 9999, "known: "),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(ValueError, match="is not a known time zone") as caught:
        zone_of(name)
    assert f"; {near}" in str(caught.value)


zones = st.sampled_from([*ZONES, None])
pieces = st.sampled_from(
    ["+", "-", "1", "20270715", "T", " ", "12:00", ":", "h", "d", "s", "Z", "9999", "000000", "٣", "."]
)
texts = (
    st.lists(pieces, max_size=8).map("".join) | st.text(max_size=20) | st.text("0123456789", min_size=14, max_size=14)
)


@given(texts, st.integers(0, LATEST), zones)
@example("99991231235959", NOW, None)
@example("00010101000000", NOW, None)
@example("9999-12-31T23:59:59-23:59", NOW, UTC)
@example("0001-01-01T00:00:00+23:59", NOW, UTC)
def test_any_text_is_a_time_to_come_or_refused(text: str, now: int, zone: tzinfo | None) -> None:
    try:
        at = due_at(text, now, zone)
    except ValueError as error:
        assert "; " in str(error) or "too late" in str(error)  # noqa: PT017 (either outcome is fine)
        return
    assert now - SLACK <= at <= LATEST


@given(st.integers(NOW, LATEST), zones, st.sampled_from(["%Y%m%d%H%M%S", "%Y-%m-%dT%H:%M:%S", "%Y%m%d %H%M%S.9"]))
def test_every_instant_comes_back_outside_the_hour_that_comes_twice(at: int, zone: tzinfo | None, form: str) -> None:
    local = datetime.fromtimestamp(at, zone)
    assume(not local.fold)
    assert due_at(format(local, form), NOW, zone) == at


@given(st.integers(NOW, LATEST), st.sampled_from(ZONES))
def test_every_instant_comes_back_with_its_offset(at: int, zone: tzinfo) -> None:
    assert due_at(datetime.fromtimestamp(at, zone).isoformat(), NOW, None) == at


@given(st.integers(NOW, LATEST))
def test_the_local_zone_is_that_of_the_machine(at: int) -> None:
    assert datetime.fromtimestamp(at, zone_of("")).utcoffset() == datetime.fromtimestamp(at).astimezone().utcoffset()
