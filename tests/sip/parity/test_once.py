"""Each message once and in order: what comes back, what a restart forgets, what overtakes (W7 to W11, W16, W17)."""

import signal
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.waiting import until

from ..phone import Phone
from .both import Pair, Side
from .conftest import PairOf, Start
from .original import ITSELF, Original
from .shown import offline_prefix, shown

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
STORM_SECONDS = 10


# ---- W7, W10: what comes back ----------------------------------------------------------------------------------------


def test_w7_the_original_doubles(tmp_path: Path) -> None:
    """With the documented failure route and a phone that does not answer: 1, 2, 4 rows of one message."""
    store = Original(tmp_path, {"check_time": 1, "outbound_proxy": ITSELF}, answer_within=400, recipe=True)
    with closing(Side(store, Phone("phone"))) as side:
        side.start().store_all(BOB, b"hello")
        for count in (2, 4):
            side.register(BOB)
            until(partial(has_failed, side, count), 5, f"{count} rows, and the cleaner let go of them")


def has_failed(side: Side, rows: int) -> bool:
    """Whether so many rows are there and all but the new ones failed."""
    return len(side.rows(BOB)) == rows and side.store.statistics()["failed_messages"] == rows - 1


def test_w7_one_message_stays_one(lite: Start) -> None:
    """The PBX gives up before we do and hands the replay over like any MESSAGE: 480, which is then its answer to us."""
    side = lite()
    side.store_all(BOB, b"hello")
    for _ in range(3):
        side.register(BOB)
        replay = side.phone.receive()
        back = side.bounced(replay)
        assert back.code == 480
        side.phone.answer(replay, back.code)
        assert side.sent() == []
        assert side.bodies(BOB) == [b"hello"]


def test_w10_a_replay_that_comes_back(fresh_pair: PairOf) -> None:
    """Stored as a new message by the original: a new life, words within words, and delivered in its statistics."""

    def scenario(side: Side, bob: str) -> tuple[int, bool, str, bytes]:
        assert side.message(bob, b"hello", "Expires: 60").code == 202
        end = side.rows(bob)[0].exp_time
        side.dump(bob)
        replay = side.phone.receive()
        back = side.bounced(replay)
        side.phone.answer(replay, back.code)
        until(lambda: len(side.rows(bob)) == 1, 5, "the first one has gone where it was taken for delivered")
        longer = side.rows(bob)[0].exp_time > end
        again = shown(side.replayed(bob))
        return back.code, longer, again.prefix, again.body.replace(offline_prefix(replay), b"[WORDS] ")

    old, new = fresh_pair(check_time=1, expire_time=1000).play(scenario)
    assert old == (202, True, "Offline", b"[WORDS] hello")
    assert new == (480, False, "Offline", b"hello")


# ---- W8, W9: delivered once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_w8_delivered_before_a_restart(fresh_pair: PairOf, number: signal.Signals) -> None:
    """The original remembers it in memory until its cleaner comes: a restart, orderly or not, delivers it again.

    Ours has it on disk within 20 milliseconds, for which the scenario waits.
    """

    def scenario(side: Side, bob: str) -> list[bytes]:
        side.store_all(bob, b"hello")
        side.replayed(bob)
        if side.name == "Lite":
            side.ends(bob)
        side.store.restart(number)
        side.register(bob)
        return [shown(seen).body for seen in side.sent()]

    old, new = fresh_pair().play(scenario)
    assert (old, new) == ([b"hello"], [])


def storm(side: Side, count: int) -> list[bytes]:
    """What is delivered of so many messages while the phone registers every 20 ms until none is left."""
    side.store_all(BOB, *[b"number %d" % n for n in range(count)])
    seen: dict[str, bytes] = {}
    with Phone("bob") as bob:
        lines = (f"Contact: <{side.contact(BOB)}>", "Expires: 60")
        end = time.monotonic() + STORM_SECONDS
        while side.rows(BOB) and time.monotonic() < end:
            bob.send(bob.request("REGISTER", BOB, *lines), side.address)
            for request in side.phone.during(0.02):
                side.phone.answer(request, 200)
                seen.setdefault(request["Via"], shown(request).body)  # a retransmission is no second delivery
    assert not side.rows(BOB)
    return list(seen.values())


def test_w9_the_original_sends_some_twice(tmp_path: Path) -> None:
    """A REGISTER that meets the cleaner at work sends what is delivered and not yet deleted. Luck: hence five tries."""
    phone = Phone("phone")
    way = "sip:{}:{}".format(*phone.address)
    store = Original(tmp_path, {"check_time": 1, "outbound_proxy": way}, on_disk=True)
    with closing(Side(store, phone)) as side:
        side.start()
        assert any(len(storm(side, 300)) > 300 for _ in range(5))


def test_w9_ours_sends_each_once(lite: Start) -> None:
    assert storm(lite(check_time=1), 100) == [b"number %d" % n for n in range(100)]


# ---- W11, W17: one after the other -----------------------------------------------------------------------------------


def test_w11_nothing_overtakes(pair: Pair) -> None:
    """Before the phone has answered the first message, the original has sent all of them."""

    def scenario(side: Side, bob: str) -> tuple[list[bytes], list[bytes]]:
        side.store_all(bob, b"one", b"two", b"three")
        side.register(bob)
        first = side.phone.receive()
        meanwhile = [shown(seen).body for seen in side.sent()]
        side.phone.answer(first, 200)
        return meanwhile, [shown(seen).body for seen in side.sent() if seen.all("Via") != first.all("Via")]

    old, new = pair.play(scenario)
    assert old == ([b"two", b"three"], [])
    assert new == ([], [b"two", b"three"])


def test_w11_a_failure_is_not_overtaken(pair: Pair) -> None:
    """The original delivers the rest, so that the first comes last."""

    def scenario(side: Side, bob: str) -> tuple[list[bytes], list[bytes]]:
        side.store_all(bob, b"one", b"two", b"three")
        side.replayed(bob, 480)
        meanwhile = [shown(seen).body for seen in side.sent()]
        side.register(bob)
        return meanwhile, [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == ([b"two", b"three"], [])
    assert new == ([], [b"one", b"two", b"three"])


def test_w16_a_silent_phone_holds_up_nobody_else(pair: Pair) -> None:
    def scenario(side: Side, bob: str) -> list[bytes]:
        side.store_all(bob, b"never answered")
        side.register(bob)
        silent = side.phone.receive()
        other = f"other-{bob}"
        side.store_all(other, b"hello")
        side.register(other)
        found = [shown(seen).body for seen in side.sent() if other in seen["To"]]
        side.phone.answer(silent, 200)
        return found

    old, new = pair.play(scenario)
    assert old == new == [b"hello"]


def test_w17_a_large_inbox_is_sent_one_by_one(pair: Pair) -> None:
    """The original sends all of it in one burst."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        side.store_all(bob, *[b"%d" % n for n in range(50)])
        side.register(bob)
        first = side.phone.receive()
        meanwhile = side.sent()
        side.phone.answer(first, 200)
        return len(meanwhile), len(side.sent())

    old, new = pair.play(scenario)
    assert old == (49, 0)
    assert new == (0, 49)
