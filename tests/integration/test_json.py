"""The contract of docs/json.md: the fields it lists are those that the commands give, and no others."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

from . import harness
from .harness import ROOT, Peer, Serve, on

PAGE = (ROOT / "docs/json.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}")[2].partition("\n## ")[0]


def fields(title: str) -> set[str]:
    """What stands in the first column of a section's table."""
    rows = re.findall(r"^\| (`.+?) \|", section(title), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w ]+)`", row)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command says in JSON beside a silo where everything happened once."""
    folder = tmp_path_factory.mktemp("json")
    with (
        Serve(folder, "--settle", "0.1") as silo, Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob, Peer("carol", silo.address) as carol,
    ):  # fmt: skip
        alice.write("bob", "one")
        bob.register()
        bob.take(1)
        alice.write("carol", "two")
        alice.write("carol", "three")
        carol.register()
        carol.reply(carol.receive(), 415)
        carol.reply(carol.receive(), 486)
        assert alice.ask(alice.request("MESSAGE", "bob", "Require: x", body=b"x")).code == 420
        alice.send(b"\x00\xff" * 40)

        def run(*words: str) -> str:
            return harness.run(folder, *words, *on(silo.file)).out

        run("hold", "--to", "dave@home.lan")
        run("remind", "bob@home.lan", "tea", "--at", "+2h")

        def status() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(run("status", "--json"))
            return found

        until(
            lambda: all(len(status()[f"last_{ring}"]) for ring in ("attempts", "wakeups", "refusals", "errors")),
            20,
            "told",
        )
        return {
            "list": json.loads(run("list", "--all", "--json")),
            "remind": json.loads(run("remind", "list", "--json")),
            "show": json.loads(run("show", "2", "--json")),
            "show past": json.loads(run("show", "h1", "--json")),
            "status": status(),
            "hold": json.loads(run("hold", "--json")),
            "tail": [json.loads(line) for line in run("tail", "--since", "1h", "--no-follow", "--json").splitlines()],
            "verify": json.loads(run("verify", "--json")),
            "check": json.loads(run("check", "--json")),
            "config": json.loads(run("config", "show", "--json")),
        }


def test_messages(seen: dict[str, Any]) -> None:
    present, past = fields("A message in the box"), fields("A message that left the box")
    states = {one["state"] for one in seen["list"]}
    assert states == {"delivered", "parked", "pending", "scheduled"}
    for one in (*seen["list"], *seen["remind"]):
        assert set(one) == (past if str(one["id"]).startswith("h") else present - {"pending"}), one
    added = {"message_id", "to_header", "call_id", "headers", "body"}
    assert set(seen["show"]) == present | added
    assert added - {"body"} <= set(re.findall(r"`(\w+)`", section("A message in the box")))
    assert set(seen["show past"]) == past


def test_status_and_holds(seen: dict[str, Any]) -> None:
    assert set(seen["status"]) | {"extension", "watched", "streams"} == fields("`status`")
    for one in (*seen["hold"], *seen["status"]["holds"]):
        assert set(one) == fields("`hold`")
    for ring in ("wakeups", "attempts", "refusals", "errors"):
        assert {"at", "age", "event"} <= set(seen["status"][f"last_{ring}"][0])


def test_events(seen: dict[str, Any]) -> None:
    rows = re.findall(r"^\| (`.+?) \| (`.+?) \|$", section("`tail`"), re.MULTILINE)
    told = {
        event: {"at", "event", *re.findall(r"`(\w+)`", names)}
        for events, names in rows
        for event in re.findall(r"`([\w ]+)`", events)
    }
    found = {one["event"]: set(one) for one in seen["tail"]}
    assert found.keys() == {"stored", "woken", "delivered", "missed", "parked", "refused", "error"}
    assert found == {event: told[event] for event in found}


def test_the_others(seen: dict[str, Any]) -> None:
    for name in ("verify", "check"):
        assert all(set(one) == {"level", "about", "words"} for one in seen[name])
    assert all(set(one) == {"value", "from"} for one in seen["config"].values())


def test_every_command_that_lists_takes_json(tmp_path: Path) -> None:
    for words in ("list", "remind list", "show", "status", "hold", "tail", "stats", "check", "verify", "config show"):
        assert "--json" in harness.run(tmp_path, *words.split(), "--help").out, words
