"""`serve` as a process: its first words, its sockets, its end, and what it does when the disk says no."""

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from tests.waiting import until

from . import harness
from .harness import Peer, Serve

SENDING = f"SELECT count(*) FROM msilo_ledger WHERE state = {State.SENDING:d}"


@pytest.fixture
def silo(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path, "--settle", "0.1") as one:
        yield one


@pytest.fixture
def alice(silo: Serve) -> Iterator[Peer]:
    with Peer("alice", silo.address) as one:
        yield one


@pytest.fixture
def bob(silo: Serve) -> Iterator[Peer]:
    with Peer("bob", silo.address) as one:
        yield one


# -- start -------------------------------------------------------------------------------------------------------------
def test_the_ready_line_names_every_address_in_order(tmp_path: Path) -> None:
    binds = ("udp:[::1]:0", "udp:127.0.0.1:0", "udp:127.0.0.2:0")
    with Serve(tmp_path, bind=binds) as silo:
        assert re.fullmatch(r"ready udp:\[::1\]:\d+ udp:127\.0\.0\.1:\d+ udp:127\.0\.0\.2:\d+", silo.ready_line)
        assert silo.out.splitlines()[-1] == silo.ready_line
        assert str(silo.file) in silo.out
        for address in silo.addresses[:2]:
            assert address[1] > 0
            with Peer("alice", address) as alice:
                alice.write("bob", f"by {address}")
        assert harness.query(silo.file, "SELECT count(*) FROM silo") == [(2,)]


def test_a_phone_behind_ipv6_gets_its_messages(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0.1", bind=("udp:127.0.0.1:0", "udp:[::1]:0")) as silo:
        with Peer("alice", silo.addresses[0]) as alice:
            alice.write("bob", "over both families")
        with Peer("bob", silo.addresses[1]) as bob:
            bob.register()
            assert [one.body for one in bob.take(1)] == [b"over both families"]


def test_a_second_instance_on_one_file_is_refused(silo: Serve, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", "--db-url", f"sqlite:///{silo.file}")
    assert ran.code == 1
    assert f"process {silo.pid}) already serves {silo.file}" in ran.sentence
    assert ran.out == ""
    with Peer("alice", silo.address) as alice:  # and the first one has not noticed
        alice.write("bob", "still there")


def test_a_look_at_the_file_does_not_keep_a_daemon_from_starting(tmp_path: Path) -> None:
    script = """
import pathlib, sys, threading
from msilo_lite.box.lock import is_served, sole_user
file, over = pathlib.Path(sys.argv[1]), threading.Event()
def look():
    while not over.is_set():
        is_served(file)
        over.wait(0.0005)
thread = threading.Thread(target=look)
thread.start()
try:
    for _ in range(500):
        with sole_user(file):
            pass
finally:
    over.set()
    thread.join()
print("never refused")
"""
    ran = harness.python(tmp_path, script, str(tmp_path / "silo.sqlite"))
    assert ran.out == "never refused\n", ran.err.splitlines()[-1:]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        url = f"sqlite:///{tmp_path}/silo.sqlite"
        ran = harness.run(tmp_path, "serve", "--bind", f"udp:127.0.0.1:{port}", "--db-url", url)
    assert ran.code == 1
    assert f"cannot listen on udp:127.0.0.1:{port}" in ran.sentence
    assert "--bind" in ran.sentence
    assert "ready" not in ran.out


@pytest.mark.parametrize("place", ["file.txt/silo.sqlite", "folder"])
def test_a_database_that_cannot_be_made(tmp_path: Path, place: str) -> None:
    (tmp_path / "file.txt").write_text("in the way")
    (tmp_path / "folder").mkdir()
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", "--db-url", f"sqlite:///{tmp_path}/{place}")
    assert ran.code == 1
    assert str(tmp_path / place) in ran.sentence
    assert len(ran.sentence.splitlines()) == 1


# -- end ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(silo: Serve, alice: Peer, number: signal.Signals) -> None:
    alice.write("bob", "kept")
    silo.signal(number)
    assert silo.ended(2) == 0
    assert "Traceback" not in silo.log
    assert harness.query(silo.file, "SELECT body FROM silo") == [(b"kept",)]
    assert harness.query(silo.file, SENDING) == [(0,)]


def test_a_stop_during_a_replay_waits_for_the_answer_and_gives_the_rest_back(
    silo: Serve, alice: Peer, bob: Peer
) -> None:
    for n in range(5):
        alice.write("bob", f"number {n}")
    bob.register()
    first = bob.receive()
    silo.signal(signal.SIGTERM)
    # what tells that the stop has begun: the four behind it wait again
    waiting = f"SELECT count(*) FROM msilo_ledger WHERE state = {State.PENDING:d}"
    until(lambda: harness.query(silo.file, waiting) == [(4,)], 3, "the rest given back")
    bob.reply(first)
    assert silo.ended(3) == 0
    rows = harness.query(silo.file, "SELECT state, attempts FROM msilo_ledger ORDER BY id")
    assert rows == [(State.DELIVERED, 1)] + [(State.PENDING, 0)] * 4


def test_a_second_signal_does_not_wait_for_a_silent_phone(silo: Serve, alice: Peer, bob: Peer) -> None:
    alice.write("bob", "nobody answers")
    bob.register()
    bob.receive()
    silo.signal(signal.SIGTERM)
    bob.receive()  # half a second later it comes again: the stop waits for an answer
    silo.signal(signal.SIGTERM)
    assert silo.ended(3) == 128 + signal.SIGTERM
    with Serve(silo.folder, "--settle", "0.1") as again:
        repeat = bob.take(1)
        until(lambda: harness.query(again.file, "SELECT * FROM silo") == [], 3, "the box empty")
    assert repeat[0].body == b"nobody answers"


# -- a disk that says no -----------------------------------------------------------------------------------------------
def test_a_locked_database_is_503_and_heals(silo: Serve, alice: Peer) -> None:
    alice.write("bob", "before")
    with Peer("carol", silo.address) as carol, harness.locked(silo.file):
        began = time.monotonic()
        raw = alice.message("bob", "during")
        alice.send(raw)
        assert carol.ask(carol.request("OPTIONS", "home"), seconds=3).code == 200
        refused = alice.receive(4)
        assert time.monotonic() - began < 4
        assert (refused.code, refused.headers["retry-after"]) == (503, "5")
        assert carol.ask(carol.request("OPTIONS", "home"), seconds=3).code == 200
    assert harness.query(silo.file, "SELECT body FROM silo") == [(b"before",)]
    assert "locked" in silo.log
    assert alice.ask(raw).code == 202  # the sender comes again with the same request
    alice.write("bob", "after")
    assert harness.query(silo.file, "SELECT body FROM silo ORDER BY id") == [(b"before",), (b"during",), (b"after",)]


def test_a_delivery_during_a_lock_is_written_when_it_ends(silo: Serve, alice: Peer, bob: Peer) -> None:
    alice.write("bob", "one")
    bob.register()
    first = bob.receive()
    with harness.locked(silo.file):
        bob.reply(first)
        failed = "cannot write"
        until(lambda: failed in silo.log, 5, "the commit refused")
        assert harness.query(silo.file, "SELECT count(*) FROM silo") == [(1,)]
    until(lambda: harness.query(silo.file, "SELECT count(*) FROM silo") == [(0,)], 5, "the delivery on disk")
    bob.register()
    assert bob.glance(0.5) is None  # it is not sent again


def test_a_replay_that_the_lock_kept_back_comes_later(tmp_path: Path) -> None:
    with (
        Serve(tmp_path, "--settle", "0.5") as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        alice.write("bob", "one")
        bob.register()
        with harness.locked(silo.file):  # in the half second before the replay begins
            until(lambda: "cannot write" in silo.log, 5, "the claim refused")
            assert bob.glance(0.1) is None
        bob.register()
        assert [one.body for one in bob.take(1)] == [b"one"]


def test_a_binding_that_cannot_be_written_is_503(silo: Serve, bob: Peer) -> None:
    raw = bob.request("REGISTER", "bob", f"Contact: <sip:bob@127.0.0.1:{bob.port}>")
    with harness.locked(silo.file):
        assert bob.ask(raw).code == 503
    assert bob.ask(raw).code == 200
    assert harness.query(silo.file, "SELECT count(*) FROM msilo_contact") == [(1,)]


# -- what it says and counts -------------------------------------------------------------------------------------------
def test_a_malformed_datagram_is_counted_and_hurts_nobody(silo: Serve, alice: Peer) -> None:
    for raw in (b"\x00\xff" * 40, b"MESSAGE sip:bob@home.lan SIP/2.0\r\nVia: \r\n\r\n", b"x" * 5000, b"\r\n\r\n"):
        alice.send(raw)
    alice.write("bob", "fine")

    def counted() -> int:
        status = harness.run(silo.folder, "status", "--json", "--db-url", f"sqlite:///{silo.file}").json()
        return int(status["counters"].get("malformed", 0))

    assert until(counted, 5, "a count of malformed datagrams") == 3  # two CR LF are a keep-alive
    assert alice.ask(alice.request("OPTIONS", "home")).code == 200


def test_bodies_and_passwords_never_reach_the_log(tmp_path: Path) -> None:
    with (
        Serve(tmp_path, "--settle", "0.1", "--log-level", "debug") as silo,
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
    ):
        alice.write("bob", "SECRET body")
        digest = 'Authorization: Digest username="bob", realm="home.lan", response="SECRETdigest"'
        contact = f"Contact: <sip:bob:SECRETcontact@127.0.0.1:{bob.port}>"
        assert bob.ask(bob.request("REGISTER", "bob", contact, digest)).code == 200
        bob.take(1)
        plain = alice.request("MESSAGE", "bob", "Content-Type: text/plain", body=b"SECRET body")
        for old, new in (
            (b"SIP/2.0\r\nVia", b"SIP/2.0\r\nVia: SECRET\r\nVia"),  # PJSIP cannot parse it
            (b"From: <sip:alice@", b"From: <sip:alice:SECRETpass@ho me@"),
            (b"To: <sip:bob@home.lan>", b"To: <sip:bob:SECRETpass@home..lan;=>"),
            (b"MESSAGE sip:bob@home.lan", b"MESSAGE sip:bob:SECRETpass@"),
            (b"MESSAGE sip:bob@home.lan", b"MESSAGE sip:bob:SECRETpass@my_home.lan"),  # PJSIP takes the underscore
            (b"From: <sip:alice@home.lan>", b"From: <sip:alice:SECRETpass@my_home.lan>"),
            (b"To: <sip:bob@home.lan>", b"To: <sip:bob:SECRETpass@home.lan;scheme=x>"),
            (b"\r\n\r\n", b"\r\n"),  # the body stands among the headers
            (b"text/plain", b"SECRETtype"),
            (b"Content-Length: 11", b"Content-Length: 99"),
            (b"CSeq: 1 MESSAGE", b"CSeq: 1 SECRET"),
        ):
            assert old in plain
            alice.send(plain.replace(old, new, 1))
            assert alice.ask(alice.request("OPTIONS", "home")).code == 200  # it has been through this one
        alice.send(alice.request("REGISTER", "alice", "Contact: <sip:alice:SECRETpass@ho me>", digest))
        assert alice.ask(alice.request("OPTIONS", "home")).code == 200
        log = silo.log
        silo.stop()
    assert '"event": "request.refused", "peer"' in log  # the log was on
    assert '"code": 400' in log
    assert [line for line in log.splitlines() if "SECRET" in line] == []
    assert [line for line in silo.out.splitlines() if "SECRET" in line] == []


def test_a_database_that_refuses_a_row_does_not_make_the_log_tell_it(silo: Serve, alice: Peer) -> None:
    refusing = "BEGIN SELECT RAISE(ABORT, 'no room for this'); END"
    harness.change(silo.file, f"CREATE TRIGGER refuses BEFORE INSERT ON silo {refusing}")
    raw = alice.request("MESSAGE", "bob", "Subject: SECRET", "Content-Type: text/plain", body=b"SECRET body")
    assert alice.ask(raw.replace(b"<sip:alice@", b"<sip:alice:SECRETpass@")).code == 503
    assert "no room for this" in silo.log
    assert "SECRET" not in silo.log
    assert len(silo.log.splitlines()) == 1
    harness.change(silo.file, "DROP TRIGGER refuses")
    alice.write("bob", "the next one")


def test_the_demo_tells_its_story_whatever_the_user_has_configured(tmp_path: Path) -> None:
    env = {"MSILO_DOMAIN": "elsewhere.example", "MSILO_TRUSTED": "10.0.0.0/8"}
    began = time.monotonic()
    ran = harness.run(tmp_path, "demo", seconds=15, env=env)
    assert ran.code == 0, ran
    assert time.monotonic() - began < 10
    assert ran.err == ""
    assert "bob  receives: Dinner at eight 🍝" in ran.out
    assert ran.out.splitlines()[-2].startswith("  silo  every message arrived")


def test_a_proxy_that_was_set_later_is_tried_at_the_start(tmp_path: Path) -> None:
    """What waited for a Contact no longer needs one."""
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "hello")
        assert harness.run(tmp_path, "dump", "bob@home.lan", *harness.on(silo.file)).code == 1
        silo.stop()
        proxy = f"sip:127.0.0.1:{alice.port}"
        with Serve(tmp_path, "--outbound-proxy", proxy, "--check-time", "5", "--max-in-flight", "9"):
            assert [sip.body for sip in alice.take(1, 5)] == [b"hello"]


def test_a_message_for_a_registered_phone_does_not_wait_for_the_next_register(silo: Serve, bob: Peer) -> None:
    """The PBX may have looked a moment before the REGISTER: the message is tried by time, and `list` says when."""
    bob.register()
    bob.write("bob", "hello")
    (listed,) = harness.run(silo.folder, "list", "--json", *harness.on(silo.file)).json()
    assert re.search(r"it came while its owner was registered; next attempt in (5\d|60) s", listed["why"])
