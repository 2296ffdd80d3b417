"""A phone that people use: baresip, at a Kamailio that asks for passwords."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartKamailio
from .peers import Baresip, Kamailio

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
PASSWORDS = {"alice": "alice-password", "bob": "bob-password"}  # as in the example configuration


@pytest.fixture
def kamailio(start_kamailio: StartKamailio) -> Kamailio:
    return start_kamailio("WITH_AUTH")


def baresip(ends: ExitStack, folder: Path, kamailio: Kamailio, user: str) -> Baresip:
    phone = Baresip(folder, kamailio.address, user=user, password=PASSWORDS[user], contact=f"sip:{BOB}")
    return ends.enter_context(closing(phone))


def test_bob_comes_back_and_reads_what_alice_wrote(kamailio: Kamailio, tmp_path: Path, ends: ExitStack) -> None:
    alice = baresip(ends, tmp_path, kamailio, "alice").start()
    alice.message("Milk and bread, please 🥛")
    until(lambda: alice.codes(sent=False) == [407, 202], 10, "alice's phone is asked for her password, then sees 202")

    bob = baresip(ends, tmp_path, kamailio, "bob").start()
    (message,) = until(lambda: bob.messages, 10, "bob's phone has a message")
    assert message.text == "Milk and bread, please 🥛"
    assert message["From"].startswith("<sip:alice@home.lan>;tag=")
    assert message["To"] == f"<sip:{BOB}>"
    assert message["X-MSilo-ID"]
    assert 'sip:alice@home.lan: "Milk and bread, please 🥛"' in bob.trace  # what bob reads on his screen
    kamailio.silo.empties()
    assert len(bob.messages) == 1


def test_long_text_reaches_a_real_phone_whole(
    kamailio: Kamailio, phone: PickUp, tmp_path: Path, ends: ExitStack
) -> None:
    text = " ".join(f"word{n}" for n in range(300))
    assert phone("alice").message(kamailio.silo.address, BOB, text.encode()).code == 202
    bob = baresip(ends, tmp_path, kamailio, "bob").start()
    until(lambda: [message.text for message in bob.messages] == [text], 10, "the whole text")
    kamailio.silo.empties()


def test_what_baresip_refuses_is_parked(kamailio: Kamailio, phone: PickUp, tmp_path: Path, ends: ExitStack) -> None:
    """It answers 415 to all but text; the text behind it arrives."""
    alice, silo = phone("alice"), kamailio.silo
    assert alice.message(silo.address, BOB, b"no picture", "image/png").code == 202
    assert alice.message(silo.address, BOB, b"but a text", "text/plain").code == 202
    bob = baresip(ends, tmp_path, kamailio, "bob").start()
    until(lambda: bob.codes(sent=True) == [415, 200], 10, "bob's phone refuses one and takes the other")
    assert [message.text for message in bob.messages] == ["no picture", "but a text"]
    until(lambda: [row["last_code"] for row in silo.list_json("--all")].count(415) == 1, 10, "the 415 is on record")


def test_pulled_from_the_wall_and_back(
    start_kamailio: StartKamailio, phone: PickUp, tmp_path: Path, ends: ExitStack
) -> None:
    """It vanishes without a word, still registered: what was written meanwhile comes once, in order."""
    kamailio = start_kamailio("WITH_AUTH", "PHONE_TIMEOUT=700")
    alice, silo = phone("alice"), kamailio.silo
    first = baresip(ends, tmp_path, kamailio, "bob").start()
    first.kill()
    for text in ("one", "two"):
        assert alice.message(silo.address, BOB, text.encode()).code == 202
    silo.dump(BOB).wait(15)
    assert silo.box == [("one", "pending", 408), ("two", "pending", None)]
    (tmp_path / "again").mkdir()
    again = baresip(ends, tmp_path / "again", kamailio, "bob").start()
    until(lambda: [message.text for message in again.messages] == ["one", "two"], 15, "both, in order")
    silo.empties()
    assert first.messages == []
