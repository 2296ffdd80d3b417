"""Which message is at fault when the silo crashed, what it leaves behind, and whether the clock was set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msilo_lite.box.blame import CRASHES_AMONG_OTHERS, Blame, UnderWay, alone, blame, spread
from msilo_lite.box.recorder import SIZE, LastRun, Recorder, last_run
from msilo_lite.drift import LEAST, Drift

from .kit import BOB, NOW, Rig, texts

ONCE, TWICE = 0, 1
"How often the silo had crashed of a message before this crash."


@pytest.mark.parametrize(
    ("under_way", "sending", "expected"),
    [
        ([], 0, Blame([], [])),
        ([(1, ONCE)], 0, Blame([1], [])),  # it was alone, for the first time
        ([(1, TWICE)], 0, Blame([1], [1])),
        ([(1, ONCE), (2, ONCE)], 0, Blame([1, 2], [])),
        ([(1, TWICE), (2, ONCE)], 0, Blame([1, 2], [])),  # who knows which of the two it was
        ([(1, CRASHES_AMONG_OTHERS - 1), (2, ONCE)], 0, Blame([1, 2], [1])),
        ([(1, ONCE), (2, ONCE), (3, ONCE)], 2, Blame([2], [])),  # PJSIP had this one in its hands
        ([(1, TWICE), (2, TWICE), (3, ONCE)], 2, Blame([2], [2])),
        ([(1, TWICE), (2, TWICE)], 9, Blame([1, 2], [])),  # that one is not under way any more
    ],
)
def test_blame(under_way: list[tuple[int, int]], sending: int, expected: Blame) -> None:
    assert blame([UnderWay(*one) for one in under_way], sending) == expected


@pytest.mark.parametrize(
    ("crashes", "most"), [([], 0), ([0, 0, 0], 3), ([1, 0], 1), ([0, 0, 1, 0], 2), ([2], 1), ([1, 1], 1)]
)
def test_a_suspect_is_claimed_alone(crashes: list[int], most: int) -> None:
    assert alone(crashes) == most


def test_owners_take_turns_after_a_crash() -> None:
    assert spread("abc", 100) == [100, 102, 104]
    assert spread("", 100) == []


# -- the recorder ------------------------------------------------------------------------------------------------------
DUMP = b"""Fatal Python error: Aborted

Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3/agent.py", line 220 in send
  File "/usr/lib/python3/daemon.py", line 9 in turn
"""


def record(pid: str = "77", sending: bytes = b"", heard: bytes = b"", told: bytes = b"") -> bytes:
    return pid.encode().ljust(32, b"\0") + sending.ljust(32) + heard.ljust(SIZE - 64, b"\0") + told


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", LastRun()),
        (bytes(SIZE), LastRun()),
        (b"77\n", LastRun("77")),  # of 0.2.0
        (record(), LastRun("77")),
        (record(sending=b"12", heard=b"10.0.0.1:5060"), LastRun("77", "", 12, "10.0.0.1:5060")),
        (record(told=DUMP), LastRun("77", "Aborted in send (agent.py:220)")),
        (record(sending=b"12", told=b"KeyError\n"), LastRun("77", "KeyError", 12)),
        (os.urandom(10) + b"\xff" * 600, LastRun()),
    ],
)
def test_last_run(raw: bytes, expected: LastRun) -> None:
    assert last_run(raw) == expected


def test_what_is_said_of_the_last_run() -> None:
    assert str(LastRun("77")) == "the last run (process 77) was killed, or the power went"
    whole = LastRun("77", "Aborted in send (agent.py:220)", 12, "10.0.0.1:5060")
    assert str(whole) == (
        "the last run (process 77) crashed: Aborted in send (agent.py:220), while it sent message h12; "
        "its last request came from 10.0.0.1:5060"
    )
    assert whole.crashed
    assert not LastRun("77", "Bus error in _write (store.py:1)").crashed
    assert not LastRun("77").crashed


def test_a_recorder_tells_the_next_one(tmp_path: Path) -> None:
    number = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    try:
        first = Recorder(number)
        assert first.last == LastRun()
        first.heard("2001:db8::1", 5060)
        first.sending(7)
        first.sending(12345678901)
        second = Recorder(number)  # the first one never said goodbye
        assert second.last == LastRun(str(os.getpid()), "", 12345678901, "2001:db8::1:5060")
        second.sending(5)
        second.sending(0)
        try:
            raise ValueError("SECRET")
        except ValueError as error:
            second.fault(error)
        second.close(orderly=False)
        third = Recorder(number)
        assert third.last.fault.startswith("ValueError in test_a_recorder_tells_the_next_one (test_blame.py:")
        assert third.last.sending == 0
        third.close(orderly=True)
        assert Recorder(number).last == LastRun()
        assert b"SECRET" not in (tmp_path / "lock").read_bytes()
    finally:
        os.close(number)


# -- the clock ---------------------------------------------------------------------------------------------------------
def test_drift_sees_a_clock_that_is_set_once() -> None:
    drift = Drift(1000.0)
    assert drift.look(1010.0, 10.0) == 0
    assert drift.look(87420.0, 20.0) == 86400
    assert drift.look(87430.0, 30.0) == 0
    assert drift.look(1040.0, 40.0) == -86400
    assert drift.look(1050.0, 50.0) == 0


def test_drift_leaves_small_corrections_alone() -> None:
    drift = Drift(0.0)
    assert [drift.look(second * 1.5, second) for second in range(1, 300)] == [0] * 299
    assert drift.look(450.0 + LEAST, 300.0) != 0


@pytest.mark.parametrize("by", [86400, -86400])
def test_a_clock_that_is_set_moves_what_is_to_come(rig: Rig, by: int) -> None:
    """A next try, a rest of the proxy and a binding come and end in as many seconds as before."""
    rig.write("one")
    rig.replay.expect(BOB, NOW + 60)
    rig.replay.held_until = NOW + 100
    rig.silo.commit(NOW)
    rig.replay.clock_moved(by)
    rig.bindings.clock_moved(by, rig.silo.turn)
    rig.silo.commit(NOW)
    assert [one.next_try for one in rig.store.recipients()] == [NOW + by + 60]
    assert rig.replay.held_until == NOW + by + 100
    assert [(one.expires, one.updated) for one in rig.store.contacts()] == [(NOW + by + 3600, NOW + by)]
    assert rig.bindings.newest(BOB, NOW + by + 3599)
    rig.replay.held_until = 0
    rig.replay.clock_moved(by)
    assert rig.replay.held_until == 0  # nothing rests


def test_a_clock_that_is_set_forward_ends_nothing(rig: Rig) -> None:
    """What waits keeps the life it had left, in the box and in a lane; what was over stays over."""
    rig.write("over", expires="10")
    rig.now += 20
    rig.write("first", "second")
    (send,) = rig.wake(BOB)
    life = {one.message.body: one.message.expires for one in rig.box()}
    day = 86400 * 10
    rig.replay.clock_moved(day)
    rig.bindings.clock_moved(day, rig.silo.turn)
    rig.store.repair.live_on(day, rig.now)
    rig.now += day
    assert {one.message.body: one.message.expires for one in rig.box()} == {
        body: at + (0 if body == b"over" else day) for body, at in life.items()
    }
    assert texts([send]) == ["first"]
    assert texts(rig.answer(send, 200)) == ["second"]
    assert rig.counters()["expired_messages"] == 1
