"""How long a message lives (expire_time, Expires, the cleaner) and how many may wait (max_messages)."""

import time

import pytest

from tests.waiting import until

from .both import Pair, Side
from .conftest import PairOf
from .shown import shown

pytestmark = pytest.mark.sip


def life(side: Side, bob: str) -> int:
    """Seconds the one message of an owner may wait, from its arrival."""
    (row,) = side.rows(bob)
    return row.exp_time - row.inc_time


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [((), 259200), (("Expires: 60",), 60), (("Expires: 259201",), 259200), (("Expires: 4294967295",), 259200)],
)
def test_expires_up_to_expire_time(pair: Pair, lines: tuple[str, ...], seconds: int) -> None:
    """72 hours, unless the sender asks for less."""

    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob, b"hello", *lines).code == 202
        return life(side, bob)

    old, new = pair.play(scenario)
    assert new == seconds
    assert old == seconds


@pytest.mark.parametrize(("lines", "seconds"), [((), 100), (("Expires: 60",), 60), (("Expires: 3600",), 100)])
def test_expire_time_of_100_seconds(pair_of: PairOf, lines: tuple[str, ...], seconds: int) -> None:
    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob, b"hello", *lines).code == 202
        return life(side, bob)

    old, new = pair_of(expire_time=100).play(scenario)
    assert old == new == seconds


def test_expires_0_asks_for_no_storing(pair: Pair) -> None:
    """RFC 3428 section 7: the original keeps it for three days; ours answers that bob is away."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        return side.message(bob, b"hello", "Expires: 0").code, len(side.rows(bob))

    old, new = pair.play(scenario)
    assert old == (202, 1)
    assert new == (480, 0)


def test_expired_is_never_delivered(pair: Pair) -> None:
    """The original sends it as long as the cleaner has not come by, ten minutes as it is shipped."""

    def scenario(side: Side, bob: str) -> list[bytes]:
        assert side.message(bob, b"stale", "Expires: 1").code == 202
        assert side.message(bob, b"fresh").code == 202
        end = side.rows(bob)[0].exp_time
        until(lambda: time.time() > end, 5, "its time is over")
        side.register(bob)
        return [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == [b"stale", b"fresh"]
    assert new == [b"fresh"]


def test_the_cleaner_takes_out_what_expired(pair_of: PairOf) -> None:
    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob, b"stale", "Expires: 1").code == 202
        assert side.message(bob, b"fresh").code == 202
        until(lambda: len(side.rows(bob)) == 1, 6, "the cleaner came by")
        return len(side.rows(bob))

    old, new = pair_of(check_time=1, clean_period=1).play(scenario)
    assert old == new == 1


# ---- how many --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(pair_of: PairOf) -> Pair:
    """Two messages a user."""
    return pair_of(max_messages=2)


def test_the_third_of_two_is_refused(small: Pair) -> None:
    """The original's answer looks like an outage, and a sender would try again at once; ours says when."""

    def scenario(side: Side, bob: str) -> tuple[int, list[str], list[bytes]]:
        side.store_all(bob, b"one", b"two")
        answer = side.message(bob, b"three")
        side.register(bob)
        return answer.code, answer.all("Retry-After"), [shown(seen).body for seen in side.sent()]

    old, new = small.play(scenario)
    assert old == (503, [], [b"one", b"two"])
    assert new == (480, ["300"], [b"one", b"two"])


def test_the_quota_is_each_users_own(small: Pair) -> None:
    def scenario(side: Side, bob: str) -> list[int]:
        side.store_all(bob, b"one", b"two")
        return [side.message(f"not-{bob}").code for _ in range(2)]

    old, new = small.play(scenario)
    assert old == new == [202, 202]


def test_a_retransmission_does_not_count(small: Pair) -> None:
    """The same request again gets the same answer, and is one message."""

    def scenario(side: Side, bob: str) -> tuple[list[int], list[bytes]]:
        raws = [side.written(bob, text) for text in (b"one", b"two", b"two")]
        raws[2] = raws[1]
        return [side.alice.ask(raw, side.address).code for raw in raws], side.bodies(bob)

    old, new = small.play(scenario)
    assert old == new == ([202, 202, 202], [b"one", b"two"])


@pytest.mark.parametrize("limit", [0, 1])
def test_a_retransmission_after_a_restart(fresh_pair: PairOf, limit: int) -> None:
    """The original knows repeats from memory: it stores it again, or refuses it where the box is full."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        raw = side.written(bob, b"hello")
        assert side.alice.ask(raw, side.address).code == 202
        side.store.restart()
        return side.alice.ask(raw, side.address).code, len(side.rows(bob))

    old, new = fresh_pair(max_messages=limit).play(scenario)
    assert old == ((503, 1) if limit else (202, 2))
    assert new == (202, 1)


def test_expired_messages_do_not_count(small: Pair) -> None:
    """In the original they fill the box until the cleaner comes by."""

    def scenario(side: Side, bob: str) -> int:
        for text in (b"one", b"two"):
            assert side.message(bob, text, "Expires: 1").code == 202
        end = side.rows(bob)[1].exp_time
        until(lambda: time.time() > end, 5, "their time is over")
        return side.message(bob, b"three").code

    old, new = small.play(scenario)
    assert (old, new) == (503, 202)


def test_delivered_messages_do_not_count(small: Pair) -> None:
    """In the original they fill the box until the cleaner comes by, a minute as it is shipped."""

    def scenario(side: Side, bob: str) -> int:
        side.store_all(bob, b"one", b"two")
        side.dump(bob)
        assert len(side.sent()) == 2
        return side.message(bob, b"three").code

    old, new = small.play(scenario)
    assert (old, new) == (503, 202)
