"""Names of next hops, looked up beside the loop; and the password, which only our own PBX may ask for."""

from __future__ import annotations

import socket
import threading

import pytest

from msilo_lite.errors import SipError
from msilo_lite.sip.lookup import AGAIN, FRESH, Lookup, resolve_name
from msilo_lite.sip.wire import Outgoing
from tests.waiting import until

FOUR = frozenset({socket.AF_INET})
BOTH = FOUR | {socket.AF_INET6}


class Resolver:
    """A name server that answers when it is told to."""

    def __init__(self, **known: str) -> None:
        self.known = {name.replace("_", "."): address for name, address in known.items()}
        self.asked: list[str] = []
        self.may = threading.Event()
        self.may.set()

    def __call__(self, name: str, families: frozenset[socket.AddressFamily]) -> str | None:
        self.asked.append(name)
        assert self.may.wait(5)
        return self.known.get(name)


def request(target: str = "sip:bob@home.lan", *routes: str) -> Outgoing:
    return Outgoing(target, "<sip:a@x>", "<sip:b@x>", "call", (), b"", b"", routes)


def test_an_address_needs_no_look_up() -> None:
    resolver = Resolver()
    lookup = Lookup(FOUR, resolver)
    assert [lookup.address(host) for host in ("127.0.0.1", "::1", "[::1]")] == ["127.0.0.1", "::1", "::1"]
    sent = request("sip:bob@home.lan", "<sip:127.0.0.1:5060;lr;hide>")
    assert lookup.lead(sent) is sent
    assert resolver.asked == []


def test_nobody_waits_for_the_name_server() -> None:
    resolver = Resolver(pbx_lan="127.0.0.9")
    resolver.may.clear()
    lookup = Lookup(FOUR, resolver)
    assert [lookup.address("pbx.lan") for _ in range(5)] == [None] * 5
    with pytest.raises(SipError, match=r"pbx\.lan has no address now"):
        lookup.lead(request("sip:bob@home.lan", "<sip:pbx.lan;lr;hide>"))
    resolver.may.set()
    until(lambda: lookup.address("PBX.lan.") == "127.0.0.9", 5, "it is known")
    assert resolver.asked == ["pbx.lan"], "once"


def test_the_start_waits_for_an_answer_and_not_for_ever() -> None:
    lookup = Lookup(FOUR, Resolver(pbx_lan="127.0.0.9"))
    assert lookup.first("pbx.lan") == "127.0.0.9"
    assert lookup.first("nobody.lan") is None


@pytest.mark.parametrize(
    ("sent", "routes"),
    [
        (request("sip:b@h", "<sip:pbx.lan;lr;hide>"), ("<sip:127.0.0.9;lr;hide>",)),
        (request("sip:b@h", "<sip:pbx.lan:5070;transport=udp;lr;hide>"), ("<sip:127.0.0.9:5070;transport=udp;lr;hide>",)),  # noqa: E501
        (request("sip:b@h", "<sip:pbx.lan;lr>", "<sip:b>"), ("<sip:127.0.0.9;lr;hide>", "<sip:pbx.lan;lr>", "<sip:b>")),
        (request("sip:b@pbx.lan:5071"), ("<sip:127.0.0.9:5071;lr;hide>",)),
        (request("sip:b@six.lan"), ("<sip:[::9];lr;hide>",)),
    ],
)  # fmt: skip
def test_what_is_written_stays_and_the_way_is_an_address(sent: Outgoing, routes: tuple[str, ...]) -> None:
    lookup = Lookup(BOTH, Resolver(pbx_lan="127.0.0.9", six_lan="::9"))
    for name in ("pbx.lan", "six.lan"):
        lookup.first(name)
    led = lookup.lead(sent)
    assert (led.target, led.routes) == (sent.target, routes)


def test_an_address_is_kept_until_there_is_another() -> None:
    """The name server is gone: what worked before works on. Then the PBX has moved."""
    now = [1000.0]
    resolver = Resolver(pbx_lan="127.0.0.9")
    lookup = Lookup(FOUR, resolver, lambda: now[0])
    lookup.first("pbx.lan")
    now[0] += FRESH - 1
    assert lookup.address("pbx.lan") == "127.0.0.9"
    assert len(resolver.asked) == 1
    resolver.known.clear()
    for asked in (2, 3):
        now[0] += FRESH
        assert lookup.address("pbx.lan") == "127.0.0.9"
        until(lambda asked=asked: len(resolver.asked) == asked, 5, "it was asked again")  # type: ignore[misc]
        until(lambda: lookup.settled, 5, "and has answered")
        assert lookup.address("pbx.lan") == "127.0.0.9"
    resolver.known["pbx.lan"] = "127.0.0.10"
    now[0] += AGAIN
    until(lambda: lookup.address("pbx.lan") == "127.0.0.10", 5, "the new address")


def test_the_systems_own_resolver() -> None:
    assert resolve_name("localhost", FOUR) == "127.0.0.1"
    assert resolve_name("nobody.invalid", BOTH) is None
    assert resolve_name("x" * 300, BOTH) is None


@pytest.mark.parametrize(
    ("hop", "ours"),
    [
        ("sip:127.0.0.9;lr;hide", True),
        ("sip:127.0.0.9:5060", True),
        ("sip:pbx.lan", True),
        ("sip:bob@PBX.lan:5060", True),
        ("sip:127.0.0.9:5061", False),
        ("sip:127.0.0.10", False),
        ("sip:pbx.lan:5070", False),
        ("sip:127.0.0.9;maddr=127.0.0.10", False),
        ("sips:127.0.0.9", False),
    ],
)
def test_whose_place_it_is(hop: str, ours: bool) -> None:
    lookup = Lookup(FOUR, Resolver(pbx_lan="127.0.0.9"))
    lookup.first("pbx.lan")
    assert lookup.same_place(hop, frozenset({"sip:pbx.lan"})) is ours
