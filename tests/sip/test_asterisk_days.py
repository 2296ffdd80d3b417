"""Days on which something breaks behind a real Asterisk: phones vanish, it restarts, or the silo, a hint never closes.

What Asterisk answered 202 and could not deliver is a phone's own silence: handed over, unconfirmed, and listed.
"""

import re
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.waiting import until

from .asterisk import Asterisk, Handset
from .conftest import PickUpHandset, StartAsterisk, StartSilo
from .peers import Baresip, Silo
from .reader import Reader
from .test_asterisk import BEHIND, BOB, PLACE, write

pytestmark = pytest.mark.sip

Pair = tuple[Asterisk, Silo]
StartPair = Callable[..., Pair]


@pytest.fixture
def start_pair(start_silo: StartSilo, start_asterisk: StartAsterisk) -> StartPair:
    """Asterisk and a silo that it knows by its address; `qualify` as in Asterisk."""

    def start(**more: int) -> Pair:
        silo = start_silo(bind=PLACE)
        silo.stop()
        asterisk = start_asterisk(silo.address, **more)
        silo.options = ("--outbound-proxy", f"sip:{asterisk.address[0]}:{asterisk.address[1]}", *BEHIND)
        return asterisk, silo.start()

    return start


def stored(silo: Silo, *texts: str) -> None:
    until(lambda: [text for text, state, _ in silo.box if state == "pending"] == [*texts], 10, f"{texts} wait")


def handed(silo: Silo, *texts: str) -> None:
    until(lambda: silo.box == [(text, "handed", 202) for text in texts], 10, f"{texts} are handed over")


def taken(phone: Handset, count: int, seconds: float = 10) -> list[str]:
    """The texts of the next MESSAGEs, whose retransmissions are passed by; each is answered 200."""
    seen: dict[str, str] = {}
    end = time.monotonic() + seconds
    while len(seen) < count and time.monotonic() < end:
        if (request := phone.glance(0.1)) and request.method == "MESSAGE":
            phone.answer(request, 200)
            seen[request["Call-ID"]] = request.text
    return list(seen.values())


def subscriptions(asterisk: Asterisk) -> int:
    """How many watch bob."""
    return len(
        re.findall(r"(?m)^ *silo/bob|sip:bob@|\bbob\b.*presence", asterisk.command("pjsip show subscriptions inbound"))
    )


# Subscriptions


def test_a_stop_leaves_no_subscription_and_a_crash_no_second_one(start_pair: StartPair, handset: PickUpHandset) -> None:
    asterisk, silo = start_pair()
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "one", "two")
    silo.watches(BOB, "closed")
    assert subscriptions(asterisk) == 1
    silo.stop()
    assert subscriptions(asterisk) == 0
    silo.start()
    silo.watches(BOB, "closed")
    silo.restart(signal.SIGKILL)
    silo.watches(BOB, "closed")
    assert subscriptions(asterisk) == 2, "that of the dead one, and ours"
    bob.register(asterisk.address)
    assert taken(bob, 2) == ["one", "two"]
    assert bob.glance(0.5) is None
    handed(silo, "one", "two")
    until(lambda: subscriptions(asterisk) == 0, 10, "the dead one got 481, and nobody with mail is left to watch")


def test_a_hint_that_is_open_for_ever_does_not_keep_mail_for_ever(
    start_pair: StartPair, handset: PickUpHandset
) -> None:
    """FreePBX has Custom:DND in its hints: the first NOTIFY says open, none comes when bob does; time tries again."""
    asterisk, silo = start_pair()
    asterisk.hint("bob", "PJSIP/bob&Custom:DNDbob")
    asterisk.command("devstate change Custom:DNDbob NOT_INUSE")
    alice, bob = handset("alice"), handset("bob")
    write(alice, asterisk, "Hello")
    silo.watches(BOB, "open")
    until(lambda: silo.counters.get("failed_messages"), 10, "it was tried, and came back")
    bob.register(asterisk.address)
    assert bob.glance(1) is None, "nobody tells the silo"
    assert 0 < next_try(silo) - time.time() <= 65
    silo.forward()
    assert taken(bob, 1) == ["Hello"]
    handed(silo, "Hello")


def next_try(silo: Silo) -> int:
    with closing(sqlite3.connect(silo.database)) as file:
        return int(file.execute("SELECT next_try FROM msilo_recipient").fetchone()[0])


# Phones


def test_a_phone_that_qualify_calls_unreachable_is_away(start_pair: StartPair, handset: PickUpHandset) -> None:
    """It vanishes without a word: what is written meanwhile waits, and comes once, in order, when it answers again."""
    asterisk, silo = start_pair(qualify=1)
    alice, bob = handset("alice"), handset("bob")
    bob.register(asterisk.address)

    def there(wanted: bool) -> bool:
        bob.glance(0.05)
        return bool(asterisk.contacts("bob")) is wanted

    until(lambda: there(True), 10, "he answers OPTIONS")
    bob.there = False
    until(lambda: there(False), 15, "Asterisk has noticed")
    write(alice, asterisk, "one", "two", "three")
    stored(silo, "one", "two", "three")
    silo.watches(BOB, "closed")
    bob.there = True
    assert taken(bob, 3, 20) == ["one", "two", "three"]
    handed(silo, "one", "two", "three")
    assert [seen for seen in bob.during(0.5) if seen.method == "MESSAGE"] == []


def test_real_phones(start_pair: StartPair, tmp_path: Path, ends: ExitStack) -> None:
    """baresip writes, baresip reads; his is pulled from the wall, and comes back."""
    asterisk, silo = start_pair(qualify=1)

    def picked_up(user: str, to: str, folder: str) -> Baresip:
        (tmp_path / folder).mkdir()
        phone = Baresip(tmp_path / folder, asterisk.address, user=user, password=f"{user}-password", contact=to)
        return ends.enter_context(closing(phone)).start()

    alice = picked_up("alice", f"sip:{BOB}", "a")
    alice.message("Milk and bread, please 🥛")
    stored(silo, "Milk and bread, please 🥛")
    silo.watches(BOB, "closed")
    bob = picked_up("bob", "sip:alice@home.lan", "b")
    until(lambda: [seen.text for seen in bob.messages] == ["Milk and bread, please 🥛"], 15, "bob reads it")
    assert bob.messages[0]["From"].startswith("<sip:alice@home.lan>")
    handed(silo, "Milk and bread, please 🥛")

    bob.kill()
    until(lambda: not asterisk.contacts("bob"), 15, "Asterisk has noticed")
    alice.message("and butter")
    until(lambda: silo.texts[1:] == ["and butter"], 10, "it waits")
    again = picked_up("bob", "sip:alice@home.lan", "c")
    until(lambda: [seen.text for seen in again.messages] == ["and butter"], 20, "bob reads that too")
    assert len(bob.messages) == 1


# Restarts in the middle


@pytest.mark.parametrize("who", ["asterisk killed", "silo killed", "silo stopped"])
def test_restart_in_the_middle_of_a_replay(
    start_pair: StartPair, handset: PickUpHandset, ends: ExitStack, who: str
) -> None:
    """Each reaches bob, or is listed and sent again by `retry`; none twice but for a crash, and in order.

    In order as Asterisk got them: it answers 202 before it queues, so that its threads may pass each other on to bob.
    """
    asterisk, silo = start_pair()
    asterisk.note_requests_of(silo.address[0])
    texts = [f"number {number}" for number in range(40)]
    write(handset("alice"), asterisk, *texts)
    silo.watches(BOB, "closed")
    bob = ends.enter_context(Reader(handset("bob")))
    bob.register(asterisk.address)
    until(lambda: len(bob.texts) >= 3, 10, "the replay is under way")
    if who == "asterisk killed":
        asterisk.restart(signal.SIGKILL)
        asterisk.note_requests_of(silo.address[0])
    else:
        silo.restart(signal.SIGKILL if who == "silo killed" else signal.SIGTERM)
    bob.register(asterisk.address)
    silo.forward()  # the phone was there all the time, so that nothing but the timer tries again
    until(lambda: {state for _, state, _ in silo.box} == {"handed"}, 20, "nothing is pending")
    survived = [] if who == "asterisk killed" else texts
    until(lambda: {"number 39", *survived} <= set(bob.texts), 10, "the last one")
    first = list(dict.fromkeys(bob.texts))
    given = list(dict.fromkeys(asterisk.noted("MESSAGE")))
    assert given == sorted(given, key=texts.index), "in order"
    assert given == texts or (who == "asterisk killed" and len(given) > 20), "noted: all but what came as it started"
    if who == "silo killed":  # what Asterisk took in the last 20 ms was not on disk: it comes again, as it was
        dates = {(seen.text, seen["Date"]) for seen in bob.messages}
        assert len(dates) == len(first)
    else:
        assert bob.texts == first, "none twice"
    assert silo.texts == texts, "all are listed"
    if lost := [text for text in texts if text not in first]:  # Asterisk had taken them
        assert who == "asterisk killed"
        ids = [str(row["id"]) for row, text in zip(silo.list_json(), texts, strict=True) if text in lost]
        assert silo.cli("retry", *ids).returncode == 0
        until(lambda: bob.texts[-len(lost) :] == lost, 10, "they are sent again")


# How soon


def test_the_first_message_comes_soon_after_the_phone(start_pair: StartPair, handset: PickUpHandset) -> None:
    """Within the settle delay (0.1 s here) and 200 ms of the 200 to the REGISTER, by the phone's own clock.

    A loaded machine may be late: the best of several counts.
    """
    asterisk, silo = start_pair()
    alice, bob, best = handset("alice"), handset("bob"), 60.0
    for number in range(6):
        write(alice, asterisk, f"number {number}")
        stored(silo, f"number {number}")
        silo.watches(BOB, "closed")
        assert bob.register(asterisk.address).code == 200
        since = time.monotonic()
        assert taken(bob, 1) == [f"number {number}"]
        best = min(best, time.monotonic() - since)
        if best <= 0.3:
            break
        bob.register(asterisk.address, expires=0)
    assert best <= 0.3
