"""The whole story behind a real Asterisk with the example configuration: its 202 comes before it tries."""

import signal
import time

import pytest

from tests.waiting import until

from .asterisk import Asterisk, Handset
from .conftest import PickUpHandset, StartAsterisk, StartSilo
from .peers import Silo

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
BEHIND = ("--domain", "home.lan", "--set", "watch=presence", "--set", "trust_2xx=confirm", "--set", "max_body=1023")
PLACE = ("udp:127.0.0.2:0",)


@pytest.fixture
def pair(start_silo: StartSilo, start_asterisk: StartAsterisk) -> tuple[Asterisk, Silo]:
    """Asterisk and a silo that it knows by its address."""
    silo = start_silo(bind=PLACE)
    silo.stop()
    asterisk = start_asterisk(silo.address)
    silo.options = ("--outbound-proxy", f"sip:{asterisk.address[0]}:{asterisk.address[1]}", *BEHIND)
    return asterisk, silo.start()


def write(user: Handset, asterisk: Asterisk, *texts: str, to: str = BOB) -> None:
    for text in texts:
        assert user.message(asterisk.address, to, text.encode()).code == 202


def stored(silo: Silo, count: int) -> None:
    until(lambda: len(silo.list_json()) == count, 10, f"{count} messages wait")


def states(silo: Silo) -> list[str]:
    return [row["state"] for row in silo.list_json()]


def take(phone: Handset, count: int, seconds: float = 10) -> list[str]:
    return [phone.take(seconds=seconds).text for _ in range(count)]


def test_away_stored_back_delivered(pair: tuple[Asterisk, Silo], handset: PickUpHandset) -> None:
    asterisk, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "one", "two 🍝", "three")
    stored(silo, 3)
    silo.watches(BOB, "closed")
    assert bob.register(asterisk.address).code == 200
    since = time.monotonic()
    first = bob.take()
    assert time.monotonic() - since < 2
    assert [first.text, *take(bob, 2)] == ["one", "two 🍝", "three"]
    assert first["From"].partition(";")[0].endswith("<sip:alice@home.lan>")
    until(lambda: states(silo) == ["handed over"] * 3, 5, "all are handed over")
    assert bob.glance(0.5) is None


def test_gone_in_the_middle_the_rest_comes_back_and_keeps_its_place(
    pair: tuple[Asterisk, Silo], handset: PickUpHandset
) -> None:
    asterisk, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "one", "two")
    stored(silo, 2)
    silo.dump(BOB).wait(15)  # nobody is there: Asterisk takes them and brings them back
    until(lambda: states(silo) == ["pending"] * 2, 10, "both came back")
    reasons = {row["why"].partition(";")[0] for row in silo.list_json()}
    assert reasons == {"it came back, its phone was away"}
    write(alice, asterisk, "three")
    stored(silo, 3)
    silo.watches(BOB, "closed")
    time_of_the_first = silo.list_json()[0]["arrived"]
    bob.register(asterisk.address)
    assert take(bob, 3, 20) == ["one", "two", "three"]
    assert bob.glance(0.5) is None
    assert silo.list_json()[0]["arrived"] == time_of_the_first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_silo_between_store_and_return(
    pair: tuple[Asterisk, Silo], handset: PickUpHandset, number: signal.Signals
) -> None:
    asterisk, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "one", "two")
    stored(silo, 2)
    silo.restart(number)
    silo.watches(BOB, "closed")
    bob.register(asterisk.address)
    assert take(bob, 2) == ["one", "two"]
    assert bob.glance(0.5) is None


def test_restart_of_asterisk_between_store_and_return(pair: tuple[Asterisk, Silo], handset: PickUpHandset) -> None:
    asterisk, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "one", "two")
    stored(silo, 2)
    silo.watches(BOB, "closed")
    asterisk.restart(signal.SIGTERM)
    bob.register(asterisk.address)
    assert take(bob, 2, 20) == ["one", "two"]
    assert bob.glance(0.5) is None


@pytest.mark.parametrize("code", [486, 415, 0])
def test_what_a_phone_answers_is_invisible_and_can_be_sent_again(
    pair: tuple[Asterisk, Silo], handset: PickUpHandset, code: int
) -> None:
    """Asterisk's 202 came first: such a message is handed over, unconfirmed, and `retry` sends it again."""
    asterisk, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "Hello")
    stored(silo, 1)
    silo.watches(BOB, "closed")
    bob.register(asterisk.address)
    request = bob.receive(10)
    if code:
        bob.answer(request, code)
    until(lambda: states(silo) == ["handed over"], 5, "it is handed over")
    (row,) = silo.list_json()
    assert "unconfirmed" in row["why"]
    if code == 0:
        bob.answer(request, 200)  # so that Asterisk stops repeating it
    assert silo.cli("retry", str(row["id"])).stdout == "1 message will be sent again.\n"
    assert bob.take(seconds=15).text == "Hello"


def test_two_phones_of_one_user(pair: tuple[Asterisk, Silo], handset: PickUpHandset) -> None:
    asterisk, silo = pair
    alice, desk, mobile = handset("alice"), handset("bob"), handset("bob")
    write(alice, asterisk, "Hello")
    stored(silo, 1)
    silo.watches(BOB, "closed")
    desk.register(asterisk.address)
    assert desk.take(seconds=10).text == "Hello"
    mobile.register(asterisk.address)
    assert [desk.glance(0.5), mobile.glance(0.5)] == [None, None]


def test_what_asterisk_would_empty_is_parked(pair: tuple[Asterisk, Silo], handset: PickUpHandset) -> None:
    asterisk, silo = pair
    bob = handset("bob")
    assert silo.cli("store", BOB, "x" * 1024, "--from", "sip:alice@home.lan").returncode == 0
    assert silo.cli("store", BOB, "y" * 1000, "--from", "sip:alice@home.lan").returncode == 0
    silo.watches(BOB, "closed")
    bob.register(asterisk.address)
    assert bob.take(seconds=10).text == "y" * 1000
    until(lambda: states(silo) == ["parked", "handed over"], 5, "the long one is parked")
    assert "1023" in silo.list_json()[0]["why"]


@pytest.mark.parametrize("digest", ["MD5", "SHA-256"])
def test_the_silo_as_an_extension(
    start_silo: StartSilo, start_asterisk: StartAsterisk, handset: PickUpHandset, digest: str
) -> None:
    """It registers with a password, is asked for it at each request, and gets what nobody takes."""
    asterisk = start_asterisk(None, digest=digest)
    proxy = f"sip:{asterisk.address[0]}:{asterisk.address[1]}"
    settings = ("registrar=" + proxy, "user=silo", "password=silo-password")
    options = [word for one in settings for word in ("--set", one)]
    silo = start_silo("--outbound-proxy", proxy, *BEHIND, *options, bind=PLACE)
    until(
        lambda: str(silo.status_json().get("extension")).startswith("registered as sip:silo@"), 10, "it is registered"
    )
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "one", "two")
    stored(silo, 2)
    silo.watches(BOB, "closed")
    bob.register(asterisk.address)
    assert take(bob, 2) == ["one", "two"]


def test_a_wrong_password_is_said(start_silo: StartSilo, start_asterisk: StartAsterisk) -> None:
    asterisk = start_asterisk(None)
    proxy = f"sip:{asterisk.address[0]}:{asterisk.address[1]}"
    options = ("--set", f"registrar={proxy}", "--set", "user=silo", "--set", "password=not-this-one")
    silo = start_silo("--outbound-proxy", proxy, *options, bind=PLACE)
    until(lambda: "is the password right?" in str(silo.status_json().get("extension")), 10, "it says so")
    assert "not-this-one" not in silo.cli("config", "show", "--json", *options).stdout


def test_a_user_whom_asterisk_does_not_know_rests(pair: tuple[Asterisk, Silo]) -> None:
    """404 at SUBSCRIBE: given up politely, with the reason in `status`."""
    _, silo = pair
    assert silo.cli("store", "nobody@home.lan", "Hello", "--from", "sip:alice@home.lan").returncode == 0
    until(lambda: "404" in str(silo.status_json().get("watched")), 10, "404 stands in status")
