"""`status`, `top` and `tail` beside a silo that works: on a terminal, in a pipe and as JSON."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.box.feed import Feed
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Turn
from msilo_lite.box.store import Store
from msilo_lite.sip.address import Aor
from tests.waiting import until

from . import harness
from .harness import Peer, Serve, on
from .samples import NOW, delivered, message, stored
from .terminal import Terminal

Events = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def silo(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path, "--settle", "0.1") as one:
        yield one


def status(silo: Serve) -> dict[str, Any]:
    found: dict[str, Any] = harness.run(silo.folder, "status", "--json", *on(silo.file)).json()
    return found


def a_busy_hour(silo: Serve) -> None:
    """Bob gets his, carol is busy, dave is away, a stranger is refused."""
    with Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob, Peer("carol", silo.address) as carol:
        for who in ("bob", "carol", "dave", "dave"):
            alice.write(who, "hello")
        assert alice.ask(alice.request("MESSAGE", "bob", "Require: x", body=b"x")).code == 420
        alice.send(b"\x00\xff" * 40)
        bob.register()
        bob.take(1)
        carol.register()
        carol.reply(carol.receive(), 486)
        look = ("SELECT value FROM msilo_daemon WHERE name = 'recent'",)
        until(lambda: "486 Reply" in str(harness.query(silo.file, *look)), 10, "the daemon tells of it")


# -- status ------------------------------------------------------------------------------------------------------------
def test_status_tells_what_happened_last(silo: Serve) -> None:
    a_busy_hour(silo)
    until(lambda: s_has_all(status(silo)), 20, "all of it")
    found = status(silo)
    assert {(one["to"], one["by"]) for one in found["last_wakeups"]} == {
        ("bob@home.lan", "register"), ("carol@home.lan", "register"),
    }  # fmt: skip
    (attempt,) = found["last_attempts"]
    assert (attempt["event"], attempt["to"], attempt["code"], attempt["reason"]) == (
        "missed", "carol@home.lan", 486, "486 Reply",
    )  # fmt: skip
    (refusal,) = found["last_refusals"]
    assert (refusal["code"], refusal["peer"].rpartition(":")[0]) == (420, "127.0.0.1")
    (error,) = found["last_errors"]
    assert (error["event"], error["level"]) == ("request.malformed", "warning")
    assert (found["waiting"], found["waiting_users"]) == (3, 2)
    assert found["waiting_for"] == {"dave@home.lan": 2, "carol@home.lan": 1}  # the most first
    assert found["registered_users"] == 2
    assert found["database_bytes"] + found["wal_bytes"] == found["bytes"]
    assert found["free_bytes"] > 0


def s_has_all(found: dict[str, Any]) -> bool:
    return bool(found["last_wakeups"] and found["last_attempts"] and found["last_refusals"] and found["last_errors"])


def test_what_happened_last_outlives_the_daemon(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0.1") as silo:
        a_busy_hour(silo)
        silo.stop()
    before = status(silo)
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("dave", silo.address) as dave:
        dave.register()
        dave.take(2)
        until(lambda: status(silo)["last_wakeups"][0]["to"] == "dave@home.lan", 20, "the new wake-up")
        after = status(silo)
    assert after["last_wakeups"][0]["by"] == "register"
    assert [one["to"] for one in after["last_wakeups"]] == ["dave@home.lan", *(o["to"] for o in before["last_wakeups"])]
    assert [one["reason"] for one in after["last_attempts"]] == [one["reason"] for one in before["last_attempts"]]


def test_a_long_list_of_users_is_cut_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        new = [message("x", Aor(f"user{n}", "home.lan")) for n in range(150)]
        store.write(Turn(new=[*new, message("y", Aor("user77", "home.lan"))]), NOW)
    found = harness.run(tmp_path, "status", "--json", *on(file)).json()
    assert (found["waiting_users"], len(found["waiting_for"])) == (150, 100)
    assert next(iter(found["waiting_for"].items())) == ("user77@home.lan", 2)
    shown = harness.run_on_terminal(tmp_path, "status", *on(file), columns=80).out
    assert "151 messages for 150 users" in shown
    assert "… and 145 more" in shown
    assert "not running" in shown


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_status_fits_the_terminal(silo: Serve, columns: int) -> None:
    a_busy_hour(silo)
    with Terminal(silo.folder, "status", *on(silo.file), columns=columns) as terminal:
        assert terminal.ended(20) == 0
        lines = terminal.text.replace("\r", "").splitlines()
        assert max(map(len, lines)) <= columns
        for words in (
            "running since",
            "listens on",
            "Waiting  3 messages for 2 users",
            "carol@home.lan",
            "Last wake-ups",
        ):
            assert words in terminal.text


# -- top ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["q", "\x03"])
def test_top_is_live_and_leaves_the_terminal_as_it_was(silo: Serve, key: str) -> None:
    with (
        Peer("alice", silo.address) as alice,
        Terminal(silo.folder, "top", "--interval", "0.2", *on(silo.file)) as terminal,
    ):
        terminal.until("Nothing waits")
        assert "\x1b[?1049h" in terminal.raw  # a screen of its own
        terminal.forget()
        alice.write("bob", "hello")
        terminal.until("1 message for 1 user.*bob@home.lan".replace(".*", r"[\s\S]*"))
        terminal.until(r"stored [1-9]\d*\.\d|stored 0\.[1-9]")
        terminal.forget()
        terminal.resize(100, 20)
        terminal.until("Waiting")
        terminal.type(key)
        assert terminal.ended() == 0
        assert "\x1b[?1049l" in terminal.raw
        assert terminal.modes_now() == terminal.modes


def test_top_gives_the_terminal_back_at_a_sigterm(silo: Serve) -> None:
    with Terminal(silo.folder, "top", *on(silo.file)) as terminal:
        terminal.until("Nothing waits")
        terminal.signal(signal.SIGTERM)
        assert terminal.ended() == 0
        assert "\x1b[?1049l" in terminal.raw
        assert terminal.modes_now() == terminal.modes


def test_top_in_a_pipe_is_one_picture(silo: Serve) -> None:
    ran = harness.run(silo.folder, "top", *on(silo.file))
    assert (ran.code, ran.err) == (0, "")
    assert "running since" in ran.out
    assert "Nothing waits" in ran.out
    assert "\x1b" not in ran.out


# -- tail --------------------------------------------------------------------------------------------------------------
def _told_after(probe: Peer, told: Events) -> list[dict[str, Any]]:
    probe.write("probe", str(time.monotonic()))
    time.sleep(0.2)
    return told()


@contextmanager
def tailing(silo: Serve, *words: str) -> Iterator[Events]:
    """`tail --json` in the background; gives what it has told so far."""
    out = silo.folder / "tail.out"
    with out.open("wb") as file:
        child = subprocess.Popen(
            [*harness.COMMAND, "tail", "--json", *words, *on(silo.file)], cwd=silo.folder, stdin=subprocess.DEVNULL,
            env=harness.environment(silo.folder), stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )  # fmt: skip

    def told() -> list[dict[str, Any]]:
        whole = [line for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole]

    try:
        with Peer("probe", silo.address) as probe:  # it has begun when it sees this
            until(lambda: _told_after(probe, told), 20, "tail looks")
        yield told
    finally:
        child.terminate()
        child.wait(10)


def of(events: list[dict[str, Any]], user: str) -> list[str]:
    return [one["event"] for one in events if one.get("to") == f"{user}@home.lan"]


def test_tail_tells_the_life_of_each_message(silo: Serve) -> None:
    with (
        Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob,
        Peer("carol", silo.address) as carol, tailing(silo) as told,
    ):  # fmt: skip
        alice.write("bob", "one")
        until(lambda: of(told(), "bob") == ["stored"], 5, "stored")
        bob.register()
        first = bob.receive()
        until(lambda: set(of(told(), "bob")) == {"stored", "woken", "sending"}, 5, "sending")  # wake-ups come late
        bob.reply(first)
        until(lambda: of(told(), "bob")[3:] == ["delivered"], 5, "delivered")
        alice.write("carol", "two")
        carol.register()
        carol.reply(carol.receive(), 415)
        until(lambda: of(told(), "carol")[-1:] == ["parked"], 5, "parked")
        harness.run(silo.folder, "purge", "--to", "carol@home.lan", "--yes", *on(silo.file))
        until(lambda: of(told(), "carol")[-1:] == ["purged"], 5, "purged")
        assert alice.ask(alice.request("MESSAGE", "bob", "Require: x", body=b"x")).code == 420
        alice.send(b"\x00\xff" * 40)
        until(lambda: {"refused", "error"} <= {one["event"] for one in told()}, 5, "refused")
        last = {one["event"]: one for one in told()}
        mine = [one for one in told() if one.get("to") == "bob@home.lan"]
    assert len({one["message_id"] for one in mine if "message_id" in one}) == 1
    assert (mine[-1]["id"], mine[-1]["code"], mine[-1]["attempts"]) == (f"h{int(mine[0]['id'])}", 200, 1)
    assert mine[0]["from"] == "<sip:alice@home.lan>"
    assert last["parked"]["reason"].startswith("415")
    assert (last["refused"]["code"], last["error"]["name"]) == (420, "request.malformed")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["at"]) for one in last.values())
    assert not [one for one in told() if "two" in json.dumps(one)]  # no bodies


def test_an_attempt_that_fails_at_once_is_not_missed(silo: Serve) -> None:
    with Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob, tailing(silo) as told:
        alice.write("bob", "one")
        bob.register()
        bob.reply(bob.receive(), 486)
        until(lambda: "missed" in of(told(), "bob"), 5, "missed")
        (missed,) = [one for one in told() if one["event"] == "missed"]
    assert (missed["code"], missed["reason"], missed["attempts"]) == (486, "486 Reply", 1)


def test_tail_of_one_user_and_of_the_past(silo: Serve) -> None:
    a_busy_hour(silo)
    until(lambda: s_has_all(status(silo)), 20, "all of it")

    def past(*words: str) -> list[dict[str, Any]]:
        ran = harness.run(silo.folder, "tail", "--json", "--no-follow", *words, *on(silo.file))
        assert (ran.code, ran.err) == (0, "")
        return [json.loads(line) for line in ran.out.splitlines()]

    assert past() == []
    everything = past("--since", "1h")
    assert {one["event"] for one in everything} == {"stored", "woken", "delivered", "missed", "refused", "error"}
    assert [one["at"] for one in everything] == sorted(one["at"] for one in everything)
    assert [one["event"] for one in past("--since", "1h", "--to", "carol@home.lan")] == ["stored", "woken", "missed"]
    plain = harness.run(silo.folder, "tail", "--since", "1h", "--no-follow", *on(silo.file)).out.splitlines()
    assert [line.split("\t")[1] for line in plain] == [one["event"] for one in everything]
    with Terminal(silo.folder, "tail", "--since", "1h", *on(silo.file)) as terminal:
        terminal.until("missed .* carol@home.lan .* 486 Reply")
        terminal.type("\x03")
        assert terminal.ended() == 0


# -- what a look costs -------------------------------------------------------------------------------------------------
def test_the_past_begins_at_the_right_row_without_a_look_at_all(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(str(n), arrived=NOW + n) for n in range(1000)]), NOW)
        harness.change(file, "DELETE FROM msilo_ledger WHERE id BETWEEN 900 AND 949")
    with closing(Inbox(file)) as inbox:
        for since, first in ((NOW - 5, 1), (NOW + 700, 701), (NOW + 920, 950), (NOW + 999, 1000), (NOW + 2000, None)):
            found = Feed(inbox, since, NOW).look()
            assert [one["id"] for one in found][:1] == ([first] if first else [])
            assert len(found) == (0 if first is None else 1001 - first - (50 if first < 900 else 0))


def test_no_look_scans_a_table(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store, closing(Inbox(file)) as inbox:
        stored(store, "one")
        feed = Feed(inbox, None, NOW)
        seen: list[str] = []
        raw = inbox.connection.connection.dbapi_connection
        raw.set_trace_callback(seen.append)  # type: ignore[union-attr]  # SQLite's own
        assert feed.look() == []
        assert seen == ["PRAGMA data_version"] or feed.look() == []
        seen.clear()
        store.write(delivered(*stored(store, "two", owner=Aor("dave", "home.lan"))), NOW)
        assert [one["event"] for one in feed.look()] == ["stored", "delivered"]
        statements = [text for text in seen if text.startswith("SELECT")]
        assert len(statements) == 4
        for statement in statements:
            plan = [row[3] for row in harness.query(file, f"EXPLAIN QUERY PLAN {statement}")]
            assert [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step] == [], (statement, plan)


def test_a_gap_is_said(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"

    def ring(first: int) -> str:
        entries = [
            {"of": n, "at": NOW + n, "event": "woken", "to": "bob@home.lan", "by": "timer"}
            for n in range(first, first + 3)
        ]
        return json.dumps({"wakeups": entries})

    with closing(Store(file)) as store, closing(Inbox(file)) as inbox:
        store.tell("recent", ring(1))
        feed = Feed(inbox, None, NOW)
        store.tell("recent", ring(2))
        assert [one["event"] for one in feed.look()] == ["woken"]
        store.tell("recent", ring(12))
        found = feed.look()
        assert [one["event"] for one in found] == ["skipped", "woken", "woken", "woken"]
        assert found[0]["number"] == 7
