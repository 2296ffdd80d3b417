"""SIGKILL at random moments: nothing that was answered 202 is lost or doubled, and a replay goes on where it was."""

import random
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from tests.waiting import until

from . import harness
from .harness import Peer, Serve, Sip

WINDOW = 48
"Requests under way at once: fewer than a receive buffer holds."


def storm(peer: Peer, until_accepted: int, requests: dict[str, bytes]) -> set[str]:
    """Send MESSAGEs as fast as they are answered until so many were; returns the Call-IDs that got 202."""
    accepted: set[str] = set()
    under_way = 0
    while len(accepted) < until_accepted:
        while under_way < WINDOW:
            call_id = f"storm-{len(requests)}"
            requests[call_id] = peer.message("bob", f"text of {call_id}", call_id)
            peer.send(requests[call_id])
            under_way += 1
        answer = peer.receive()
        under_way -= 1
        assert answer.code == 202, answer
        accepted.add(answer.call_id)
    return accepted


def rest(peer: Peer) -> set[str]:
    """Call-IDs of the 202s that were still on their way when the silo died."""
    found = set()
    while answer := peer.glance(0.05):
        if answer.code == 202:
            found.add(answer.call_id)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_was_accepted_is_there_exactly_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    requests: dict[str, bytes] = {}
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        accepted = storm(alice, chance.randrange(1, 600), requests)
        silo.kill()
        accepted |= rest(alice)
    found = [row[0] for row in harness.query(silo.file, "SELECT callid FROM silo")]
    assert len(found) == len(set(found))
    assert accepted <= set(found) <= set(requests)
    assert harness.query(silo.file, "PRAGMA integrity_check") == [("ok",)]
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:  # senders come again with what got no answer
        for call_id, raw in requests.items():
            mine = raw.replace(b"127.0.0.1:", f"127.0.0.1:{alice.port};x=".encode(), 1)
            answer = alice.ask(mine)
            assert (answer.code, answer.call_id) == (202, call_id)
        silo.stop()
    rows = harness.query(silo.file, "SELECT callid, CAST(body AS TEXT) FROM silo")
    assert sorted(rows) == sorted((call_id, f"text of {call_id}") for call_id in requests)


def write_all(silo: Serve, count: int) -> list[bytes]:
    with Peer("alice", silo.address) as alice:
        for n in range(count):
            alice.write("bob", f"number {n}")
    return [f"number {n}".encode() for n in range(count)]


def states(silo: Serve) -> dict[str, int]:
    return dict(harness.query(silo.file, "SELECT msilo_id, state FROM msilo_ledger"))


def identity(one: Sip) -> tuple[str, str, bytes]:
    """By what a phone, and a person, knows a repeat; the Call-ID is another one for each attempt."""
    return one.headers["x-msilo-id"], one.headers["date"], one.body


@pytest.mark.parametrize(("seed", "answer_last"), [(0, True), (1, False)])
def test_a_replay_goes_on_after_a_crash(tmp_path: Path, seed: int, answer_last: bool) -> None:
    count = 80  # more than one claim
    answered = random.Random(seed).randrange(1, count - 5)
    with Serve(tmp_path, "--settle", "0.1") as silo:
        texts = write_all(silo, count)
        with Peer("bob", silo.address) as bob:
            bob.register()
            before = bob.take(answered)
            if not answer_last:  # the next one is at the phone, and its answer is lost with the silo
                before.append(next_new(bob, before))
            silo.kill()
            while bob.glance(0.05):  # what left before the kill: seen by the phone, answered by nobody
                pass
            done = {name for name, state in states(silo).items() if state == State.DELIVERED}
            with Serve(tmp_path, "--settle", "0.1") as again:  # its phone is known from the file: no REGISTER
                after = bob.take(count - len(done), seconds=10)
                until(lambda: harness.query(again.file, "SELECT * FROM silo") == [], 5, "the box empty")
                assert bob.glance(0.3) is None
                again.stop()
    assert [one.body for one in before] == texts[: len(before)]
    assert [one.body for one in after] == texts[len(done) :]  # in order, all of the rest, nothing of what was written
    assert done == {one.headers["x-msilo-id"] for one in before[: len(done)]}
    again_seen = {one.body: one for one in after}
    for one in before[len(done) :]:
        assert identity(again_seen[one.body]) == identity(one)


def next_new(bob: Peer, before: list[Sip]) -> Sip:
    """The message after those the phone has answered."""
    old = {one.call_id for one in before}
    while (seen := bob.receive()).call_id in old:
        pass
    return seen


def test_a_kill_between_202_and_replay_loses_nothing(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "30") as silo:
        texts = write_all(silo, 3)
        with Peer("bob", silo.address) as bob:
            bob.register()
            silo.kill()
            with Serve(tmp_path, "--settle", "0.1") as again:
                bob.silo = again.address
                bob.register()
                assert [one.body for one in bob.take(3)] == texts


def test_a_wake_up_that_was_answered_survives_a_crash(tmp_path: Path) -> None:
    """The 200 to a REGISTER is a promise too: killed while the wake-up settles, the silo delivers after its restart."""
    with Serve(tmp_path, "--settle", "2") as silo, Peer("bob", silo.address) as bob:
        texts = write_all(silo, 3)
        bob.register()
        silo.kill()
        with Serve(tmp_path, "--settle", "2"):
            assert [sip.body for sip in bob.take(3, 10)] == texts
