"""What nobody else may read: bodies and passwords in logs, text that was delivered or purged, files of other users."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.waiting import until

from . import harness
from .harness import Peer, Serve, on, run

SECRET = "the-key-is-under-the-mat"
LONG = "".join(f"{SECRET}-{n}." for n in range(100))
"More than a page of the database holds beside other rows."


def holders(folder: Path, text: str = SECRET) -> list[str]:
    """Files below a folder in which a text can be read."""
    return [str(file.name) for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_delivered_text_is_nowhere(tmp_path: Path) -> None:
    options = ("--log-level", "debug", "--set", "check_time=1", "--settle", "0")
    with Serve(tmp_path, *options) as silo, Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob:
        for n in range(20):
            alice.write("bob", f"{SECRET} {n}")
        alice.write("bob", LONG)
        assert holders(tmp_path)  # it is somewhere, or this would show nothing
        bob.register()
        assert bob.take(21)[-1].body == LONG.encode()
        until(lambda: harness.waiting(silo.file) == [], 5, "the box empty")
        until(lambda: not holders(tmp_path), 10, "nothing of it is left in database, log of the database and our log")
        silo.stop()
    assert holders(tmp_path) == []


def test_an_expired_text_is_nowhere(tmp_path: Path) -> None:
    with Serve(tmp_path, "--set", "check_time=1") as silo, Peer("alice", silo.address) as alice:
        text = alice.request("MESSAGE", "bob", "Content-Type: text/plain", "Expires: 1", body=SECRET.encode())
        assert alice.ask(text).code == 202
        until(lambda: harness.waiting(silo.file) == [], 10, "the box empty")
        until(lambda: not holders(tmp_path), 10, "nothing of it is left")


@pytest.mark.parametrize("serving", [True, False], ids=["beside a daemon", "alone"])
def test_a_purged_text_is_nowhere(tmp_path: Path, serving: bool) -> None:
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        for text in (SECRET, LONG):
            alice.write("bob", text)
        alice.write("carol", "another one")
        if not serving:
            silo.stop()
        assert run(tmp_path, "purge", "--to", "bob@home.lan", "--yes", *on(silo.file)).code == 0
        assert holders(tmp_path) == []
        assert holders(tmp_path, "another one")


def test_no_body_reaches_the_log(tmp_path: Path) -> None:
    """Whatever becomes of a message, at the most talkative level: also what PJSIP cannot parse, and prints."""
    options = ("--log-level", "debug", "--settle", "0", "--trusted", "127.0.0.1/32")
    body = SECRET.encode()
    with Serve(tmp_path, *options) as silo, Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob:
        text = alice.request("MESSAGE", "bob", "Content-Type: text/plain", body=body)
        for broken in (
            text.replace(b"To: <", b'To: "never closed <'),
            text.replace(b"To: ", b"X-To: "),
            text.replace(b"SIP/2.0\r\n", b"SIP/9.0\r\n", 1),
            text.replace(b"CSeq: 1", b"CSeq: x"),
            body,
        ):
            alice.send(broken)
        for refused in (
            text.replace(b"Content-Length: ", b"Content-Length: 9"),
            text.replace(b"Content-Type: text/plain", b"Content-Type: nothing"),
            alice.request("MESSAGE", "bob", "Content-Type: text/plain", body=body * 200)[:3999],
            text.replace(b"MESSAGE", b"INVITE"),
        ):
            alice.send(refused)
        alice.write("bob", SECRET)
        alice.write("bob", f"{SECRET} again")
        bob.register()
        first = bob.receive()
        bob.reply(first, 500)
        for _ in range(2):
            bob.register()
        bob.take(2)
        until(lambda: harness.waiting(silo.file) == [], 5, "the box empty")
        silo.stop()
    assert silo.events("request.malformed")
    assert SECRET not in silo.log + silo.out


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "place" / "silo.sqlite"
    with Serve(tmp_path, "--set", f"db_url=sqlite:///{file}") as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "x")
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in file.parent.iterdir()}
        assert modes == dict.fromkeys(("silo.sqlite", "silo.sqlite-wal", "silo.sqlite-shm", "silo.sqlite.lock"), 0o600)
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        out = tmp_path / "mail.jsonl"
        assert run(tmp_path, "export", "--to", "bob@home.lan", "-o", str(out), *on(file)).code == 0
        assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    """Not by a command, not in the log at its most talkative, not where the registrar asks for it again and again."""
    with Peer("pbx", ("127.0.0.1", 9)) as pbx:
        settings = (f"registrar=sip:127.0.0.1:{pbx.port}", "user=silo", f"password={SECRET}")
        chosen = [word for one in settings for word in ("--set", one)]
        with Serve(tmp_path, "--log-level", "debug", *chosen) as silo:
            for _ in range(3):
                asked = pbx.receive()
                assert SECRET not in str(asked)
                pbx.challenge(asked)
            for words in (
                ("config", "show"),
                ("config", "show", "--json"),
                ("status",),
                ("status", "--json"),
                ("check",),
            ):
                shown = run(tmp_path, *words, *on(silo.file), *chosen, seconds=60)
                assert SECRET not in shown.out + shown.err
            until(lambda: "not registered" in silo.log, 10, "the silo gives up")
            silo.stop()
        assert SECRET not in silo.log + silo.out
        assert holders(tmp_path) == []
