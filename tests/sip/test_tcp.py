"""TCP as clients, phones and strangers see it, at a silo that serves."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo, Sipp
from .phone import Address, Phone
from .streams import Line, Switchboard, listening, pick_up

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
BOTH = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")


@pytest.fixture
def silo(start_silo: StartSilo) -> Silo:
    return start_silo(bind=BOTH)


def tcp(silo: Silo) -> Address:
    return silo.addresses[1]


def stored(silo: Silo) -> int:
    with closing(sqlite3.connect(silo.database)) as database:
        return int(database.execute("SELECT count(*) FROM silo").fetchone()[0])


def counters(silo: Silo) -> dict[str, int]:
    found: dict[str, int] = silo.status_json()["counters"]
    return found


def sockets_of(pid: int, kind: str, state: str = "") -> list[int]:
    """Ports of a process's sockets of a kind (udp, tcp), from /proc; `state`: only those in it."""
    inodes = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = []
    for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
        words = line.split()
        if f"socket:[{words[9]}]" in inodes and state in ("", words[3]):
            found.append(int(words[1].rpartition(":")[2], 16))
    return found


# -- taken -------------------------------------------------------------------------------------------------------------
def test_sipp_over_one_connection_and_over_many(silo: Silo, sipp: Sipp) -> None:
    for way in ("t1", "tn"):
        run = sipp.run("store_numbered", tcp(silo), "-t", way, "-max_socket", "1000", "-l", "10", "-r", "200", calls=50)
        assert [seen.code for seen in run.received] == [202] * 50
    assert stored(silo) == 100


def test_ipv6(start_silo: StartSilo, phone: PickUp) -> None:
    silo, anybody = start_silo(bind=("udp:[::1]:0", "tcp:[::1]:0")), phone("anybody", "::1")
    with Line("alice", tcp(silo)) as alice, listening("::1") as server:
        assert alice.write(BOB, b"over IPv6").code == 202
        contact = f"Contact: <sip:bob@[::1]:{server.getsockname()[1]};transport=tcp>"
        assert anybody.ask(anybody.request("REGISTER", BOB, contact), silo.address).code == 200
        with pick_up(server) as bob:
            assert bob.take().body == b"over IPv6"
    silo.empties()


def test_two_thousand_short_connections_in_a_row(silo: Silo, phone: PickUp) -> None:
    for number in range(2000):
        with Line("alice", tcp(silo)) as alice:
            said = alice.write(BOB, b"%d" % number)
            assert said.code == 202
    assert stored(silo) == 2000
    assert counters(silo)["tcp_connections"] == 2000
    assert phone("alice").message(silo.address, BOB, b"and UDP").code == 202


def test_a_burst_of_clients_at_once(silo: Silo) -> None:
    """Many times more than PJSIP has sockets for."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Line("alice", tcp(silo))) for _ in range(300)]
        for client in clients:
            client.send(client.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"x"))
        assert [client.receive(20).code for client in clients] == [202] * 300
    assert stored(silo) == 300


def test_idle_half_open_and_slow_clients_cost_the_others_nothing(silo: Silo, phone: PickUp) -> None:
    """200 say nothing, 100 half a message, 50 a byte a second; every request beside them is answered, UDP's too."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(Line("crowd", tcp(silo))) for _ in range(350)]
        half = crowd[0].request("MESSAGE", BOB, "Content-Type: text/plain", body=b"x" * 100)
        for one in crowd[200:300]:
            one.send(half[: len(half) // 2])
        stop = threading.Event()

        def drip() -> None:
            for at in range(len(half)):
                for one in crowd[300:]:
                    one.send(half[at : at + 1])
                if stop.wait(1):
                    return

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        alice = phone("alice")
        assert [alice.message(silo.address, BOB, b"%d" % n).code for n in range(500)] == [202] * 500
        for n in range(200):
            with Line("alice", tcp(silo)) as line:
                assert line.write(BOB, b"%d" % n).code == 202
        stop.set()
        dripping.join(5)
        assert counters(silo).get("unanswered", 0) == 0
        assert silo.status_json()["streams"]["clients"] >= 350
        crowd[200].send(half[len(half) // 2 :])  # who was slow is served in the end
        assert crowd[200].receive().code == 202
    assert stored(silo) == 701


def test_who_opens_and_resets_hurts_nobody(silo: Silo) -> None:
    for _ in range(500):
        made = socket.create_connection(tcp(silo))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        made.sendall(b"MESSAGE sip:bob@home.lan SIP/2.0\r\n")
        made.close()
    with Line("alice", tcp(silo)) as alice:
        assert alice.write(BOB, b"still here").code == 202


# -- refused -----------------------------------------------------------------------------------------------------------
def test_a_message_too_long_is_refused_promptly_and_the_connection_lives_on(silo: Silo) -> None:
    with Line("alice", tcp(silo)) as alice:
        long = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"x" * 20000)
        head = long.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        alice.send(head)
        assert alice.receive().code == 513  # before its body came
        alice.send(long[len(head) :])
        assert alice.write(BOB, b"short").code == 202
        alice.send(b"\r\n\r\n")  # RFC 5626 4.4.1
        assert alice.socket.recv(10) == b"\r\n"
    assert stored(silo) == 1
    until(lambda: counters(silo).get("refused_513") == 1, 5, "the 513 is counted")


def test_what_leaves_no_room_for_a_replay_is_refused_as_over_udp(silo: Silo) -> None:
    with Line("alice", tcp(silo)) as alice:
        assert alice.write(BOB, b"x" * 3600).code == 513
        assert alice.write(BOB, b"x" * 3000).code == 202


@pytest.mark.parametrize(
    ("raw", "code", "lives"),
    [
        (b"l: 0\r\nContent-Length: 200", 400, False),
        (b"Content-Length: 0\r\nContent-Length: 0", 400, False),
        (b"Content-Length : 1e2", 400, False),
        (b"Subject: a\n Content-Length: 0\r\nContent-Length: 0", 400, False),
        (b"X: y\rContent-Length: 0\r\nContent-Length: 0", 400, False),
        (b"X: \0\r\nContent-Length: 0", 400, False),
        (b"X: y", 400, False),
        (b"Content-Length: 4294967296", 400, False),
        (b"Expires: abc\r\nContent-Length: 0", 400, True),
        (b"Require: magic\r\nContent-Length: 0", 420, True),
    ],
)
def test_nothing_is_smuggled_past_the_end_of_a_message(silo: Silo, raw: bytes, code: int, lives: bool) -> None:
    """Each carries a second MESSAGE that only one of two readers would see; it is never stored."""
    with Line("mallory", tcp(silo)) as mallory, Line("alice", tcp(silo)) as alice:
        inner = mallory.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"smuggled")
        outer = mallory.request("OPTIONS" if code == 400 and not lives else "MESSAGE", BOB)
        mallory.send(outer.replace(b"Content-Length: 0", raw) + (b"" if lives else inner))
        assert mallory.receive().code == code
        assert mallory.ended(1) is not lives
        assert alice.write(BOB, b"honest").code == 202
    assert stored(silo) == 1


def test_methods_versions_and_cancel(silo: Silo) -> None:
    with Line("alice", tcp(silo)) as alice:
        assert alice.say(alice.request("INVITE", BOB)).code == 405
        assert alice.say(alice.request("CANCEL", BOB)).code == 481
        assert alice.say(alice.request("MESSAGE", BOB).replace(b" SIP/2.0\r\n", b" SIP/3.0\r\n", 1)).code == 505
        alice.send(alice.request("ACK", BOB))
        assert alice.glance(0.3) is None
        assert alice.say(alice.request("OPTIONS", BOB)).code == 200


def test_trust_looks_at_the_true_peer(start_silo: StartSilo) -> None:
    """The door is on loopback, and that opens nothing: 403 for a stranger, before anything is looked at."""
    silo = start_silo("--trusted", "127.0.0.9", bind=BOTH)
    with Line("mallory", tcp(silo), "127.0.0.8") as mallory, Line("alice", tcp(silo), "127.0.0.9") as alice:
        assert mallory.write(BOB, b"hello").code == 403
        assert mallory.sign_in().code == 403
        assert alice.write(BOB, b"hello").code == 202
    assert stored(silo) == 1


def test_pjsips_own_port_is_no_way_in(silo: Silo) -> None:
    """A program of this machine finds the port behind the door and is not heard; PJSIP has no TCP socket at all."""
    with Line("alice", tcp(silo)) as alice:
        assert alice.write(BOB, b"honest").code == 202
        pid = silo.process.pid
        hidden = set(sockets_of(pid, "udp")) - {silo.address[1]}
        assert len(hidden) == 2  # both ends of the link
        assert sockets_of(pid, "tcp", "0A") == [tcp(silo)[1]]
        for port in hidden:
            with Phone("mallory") as mallory:
                mallory.send(
                    mallory.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"x"), ("127.0.0.1", port)
                )
                assert mallory.glance(0.5) is None
        assert alice.write(BOB, b"honest again").code == 202
    assert stored(silo) == 2
    assert counters(silo)["bypassing"] == 1


# -- out ---------------------------------------------------------------------------------------------------------------
def fill(silo: Silo, phone: PickUp, users: int) -> None:
    alice = phone("alice")
    for number in range(users):
        assert alice.message(silo.address, f"user{number}@home.lan", b"%d" % number).code == 202


def register_all(silo: Silo, phone: PickUp, ports: list[int], scheme: str = "sip", transport: str = "tcp") -> None:
    anybody = phone("anybody")
    for number, port in enumerate(ports):
        line = f"Contact: <{scheme}:user{number}@127.0.0.1:{port};transport={transport}>"
        user = f"user{number}@home.lan"
        assert anybody.ask(anybody.request("REGISTER", user, line, "Expires: 600"), silo.address).code == 200


@pytest.mark.parametrize("closes", [True, False], ids=["close after answering", "stay open"])
def test_two_hundred_phones_on_tcp(silo: Silo, phone: PickUp, closes: bool) -> None:
    """Three times PJSIP's sockets: each gets its message once, at the first attempt, and the silo lives."""
    fill(silo, phone, 200)
    with Switchboard(200, closes=closes) as phones:
        register_all(silo, phone, phones.ports)
        until(lambda: phones.total == 200, 30, "all messages have arrived")
        silo.empties(20)
        assert [phones.got[port] for port in phones.ports] == [[str(n)] for n in range(200)]
        if not closes:
            assert phones.open == 200
        assert phone("alice").message(silo.address, BOB, b"and UDP").code == 202
        assert counters(silo)["stored_messages"] == 201
        bob = phone("bob")
        bob.register(silo.address)
        assert bob.take().body == b"and UDP"


def test_many_messages_for_one_phone_that_closes_after_each(silo: Silo, phone: PickUp) -> None:
    alice = phone("alice")
    for number in range(30):
        assert alice.message(silo.address, "user0@home.lan", b"%d" % number).code == 202
    with Switchboard(1, closes=True) as phones:
        register_all(silo, phone, phones.ports)
        until(lambda: phones.total >= 30, 30, "all messages have arrived")
        silo.empties()
        assert phones.got[phones.ports[0]] == [str(n) for n in range(30)]


def test_long_messages_stay_on_udp_where_the_contact_says_so(silo: Silo, phone: PickUp) -> None:
    """PJSIP would go over to TCP above 1,300 bytes (RFC 3261 18.1.1), which the phone here has too."""
    bob = phone("bob")
    with socket.create_server(bob.address) as server:
        assert phone("alice").message(silo.address, BOB, b"x" * 2500).code == 202
        bob.register(silo.address)
        assert len(bob.take().body) == 2500
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_phone_gets_its_mail_on_the_connection_it_registered_on(silo: Silo) -> None:
    """It listens nowhere: its Contact is its own end of the connection."""
    with Line("alice", tcp(silo)) as alice, Line("bob", tcp(silo)) as bob:
        assert [alice.write(BOB, b"%d" % n).code for n in range(3)] == [202] * 3
        assert bob.sign_in().code == 200
        assert [bob.take().body for _ in range(3)] == [b"0", b"1", b"2"]
        silo.empties()


def test_a_phone_behind_nat_is_reached_on_the_connection_it_registered_on(silo: Silo, phone: PickUp) -> None:
    """Its Contact is an address that leads nowhere; another user with the same Contact gets nothing of it."""
    contact = "sip:bob@192.0.2.55:5099;transport=tcp"
    with Line("alice", tcp(silo)) as alice, Line("bob", tcp(silo)) as bob, Line("carl", tcp(silo)) as carl:
        assert bob.sign_in(contact).code == 200
        assert carl.sign_in(contact).code == 200
        assert alice.write(BOB, b"for bob alone").code == 202
        silo.dump(BOB)
        request = bob.take()
        assert (request.uri, request.body) == (contact, b"for bob alone")
        assert carl.glance(0.2) is None
        silo.empties()


def test_why_it_waits_is_said(silo: Silo, phone: PickUp) -> None:
    with listening() as server:
        port = server.getsockname()[1]
    assert phone("alice").message(silo.address, "user0@home.lan", b"x").code == 202
    register_all(silo, phone, [port])
    until(lambda: "refused" in str(silo.list_json()[0]["why"]), 10, "the reason")
    assert (
        f"could not be sent: tcp:127.0.0.1:{port} cannot be reached: Connection refused" in silo.list_json()[0]["why"]
    )


def test_tcp_contacts_are_reached_by_a_silo_that_listens_on_udp_alone(start_silo: StartSilo, phone: PickUp) -> None:
    silo = start_silo()
    fill(silo, phone, 1)
    with Switchboard(1, closes=False) as phones:
        register_all(silo, phone, phones.ports)
        silo.empties()
        assert phones.total == 1


def test_a_stop_leaves_nothing_behind(silo: Silo) -> None:
    with Line("idle", tcp(silo)) as idle, Line("alice", tcp(silo)) as alice:
        assert alice.write(BOB, b"x").code == 202
        begun = time.monotonic()
        assert silo.stop() == 0
        assert time.monotonic() - begun < 8
        assert idle.ended(1)
        silo.start()
        with Line("alice", tcp(silo)) as again:
            assert again.write(BOB, b"same port").code == 202


def test_an_address_that_is_taken_is_said(silo: Silo, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    done = Silo(other).cli("serve", "--bind", f"tcp:127.0.0.1:{tcp(silo)[1]}")
    assert done.returncode == 1
    assert f"cannot listen on tcp:127.0.0.1:{tcp(silo)[1]}: Address already in use" in done.stderr
    assert "--bind" in done.stderr
