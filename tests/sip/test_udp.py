"""The short way over PJSIP's sockets, seen from plain sockets on the other side."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from msilo_lite.sip.address import Endpoint
from msilo_lite.sip.agent import Agent
from msilo_lite.sip.rdata import CHECK
from msilo_lite.sip.wire import Answer, Incoming, Outgoing

pytestmark = pytest.mark.sip


class Heard:
    """A listener that answers 202 at once, and remembers."""

    def __init__(self) -> None:
        self.requests: list[Incoming] = []
        self.answers: list[tuple[int, Answer]] = []
        self.drops: list[str] = []
        self.agent: Agent | None = None

    def hears(self, host: str) -> bool:
        return host in ("127.0.0.1", "::1")

    def received(self, request: Incoming) -> None:
        self.requests.append(request)
        assert self.agent is not None
        self.agent.answer(request.handle, 202, (("Retry-After", "5"),))

    def answered(self, token: int, answer: Answer) -> None:
        self.answers.append((token, answer))

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)

    def counted(self, name: str, number: int) -> None:
        pass


class Peer:
    """A plain socket."""

    def __init__(self, host: str, agent: Agent, heard: Heard) -> None:
        six = ":" in host
        self.socket = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(0.05)
        self.port: int = self.socket.getsockname()[1]
        self.name = f"[{host}]:{self.port}" if six else f"{host}:{self.port}"
        self.agent, self.heard = agent, heard
        self.silo = next((one.host, one.port) for one in agent.listening if (":" in one.host) == six)

    def take(self, seconds: float = 2.0) -> bytes:
        """What comes, while the agent works."""
        for _ in range(round(seconds / 0.02)):
            self.agent.poll(10, 200)
            with contextlib.suppress(TimeoutError):
                self.socket.settimeout(0.01)
                return self.socket.recv(65536)
        return b""

    def put(self, data: bytes) -> None:
        self.socket.sendto(data, self.silo)

    def message(self, number: int, via: str = "", body: bytes = b"hi") -> bytes:
        via = via or f"SIP/2.0/UDP {self.name};branch=z9hG4bK{number};rport"
        head = (
            f"MESSAGE sip:bob@home.lan SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: <sip:a@home.lan>;tag=a\r\n"
            f"To: <sip:bob@home.lan>\r\nCall-ID: {number}\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, token: int, **changed: object) -> None:
        """Have the agent send a message here."""
        values: dict[str, object] = {
            "target": f"sip:bob@{self.name}", "from_": "<sip:a@home.lan>", "to": "<sip:bob@home.lan>", "call_id": "c",
            "headers": (), "ctype": b"text/plain", "body": b"hello",
        }  # fmt: skip
        self.agent.send(token, Outgoing(**{**values, **changed}))  # type: ignore[arg-type]  # any field by name


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """One for all: PJSIP starts once in a process."""
    heard = Heard()
    made = Agent((Endpoint("127.0.0.1", 0), Endpoint("::1", 0)), heard, "msilo-lite/test")
    heard.agent = made
    with contextlib.closing(made):
        yield made


@pytest.fixture
def heard(agent: Agent) -> Heard:
    found = agent._listener
    assert isinstance(found, Heard)
    for kept in (found.requests, found.answers, found.drops):
        kept.clear()
    return found


@pytest.fixture
def peer(agent: Agent, heard: Heard) -> Iterator[Peer]:
    made = Peer("127.0.0.1", agent, heard)
    with contextlib.closing(made.socket):
        yield made


def response(request: bytes, status: str) -> bytes:
    wanted = (b"via:", b"from:", b"to:", b"call-id:", b"cseq:")
    copied = [line for line in request.split(b"\r\n\r\n")[0].split(b"\r\n") if line.lower().startswith(wanted)]
    return b"\r\n".join([b"SIP/2.0 " + status.encode(), *copied, b"Content-Length: 0", b"", b""])


# -- in ----------------------------------------------------------------------------------------------------------------
def test_packets_are_read_in_place_and_byte_for_byte(agent: Agent, heard: Heard) -> None:
    peers = [Peer(host, agent, heard) for host in ("127.0.0.1", "::1")]
    bodies = [b"", b"\0\xff\r\n\r\n \n", "🙂".encode() * 200, b"x" * 3500]
    sent = []
    for number in range(CHECK + 12):
        peer = peers[number % 2]
        data = peer.message(number, body=bodies[number % 4])
        peer.put(data)
        assert peer.take().startswith(b"SIP/2.0 202 ")
        sent.append((data, "::1" if number % 2 else "127.0.0.1", peer.port))
    assert [one[:3] for one in heard_of(heard)] == sent
    assert agent.packets.direct
    for peer in peers:
        peer.socket.close()


def heard_of(heard: Heard) -> list[tuple[bytes, str, int]]:
    return [(one.text.raw, one.host, one.port) for one in heard.requests]


def parts(answer: bytes) -> dict[bytes, set[bytes]]:
    """An answer by header, parameters without their order."""
    lines = answer.rstrip().split(b"\r\n")
    pairs = [line.partition(b":") for line in lines[1:]]
    return {b"status": {lines[0]}, **{name.lower(): set(value.strip().split(b";")) for name, _, value in pairs}}


@pytest.mark.parametrize("rport", [";rport", ""])
def test_the_short_way_says_what_pjsip_would_say(peer: Peer, rport: str) -> None:
    short = f"SIP/2.0/UDP {peer.name};branch=z9hG4bKsame{rport}"
    peer.put(peer.message(1, short))
    first = peer.take()
    peer.put(peer.message(1, short).replace(b"Max-Forwards: 70", b"Max-Forwards:\r\n 70"))  # folded: PJSIP answers it
    second = peer.take()
    assert [one.handle < 0 for one in peer.heard.requests] == [True, False]
    assert parts(first) == parts(second)


def test_an_answer_goes_where_the_via_says_when_it_has_no_rport(agent: Agent, heard: Heard, peer: Peer) -> None:
    other = Peer("127.0.0.1", agent, heard)
    peer.put(peer.message(1, f"SIP/2.0/UDP host.lan:{other.port};branch=z9hG4bK1"))
    assert other.take().startswith(b"SIP/2.0 202 ")
    assert peer.take(0.1) == b""
    other.socket.close()


# -- out ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_request_is_answered_once(agent: Agent, heard: Heard, host: str) -> None:
    peer = Peer(host, agent, heard)
    peer.send(7)
    request = peer.take()
    assert request.endswith(b"\r\nContent-Length: 5\r\n\r\nhello")
    assert b";branch=z9hG4bKMs" in request
    for status in ("100 Trying", "200 Fine", "200 Fine", "486 Busy Here"):
        peer.put(response(request, status))
        peer.take(0.06)
    peer.put(response(request.replace(b"z9hG4bKMs", b"z9hG4bKMs0"), "200 OK"))  # of nobody's
    peer.take(0.06)
    [(token, answer)] = heard.answers
    assert (token, answer.code, answer.reason, answer.local) == (7, 200, "Fine", False)
    assert answer.raw == response(request, "200 Fine")
    peer.socket.close()


def test_silence_is_asked_again_with_the_same_bytes(peer: Peer) -> None:
    peer.send(7)
    first, second, third = peer.take(), peer.take(), peer.take()
    assert first == second == third
    peer.put(response(first, "202 Accepted"))
    assert peer.take(0.3) == b""
    assert [(token, answer.code) for token, answer in peer.heard.answers] == [(7, 202)]


@pytest.mark.parametrize(
    ("changed", "ours"),
    [({}, True), ({"body": b"x" * 1200}, False), ({"from_": "<sip:a@home.lan>", "method": "OPTIONS"}, False)],
)
def test_what_is_not_plain_goes_through_pjsip_and_is_answered_too(
    peer: Peer, changed: dict[str, object], ours: bool
) -> None:
    peer.send(3, **changed)
    request = peer.take()
    assert (b";branch=z9hG4bKMs" in request) == ours
    assert (b";branch=z9hG4bKPj" in request) != ours
    peer.put(response(request, "200 OK"))
    peer.take(0.2)
    assert [(token, answer.code) for token, answer in peer.heard.answers] == [(3, 200)]
