"""Reminders that come by SIP: sent on time, in the name of who wrote them, and never lost."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Baresip, Kamailio, Silo
from .phone import Phone, Seen
from .process import free_port

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
OPTIONS = ("send_time=1", "snd_time_avp=$hdr(X-Send-At)", "reminder=sip:reminder@home.lan", "add_date=1")
SET = [word for option in OPTIONS for word in ("--set", option)]
ON_TIME = 3.0
"Seconds by which a reminder may be later than it was due: send_time, and a machine that has other things to do."

StartBehind = Callable[..., Kamailio]


@pytest.fixture
def silo(start_silo: StartSilo) -> Silo:
    """A silo that sends to the Contact of the newest REGISTER."""
    return start_silo(*SET)


@pytest.fixture
def proxied(start_silo: StartSilo, proxy: Phone) -> Silo:
    """A silo that sends everything through `proxy`."""
    return start_silo(*SET, "--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")


@pytest.fixture
def kamailio(tmp_path: Path, ends: ExitStack, start_silo: StartSilo) -> Kamailio:
    """The example Kamailio, which asks for passwords, in front of a silo that takes reminders."""
    port = free_port()
    silo = start_silo(*SET, "--outbound-proxy", f"sip:127.0.0.1:{port}")
    return ends.enter_context(closing(Kamailio(tmp_path, silo, port=port, defines=("WITH_AUTH",)))).start()


def remind(alice: Phone, silo: Silo, at: str, text: str = "Dentist", *more: str, owner: str = BOB) -> int:
    """Ask for a reminder; the answer."""
    return alice.message(silo.address, owner, text.encode(), "text/plain", f"X-Send-At: {at}", *more).code


def words(at: float, text: str) -> str:
    """The body of a reminder, as msilo writes it."""
    return f"[Reminder message - {time.ctime(at)}] {text}"


def when(reminder: Seen) -> float:
    """When it was due, as its Date says."""
    return parsedate_to_datetime(reminder["Date"]).timestamp()


def is_on_time(reminder: Seen) -> bool:
    return 0 <= time.time() - when(reminder) < ON_TIME


def passes(at: float) -> None:
    until(lambda: time.time() > at, 15, "that time has come")


# ---- on time --------------------------------------------------------------------------------------------------------


def test_through_the_proxy_on_time_however_the_time_is_written(
    start_silo: StartSilo, proxy: Phone, phone: PickUp
) -> None:
    """14 digits in the zone of the configuration, ISO 8601 in a zone of its own, a distance."""
    silo = start_silo(*SET, "--set", "timezone=Asia/Tokyo", "--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")
    alice, due = phone("alice"), int(time.time()) + 3
    times = {
        "carl": datetime.fromtimestamp(due, ZoneInfo("Asia/Tokyo")).strftime("%Y%m%d%H%M%S"),
        "dora": datetime.fromtimestamp(due, timezone(timedelta(hours=-3, minutes=-30))).isoformat(),
        "emil": f"+{due - int(time.time())}s",
    }
    for user, text in times.items():
        assert remind(alice, silo, text, owner=f"{user}@home.lan") == 202
    assert proxy.glance(due - time.time() - 0.2) is None
    got = {}
    for _ in times:
        seen = proxy.take()
        assert is_on_time(seen)
        got[seen.uri] = seen
    assert set(got) == {f"sip:{user}@home.lan" for user in times}
    assert [when(got[f"sip:{user}@home.lan"]) for user in ("carl", "dora")] == [due, due]
    for uri, seen in got.items():
        assert seen["From"].split(";tag=")[0] == '"alice@home.lan" <sip:reminder@home.lan>'
        assert seen["Reply-To"] == "<sip:alice@home.lan>"
        assert seen["To"] == f"<{uri}>"
        assert seen.text == words(when(seen), "Dentist")
        assert not seen.all("X-MSilo-Late")
        assert not seen.all("Route")
    silo.empties()
    assert proxy.glance(1.2) is None


def test_straight_to_a_registered_phone_on_time(silo: Silo, phone: PickUp) -> None:
    bob = phone("bob")
    bob.register(silo.address)
    assert remind(phone("alice"), silo, "+2s", "Zahnarzt 🦷", "Subject: Termin") == 202
    seen = bob.take()
    assert is_on_time(seen)
    assert seen.uri == bob.contact
    assert seen["From"].startswith('"alice@home.lan" <sip:reminder@home.lan>;tag=')
    assert seen["To"] == f"<sip:{BOB}>"
    assert seen["Subject"] == "Termin"
    assert seen.text == words(when(seen), "Zahnarzt 🦷")
    silo.empties()
    assert silo.status_json()["counters"]["dumped_reminders"] == 1


def test_the_name_of_the_writer_reaches_the_phone(silo: Silo, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    bob.register(silo.address)
    lines = ("Content-Type: text/plain", "X-Send-At: +1s", "Reply-To: <sip:team@home.lan>")
    request = alice.request("MESSAGE", BOB, *lines, body=b"x")
    name = '"Alice \\"the boss\\" Ä"'
    assert alice.ask(request.replace(b"<sip:alice@", f"{name} <sip:alice@".encode(), 1), silo.address).code == 202
    seen = bob.take()
    assert seen["From"].startswith(f"{name} <sip:reminder@home.lan>;tag=")
    assert seen["Reply-To"] == "<sip:team@home.lan>"


def test_only_a_text_gets_the_words(silo: Silo, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    bob.register(silo.address)
    types = ("message/cpim", "text/html", "text/plain;charset=utf-16", "text/plain;charset=utf-8")
    for ctype in types:
        assert alice.message(silo.address, BOB, b"Dentist", ctype, "X-Send-At: +1s").code == 202
    seen = [bob.take() for _ in types]
    assert [one["Content-Type"] for one in seen] == list(types)
    assert [one.text for one in seen] == ["Dentist"] * 3 + [words(when(seen[3]), "Dentist")]


def test_thirty_in_the_same_second(proxied: Silo, proxy: Phone, phone: PickUp) -> None:
    alice, due = phone("alice"), int(time.time()) + 4
    at = datetime.fromtimestamp(due, ZoneInfo("UTC")).isoformat()
    users = [f"user{number}@home.lan" for number in range(30)]
    for user in users:
        assert remind(alice, proxied, at, user, owner=user) == 202
    seen = [proxy.take() for _ in users]
    assert sorted(one.uri for one in seen) == sorted(f"sip:{user}" for user in users)
    assert all(one.text.endswith(one.uri.removeprefix("sip:")) for one in seen)
    assert all(is_on_time(one) for one in seen)
    proxied.empties()
    assert proxy.glance(1.2) is None


def test_what_is_not_due_keeps_nobody_waiting(silo: Silo, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    assert remind(alice, silo, "+1h") == 202
    assert alice.message(silo.address, BOB, b"now").code == 202
    bob.register(silo.address)
    assert bob.take().text.endswith("] now")
    assert bob.glance(1.5) is None
    assert len(silo.list_json()) == 1


def test_a_life_that_counts_from_its_time(silo: Silo, phone: PickUp) -> None:
    """Expires: 1 is over long before the reminder is due, counted from its arrival."""
    bob = phone("bob")
    bob.register(silo.address)
    assert remind(phone("alice"), silo, "+3s", "Dentist", "Expires: 2") == 202
    assert is_on_time(bob.take())
    silo.empties()


def test_a_repeated_request_is_one_reminder(silo: Silo, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    bob.register(silo.address)
    same = alice.request("MESSAGE", BOB, "Content-Type: text/plain", "X-Send-At: +2s", body=b"Dentist")
    assert [alice.ask(same, silo.address).code for _ in range(3)] == [202] * 3
    assert is_on_time(bob.take())
    assert bob.glance(2) is None
    assert alice.ask(same, silo.address).code == 202
    assert bob.glance(3) is None


# ---- refused --------------------------------------------------------------------------------------------------------


def test_a_bad_time_is_refused_and_nothing_is_stored(silo: Silo, phone: PickUp) -> None:
    alice = phone("alice")
    for at in ("143000", "2027011512000", "tomorrow", "20370231120000", "20200101120000", "-2s", "0"):
        assert remind(alice, silo, at) == 400, at
    assert silo.list_json("--all") == []


def test_where_reminders_are_off_one_is_refused(start_silo: StartSilo, phone: PickUp) -> None:
    silo = start_silo("--set", "snd_time_avp=$hdr(X-Send-At)", "--set", "reminder=sip:reminder@home.lan")
    alice = phone("alice")
    assert remind(alice, silo, "+60s") == 400
    assert silo.list_json("--all") == []
    assert alice.message(silo.address, BOB, b"no reminder").code == 202


def test_an_empty_time_is_an_ordinary_message(silo: Silo, phone: PickUp) -> None:
    bob = phone("bob")
    assert remind(phone("alice"), silo, "") == 202
    bob.register(silo.address)
    assert bob.take().text.startswith("[Offline message - ")


# ---- when it cannot be delivered ------------------------------------------------------------------------------------


def test_away_without_a_proxy_it_waits_for_the_register(silo: Silo, phone: PickUp) -> None:
    bob = phone("bob")
    assert remind(phone("alice"), silo, "+1s") == 202
    passes(time.time() + 2.5)
    assert [row["attempts"] for row in silo.list_json()] == [0]
    bob.register(silo.address)
    seen = bob.take()
    assert seen.text == words(when(seen), "Dentist")
    assert seen["From"].startswith('"alice@home.lan" <sip:reminder@home.lan>')
    silo.empties()


@pytest.mark.parametrize("code", [480, 503])
def test_one_that_failed_stays_a_reminder_and_goes_at_the_next_register(
    proxied: Silo, proxy: Phone, phone: PickUp, code: int
) -> None:
    """The original sends it as an ordinary message then."""
    assert remind(phone("alice"), proxied, "+1s") == 202
    first = proxy.take(code)
    assert first.text == words(when(first), "Dentist")
    until(lambda: [row["last_code"] for row in proxied.list_json()] == [code], 10, "the failure is on record")
    phone("bob").register(proxied.address)
    second = proxy.take()
    for name in ("Date", "Reply-To", "To"):
        assert second[name] == first[name]
    assert second["From"].split(";tag=")[0] == first["From"].split(";tag=")[0]
    assert second.body == first.body
    proxied.empties()
    counters = proxied.status_json()["counters"]
    assert (counters["failed_reminders"], counters["dumped_reminders"]) == (1, 1)


def test_a_late_one_says_so(silo: Silo, phone: PickUp) -> None:
    """It was due a minute ago, which is still taken, and its reader comes a little later."""
    bob, due = phone("bob"), int(time.time()) - 57
    at = datetime.fromtimestamp(due, ZoneInfo("UTC")).isoformat()
    assert remind(phone("alice"), silo, at) == 202
    passes(due + 62)
    bob.register(silo.address)
    seen = bob.take()
    assert when(seen) == due
    assert 61 <= int(seen["X-MSilo-Late"]) <= 75


def test_one_that_falls_due_while_its_reader_is_busy_with_another(silo: Silo, phone: PickUp) -> None:
    """It was stored first, and is due when the message behind it is on its way."""
    alice, bob = phone("alice"), phone("bob")
    assert remind(alice, silo, "+3s") == 202
    due = time.time() + 3
    assert alice.message(silo.address, BOB, b"x" * 10).code == 202
    bob.register(silo.address)
    other = bob.receive()
    assert other.text.endswith("xxx")
    passes(due + 2)
    bob.answer(other, 200)
    for seen in bob.during(8):
        if "Dentist" in seen.text:
            bob.answer(seen, 200)
            break
        bob.answer(seen, 200)
    else:
        pytest.fail("the reminder did not come")
    silo.empties()


# ---- restarts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_before_it_is_due(proxied: Silo, proxy: Phone, phone: PickUp, number: signal.Signals) -> None:
    assert remind(phone("alice"), proxied, "+4s") == 202
    proxied.restart(number)
    seen = proxy.take(seconds=8)
    assert is_on_time(seen)
    assert seen.text == words(when(seen), "Dentist")
    proxied.empties()
    assert proxy.glance(1.2) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_fell_due_while_nobody_looked(
    proxied: Silo, proxy: Phone, phone: PickUp, number: signal.Signals
) -> None:
    assert remind(phone("alice"), proxied, "+2s") == 202
    due = time.time() + 2
    proxied.process.stop(number)
    passes(due + 1)
    proxied.start()
    seen = proxy.take()
    assert seen.text == words(when(seen), "Dentist")
    proxied.empties()
    assert proxy.glance(1.2) is None


def test_a_crash_before_the_answer_repeats_it_as_a_reminder(proxied: Silo, proxy: Phone, phone: PickUp) -> None:
    assert remind(phone("alice"), proxied, "+1s") == 202
    first = proxy.receive()
    proxied.restart(signal.SIGKILL)
    while proxy.glance():  # repeats of the request that nobody answered
        pass
    second = proxy.take()
    assert second["Call-ID"] != first["Call-ID"]
    assert second.body == first.body
    assert second["From"].split(";tag=")[0] == first["From"].split(";tag=")[0]
    proxied.empties()


# ---- through a real Kamailio, to a real phone -----------------------------------------------------------------------


def baresip(ends: ExitStack, folder: Path, kamailio: Kamailio) -> Baresip:
    phone = Baresip(folder, kamailio.address, user="bob", password="bob-password", contact="sip:alice@home.lan")
    return ends.enter_context(closing(phone)).start()


def test_baresip_gets_it_on_time(kamailio: Kamailio, phone: PickUp, tmp_path: Path, ends: ExitStack) -> None:
    bob = baresip(ends, tmp_path, kamailio)
    assert remind(phone("alice"), kamailio.silo, "+2s", "Dentist 🦷") == 202
    assert bob.messages == []
    (seen,) = until(lambda: bob.messages, 10, "bob's phone has the reminder")
    assert is_on_time(seen)
    assert seen.text == words(when(seen), "Dentist 🦷")
    assert f'sip:reminder@home.lan: "{seen.text}"' in bob.trace  # what bob reads on his screen
    assert seen["Reply-To"] == "<sip:alice@home.lan>"
    kamailio.silo.empties()
    assert bob.codes(sent=True) == [200]


def test_baresip_gets_it_when_it_comes_back(kamailio: Kamailio, phone: PickUp, tmp_path: Path, ends: ExitStack) -> None:
    """Away when it was due: Kamailio says 480, and the silo keeps it for the next REGISTER."""
    assert remind(phone("alice"), kamailio.silo, "+1s") == 202
    until(lambda: [row["last_code"] for row in kamailio.silo.list_json()] == [480], 10, "480 from Kamailio")
    bob = baresip(ends, tmp_path, kamailio)
    (seen,) = until(lambda: bob.messages, 10, "bob's phone has the reminder")
    assert seen.text == words(when(seen), "Dentist")
    assert seen["From"].startswith('"alice@home.lan" <sip:reminder@home.lan>')
    kamailio.silo.empties()
    assert len(kamailio.silo.list_json("--all")) == 1
