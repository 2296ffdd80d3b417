"""The door between real sockets: clients and phones by TCP on one side, a socket that plays PJSIP on the other."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from msilo_lite.sip import inward
from msilo_lite.sip.address import Endpoint, remote_of
from msilo_lite.sip.door import Door
from msilo_lite.sip.framing import Head, answer, branch_of
from msilo_lite.sip.outward import LOCAL, Lead, lead_key
from msilo_lite.sip.threshold import DoorTerms
from tests.sip.phone import Seen
from tests.sip.streams import Line, listening, pick_up
from tests.unit.kit import text_of
from tests.waiting import until

TCP = (Endpoint("127.0.0.1", 0, "tcp"),)


class Inside:
    """Plays PJSIP: one datagram socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(10)
        self.endpoint = Endpoint(*self._socket.getsockname())
        self._count = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def receive(self, seconds: float = 10) -> bytes:
        self._socket.settimeout(seconds)
        return self._socket.recv(65536)

    def silent(self, seconds: float = 0.3) -> bool:
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def answer(self, door: Door, raw: bytes, code: int = 202) -> None:
        self._socket.sendto(answer(Head.of(raw), code, "Fine"), door.source)

    def send(self, door: Door, to: str, *, body: bytes = b"hello") -> str:
        """A request of ours, as PJSIP would write it; its branch."""
        self._count += 1
        branch = f"z9hG4bKPj{self._count}"
        raw = text_of(via=f"SIP/2.0/UDP {self.endpoint.place};rport;branch={branch}", body=body)
        head = Head.of(raw)
        key = lead_key(head.get(b"call-id"), head.get(b"cseq"))
        door.outward.expect(key, Lead(remote_of(to), to.encode(), ("bob@home.lan", to)))
        self._socket.sendto(raw, door.source)
        self._last = raw
        return branch

    def repeat(self, door: Door) -> None:
        """As PJSIP does while no answer comes."""
        self._socket.sendto(self._last, door.source)

    def outcome(self) -> Seen:
        """The answer to a request of ours."""
        return Seen.parse(self.receive())

    def answer_all(self, door: Door) -> None:
        """From now on answer whatever comes, in a thread."""

        def serve() -> None:
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    self.answer(door, self.receive(0.1))

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(5)
        self._socket.close()


OpenDoor = Callable[..., Door]


@pytest.fixture
def inside() -> Iterator[Inside]:
    with contextlib.closing(Inside()) as one:
        yield one


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_door(inside: Inside, ends: ExitStack) -> OpenDoor:
    return lambda **terms: ends.enter_context(contextlib.closing(Door(inside.endpoint, TCP, (), DoorTerms(**terms))))


@pytest.fixture
def door(open_door: OpenDoor) -> Door:
    return open_door()


def place(door: Door) -> tuple[str, int]:
    return door.listening[0].host, door.listening[0].port


@pytest.fixture
def call(door: Door, ends: ExitStack) -> Callable[..., Line]:
    return lambda host="": ends.enter_context(Line("alice", place(door), host))


# -- in ----------------------------------------------------------------------------------------------------------------
def test_a_request_is_one_datagram_and_its_sender_is_known(
    door: Door, inside: Inside, call: Callable[..., Line]
) -> None:
    alice = call("127.0.0.7")
    request = alice.request("MESSAGE", "bob@home.lan", body=b"hello")
    alice.send(request)
    raw = inside.receive()
    found = door.inward.peer_of(raw)
    assert found
    peer, original = found
    assert original == request
    assert (peer.host, peer.port, peer.transport, peer.verified) == ("127.0.0.7", alice.address[1], "tcp", False)
    inside.answer(door, raw)
    said = alice.receive()
    assert said.code == 202
    assert said["Via"].endswith(f"rport={alice.address[1]};branch=z9hG4bK{said['Call-ID']};received=127.0.0.7")
    assert door.inward.peer_of(raw) is None  # nobody waits any more


def test_a_lost_datagram_is_sent_again_and_answered_once(door: Door, inside: Inside, call: Callable[..., Line]) -> None:
    alice = call()
    alice.send(alice.request("MESSAGE", "bob@home.lan"))
    first, second = inside.receive(), inside.receive()
    assert first == second
    inside.answer(door, first)
    inside.answer(door, second)
    assert alice.receive().code == 202
    assert alice.glance(0.3) is None


def test_what_nobody_answers_gets_503(
    door: Door, inside: Inside, call: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inward, "PATIENCE", 0.5)
    said = call().say(text_of())
    assert (said.code, said["Retry-After"]) == (503, "5")
    assert door.take_counts()["unanswered"] == 1


def test_what_pjsip_cannot_parse_gets_400_at_once(door: Door, inside: Inside, call: Callable[..., Line]) -> None:
    alice = call()
    alice.send(alice.request("MESSAGE", "bob@home.lan"))
    door.refuse(inside.receive(), "Invalid URI")
    assert alice.receive().first == "SIP/2.0 400 Bad Request, Invalid URI"


def test_nobody_but_pjsip_speaks_to_the_door(door: Door, inside: Inside, call: Callable[..., Line]) -> None:
    alice = call()
    alice.send(alice.request("MESSAGE", "bob@home.lan"))
    raw = inside.receive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(answer(Head.of(raw), 202, "Forged"), door.source)
        assert alice.glance(0.3) is None
    inside.answer(door, raw, 480)
    assert alice.receive().code == 480


def test_one_peer_leaves_room_for_others(door: Door, inside: Inside, call: Callable[..., Line]) -> None:
    """A thousand requests of one peer wait for their turn; another's goes in before they are answered."""
    greedy, modest = call("127.0.0.8"), call("127.0.0.9")
    thousand = b"".join(text_of(body=b"x" * 3000) for _ in range(1000))
    many = threading.Thread(target=lambda: greedy.send(thousand), daemon=True)
    many.start()
    held = []
    with contextlib.suppress(TimeoutError):
        while True:
            held.append(inside.receive(0.5))
    assert 5 < len(set(map(branch, held))) < 60
    modest.send(text_of(call_id="modest"))
    assert b"modest" in inside.receive()
    inside.answer_all(door)
    for raw in held:
        inside.answer(door, raw)
    for _ in range(1000):
        assert greedy.receive(20).code == 202
    many.join(5)


def branch(raw: bytes) -> bytes:
    return branch_of(Head.of(raw).get(b"via"))


def test_who_does_not_read_is_not_read(door: Door, inside: Inside, call: Callable[..., Line]) -> None:
    """It can send until buffers are full, costs nobody anything, and is done for after half a minute."""
    inside.answer_all(door)
    deaf = call()
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    deaf.socket.settimeout(2)
    request = text_of(from_=f'"{"x" * 2000}" <sip:alice@home.lan>;tag=a')
    with pytest.raises(TimeoutError):
        deaf.socket.sendall(request * 5000)
    assert [call().say(text_of()).code for _ in range(20)] == [202] * 20
    assert door.facts()["under_way"] == 0


def test_a_client_that_has_said_all_still_gets_its_answer(
    door: Door, inside: Inside, call: Callable[..., Line]
) -> None:
    alice = call()
    alice.send(text_of())
    alice.socket.shutdown(socket.SHUT_WR)
    raw = inside.receive()
    assert alice.glance(0.2) is None
    inside.answer(door, raw)
    assert alice.receive().code == 202
    assert alice.ended()


def test_when_all_places_are_taken_the_largest_holder_loses_his_oldest(open_door: OpenDoor, inside: Inside) -> None:
    door = open_door(clients=10)
    with ExitStack() as stack:
        lone = stack.enter_context(Line("lone", place(door), "127.0.0.9"))
        until(lambda: door.facts()["clients"] == 1, 5, "one client")
        crowd = [stack.enter_context(Line("crowd", place(door), "127.0.0.8")) for _ in range(30)]
        newest = stack.enter_context(Line("newest", place(door), "127.0.0.7"))
        inside.answer_all(door)
        assert newest.say(text_of()).code == 202
        assert lone.say(text_of()).code == 202
        assert crowd[-1].say(text_of()).code == 202
        assert all(one.ended() for one in crowd[:20])
        assert door.facts()["clients"] <= 10


def test_idle_clients_go(open_door: OpenDoor) -> None:
    door = open_door(idle=0.5)
    with Line("alice", place(door)) as idle:
        assert idle.ended(5)


def test_a_stop_tells_who_waits_to_come_again(inside: Inside) -> None:
    with contextlib.closing(Door(inside.endpoint, TCP, (), DoorTerms())) as door, Line("alice", place(door)) as alice:
        alice.send(text_of())
        inside.receive()
        begun = time.monotonic()
        door.close()
        assert time.monotonic() - begun < 5
        assert alice.receive().code == 503
        assert alice.ended()


# -- out ---------------------------------------------------------------------------------------------------------------
def test_a_request_goes_where_it_leads_and_its_answer_comes_back(door: Door, inside: Inside) -> None:
    with listening() as server:
        target = f"sips:bob@127.0.0.1:{server.getsockname()[1]};transport=tcp".replace("sips:", "sip:")
        mark = inside.send(door, target)
        with pick_up(server) as bob:
            request = bob.receive()
            assert request.uri == target
            assert request["Via"] == f"SIP/2.0/TCP {door.listening[0].place};rport;branch={mark}"
            inside.repeat(door)
            assert bob.glance(0.3) is None  # a stream needs no repeats
            bob.answer(request, 200)
            said = inside.outcome()
            assert (said.code, said["Via"]) == (200, f"SIP/2.0/UDP {inside.endpoint.place};rport;branch={mark}")
            inside.repeat(door)
            assert bob.glance(0.3) is None  # nor does an answered one


def test_the_next_one_goes_over_the_same_connection(door: Door, inside: Inside) -> None:
    with listening() as server:
        target = f"sip:bob@127.0.0.1:{server.getsockname()[1]};transport=tcp"
        inside.send(door, target)
        with pick_up(server) as bob:
            for _ in range(5):
                bob.answer(bob.receive(), 200)
                assert inside.outcome().code == 200
                inside.send(door, target)


def test_a_connection_closed_meanwhile_is_replaced_and_the_request_repeated_once(door: Door, inside: Inside) -> None:
    with listening() as server:
        target = f"sip:bob@127.0.0.1:{server.getsockname()[1]};transport=tcp"
        inside.send(door, target)
        with pick_up(server) as bob:
            bob.answer(bob.receive(), 200)
            assert inside.outcome().code == 200
            mark = inside.send(door, target)
            bob.receive()  # and dies
        with pick_up(server) as again:
            request = again.receive()
            assert request["Via"].endswith(f"branch={mark}")
        said = inside.outcome()
        assert (said.code, said[LOCAL]) == (503, door.secret)
        assert said.first.endswith("closed the connection before it answered")


def test_what_cannot_be_reached_is_said_at_once(door: Door, inside: Inside) -> None:
    with listening() as server:
        port = server.getsockname()[1]
    inside.send(door, f"sip:bob@127.0.0.1:{port};transport=tcp")
    said = inside.outcome()
    assert said.first == f"SIP/2.0 503 tcp:127.0.0.1:{port} cannot be reached: Connection refused"
    assert said[LOCAL] == door.secret
    inside.send(door, "sip:bob@no-such-host.invalid;transport=tcp")
    assert "cannot be reached" in inside.outcome().first


def test_nobody_else_can_speak_for_the_door_or_for_who_was_asked(
    door: Door, inside: Inside, call: Callable[..., Line]
) -> None:
    with listening() as server:
        mark = inside.send(door, f"sip:bob@127.0.0.1:{server.getsockname()[1]};transport=tcp")
        with pick_up(server) as bob:
            request = bob.receive()
            forged = f"SIP/2.0 200 OK\r\nVia: {request['Via']}\r\nContent-Length: 0\r\n\r\n".encode()
            call("127.0.0.9").send(forged)
            assert inside.silent()
            bob.send(forged.replace(b"200 OK", b"503 Mine").replace(b"\r\nVia", f"\r\n{LOCAL}: x\r\nVia".encode()))
            said = inside.outcome()
            assert (said.code, said.all(LOCAL)) == (503, [])
            assert mark in said["Via"]


def test_where_all_connections_are_needed_the_next_request_waits(door: Door, inside: Inside) -> None:
    """Waits, and does not fail: one goes when another is answered, and idle connections give way."""
    door.outward.most = 2
    with ExitStack() as stack:
        servers = [stack.enter_context(listening()) for _ in range(5)]
        for server in servers:
            inside.send(door, f"sip:bob@127.0.0.1:{server.getsockname()[1]};transport=tcp")
        first, second = (stack.enter_context(pick_up(server)) for server in servers[:2])
        servers[2].settimeout(0.3)
        with pytest.raises(TimeoutError):
            servers[2].accept()
        servers[2].settimeout(15)
        for taken, waiting in ((first, servers[2]), (second, servers[3])):
            taken.answer(taken.receive(), 200)
            assert inside.outcome().code == 200
            assert taken.ended()  # it gave way
            bob = stack.enter_context(pick_up(waiting))
        bob.answer(bob.receive(), 200)
        assert inside.outcome().code == 200
        last = stack.enter_context(pick_up(servers[4]))
        last.answer(last.receive(), 200)
        assert inside.outcome().code == 200
        assert door.facts()["outbound"] <= 2


def test_a_long_answer_comes_back_without_its_body(door: Door, inside: Inside) -> None:
    with listening() as server:
        inside.send(door, f"sip:bob@127.0.0.1:{server.getsockname()[1]};transport=tcp")
        with pick_up(server) as bob:
            via = bob.receive()["Via"]
            lines = f"SIP/2.0 486 Busy\r\nVia: {via}\r\nRetry-After: 9\r\nContent-Length: 9000\r\n\r\n"
            bob.send(lines.encode() + b"x" * 9000)
            said = inside.outcome()
            assert (said.code, said["Retry-After"], said.body) == (486, "9", b"")
