"""One user's flood, in the real daemon on real sockets: counted in turns of its loop and in sends, not in seconds."""

import socket
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from msilo_lite.box.message import Message, Turn
from msilo_lite.box.store import Store
from msilo_lite.daemon import REQUESTS_A_TURN, Daemon
from msilo_lite.outbound.replay import CLAIM
from msilo_lite.settings.config import Config
from msilo_lite.sip.address import Aor

from .conftest import PickUp
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

LARGE = 10_000
BURST = 100
"Messages that arrive between two turns: the kernel's buffer holds about twice as many."


def fill(file: Path, owner: Aor, number: int, now: int) -> None:
    with closing(Store(file)) as store:
        for start in range(0, number, 1000):
            new = [_message(owner, start + count, now) for count in range(1000)]
            store.write(Turn(new=new), now)


def _message(owner: Aor, number: int, now: int) -> Message:
    return Message(
        owner=owner, src="sip:alice@home.lan", dst=owner.uri, from_="<sip:alice@home.lan>", to=f"<{owner.uri}>",
        ctype="text/plain", body=b"%d" % number, kept="", arrived=now, expires=now + 9999, call_id="c",
        key=number.to_bytes(16),
    )  # fmt: skip


class Field:
    """A daemon whose turns are taken by hand, and its peers on sockets of their own."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        bound = daemon.listening[0]
        self.address = bound.host, bound.port
        self.got: list[str] = []
        self.phones: list[Phone] = []

    def turn(self) -> None:
        self.daemon.turn(1)
        for phone in self.phones:
            while seen := phone.glance():
                if seen.method == "MESSAGE":
                    self.got.append(phone.user)
                    phone.answer(seen, 200)

    def turns_until(self, phone: Phone, most: int) -> tuple[int, Seen]:
        """Turns until something reaches a phone that only asks."""
        for count in range(1, most + 1):
            self.turn()
            if seen := phone.glance():
                return count, seen
        pytest.fail(f"no answer in {most} turns")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "silo.sqlite"


@pytest.fixture
def field(file: Path, ends: ExitStack) -> Field:
    fill(file, Aor("bob", "home.lan"), LARGE, int(time.time()))
    config = Config.model_validate(
        {"db_url": f"sqlite:///{file}", "bind": "udp:127.0.0.1:0", "settle": 0, "add_date": 0, "max_in_flight": 1}
    )
    return Field(ends.enter_context(closing(Daemon(config))))


def test_a_flood_for_bob_and_a_message_for_carol(field: Field, phone: PickUp) -> None:
    """10,000 wait for bob and are on their way to him, more arrive all the time, and there is one lane for all."""
    bob, carol, alice = phone("bob"), phone("carol"), phone("alice")
    flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(flood):
        flood.bind(("127.0.0.1", 0))
        flood.setblocking(False)
        field.phones = [bob]
        bob.send(bob.request("REGISTER", "bob@home.lan", f"Contact: <{bob.contact}>"), field.address)
        while len(field.got) < 3:
            field.turn()
        text = "Content-Type: text/plain"

        def burst() -> None:
            for _ in range(BURST):
                flood.sendto(alice.request("MESSAGE", "bob@home.lan", text, body=b"flood"), field.address)
            with suppress(BlockingIOError):
                while flood.recv(65535):
                    pass

        for _ in range(5):
            burst()
            field.turn()
        burst()
        alice.send(alice.request("MESSAGE", "carol@home.lan", text, body=b"hello"), field.address)
        turns, answer = field.turns_until(alice, 10)
        assert answer.code == 202
        assert turns <= 1 + (BURST + 10) // REQUESTS_A_TURN + 1, "in the turn in which it came, or the next"

        field.phones.append(carol)
        before = len(field.got)
        carol.send(carol.request("REGISTER", "carol@home.lan", f"Contact: <{carol.contact}>"), field.address)
        while "carol" not in field.got:
            burst()
            field.turn()
            assert Counter(field.got[before:])["bob"] <= 2 * CLAIM, "bob's box keeps carol waiting"
        assert Counter(field.got)["bob"] < LARGE // 2
