"""What goes wrong in the original, seen on it, and the same story on ours (W2, W3, W5, W12 to W15)."""

import sqlite3
import time
from contextlib import closing

import pytest

from tests.waiting import until

from ..phone import Phone, Seen
from .both import Pair, Side
from .conftest import PairOf, Start
from .shown import seconds, shown

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
NOBODY = "nobody@home.lan"


def headers_of(size: int) -> str:
    """One header line that is stored as so many bytes."""
    return f"X-Long: {'x' * (size - len('X-Long: ') - 2)}"


def shut(side: Side, *, off: bool) -> None:
    """Whatever this Kamailio itself sends fails before there is a transaction, as with a name that does not resolve."""
    assert side.alice.ask(side.alice.request("OPTIONS", "home.lan", f"X-Outage: {int(off)}"), side.address).code == 200


# ---- W2, W13: headers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [998, 1023])
def test_w2_a_poison_message_blocks_nobody(pair: Pair, size: int) -> None:
    """The original takes it, cannot build its replay, and stops there at every REGISTER until it expires."""

    def scenario(side: Side, bob: str) -> list[bytes]:
        assert side.message(bob, b"poison", headers_of(size)).code == 202
        side.store_all(bob, b"victim")
        side.register(bob)
        return [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == []
    assert new == [b"poison", b"victim"]


@pytest.mark.parametrize("size", [961, 962, 997])
def test_w13_headers_beside_the_end_of_a_buffer(pair: Pair, size: int) -> None:
    """From 962 to 997 bytes the original writes past its buffer, and nothing is seen of it here."""
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, b"hello", headers_of(size))))
    assert new == old
    assert [len(value) for value in new.all("X-Long")] == [size - 10]


@pytest.mark.parametrize("size", [1024, 2500])
def test_w13_no_fixed_buffers(pair: Pair, size: int) -> None:
    """The original stores no message with so many bytes of headers."""

    def scenario(side: Side, bob: str) -> tuple[int, list[int]]:
        code = side.message(bob, b"hello", headers_of(size)).code
        side.register(bob)
        return code, [len(seen["X-Long"]) for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == (503, [])
    assert new == (202, [size - 10])


# ---- W3, W5: numbers -------------------------------------------------------------------------------------------------


def test_w3_stuck_until_a_restart(original: Start) -> None:
    """One send that fails at once, here as if DNS were away, and the message is not sent again by any REGISTER."""
    side = original(check_time=1)
    side.store_all(BOB, b"stuck")
    shut(side, off=True)
    side.register(BOB)
    shut(side, off=False)
    for _ in range(2):
        assert len(side.sent()) == 0
        passed(side)
        side.register(BOB)
    assert side.bodies(BOB) == [b"stuck"]
    assert not any(side.store.statistics()[name] for name in ("failed_messages", "failed_reminders"))
    side.store.restart()
    assert shown(side.replayed(BOB)).body == b"stuck"


def passed(side: Side) -> None:
    """Wait until the cleaner of the original came by: a delivered message goes then."""
    side.store_all(NOBODY, b"mark")
    side.dump(NOBODY)
    side.phone.take()
    side.ends(NOBODY)


def test_w3_a_contact_that_does_not_resolve(lite: Start) -> None:
    """The attempt is written down with its reason, and the next REGISTER brings it."""
    side = lite(straight=True)
    side.store_all(BOB, b"hello")
    side.registers(BOB, "Contact: <sip:bob@phone.invalid:5060>", "Expires: 60")
    until(lambda: "phone.invalid" in str(side.silo.list_json()), 5, "the reason is on record")
    assert shown(side.replayed(BOB)).body == b"hello"


def test_w5_a_number_that_comes_back_is_never_sent(original: Start) -> None:
    """A stuck message expires, the next one gets its number and is taken for it."""
    side = original(check_time=1, clean_period=1)
    assert side.message(BOB, b"stuck", "Expires: 1").code == 202
    (stuck,) = side.rows(BOB)
    shut(side, off=True)
    side.dump(BOB)
    shut(side, off=False)
    side.ends(BOB)
    side.store_all(BOB, b"new")
    assert [row.id for row in side.rows(BOB)] == [stuck.id]
    side.register(BOB)
    assert side.sent() == []
    assert side.bodies(BOB) == [b"new"]


def test_w5_a_number_that_comes_back_is_deleted(original: Start) -> None:
    """A delivered message is taken out by hand before the cleaner comes, which then takes the next one instead."""
    side = original(check_time=3)
    side.store_all(BOB, b"delivered")
    side.dump(BOB)
    side.phone.take()
    take_out(side)
    side.store_all(BOB, b"new, never sent")
    side.ends(BOB)
    assert side.phone.glance() is None


def take_out(side: Side) -> None:
    with closing(sqlite3.connect(side.store.database)) as connection:
        connection.execute("DELETE FROM silo")
        connection.commit()


def test_w5_numbers_never_come_back(lite: Start) -> None:
    side = lite(check_time=1, clean_period=1)
    numbers = []
    for text in (b"one", b"two"):
        side.store_all(BOB, text)
        numbers += [row.id for row in side.rows(BOB)]
        side.dump(BOB)
        assert shown(side.phone.take()).body == text
        side.ends(BOB)
    assert side.silo.cli("purge", "--to", BOB, "--yes").returncode == 0
    side.store_all(BOB, b"three")
    side.store.restart()
    assert shown(side.replayed(BOB)).body == b"three"
    assert len(set(numbers)) == 2


# ---- W12, W14, W15: people -------------------------------------------------------------------------------------------


def test_w12_to_names_somebody_else(pair: Pair) -> None:
    """A list's To, say: filed under bob, and sent to carl by the original."""

    def scenario(side: Side, bob: str) -> tuple[str, list[str], str]:
        assert side.message(bob, b"for bob", to=f"sip:carl-{bob}").code == 202
        seen = shown(side.replayed(bob))
        return seen.uri, seen.all("To"), bob

    old, new = pair.play(scenario)
    bob = new[2]
    assert old[:2] == (f"sip:carl-{bob}", [f"<sip:carl-{bob}>"])
    assert new[:2] == (f"sip:{bob}", [f"<sip:carl-{bob}>"])


def test_w14_identity_claims_stay_among_the_trusted(original: Start, lite: Start) -> None:
    """The original repeats to anybody, from the server's own address, what the sender claimed to be."""
    claim = "P-Asserted-Identity: <sip:boss@home.lan>"
    found = []
    for side in (original(straight=True), lite(straight=True, trusted="127.0.0.1/32", peer="[]")):
        assert side.message(BOB, b"hello", claim).code == 202
        with Phone("bob", "127.0.0.2") as outside:
            side.registers(BOB, f"Contact: <{outside.contact}>", "Expires: 60")
            found.append(outside.take().all("P-Asserted-Identity"))
    assert found == [["<sip:boss@home.lan>"], []]


def test_w15_no_bytes_of_other_packets(pair: Pair) -> None:
    """Content-Length larger than the datagram: the original delivers what the packet before had left in its buffer."""
    secret = b"the secret of somebody else"

    def scenario(side: Side, bob: str) -> tuple[int, list[bool]]:
        side.message(NOBODY, secret * 40)
        raw = side.written(bob, b"hello").replace(b"Content-Length: 5", b"Content-Length: 505")
        code = side.alice.ask(raw, side.address).code
        side.register(bob)
        return code, [secret in seen.body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == (202, [True])
    assert new == (400, [])


def test_w15_a_datagram_that_is_longer(pair: Pair) -> None:
    """Cut to its Content-Length by both (RFC 3261 18.3)."""

    def scenario(side: Side, bob: str) -> tuple[int, list[bytes]]:
        raw = side.written(bob, b"hello and more").replace(b"Content-Length: 14", b"Content-Length: 5")
        code = side.alice.ask(raw, side.address).code
        side.register(bob)
        return code, [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == new == (202, [b"hello"])


# ---- rows that others wrote ------------------------------------------------------------------------------------------


def test_a_row_without_body_blocks_nobody(pair_of: PairOf) -> None:
    """Written by hand or by another program: the rows after it are delivered (kamailio e5efcbdd7b)."""

    def scenario(side: Side, bob: str) -> list[Seen]:
        now = int(time.time())
        with closing(sqlite3.connect(side.store.database, timeout=5)) as connection:
            connection.execute(
                "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, body)"
                " VALUES ('sip:alice@home.lan', ?, ?, 'home.lan', ?, ?, NULL)",
                (f"sip:{bob}", bob.partition("@")[0], now, now + 600),
            )
            connection.commit()
        side.store_all(bob, b"after it")
        side.register(bob)
        return side.sent()

    old, new = pair_of(check_time=1).play(scenario)
    assert [shown(seen).body for seen in old][-1:] == [b"after it"]
    assert [shown(seen).body for seen in new][-1:] == [b"after it"]
    assert all(abs(seconds(seen["Date"]) - time.time()) < 60 for seen in (*old, *new))
