"""What becomes of a message after the phone's answer, and when it is tried again (5.1, W18)."""

import pytest

from tests.waiting import until

from .both import Pair, Side
from .conftest import PairOf, Start
from .shown import shown

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


@pytest.fixture(scope="module")
def quick(pair_of: PairOf) -> Pair:
    """The cleaner comes by every second, so that the original lets go of what failed."""
    return pair_of(check_time=1)


def failures(side: Side) -> int:
    """How many answers a side has taken for a failure, in its own statistics."""
    found = side.store.statistics()
    return found["failed_messages"] + found["failed_reminders"]


def _tried_again(side: Side, bob: str, code: int, *lines: str) -> list[bytes]:
    """What the next REGISTER brings after such an answer to the first of two messages."""
    before = failures(side)
    assert side.message(bob, b"one").code == 202
    side.replayed(bob, code, *lines)
    until(lambda: failures(side) > before, 5, f"{side.name} knows")
    side.register(bob)
    return [shown(seen).body for seen in side.sent()]


@pytest.mark.parametrize("code", [404, 408, 480, 486, 500, 503])
def test_what_may_pass_is_sent_again(quick: Pair, code: int) -> None:
    """With the next REGISTER, by both."""
    old, new = quick.play(lambda side, bob: _tried_again(side, bob, code))
    assert old == new == [b"one"]


@pytest.mark.parametrize("code", [415, 488, 513])
def test_a_refused_content_is_parked(quick: Pair, code: int) -> None:
    """The original sends it at every REGISTER for three days; ours sets it aside and shows it."""
    old, new = quick.play(lambda side, bob: _tried_again(side, bob, code))
    assert (old, new) == ([b"one"], [])


@pytest.mark.parametrize("code", [600, 603])
def test_a_refusal_everywhere_is_final(quick: Pair, code: int) -> None:
    """A 6xx speaks for all phones of the user (RFC 3261 21.6); the original tries again."""
    old, new = quick.play(lambda side, bob: _tried_again(side, bob, code))
    assert (old, new) == ([b"one"], [])


def test_a_redirect_is_followed_once(quick: Pair) -> None:
    """A failure to the original."""

    def scenario(side: Side, bob: str) -> list[bool]:
        moved = side.contact(f"moved-{bob}")
        assert side.message(bob).code == 202
        side.replayed(bob, 302, f"Contact: <{moved}>")
        return [seen.uri == moved for seen in side.sent()]

    old, new = quick.play(scenario)
    assert old == []
    assert new == [True]


def test_a_register_right_after_a_failure(pair: Pair) -> None:
    """The original does not try again before its cleaner came by, up to a minute as it is shipped."""

    def scenario(side: Side, bob: str) -> list[bytes]:
        assert side.message(bob, b"hello").code == 202
        side.replayed(bob, 480)
        side.register(bob)
        return [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == []
    assert new == [b"hello"]


def test_a_late_answer_still_counts(quick: Pair) -> None:
    """Ours waits the 32 seconds of a transaction (RFC 3261 17.1.2.2); the original as long as tm is told to."""

    def scenario(side: Side, bob: str) -> bool:
        side.store_all(bob, b"hello")
        side.register(bob)
        request = side.phone.receive()
        repeated = side.phone.receive(2)  # after T1
        side.phone.answer(repeated, 200)
        side.ends(bob)
        return repeated["Via"] == request["Via"]

    old, new = quick.play(scenario)
    assert (old, new) == (True, True)


def test_w18_a_dump_needs_no_register(lite: Start) -> None:
    """The original has no command and no timer for it; ours also tries by itself after 1, 2, 5, ... minutes (units)."""
    side = lite()
    side.store_all(BOB, b"hello")
    running = side.silo.dump(BOB)
    assert shown(side.phone.take()).body == b"hello"
    assert running.wait(15) == 0
    assert side.rows() == []
