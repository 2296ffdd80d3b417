"""What a phone sees when it comes back, and what its answers lead to. The silo sends to the Contact of the REGISTER."""

import signal
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo, Sipp, SippRun
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


def store(sipp: Sipp, silo: Silo, *texts: str) -> None:
    for text in texts:
        sipp.run("store", silo.address, keys={"text": text})


def register(sipp: Sipp, silo: Silo, at: SippRun, lifetime: int = 300) -> None:
    """Bob's phone, whose SIPp run waits for MESSAGEs, registers."""
    keys = {"contact": f"sip:bob@{at.address[0]}:{at.address[1]}", "lifetime": str(lifetime)}
    sipp.run("register", silo.address, keys=keys)


def texts(run: SippRun) -> list[str]:
    return [seen.text for seen in run.received]


def waits_after(silo: Silo, code: int) -> None:
    """Wait until the one message in the box has been tried and refused with that code."""
    until(lambda: [row["last_code"] for row in silo.list_json()] == [code], 10, f"one message with last code {code}")


# ---- what arrives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["phone", "phone_accepts"])
def test_a_2xx_of_the_phone_settles_it(silo: Silo, sipp: Sipp, scenario: str) -> None:
    store(sipp, silo, "Hello, Bob")
    bob = sipp.start(scenario)
    register(sipp, silo, bob)
    assert texts(bob.passes()) == ["Hello, Bob"]
    silo.empties()


def test_headers_of_a_replay(silo: Silo, sipp: Sipp) -> None:
    before = int(time.time())
    alice = sipp.run("store_utf8", silo.address)
    bob = sipp.start("phone")
    register(sipp, silo, bob)
    (replay,) = bob.passes().received
    (original,) = alice.sent
    assert replay.uri == f"sip:bob@127.0.0.1:{bob.address[1]}"
    assert replay["From"].split(";tag=")[0] == original["From"].split(";tag=")[0] == '"Alice" <sip:alice@home.lan>'
    assert ";tag=" in replay["From"]
    assert replay["To"].strip("<>") == f"sip:{BOB}"
    assert replay["CSeq"].endswith(" MESSAGE")
    assert replay["Content-Type"] == "text/plain;charset=utf-8"
    assert replay.body == original.body
    assert before <= parsedate_to_datetime(replay["Date"]).timestamp() <= time.time()
    assert replay["Date"].endswith(" GMT")  # RFC 3261 20.17
    assert replay["X-MSilo-ID"]
    assert not replay.all("Contact")  # RFC 3428 section 4: MUST NOT


@pytest.mark.parametrize(
    "ctype",
    [
        'multipart/mixed;boundary="a,b"',
        "text/plain;charset=utf-8",
        "message/cpim",
        "application/vnd.gsma.rcs-ft-http+xml",
        'text/plain ; x="semi;colon" ; y=1',
    ],
)
def test_content_type_comes_back_whole(silo: Silo, sipp: Sipp, ctype: str) -> None:
    sipp.run("store_typed", silo.address, keys={"ctype": ctype, "text": "Hello"})
    bob = sipp.start("phone")
    register(sipp, silo, bob)
    (replay,) = bob.passes().received
    assert replay["Content-Type"] == ctype


@pytest.mark.parametrize(
    "body",
    [bytes(range(256)), b"\xff\xfe\x00 not UTF-8", b"\r\n\r\n", b"line\nline\rline\r\n", b"x" * 3000],
    ids=["all bytes", "nul", "empty lines", "line ends", "3000"],
)
def test_body_comes_back_byte_for_byte(silo: Silo, phone: PickUp, body: bytes) -> None:
    bob = phone("bob")
    assert phone("alice").message(silo.address, BOB, body, "application/octet-stream").code == 202
    bob.register(silo.address)
    replay = bob.take()
    assert replay.body == body
    assert int(replay["Content-Length"]) == len(body)


@pytest.mark.parametrize(
    "sender",
    [
        '"Alice \\"the boss\\" Ä" <sip:alice@home.lan>',
        "<sip:alice;day=monday@home.lan;user=phone>",  # a port or transport is not allowed here, RFC 3261 table 1
        "<sips:alice@home.lan>",
        "<sip:%61lice@home.lan>",
    ],
)
def test_sender_comes_back_equal(silo: Silo, phone: PickUp, sender: str) -> None:
    """Equal as RFC 3261 19.1.4 compares, which lets %61 be a."""
    alice, bob = phone("alice"), phone("bob")
    request = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    written = request.replace(b"<sip:alice@home.lan>", sender.encode(), 1)
    assert alice.ask(written, silo.address).code == 202
    bob.register(silo.address)
    came = bob.take()["From"].split(";tag=")[0]
    assert came.replace("%61", "a") == sender.replace("%61", "a")


def test_an_empty_body_comes_back_empty(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_empty", silo.address)
    bob = sipp.start("phone")
    register(sipp, silo, bob)
    (replay,) = bob.passes().received
    assert replay.body == b""


# ---- in which order -------------------------------------------------------------------------------------------------


def test_fifty_messages_arrive_once_and_in_order(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_numbered", silo.address, "-l", "1", "-r", "500", calls=50)
    bob = sipp.start("phone", calls=50)
    register(sipp, silo, bob)
    assert texts(bob.passes()) == [f"number {n}" for n in range(1, 51)]
    silo.empties()


def test_one_in_flight(silo: Silo, sipp: Sipp) -> None:
    """RFC 3428 section 8: no new MESSAGE to a recipient before the one on its way has its final answer."""
    sipp.run("store_numbered", silo.address, "-l", "1", "-r", "500", calls=8)
    bob = sipp.start("phone_slow", calls=8)
    register(sipp, silo, bob)
    assert [entry.sent for entry in bob.passes().log] == [False, True] * 8


def test_registering_again_and_again_does_not_double(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_numbered", silo.address, "-l", "1", "-r", "500", calls=8)
    bob = sipp.start("phone_slow", calls=8)
    for _ in range(4):
        register(sipp, silo, bob)
    assert texts(bob.passes()) == [f"number {n}" for n in range(1, 9)]
    silo.empties()


def test_message_that_comes_during_a_replay_goes_last(silo: Silo, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    for text in (b"1", b"2"):
        alice.message(silo.address, BOB, text)
    bob.register(silo.address)
    first = bob.receive()
    alice.message(silo.address, BOB, b"3")
    bob.answer(first, 200)
    assert [first.body, bob.take().body, bob.take().body] == [b"1", b"2", b"3"]


# ---- where to -------------------------------------------------------------------------------------------------------


def test_the_newest_of_two_contacts_gets_it(silo: Silo, phone: PickUp) -> None:
    desk, mobile = phone("bob"), phone("bob")
    desk.register(silo.address)
    mobile.register(silo.address)
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 202
    silo.dump(BOB)
    assert mobile.take().body == b"Hello"
    assert desk.glance(0.3) is None


def test_the_other_contact_gets_it_when_the_newest_has_left(silo: Silo, phone: PickUp) -> None:
    desk, mobile = phone("bob"), phone("bob")
    desk.register(silo.address)
    mobile.register(silo.address)
    mobile.register(silo.address, expires=0)
    phone("alice").message(silo.address, BOB, b"Hello")
    silo.dump(BOB)
    assert desk.take().body == b"Hello"
    assert mobile.glance() is None


def test_a_phone_that_leaves_gets_nothing(silo: Silo, phone: PickUp) -> None:
    bob = phone("bob")
    phone("alice").message(silo.address, BOB, b"Hello")
    assert bob.register(silo.address, expires=0).code == 200
    assert bob.glance(0.6) is None
    assert len(silo.list_json()) == 1


def test_a_phone_that_speaks_ipv6_gets_it(start_silo: StartSilo, phone: PickUp) -> None:
    silo = start_silo(bind=("udp:127.0.0.1:0", "udp:[::1]:0"))
    v4, v6 = silo.addresses
    bob = phone("bob", "::1")
    phone("alice").message(v4, BOB, b"Hello")
    bob.register(v6)
    assert bob.take().uri == bob.contact
    silo.empties()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_contact_survives_a_restart(silo: Silo, phone: PickUp, number: signal.Signals) -> None:
    bob = phone("bob")
    bob.register(silo.address)
    silo.restart(number)
    phone("alice").message(silo.address, BOB, b"Hello")
    dump = silo.dump(BOB)
    assert bob.take().body == b"Hello"
    assert dump.wait(10) == 0


def test_a_302_is_followed_once(silo: Silo, phone: PickUp) -> None:
    old, new, never = phone("bob"), phone("bob"), phone("bob")
    phone("alice").message(silo.address, BOB, b"Hello")
    old.register(silo.address)
    old.take(302, f"Contact: <{new.contact}>")
    assert new.take(302, f"Contact: <{never.contact}>").body == b"Hello"
    waits_after(silo, 302)
    assert never.glance(0.3) is None
    assert old.glance() is None


def test_a_302_to_a_phone_that_takes_it(silo: Silo, sipp: Sipp) -> None:
    store(sipp, silo, "Hello, Bob")
    new = sipp.start("phone")
    old = sipp.start("phone_moved", keys={"contact": f"sip:bob@127.0.0.1:{new.address[1]}"})
    register(sipp, silo, old)
    old.passes()
    assert texts(new.passes()) == ["Hello, Bob"]
    silo.empties()


# ---- answers that are no 2xx ----------------------------------------------------------------------------------------


def test_a_refused_type_is_parked_and_does_not_block(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_typed", silo.address, keys={"ctype": "image/png", "text": "not really a picture"})
    store(sipp, silo, "Hello, Bob")
    bob = sipp.start("phone_text_only", calls=3)
    register(sipp, silo, bob)
    until(lambda: texts(bob) == ["not really a picture", "Hello, Bob"], 10, "the text behind the picture")
    until(lambda: [row["last_code"] for row in silo.list_json("--all")].count(415) == 1, 10, "the 415 is on record")
    store(sipp, silo, "after the 415")
    register(sipp, silo, bob)
    assert texts(bob.passes()) == ["not really a picture", "Hello, Bob", "after the 415"]


def test_busy_then_free(silo: Silo, sipp: Sipp) -> None:
    store(sipp, silo, "first", "second")
    busy = sipp.start("phone_busy")
    register(sipp, silo, busy)
    assert texts(busy.passes()) == ["first"]
    until(lambda: [row["last_code"] for row in silo.list_json()] == [486, None], 10, "the 486 is on record")
    free = sipp.start("phone", calls=2)
    register(sipp, silo, free)
    assert texts(free.passes()) == ["first", "second"]
    silo.empties()


# ---- never sent -----------------------------------------------------------------------------------------------------


def test_an_expired_message_is_never_sent(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_expires", silo.address, keys={"lifetime": "1", "text": "too late"})
    gone = time.time() + 2.1  # whole seconds on both sides
    sipp.run("store_expires", silo.address, keys={"lifetime": "600", "text": "in time"})
    until(lambda: time.time() > gone, 5, "the lifetime of the first is over")
    bob = sipp.start("phone")
    register(sipp, silo, bob)
    assert texts(bob.passes()) == ["in time"]
    silo.empties()


def test_our_own_replay_coming_back_is_not_stored(silo: Silo, phone: PickUp) -> None:
    """A replay that a proxy sends back to us is no delivery: 480, one failed attempt, no second row."""
    proxy = phone("bob")
    phone("alice").message(silo.address, BOB, b"Hello")
    proxy.register(silo.address)
    replay = proxy.receive()
    back = proxy.request(
        "MESSAGE", BOB, "Content-Type: text/plain", f"X-MSilo-ID: {replay['X-MSilo-ID']}", body=replay.body
    )
    assert proxy.ask(back, silo.address).code == 480
    proxy.answer(replay, 480)
    waits_after(silo, 480)
    (row,) = silo.list_json()
    assert row["attempts"] == 1


def _drain(phone: Phone) -> None:
    while phone.glance():
        pass


# ---- restarts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_between_store_and_register(silo: Silo, sipp: Sipp, number: signal.Signals) -> None:
    sipp.run("store_numbered", silo.address, "-l", "1", "-r", "500", calls=5)
    silo.restart(number)
    bob = sipp.start("phone", calls=5)
    register(sipp, silo, bob)
    assert texts(bob.passes()) == [f"number {n}" for n in range(1, 6)]
    silo.empties()


def test_sigterm_ends_it_cleanly(silo: Silo) -> None:
    assert silo.stop() == 0


def test_sigkill_before_the_answer_repeats_and_loses_nothing(silo: Silo, phone: PickUp) -> None:
    """At least once: whether the phone had taken it, nobody knows after a crash."""
    alice, bob = phone("alice"), phone("bob")
    for text in (b"1", b"2"):
        alice.message(silo.address, BOB, text)
    bob.register(silo.address)
    assert bob.receive().body == b"1"
    silo.restart(signal.SIGKILL)
    _drain(bob)
    bob.register(silo.address)
    assert [bob.take().body, bob.take().body] == [b"1", b"2"]
    silo.empties()


# ---- through a proxy ------------------------------------------------------------------------------------------------


def test_outbound_proxy_gets_the_aor_and_no_route(start_silo: StartSilo, phone: PickUp) -> None:
    proxy, bob = phone("proxy"), phone("bob")
    silo = start_silo("--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")
    phone("alice").message(silo.address, BOB, b"Hello")
    bob.register(silo.address)
    replay: Seen = proxy.take()
    assert replay.uri == f"sip:{BOB}"
    assert replay["To"].strip("<>") == f"sip:{BOB}"
    assert not replay.all("Route")
    assert bob.glance() is None
    silo.empties()


def test_the_file_is_the_only_state(start_silo: StartSilo, sipp: Sipp, tmp_path: Path) -> None:
    """What one silo stored, another started on the file delivers."""
    first = start_silo()
    store(sipp, first, "Hello, Bob")
    first.stop()
    second = start_silo()
    assert second.database == tmp_path / "silo.sqlite"
    bob = sipp.start("phone")
    register(sipp, second, bob)
    assert texts(bob.passes()) == ["Hello, Bob"]
