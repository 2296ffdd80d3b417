"""The counters, under msilo's names."""

import time

import pytest

from tests.waiting import until

from .both import Side
from .conftest import PairOf

pytestmark = pytest.mark.sip

NAMES = ("stored_messages", "dumped_messages", "failed_messages", "dumped_reminders", "failed_reminders")


def counted(side: Side) -> dict[str, int]:
    """The counters that are not 0."""
    found = side.store.statistics()
    return {name: found[name] for name in NAMES if found[name]}


def test_every_counter_has_its_name(fresh_pair: PairOf) -> None:
    def scenario(side: Side, bob: str) -> dict[str, int]:
        found = side.store.statistics()
        return {name: found[name] for name in NAMES}

    old, new = fresh_pair().play(scenario)
    assert old == new == dict.fromkeys(NAMES, 0)


def test_dumped_messages_and_dumped_reminders(fresh_pair: PairOf) -> None:
    """The original counts each under the other's name."""

    def scenario(side: Side, bob: str) -> dict[str, int]:
        side.store_all(bob, b"one", b"two", b"three")
        side.dump(bob)
        for _ in range(3):
            side.phone.take()
        at = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 1))
        side.store_all(bob, b"lunch", lines=(f"X-Send-At: {at}",))
        side.phone.take()
        until(lambda: sum(counted(side).values()) == 8, 5, f"{side.name} has counted")
        return counted(side)

    clock = {"reminder": "sip:clock@home.lan", "send_time": 1, "snd_time_avp": "$hdr(X-Send-At)"}
    old, new = fresh_pair(**clock, check_time=1).play(scenario)
    assert old == {"stored_messages": 4, "dumped_messages": 1, "dumped_reminders": 3}
    assert new == {"stored_messages": 4, "dumped_messages": 3, "dumped_reminders": 1}


def test_failed_messages(fresh_pair: PairOf) -> None:
    def scenario(side: Side, bob: str) -> dict[str, int]:
        side.store_all(bob, b"hello")
        side.replayed(bob, 480)
        until(lambda: "failed_messages" in counted(side), 5, f"{side.name} has counted")
        return counted(side)

    old, new = fresh_pair(check_time=1).play(scenario)
    assert old == new == {"stored_messages": 1, "failed_messages": 1}


def test_what_was_refused(fresh_pair: PairOf) -> None:
    """Not stored by either; the original does not count it at all."""

    def scenario(side: Side, bob: str) -> tuple[dict[str, int], int | None]:
        side.store_all(bob, b"one")
        assert side.message(bob, b"two").code >= 400
        return counted(side), side.store.statistics().get("refused_messages")

    old, new = fresh_pair(max_messages=1).play(scenario)
    assert old == ({"stored_messages": 1}, None)
    assert new == ({"stored_messages": 1}, 1)


def test_a_restart_keeps_the_counters(fresh_pair: PairOf) -> None:
    """The original's are in memory alone."""

    def scenario(side: Side, bob: str) -> dict[str, int]:
        side.store_all(bob, b"hello")
        side.store.restart()
        return counted(side)

    old, new = fresh_pair().play(scenario)
    assert old == {}
    assert new == {"stored_messages": 1}
