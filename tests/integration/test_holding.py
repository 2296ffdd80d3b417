"""`hold` and `unhold` beside a daemon: what is held is taken, listed and not sent, and goes when it is let go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query

HELD = "held by the operator"


@pytest.fixture
def silo(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path, "--settle", "0.1") as one:
        yield one


def run(silo: Serve, *words: str) -> Ran:
    return harness.run(silo.folder, *words, *on(silo.file))


def noticed(silo: Serve, what: list[str]) -> None:
    """Wait until the daemon works by these holds: its log says so at level info, its file does not."""
    until(lambda: f'"holds": {what}'.replace("'", '"') in silo.log, 5, f"the daemon has noticed {what}")


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path, "--settle", "0.1", "--log-level", "info") as one:
        yield one


@pytest.mark.parametrize("words", [("--to", "bob@home.lan"), ("--peer", "127.0.0.0/8"), ("--all",)])
def test_what_is_held_waits_and_goes_when_it_is_let_go(talkative: Serve, words: tuple[str, ...]) -> None:
    silo = talkative
    with Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob:
        ran = run(silo, "hold", *words)
        assert ran == Ran(0, f"Held; `msilo-lite unhold {' '.join(words)}` lets it go.\n", "")
        noticed(silo, [" ".join(words)])
        bob.register()
        alice.write("bob", "one")
        bob.register()
        until(
            lambda: query(silo.file, "SELECT 1 FROM msilo_recipient WHERE reason = ?", HELD),
            5,
            "a lane that stays shut",
        )
        assert bob.glance(0.3) is None
        (listed,) = run(silo, "list", "--json").json()
        assert listed["state"] == "held"
        assert listed["why"].startswith(HELD)
        assert f"`unhold {' '.join(words)}` lets it go" in listed["why"]
        assert [one["kind"] for one in run(silo, "status", "--json").json()["holds"]] == [
            {"--to": "user", "--peer": "peer", "--all": "all"}[words[0]]
        ]
        assert run(silo, "dump", "bob@home.lan").sentence == f"msilo-lite: 1 stays: {HELD}"
        assert run(silo, "unhold", *words).out == f"Let go: {' '.join(words)}.\n"
        assert [one.body for one in bob.take(1)] == [b"one"]  # without another REGISTER
        assert run(silo, "hold", "--json").json() == []


def test_a_hold_stops_a_delivery_between_two_messages(talkative: Serve) -> None:
    silo = talkative
    with Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob:
        for n in range(3):
            alice.write("bob", f"number {n}")
        bob.register()
        first = bob.receive()
        run(silo, "hold", "--to", "bob@home.lan")
        noticed(silo, ["--to bob@home.lan"])
        while (again := bob.glance(0.05)) is not None:  # it was repeated meanwhile
            assert again.call_id == first.call_id
        bob.reply(first)
        until(lambda: query(silo.file, "SELECT count(*) FROM silo") == [(2,)], 5, "the first one delivered")
        assert bob.glance(0.5) is None
        assert query(silo.file, "SELECT count(*) FROM msilo_ledger WHERE state = 1") == [(0,)]
        run(silo, "unhold", "--every")
        assert [one.body for one in bob.take(2)] == [b"number 1", b"number 2"]


def test_others_are_not_held(silo: Serve) -> None:
    run(silo, "hold", "--to", "bob@home.lan")
    with Peer("alice", silo.address) as alice, Peer("carol", silo.address) as carol:
        alice.write("carol", "for you")
        carol.register()
        assert [one.body for one in carol.take(1)] == [b"for you"]


def test_a_hold_outlives_the_daemon_and_can_be_set_without_one(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "one")
        silo.stop()
        assert run(silo, "hold", "--all").code == 0
        assert run(silo, "hold", "--all").out.startswith("Held already")
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        until(
            lambda: query(silo.file, "SELECT 1 FROM msilo_recipient WHERE reason = ?", HELD),
            5,
            "a lane that stays shut",
        )
        silo.stop()
        assert run(silo, "unhold", "--all").out == "Let go: --all. No daemon runs that would send it.\n"
        with Serve(tmp_path, "--settle", "0.1"):
            assert [one.body for one in bob.take(1)] == [b"one"]


def test_a_reminder_that_falls_due_while_it_is_held_goes_afterwards(talkative: Serve) -> None:
    silo = talkative
    with Peer("bob", silo.address) as bob:
        bob.register()
        run(silo, "hold", "--to", "bob@home.lan")
        noticed(silo, ["--to bob@home.lan"])
        run(silo, "remind", "bob@home.lan", "tea", "--at", "+1s")
        until(
            lambda: query(silo.file, "SELECT 1 FROM msilo_recipient WHERE reason = ?", HELD),
            10,
            "a lane that stays shut",
        )
        assert bob.glance(0.2) is None
        run(silo, "unhold", "--to", "bob@home.lan")
        assert [one.body for one in bob.take(1)] == [b"tea"]


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("unhold", "--to", "bob@home.lan"), 3, "there is no such hold; in force: nothing is held"),
        (("unhold",), 2, "say what is held"),
        (("hold", "--to", "bob@home.lan", "--all"), 2, "one of them"),
        (("hold", "--peer", "10.0.0.1/8"), 2, "--peer"),
        (("hold", "--to", "home.lan"), 2, "names no user"),
    ],
)
def test_wrong_words(box: Path, tmp_path: Path, words: tuple[str, ...], code: int, named: str) -> None:
    ran = harness.run(tmp_path, *words, *on(box))
    assert (ran.code, ran.out) == (code, "")
    assert named in ran.sentence


def test_a_person_sees_what_is_held(box: Path, tmp_path: Path) -> None:
    assert "Nothing is held." in harness.run_on_terminal(tmp_path, "hold", *on(box)).out
    harness.run(tmp_path, "hold", "--peer", "PBX.home.lan", *on(box))
    assert "--peer pbx.home.lan" in harness.run_on_terminal(tmp_path, "hold", *on(box)).out
    assert harness.run(tmp_path, "hold", *on(box)).out.startswith("peer\tpbx.home.lan\t")
