"""The whole story through a real OpenSIPS with the example configuration, where one is installed."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .opensips import OpenSips
from .peers import Silo
from .process import free_port

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


@pytest.fixture
def pair(tmp_path: Path, start_silo: StartSilo) -> Iterator[tuple[OpenSips, Silo]]:
    port = free_port()
    with closing(OpenSips(tmp_path, ("127.0.0.1", port))) as opensips:
        proxy = f"sip:{opensips.address[0]}:{opensips.address[1]}"
        silo = start_silo("--domain", "home.lan", "--outbound-proxy", proxy, bind=(f"udp:127.0.0.1:{port}",))
        yield opensips.start(), silo


def test_away_stored_back_delivered_in_order(pair: tuple[OpenSips, Silo], phone: PickUp) -> None:
    opensips, silo = pair
    alice, bob = phone("alice"), phone("bob")
    for n in range(5):
        assert alice.message(opensips.address, BOB, b"%d" % n).code == 202
    assert [row["to"] for row in silo.list_json()] == [BOB] * 5
    assert bob.register(opensips.address).code == 200
    taken = [bob.take() for _ in range(5)]
    assert [one.body for one in taken] == [b"0", b"1", b"2", b"3", b"4"]
    assert taken[0]["To"].strip("<>") == f"sip:{BOB}"
    silo.empties()


def test_registered_user_gets_it_without_the_silo(pair: tuple[OpenSips, Silo], phone: PickUp) -> None:
    opensips, silo = pair
    alice, bob = phone("alice"), phone("bob")
    bob.register(opensips.address)
    alice.send(alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello"), opensips.address)
    assert not bob.take().all("X-MSilo-ID")
    assert alice.receive().code == 200
    assert silo.list_json("--all") == []


@pytest.mark.parametrize("code", [480, 486, 503, 0])
def test_a_phone_that_cannot_now_is_as_good_as_none(pair: tuple[OpenSips, Silo], phone: PickUp, code: int) -> None:
    opensips, silo = pair
    alice, bob = phone("alice"), phone("bob")
    bob.register(opensips.address)
    alice.send(alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello"), opensips.address)
    if code:
        bob.take(code)
    assert [seen.code for seen in alice.during(7) if seen.code >= 200] == [202]
    while bob.glance(0.1):  # what it was sent while it said nothing
        pass
    assert [row["to"] for row in silo.list_json()] == [BOB]
    bob.register(opensips.address)
    assert bob.take().body == b"Hello"
    silo.empties()


def test_what_a_phone_refuses_for_good_the_sender_sees(pair: tuple[OpenSips, Silo], phone: PickUp) -> None:
    opensips, silo = pair
    alice, bob = phone("alice"), phone("bob")
    bob.register(opensips.address)
    alice.send(alice.request("MESSAGE", BOB, "Content-Type: image/png", body=b"x"), opensips.address)
    bob.take(415)
    assert alice.receive().code == 415
    assert silo.list_json("--all") == []


def test_gone_again_during_the_replay(pair: tuple[OpenSips, Silo], phone: PickUp) -> None:
    opensips, silo = pair
    alice, bob = phone("alice"), phone("bob")
    for n in range(3):
        alice.message(opensips.address, BOB, b"%d" % n)
    bob.register(opensips.address)
    first = bob.receive()
    bob.register(opensips.address, expires=0)
    bob.answer(first, 200)
    until(lambda: [row["last_code"] for row in silo.list_json()] == [480, None], 10, "480 for the second")
    bob.register(opensips.address)
    assert [bob.take().body, bob.take().body] == [b"1", b"2"]
    silo.empties()


def test_phones_cannot_forge_the_mark_of_the_silo(pair: tuple[OpenSips, Silo], phone: PickUp) -> None:
    opensips, silo = pair
    alice = phone("alice")
    assert alice.message(opensips.address, BOB, b"1", "text/plain", "X-MSilo-ID: 1-0123456789abcdef").code == 202
    assert silo.cli("show", str(silo.list_json()[0]["id"])).stdout.count("0123456789abcdef") == 0


def test_passwords_are_asked_for_and_stay_with_opensips(tmp_path: Path, start_silo: StartSilo, phone: PickUp) -> None:
    from .opensips import EXAMPLE

    text = EXAMPLE.read_text().replace("$var(passwords) = 0;", "$var(passwords) = 1;")
    watcher = phone("silo")
    with closing(OpenSips(tmp_path, watcher.address, text)) as opensips:
        opensips.start()
        assert phone("bob").register(opensips.address).code == 401
        assert phone("bob").message(opensips.address, BOB, b"x").code == 407
