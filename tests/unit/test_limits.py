"""What may wait: buckets, room in boxes, in the store and on the disk, and who counts it."""

from __future__ import annotations

import itertools
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msilo_lite.allowance import Allowance
from msilo_lite.box import bucket
from msilo_lite.box.bucket import Buckets
from msilo_lite.box.message import Turn, size_of
from msilo_lite.box.policy import Caps, Policy
from msilo_lite.box.quota import EVERYBODY, Quota
from msilo_lite.box.schema import Names
from msilo_lite.box.space import Space
from msilo_lite.box.store import Store
from msilo_lite.errors import Rejected
from msilo_lite.settings.config import Config
from msilo_lite.sip.address import Aor

from .kit import BOB, CARL, NOW, message

SMALL = 10
"Bytes of the messages here."


# -- buckets -------------------------------------------------------------------------------------------------------
def test_a_bucket_gives_what_it_holds_and_then_what_comes_back() -> None:
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("a", 0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0) == 0.5
    assert buckets.wait("a", 0.25) == 0.25
    assert buckets.take("a", 0.5) == 0
    assert buckets.take("b", 0.5) == 0


def test_no_rate_is_no_limit() -> None:
    buckets = Buckets(rate=0, burst=1)
    assert {buckets.take("a", 0) for _ in range(1000)} == {0}


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), max_size=200))
def test_never_more_than_burst_and_rate(steps: list[tuple[float, bool]]) -> None:
    """Whatever the clock does: in the seconds that went forward no more than rate times them, and the burst."""
    buckets, now, forward, given_out = Buckets(rate=1, burst=4), 100.0, 0.0, 0
    for step, takes in steps:
        now += step
        forward += max(0.0, step)
        given_out += takes and not buckets.take("a", now)
    assert given_out <= 4 + forward + 1


def test_memory_of_buckets_is_bounded() -> None:
    buckets = Buckets(rate=1, burst=1)
    for number in range(bucket.REMEMBERED + 500):
        buckets.take(str(number), 0)
    assert len(buckets._levels) == bucket.REMEMBERED


# -- the file counts -----------------------------------------------------------------------------------------------
def put(store: Store, *owners: Aor, body: bytes = b"x" * SMALL) -> None:
    store.write(Turn(new=[message(owner, body) for owner in owners]), NOW)


def counts(store: Store) -> dict[str, tuple[int, int]]:
    return {name: store.usage(owner) for name, owner in (("bob", BOB), ("carl", CARL), ("all", EVERYBODY))}


def test_what_waits_is_counted_whoever_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file, counted=True)) as store:
        put(store, BOB, BOB, CARL)
        assert counts(store) == {"bob": (2, 20), "carl": (1, 10), "all": (3, 30)}
        with closing(sqlite3.connect(file)) as other:  # a Kamailio: hosts as they came, bodies as text, no headers
            rows = [(1000, "bob", "Home.LAN", "ünï"), (1001, "carl", "home.lan", None)]
            other.executemany("INSERT INTO silo (id, username, domain, body) VALUES (?, ?, ?, ?)", rows)
            other.commit()
            assert counts(store) == {"bob": (3, 25), "carl": (2, 10), "all": (5, 35)}
            other.execute("UPDATE silo SET body = 'longer' WHERE id = 1001")
            other.execute("UPDATE silo SET username = 'bob' WHERE id = 1001")
            other.commit()
            assert counts(store) == {"bob": (4, 31), "carl": (1, 10), "all": (5, 41)}
            other.execute("DELETE FROM silo WHERE username = 'bob'")
            other.commit()
        assert counts(store) == {"bob": (0, 0), "carl": (1, 10), "all": (1, 10)}


def test_headers_count_as_well(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "silo.sqlite", counted=True)) as store:
        one = message(kept="Subject: ü\r\n", body=b"")
        store.write(Turn(new=[one]), NOW)
        assert store.usage(BOB) == (1, 13) == (1, size_of(one))


def test_counting_begins_when_a_limit_is_set_and_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"

    def triggers() -> int:
        with closing(sqlite3.connect(file)) as other:
            return int(other.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()[0])

    with closing(Store(file, served=True)) as store:
        put(store, BOB, CARL)
        assert triggers() == 0
        assert store.usage(EVERYBODY) == (0, 0)
    with closing(Store(file, counted=True, served=True)) as store:
        assert triggers() == 3
        assert counts(store) == {"bob": (1, 10), "carl": (1, 10), "all": (2, 20)}
        put(store, BOB)
    with closing(Store(file)) as store:  # a command that knows of no limit leaves it as it is
        put(store, CARL)
        assert counts(store) == {"bob": (2, 20), "carl": (2, 20), "all": (4, 40)}
    with closing(Store(file, served=True)) as store:
        assert triggers() == 0


def test_counting_knows_other_names(tmp_path: Path) -> None:
    names = Names(db_table='my "silo"', sc_body="the body", sc_uri_user="wer", sc_uri_host="wo", sc_stored_hdrs="h")
    with closing(Store(tmp_path / "silo.sqlite", names, counted=True)) as store:
        put(store, BOB, CARL)
        assert counts(store) == {"bob": (1, 10), "carl": (1, 10), "all": (2, 20)}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["put", "take", "move", "edit"]), st.integers(0, 5)), max_size=25))
def test_counters_and_rows_never_drift(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "silo.sqlite"
        with closing(Store(file, counted=True)) as store, closing(sqlite3.connect(file)) as other:
            for verb, number in steps:
                if verb == "put":
                    put(store, (BOB, CARL)[number % 2], body=b"x" * number)
                    continue
                changes = {"take": "DELETE FROM silo", "move": "UPDATE silo SET username = 'carl'",
                           "edit": "UPDATE silo SET body = CAST('longer' AS BLOB), extra_hdrs = 'A: b'"}  # fmt: skip
                other.execute(f"{changes[verb]} WHERE id % 6 = ?", (number,))
                other.commit()
            size = "coalesce(length(CAST(body AS BLOB)), 0) + coalesce(length(CAST(extra_hdrs AS BLOB)), 0)"
            for name, where in (("bob", "username = 'bob'"), ("carl", "username = 'carl'"), ("all", "1")):
                row = other.execute(f"SELECT count(*), coalesce(sum({size}), 0) FROM silo WHERE {where}").fetchone()
                assert counts(store)[name] == tuple(row)


# -- room ----------------------------------------------------------------------------------------------------------
class Room:
    """A quota over a real file, and a turn that was not written yet."""

    def __init__(self, store: Store, *, max_messages: int = 0, short: bool = False, **caps: int) -> None:
        self.store, self.turn = store, Turn()
        self.quota = Quota(Policy(max_messages=max_messages, caps=Caps(**caps)), store, lambda: short)

    def take(self, owner: Aor = BOB, body: bytes = b"x" * SMALL) -> Rejected | None:
        one = message(owner, body)
        try:
            self.quota.check(one, self.turn.new, NOW)
        except Rejected as refusal:
            return refusal
        self.turn.new.append(one)
        return None

    def commit(self) -> None:
        self.store.write(self.turn, NOW)
        self.turn = Turn()


LIMITS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "max_messages": ({"max_messages": 3}, 480, "refused_full_box", "300"),
    "max_bytes": ({"each_bytes": 39}, 480, "refused_full_box", "300"),
    "max_total_messages": ({"all_messages": 3}, 503, "refused_full_store", "60"),
    "max_total_bytes": ({"all_bytes": 39}, 503, "refused_full_store", "60"),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("commits", list(itertools.product([False, True], repeat=3)))
def test_a_limit_holds_over_turns_and_within_one(tmp_path: Path, name: str, commits: tuple[bool, ...]) -> None:
    settings, status, counter, again = LIMITS[name]
    with closing(Store(tmp_path / "silo.sqlite", counted=True)) as store:
        room = Room(store, **settings)
        for commit in commits:
            assert room.take() is None
            if commit:
                room.commit()
        refusal = room.take()
        assert refusal is not None
        assert (refusal.status, refusal.counter) == (status, counter)
        assert dict(refusal.headers) == {"Retry-After": again}
        assert name in refusal.reason
        other = room.take(CARL)
        assert (other is None) == (status == 480), "another box has room where only this one is full"


@pytest.mark.parametrize("name", LIMITS)
def test_what_left_makes_room(tmp_path: Path, name: str) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file, counted=True)) as store:
        room = Room(store, **LIMITS[name][0])
        assert [room.take() for _ in range(3)] == [None] * 3
        room.commit()
        assert room.take() is not None
        with closing(sqlite3.connect(file)) as other:
            other.execute("DELETE FROM silo WHERE id = 1")
            other.commit()
        assert room.take() is None
        assert room.take() is not None


@pytest.mark.parametrize("name", LIMITS)
def test_a_retransmission_needs_no_room(tmp_path: Path, name: str) -> None:
    with closing(Store(tmp_path / "silo.sqlite", counted=True)) as store:
        room = Room(store, **LIMITS[name][0])
        first = message(body=b"x" * SMALL)
        room.turn.new.append(first)
        for _ in range(5):
            room.quota.check(first, room.turn.new, NOW)
            room.turn.new.append(first)
        assert [room.take() for _ in range(2)] == [None] * 2, "and takes none"
        room.commit()
        room.quota.check(first, room.turn.new, NOW)
        with pytest.raises(Rejected):
            room.quota.check(replace(first, key=b"new"), room.turn.new, NOW)


def test_a_turn_that_was_given_up_counts_for_nothing(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "silo.sqlite", counted=True)) as store:
        room = Room(store, each_bytes=25)
        assert [room.take() is None for _ in range(3)] == [True, True, False]
        room.turn = Turn()
        assert [room.take() is None for _ in range(3)] == [True, True, False]


def test_a_look_costs_the_same_however_much_waits(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, not in seconds."""
    with closing(Store(tmp_path / "silo.sqlite", counted=True)) as store:
        room = Room(store, each_bytes=10**9, all_messages=10**9, all_bytes=10**9)

        def look() -> int:
            steps = itertools.count()
            store._c.set_progress_handler(lambda: next(steps) < 0, 1)
            room.quota.check(message(), [], NOW)
            store._c.set_progress_handler(None, 0)
            return next(steps)

        put(store, BOB)
        few = look()
        for _ in range(20):
            put(store, *[BOB] * 250)
        assert 0 < look() <= few + 5
        assert store.usage(EVERYBODY)[0] == 5001


# -- the disk ------------------------------------------------------------------------------------------------------
def test_a_disk_without_room_is_seen(tmp_path: Path) -> None:
    """A twentieth of any disk is the most that is kept free."""
    found = os.statvfs(tmp_path)
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    assert Space(tmp_path / "f", 2**62).is_short() == (free < size // 20)
    assert not Space(tmp_path / "f", 0).is_short()
    assert not Space(tmp_path / "f", 1).is_short()
    assert not Space(tmp_path / "nowhere" / "f", 2**62).is_short()


def test_other_limits_come_into_force(tmp_path: Path) -> None:
    """As at a SIGHUP: also where nothing was counted before."""
    config = {"db_url": f"sqlite:///{tmp_path}/silo.sqlite", "min_free": 0}
    with closing(Store(tmp_path / "silo.sqlite")) as store:
        allowance = Allowance(Config.model_validate(config), store)
        put(store, BOB, BOB)
        allowance.quota.check(message(), [], NOW)
        allowance.apply(Config.model_validate(config | {"max_total_messages": 2}))
        with pytest.raises(Rejected, match="max_total_messages"):
            allowance.quota.check(message(), [], NOW)
        allowance.apply(Config.model_validate(config | {"max_messages": 2}))
        with pytest.raises(Rejected, match="max_messages"):
            allowance.quota.check(message(), [], NOW)
        assert store.usage(EVERYBODY) == (0, 0)
        allowance.apply(Config.model_validate(config))
        allowance.quota.check(message(), [], NOW)


def test_a_full_disk_refuses_before_it_is_full(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "silo.sqlite")) as store:
        refusal = Room(store, short=True).take()
        assert refusal is not None
        assert (refusal.status, refusal.counter, dict(refusal.headers)) == (503, "refused_disk", {"Retry-After": "60"})
