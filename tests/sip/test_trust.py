"""How far a 2xx is believed, and what a peer carries: for the peer it came from, as the messages show."""

import json

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo
from .phone import Phone

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


def store(alice: Phone, silo: Silo, *texts: str) -> None:
    for text in texts:
        assert alice.message(silo.address, BOB, text.encode()).code == 202


def test_a_202_is_not_200(start_silo: StartSilo, phone: PickUp) -> None:
    """200-only: it waits for the next wake-up, in its place, and the 200 ends it."""
    silo, alice, bob = start_silo("--set", "trust_2xx=200-only"), phone("alice"), phone("bob")
    store(alice, silo, "one", "two")
    for _ in range(2):
        bob.register(silo.address)
        assert bob.take(202).text == "one"
        assert bob.glance(0.5) is None, "what follows keeps its place behind it"
    until(lambda: [code for _, _, code in silo.box] == [202, None], 5, "the 202 is on record")
    bob.register(silo.address)
    assert [bob.take(200).text, bob.take(200).text] == ["one", "two"]
    silo.empties()


def test_each_peer_as_its_table_says(start_silo: StartSilo, phone: PickUp) -> None:
    peers = [
        {"address": "127.0.0.3", "trust_2xx": "confirm", "max_body": 5},
        {"address": "127.0.0.4", "trust_2xx": "200-only"},
    ]
    silo, alice = start_silo("--set", f"peer={json.dumps(peers)}"), phone("alice")
    store(alice, silo, "short", "longer")
    takes = phone("bob", "127.0.0.3")
    takes.register(silo.address)
    assert takes.take(200).text == "short"
    assert takes.glance(0.3) is None
    until(lambda: [state for _, state, _ in silo.box] == ["handed", "parked"], 5, "one each")
    assert "its 6 bytes are more than the 5 that the way carries" in str(silo.list_json()[1]["why"])
    assert silo.cli("retry", "--to", BOB).returncode == 0
    takes.register(silo.address, expires=0)

    promises = phone("bob", "127.0.0.4")
    promises.register(silo.address)
    assert promises.take(202).text == "short"
    until(lambda: [code for _, _, code in silo.box] == [202, None], 5, "it waits")
    promises.register(silo.address, expires=0)

    plain = phone("bob")
    plain.register(silo.address)
    assert [plain.take(202).text, plain.take(202).text] == ["short", "longer"]
    silo.empties()
