"""The whole story through a real Kamailio with the example configuration: Bob is away, comes back, and gets it all."""

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, PickUpHandset, StartKamailio
from .peers import Kamailio, Sipp, SippRun

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


def register(sipp: Sipp, kamailio: Kamailio, at: SippRun, lifetime: int = 300) -> None:
    """Bob's phone, whose SIPp run waits for MESSAGEs, registers at Kamailio."""
    keys = {"contact": f"sip:bob@{at.address[0]}:{at.address[1]}", "lifetime": str(lifetime)}
    sipp.run("register", kamailio.address, keys=keys)


def texts(run: SippRun) -> list[str]:
    return [seen.text for seen in run.received]


def numbers(count: int) -> list[str]:
    return [f"number {n}" for n in range(1, count + 1)]


def store(sipp: Sipp, kamailio: Kamailio, count: int, seconds: float = 20) -> SippRun:
    """Alice writes through Kamailio, each time after the answer to the last."""
    return sipp.run("store_numbered", kamailio.address, "-l", "1", "-r", "1000", calls=count, seconds=seconds)


def test_away_stored_back_delivered(kamailio: Kamailio, sipp: Sipp) -> None:
    alice = store(sipp, kamailio, 5)
    assert [seen.code for seen in alice.received] == [202] * 5
    assert kamailio.contacts("bob") == []
    assert [row["to"] for row in kamailio.silo.list_json()] == [BOB] * 5

    bob = sipp.start("phone", calls=5)
    register(sipp, kamailio, bob)
    assert kamailio.contacts("bob") == [f"sip:bob@127.0.0.1:{bob.address[1]}"]
    assert texts(bob.passes()) == numbers(5)
    assert {seen["From"].split(";tag=")[0] for seen in bob.received} == {'"Alice" <sip:alice@home.lan>'}
    assert {seen["To"].strip("<>") for seen in bob.received} == {f"sip:{BOB}"}
    kamailio.silo.empties()


def test_the_answer_to_the_sender_is_the_silos_own(kamailio: Kamailio, phone: PickUp) -> None:
    """One final answer, and with the silo away none that looks like success."""
    alice = phone("alice")
    assert alice.message(kamailio.address, BOB, b"Hello").code == 202
    assert alice.glance(0.3) is None
    kamailio.silo.kill()
    assert alice.message(kamailio.address, BOB, b"Hello again").code >= 400


def test_registered_user_gets_it_without_the_silo(kamailio: Kamailio, sipp: Sipp) -> None:
    bob = sipp.start("phone_accepts")
    register(sipp, kamailio, bob)
    store(sipp, kamailio, 1)
    assert texts(bob.passes()) == numbers(1)
    assert not bob.received[0].all("X-MSilo-ID")
    assert kamailio.silo.list_json("--all") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_silo_between_store_and_return(kamailio: Kamailio, sipp: Sipp, number: signal.Signals) -> None:
    store(sipp, kamailio, 10)
    kamailio.silo.restart(number)
    bob = sipp.start("phone", calls=10)
    register(sipp, kamailio, bob)
    assert texts(bob.passes()) == numbers(10)
    kamailio.silo.empties()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_silo_during_the_replay(kamailio: Kamailio, sipp: Sipp, number: signal.Signals) -> None:
    """What was answered is gone, what was on its way may come twice, and nothing is missing or out of order."""
    store(sipp, kamailio, 20)
    bob = sipp.start("phone_slow", calls=1000)
    register(sipp, kamailio, bob)
    until(lambda: len(bob.received) >= 5, 10, "the replay is under way")
    kamailio.silo.restart(number)
    register(sipp, kamailio, bob)
    until(lambda: "number 20" in texts(bob), 20, "the last message")
    kamailio.silo.empties()
    seen = texts(bob)
    assert list(dict.fromkeys(seen)) == numbers(20)
    assert len(seen) <= 22  # one was under way, and one was answered in the last 20 ms and not on disk yet
    assert seen == sorted(seen, key=lambda text: int(text.split()[1]))


def test_restart_of_kamailio_during_the_replay(kamailio: Kamailio, sipp: Sipp) -> None:
    """It was killed with a replay on its way: one that the phone had answered may come again, and none is missing."""
    store(sipp, kamailio, 20)
    bob = sipp.start("phone_slow", calls=1000)
    register(sipp, kamailio, bob)
    until(lambda: len(bob.received) >= 5, 10, "the replay is under way")
    kamailio.restart(signal.SIGKILL)
    register(sipp, kamailio, bob)
    until(lambda: "number 20" in texts(bob), 20, "the last message")
    kamailio.silo.empties()
    seen = list(dict.fromkeys(texts(bob)))
    assert seen == numbers(20)
    ids = [one["X-MSilo-ID"] for one in bob.received]
    assert len(set(ids)) == 20, "a repeated one has the same id"


def test_the_first_message_comes_soon_after_the_phone(kamailio: Kamailio, phone: PickUp) -> None:
    """Within the settle delay (0.1 s here) and 200 ms of the 200 to the REGISTER, by the phone's own clock.

    A loaded machine may be late: the best of several counts.
    """
    alice, bob, best = phone("alice"), phone("bob"), 60.0
    for _ in range(6):
        assert alice.message(kamailio.address, BOB, b"Hello").code == 202
        assert bob.register(kamailio.address).code == 200
        since = time.monotonic()
        bob.take()
        best = min(best, time.monotonic() - since)
        if best <= 0.3:
            break
        bob.register(kamailio.address, expires=0)
    assert best <= 0.3


def test_a_dead_phone_is_as_good_as_none(kamailio: Kamailio, phone: PickUp) -> None:
    """Registered and silent: Kamailio's time-out sends it to the silo, with the address of the user restored."""
    alice, dead, alive = phone("alice"), phone("bob"), phone("bob")
    dead.register(kamailio.address)
    assert alice.message(kamailio.address, BOB, b"Hello").code == 202
    assert dead.receive().uri == dead.contact
    assert [row["to"] for row in kamailio.silo.list_json()] == [BOB]
    dead.register(kamailio.address, expires=0)
    alive.register(kamailio.address)
    assert alive.take().body == b"Hello"
    kamailio.silo.empties()


@pytest.mark.parametrize("code", [480, 486, 503])
def test_a_phone_that_cannot_now_is_as_good_as_none(kamailio: Kamailio, phone: PickUp, code: int) -> None:
    alice, bob = phone("alice"), phone("bob")
    bob.register(kamailio.address)
    request = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    alice.send(request, kamailio.address)
    bob.take(code)
    assert alice.receive().code == 202
    assert [row["to"] for row in kamailio.silo.list_json()] == [BOB]
    bob.register(kamailio.address)
    assert bob.take().body == b"Hello"


def test_what_a_phone_refuses_for_good_the_sender_sees(kamailio: Kamailio, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    bob.register(kamailio.address)
    alice.send(alice.request("MESSAGE", BOB, "Content-Type: image/png", body=b"x"), kamailio.address)
    bob.take(415)
    assert alice.receive().code == 415
    assert kamailio.silo.list_json("--all") == []


def test_gone_again_during_the_replay(kamailio: Kamailio, phone: PickUp) -> None:
    """The rest is refused with 480 by Kamailio, not stored a second time, and comes with the next REGISTER."""
    alice, bob = phone("alice"), phone("bob")
    for n in range(3):
        alice.message(kamailio.address, BOB, b"%d" % n)
    bob.register(kamailio.address)
    first = bob.receive()
    bob.register(kamailio.address, expires=0)
    bob.answer(first, 200)
    until(lambda: [row["last_code"] for row in kamailio.silo.list_json()] == [480, None], 10, "480 for the second")
    assert len(kamailio.silo.list_json("--all")) <= 3
    assert bob.glance(0.3) is None
    bob.register(kamailio.address)
    assert [bob.take().body, bob.take().body] == [b"1", b"2"]
    kamailio.silo.empties()


def test_phones_cannot_forge_the_mark_of_the_silo(kamailio: Kamailio, phone: PickUp) -> None:
    """X-MSilo-ID from a phone is taken away: neither a refused message nor a failed attempt of someone else's."""
    alice, bob = phone("alice"), phone("bob")
    alice.message(kamailio.address, BOB, b"1")
    bob.register(kamailio.address)
    mark = bob.take(480)["X-MSilo-ID"]
    forged = alice.message(kamailio.address, "carol@home.lan", b"2", "text/plain", f"X-MSilo-ID: {mark}")
    assert forged.code == 202
    carol = phone("carol")
    carol.register(kamailio.address)
    assert carol.take()["X-MSilo-ID"] != mark


def test_both_phones_of_a_user_get_it_once(kamailio: Kamailio, phone: PickUp) -> None:
    """Kamailio forks to both; the silo sees one final answer and does not send again."""
    desk, mobile = phone("bob"), phone("bob")
    desk.register(kamailio.address)
    mobile.register(kamailio.address)
    assert phone("alice").message(kamailio.silo.address, BOB, b"Hello").code == 202
    desk.register(kamailio.address)
    assert [desk.take().body, mobile.take().body] == [b"Hello", b"Hello"]
    kamailio.silo.empties()
    mobile.register(kamailio.address)
    assert [desk.glance(0.3), mobile.glance(0.3)] == [None, None]


def test_a_repeated_register_is_answered_again(kamailio: Kamailio, phone: PickUp) -> None:
    """The copy for the silo must not swallow the phone's retransmission."""
    bob = phone("bob")
    request = bob.request("REGISTER", BOB, f"Contact: <{bob.contact}>", "Expires: 300")
    assert [bob.ask(request, kamailio.address).code for _ in range(3)] == [200, 200, 200]
    assert bob.glance(0.3) is None


def test_phones_register_while_the_silo_is_down(kamailio: Kamailio, phone: PickUp) -> None:
    """The copy of the REGISTER is repeated until a silo answers it."""
    alice, bob = phone("alice"), phone("bob")
    alice.message(kamailio.address, BOB, b"Hello")
    kamailio.silo.kill()
    assert bob.register(kamailio.address).code == 200
    kamailio.silo.start()
    bob.register(kamailio.address)
    assert bob.take().body == b"Hello"


def test_kamailio_forgets_who_is_registered(kamailio: Kamailio, phone: PickUp) -> None:
    """Its bindings are in memory: after a restart a phone is away until it registers again, and nothing is lost."""
    alice, bob = phone("alice"), phone("bob")
    bob.register(kamailio.address)
    kamailio.restart()
    assert alice.message(kamailio.address, BOB, b"Hello").code == 202
    until(lambda: [row["last_code"] for row in kamailio.silo.list_json()] in ([None], [480]), 5, "it waits")
    bob.register(kamailio.address)
    assert bob.take().body == b"Hello"
    kamailio.silo.empties()


def test_many_users_each_in_order(kamailio: Kamailio, sipp: Sipp, phone: PickUp) -> None:
    alice, users = phone("alice"), [f"user{n}" for n in range(20)]
    for n in range(15):
        for user in users:
            assert alice.message(kamailio.address, f"{user}@home.lan", b"number %d" % n).code == 202
    everyone = sipp.start("phone", calls=300)
    for user in users:
        keys = {"contact": f"sip:{user}@127.0.0.1:{everyone.address[1]}", "lifetime": "300"}
        sipp.run("register", kamailio.address, user=user, keys=keys)
    everyone.passes(30)
    for user in users:
        got = [seen.text for seen in everyone.received if seen["To"].strip("<>") == f"sip:{user}@home.lan"]
        assert got == [f"number {n}" for n in range(15)]
    kamailio.silo.empties()


def test_path_leads_a_silo_without_proxy_through_kamailio(start_kamailio: StartKamailio, phone: PickUp) -> None:
    """RFC 3327 section 5.3: the Path that the copy carries becomes the Route to the Contact."""
    kamailio = start_kamailio(direct=True)
    bob = phone("bob")
    phone("alice").message(kamailio.address, BOB, b"Hello")
    bob.register(kamailio.address)
    replay = bob.take()
    assert replay.uri == bob.contact
    assert f":{kamailio.address[1]};" in replay.all("Via")[0]
    assert replay["To"].strip("<>") == f"sip:{BOB}"
    kamailio.silo.empties()


def test_with_passwords(start_kamailio: StartKamailio, phone: PickUp) -> None:
    """Phones are asked for theirs, the silo is not, whatever its From says."""
    kamailio = start_kamailio("WITH_AUTH")
    stranger = phone("bob")
    assert stranger.register(kamailio.address).code == 401
    assert stranger.message(kamailio.address, BOB, b"Hello").code == 407
    silo = kamailio.silo
    assert stranger.message(silo.address, BOB, b"straight to the silo").code == 202
    silo.dump(BOB).wait(15)
    assert [row["last_code"] for row in silo.list_json()] == [480]  # not 407


def test_the_copy_of_a_register_shows_no_password(tmp_path: Path, phone: PickUp, handset: PickUpHandset) -> None:
    watcher, bob = phone("silo"), handset("bob")
    with closing(Kamailio(tmp_path, watcher, defines=["WITH_AUTH"])) as kamailio:
        kamailio.start()
        assert bob.register(kamailio.address).code == 200
        copy = watcher.receive()
    assert copy.method == "REGISTER"
    assert copy["Path"] == f"<sip:{kamailio.address[0]}:{kamailio.address[1]};lr>"
    assert not copy.all("Authorization")


@pytest.mark.slow
def test_a_thousand_messages(kamailio: Kamailio, sipp: Sipp) -> None:
    """None lost, none doubled, none out of order."""
    alice = store(sipp, kamailio, 1000, seconds=60)
    assert [seen.code for seen in alice.received] == [202] * 1000
    bob = sipp.start("phone", calls=1000)
    register(sipp, kamailio, bob)
    assert texts(bob.passes(60)) == numbers(1000)
    kamailio.silo.empties()
