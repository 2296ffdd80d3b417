"""Silos that point at each other, or at themselves: real processes, and every message ends in one box, once."""

from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp
from .peers import Silo
from .phone import Phone
from .process import free_port

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


def ring_of(ends: ExitStack, folder: Path, size: int) -> list[Silo]:
    """So many silos; the outbound_proxy of each is the next one, that of the last the first."""
    ports, silos = [free_port() for _ in range(size)], []
    for number, port in enumerate(ports):
        place = folder / f"silo{number}"
        place.mkdir()
        options = ("--domain", "home.lan", "--outbound-proxy", f"sip:127.0.0.1:{ports[(number + 1) % size]}")
        silos.append(ends.enter_context(closing(Silo(place, *options, bind=(f"udp:127.0.0.1:{port}",)))))
    return [silo.start() for silo in silos]


def waiting(*silos: Silo) -> list[list[str]]:
    """What each has in its box."""
    return [silo.texts for silo in silos]


def woken(phone: Phone, silo: Silo, attempts: int) -> None:
    """Have a silo try to send what it has, until it was told so often that nobody is there."""
    phone.register(silo.address)
    until(lambda: silo.counters.get("failed_messages", 0) >= attempts, 10, f"{attempts} attempts failed")


def write(alice: Phone, silo: Silo, *texts: str) -> None:
    for text in texts:
        assert alice.message(silo.address, BOB, text.encode()).code == 202


def test_a_silo_that_points_at_itself(ends: ExitStack, tmp_path: Path, phone: PickUp) -> None:
    (silo,), alice, bob = ring_of(ends, tmp_path, 1), phone("alice"), phone("bob")
    write(alice, silo, "one", "two")
    for attempt in (1, 2):
        woken(bob, silo, attempt)
        assert silo.box == [("one", "pending", 480), ("two", "pending", None)]
    assert silo.counters["returned_messages"] == 2, "each attempt was one hop"
    assert silo.counters["stored_messages"] == 2


def test_two_silos_that_point_at_each_other(ends: ExitStack, tmp_path: Path, phone: PickUp) -> None:
    """The second one keeps what the first one handed over; its own attempts end at the first, which knows its mark."""
    (one, two), alice, bob = ring_of(ends, tmp_path, 2), phone("alice"), phone("bob")
    write(alice, one, "one", "two", "three")
    bob.register(one.address)
    until(lambda: waiting(one, two) == [[], ["one", "two", "three"]], 10, "all are with the second")
    for attempt in (1, 2):
        woken(bob, two, attempt)
        bob.register(one.address)
    assert waiting(one, two) == [[], ["one", "two", "three"]]
    assert [code for _, _, code in two.box] == [480, None, None]
    assert one.counters["stored_messages"] == two.counters["stored_messages"] == 3

    two.options = two.options[:-2]  # somebody mends it: straight to the phones
    two.restart()
    bob.register(two.address)
    assert [bob.take().text for _ in range(3)] == ["one", "two", "three"]
    two.empties()
    assert bob.glance(0.3) is None


def test_three_silos_in_a_circle(ends: ExitStack, tmp_path: Path, phone: PickUp) -> None:
    """Three hops, and the message rests."""
    ring, bob = ring_of(ends, tmp_path, 3), phone("bob")
    write(phone("alice"), ring[0], "Hello")
    for silo, following in pairwise(ring):
        bob.register(silo.address)
        until(lambda following=following: following.texts == ["Hello"], 10, "it has gone on")  # type: ignore[misc]
    woken(bob, ring[2], 1)
    assert waiting(*ring) == [[], [], ["Hello"]]
    assert ring[2].box == [("Hello", "pending", 480)]
