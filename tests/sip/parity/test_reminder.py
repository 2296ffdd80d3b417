"""Messages for a time to come: snd_time_avp, reminder, send_time."""

import time
from datetime import UTC, datetime

import pytest

from tests.waiting import until

from ..phone import Seen
from .both import Pair, Side
from .conftest import PairOf
from .shown import Shown, ctime, shown

pytestmark = pytest.mark.sip

CLOCK = {"reminder": "sip:clock@home.lan", "send_time": 1, "snd_time_avp": "$hdr(X-Send-At)"}
PATIENCE = 6


def digits(at: int) -> str:
    """msilo's form of a time, for a server in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S")


def soon(seconds: int = 2) -> int:
    return int(time.time()) + seconds


def reminded(side: Side, bob: str, body: bytes, *lines: str, ctype: str = "text/plain") -> tuple[Seen, int]:
    """What comes when it is due, without any REGISTER; and when it was due."""
    due = soon()
    assert side.message(bob, body, f"X-Send-At: {digits(due)}", *lines, ctype=ctype).code == 202
    seen = side.phone.take(seconds=PATIENCE)
    assert due <= time.time() < due + 4
    return seen, due


@pytest.fixture(scope="module")
def clock(pair_of: PairOf) -> Pair:
    """Reminders are looked for every second."""
    return pair_of(**CLOCK)


def test_reminder_comes_when_due(clock: Pair) -> None:
    """From `reminder` to the address of record, with 46 bytes before the text. Ours shows who wrote it, and when."""

    def scenario(side: Side, bob: str) -> tuple[Shown, str]:
        seen, due = reminded(side, bob, b"lunch")
        assert seen.body == b"[Reminder message - %b] lunch" % ctime(due)
        assert len(seen.body) == 46 + len(b"lunch")
        one = shown(seen)
        return Shown(one.uri, one.headers, "", b""), bob

    old, new = clock.play(scenario)
    assert new[0].without("from", "date", "reply-to", "x-send-at") == old[0].without("from")
    assert new[0].all("To") == [f"<sip:{new[1]}>"]
    assert old[0].all("From") == ["<sip:clock@home.lan>"]
    assert new[0].all("From") == ['"alice@home.lan" <sip:clock@home.lan>']
    assert new[0].all("Reply-To") == ["<sip:alice@home.lan>"]


def test_w4_the_sender_of_a_reminder(clock: Pair) -> None:
    """The original names him nowhere."""

    def scenario(side: Side, bob: str) -> list[str]:
        seen, _ = reminded(side, bob, b"lunch")
        return [value for _, value in seen.headers if "alice" in value]

    old, new = clock.play(scenario)
    assert old == []
    assert len(new) == 2


def test_w1_headers_of_a_reminder(clock: Pair) -> None:
    """Dropped by the original, though it stored them."""

    def scenario(side: Side, bob: str) -> list[str]:
        return reminded(side, bob, b"lunch", "X-Foo: 1")[0].all("X-Foo")

    old, new = clock.play(scenario)
    assert (old, new) == ([], ["1"])


def test_prefix_of_a_reminder_that_is_no_text(clock: Pair) -> None:
    """The original puts its words before every type."""

    def scenario(side: Side, bob: str) -> bytes:
        return reminded(side, bob, b"<b>lunch</b>", ctype="text/html")[0].body

    old, new = clock.play(scenario)
    assert old.startswith(b"[Reminder message - ")
    assert new == b"<b>lunch</b>"


def test_add_date_0_leaves_reminders_alone(pair_of: PairOf) -> None:
    pair = pair_of(**CLOCK, add_date=0)
    old, new = pair.play(lambda side, bob: reminded(side, bob, b"lunch")[0].body)
    assert old == new == b"lunch"


def test_add_contact_1_in_a_reminder(pair_of: PairOf) -> None:
    pair = pair_of(**CLOCK, add_contact=1)
    old, new = pair.play(lambda side, bob: reminded(side, bob, b"lunch")[0].all("Contact"))
    assert old == new == ["<sip:clock@home.lan>;msilo=yes"]


def test_a_register_does_not_bring_a_reminder_forward(clock: Pair) -> None:
    def scenario(side: Side, bob: str) -> tuple[int, list[Seen]]:
        code = side.message(bob, b"lunch", f"X-Send-At: {digits(soon(3600))}").code
        side.register(bob)
        return code, side.sent()

    old, new = clock.play(scenario)
    assert old == new == (202, [])


def test_no_send_time_is_an_ordinary_message(clock: Pair) -> None:
    old, new = clock.play(lambda side, bob: shown(side.delivered(bob)))
    assert new == old
    assert new.prefix == "Offline"


@pytest.mark.parametrize(
    ("text", "taken_for"),
    [
        pytest.param("143000", "now", id="hhmmss"),
        pytest.param("20271315120000", "now", id="month-13"),
        pytest.param("20270700120000", "now", id="day-0"),
        pytest.param("20270715240000", "now", id="hour-24"),
        pytest.param("202707151200000", "now", id="15-digits"),
        pytest.param("tomorrow", "now", id="word"),
        pytest.param("2027071512000", "20270715120000", id="13-digits"),
        pytest.param("2028", "20271231000000", id="year"),
        pytest.param("20270231120000", "20270303120000", id="31-february"),
    ],
)
def test_w4_a_send_time_that_is_none(clock: Pair, text: str, taken_for: str) -> None:
    """The original takes it for now, or for another time, and says 202; ours says 400 and stores nothing."""

    def scenario(side: Side, bob: str) -> tuple[int, list[int]]:
        return side.message(bob, b"lunch", f"X-Send-At: {text}").code, [row.snd_time for row in side.rows(bob)]

    old, new = clock.play(scenario)
    expected = 0 if taken_for == "now" else int(datetime.strptime(f"{taken_for}Z", "%Y%m%d%H%M%S%z").timestamp())
    assert old == (202, [expected])
    assert new == (400, [])


@pytest.mark.parametrize(
    ("text", "means"), [("2027-07-15T12:00:00Z", 1815652800), ("20270715T140000+0200", 1815652800)]
)
def test_iso_8601(clock: Pair, text: str, means: int) -> None:
    """Ours reads it, the original takes it for now."""

    def scenario(side: Side, bob: str) -> list[int]:
        assert side.message(bob, b"lunch", f"X-Send-At: {text}").code == 202
        return [row.snd_time for row in side.rows(bob)]

    old, new = clock.play(scenario)
    assert (old, new) == ([0], [means])


@pytest.mark.parametrize("text", ["20380119031500", "20400101000000"])
def test_w4_after_2038(clock: Pair, text: str) -> None:
    """In 32 bits that was long ago: the original sends it at once."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        code = side.message(bob, b"lunch", f"X-Send-At: {text}").code
        return code, len(side.phone.take(seconds=PATIENCE).body) if code == 202 else 0

    old, new = clock.play(scenario)
    assert old == (202, 46 + len(b"lunch"))
    assert new == (400, 0)


def test_w4_a_time_that_is_over(clock: Pair) -> None:
    """The original sends it with the next look; ours refuses what is over by more than a minute."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        code = side.message(bob, b"lunch", f"X-Send-At: {digits(soon(-3600))}").code
        return code, len(side.phone.take(seconds=PATIENCE).body) if code == 202 else 0

    old, new = clock.play(scenario)
    assert old == (202, 46 + len(b"lunch"))
    assert new == (400, 0)


@pytest.mark.parametrize(("text", "hour"), [("20270715120000", 10), ("20270115120000", 11)], ids=["summer", "winter"])
def test_w4_local_time_in_summer(pair_of: PairOf, text: str, hour: int) -> None:
    """Fourteen digits are the server's local time; the original is an hour late from March to October."""

    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob, b"lunch", f"X-Send-At: {text}").code == 202
        return side.rows(bob)[0].snd_time

    old, new = pair_of(**CLOCK, tz="Europe/Berlin").play(scenario)
    right = int(datetime(2027, int(text[4:6]), 15, hour, tzinfo=UTC).timestamp())
    assert new == right
    assert old == right + (3600 if hour == 10 else 0)


def test_w4_reminders_off(pair_of: PairOf) -> None:
    """send_time = 0: the original says 202 and never sends it, not even to one who registers; ours says 400."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        code = side.message(bob, b"lunch", f"X-Send-At: {digits(soon(-5))}").code
        side.register(bob)
        return code, len(side.sent())

    old, new = pair_of(snd_time_avp=CLOCK["snd_time_avp"]).play(scenario)
    assert old == (202, 0)
    assert new == (400, 0)


def test_w4_no_address_for_reminders(pair_of: PairOf) -> None:
    """Without `reminder` the original says 202 and never sends it; ours sends it from who wrote it."""

    def scenario(side: Side, bob: str) -> list[list[str]]:
        due = soon(1)
        side.store_all(bob, b"lunch", lines=(f"X-Send-At: {digits(due)}",))
        until(lambda: time.time() > due + 2, PATIENCE, "it is due, and two looks for reminders are over")
        return [shown(seen).all("From") for seen in side.sent()]

    old, new = pair_of(send_time=1, snd_time_avp=CLOCK["snd_time_avp"]).play(scenario)
    assert old == []
    assert new == [["<sip:alice@home.lan>"]]


def test_w4_due_after_its_life(fresh_pair: PairOf) -> None:
    """The original counts its life from the arrival and purges it before; ours from the time it is due."""

    def scenario(side: Side, bob: str) -> bytes:
        due = soon(4)
        side.store_all(bob, b"lunch", lines=(f"X-Send-At: {digits(due)}",))
        until(lambda: time.time() >= due or not side.rows(bob), PATIENCE, "it is due or gone")
        if not side.rows(bob):
            return b""
        return side.phone.take().body.removeprefix(b"[Reminder message - %b] " % ctime(due))

    old, new = fresh_pair(**CLOCK, expire_time=1, check_time=1, clean_period=1).play(scenario)
    assert (old, new) == (b"", b"lunch")


def test_w4_a_reminder_that_failed(fresh_pair: PairOf) -> None:
    """In the original the next REGISTER brings it as an ordinary message; ours stays a reminder."""

    def scenario(side: Side, bob: str) -> tuple[list[str], str, bytes]:
        due = soon(1)
        side.store_all(bob, b"lunch", lines=(f"X-Send-At: {digits(due)}",))
        side.phone.take(480, seconds=PATIENCE)
        until(lambda: side.store.statistics()["failed_reminders"] == 1, 5, f"{side.name} knows")
        seen = shown(side.replayed(bob))
        return seen.all("From"), seen.prefix, seen.body.replace(ctime(due), b"DUE")

    old, new = fresh_pair(**CLOCK, check_time=1).play(scenario)
    assert old == (["<sip:alice@home.lan>"], "Offline", b"lunch")
    assert new == (['"alice@home.lan" <sip:clock@home.lan>'], "", b"[Reminder message - DUE] lunch")


def test_w4_a_reminder_to_somebody_who_is_away(fresh_pair: PairOf) -> None:
    """The original's comes back to it and is stored as a new message of the clock, its words inside the text."""

    def scenario(side: Side, bob: str) -> tuple[list[str], str, bytes]:
        due = soon(1)
        side.store_all(bob, b"lunch", lines=(f"X-Send-At: {digits(due)}",))
        until(lambda: time.time() > due + 2 and len(side.rows(bob)) == 1, PATIENCE, "it was due, and still waits")
        seen = shown(side.replayed(bob))
        return seen.all("From"), seen.prefix, seen.body.replace(ctime(due), b"DUE")

    old, new = fresh_pair(**CLOCK, straight=True, check_time=1).play(scenario)
    assert old == (["<sip:clock@home.lan>"], "Offline", b"[Reminder message - DUE] lunch")
    assert new == (['"alice@home.lan" <sip:clock@home.lan>'], "", b"[Reminder message - DUE] lunch")
