"""msilo's functions with arguments: m_store(owner), m_store_addrs(owner, src, dst), m_dump(owner).

Kamailio's script takes the arguments from wherever it likes; here both sides take them from X-MSilo-* headers, ours
from peers with `control` alone. m_store_addrs and use_mode came with Kamailio 5.8, so those tests are about ours only.
"""

import pytest

from .both import Pair, Side
from .conftest import Start
from .shown import Shown, shown

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
CARL = "carl@home.lan"


def test_m_store_with_an_owner(pair: Pair) -> None:
    """Under whom it is filed: after lookup() the Request-URI is the Contact, so scripts name the owner."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        answer = side.message(f"contact-of-{bob}", b"hello", f"X-MSilo-Owner: sip:{bob}", to=f"sip:{bob}")
        side.register(bob)
        return answer.code, len(side.sent())

    old, new = pair.play(scenario)
    assert old == new == (202, 1)


def test_m_store_with_an_owner_that_is_none(pair: Pair) -> None:
    old, new = pair.play(lambda side, bob: side.message(bob, b"hello", "X-MSilo-Owner: sip:home.lan").code)
    assert (old, new) == (503, 404)


def test_m_dump_with_an_owner(pair: Pair) -> None:
    """Any request but a REGISTER needs no Contact and no capability: the script knows what it does."""

    def scenario(side: Side, bob: str) -> list[Shown]:
        side.store_all(bob, b"one", b"two")
        side.dump(bob)
        return [shown(seen) for seen in side.sent()]

    old, new = pair.play(scenario)
    assert new == old
    assert [one.body for one in new] == [b"one", b"two"]


def test_m_dump_with_an_owner_on_a_register(pair: Pair) -> None:
    """Whose mail is sent; the REGISTER itself still has to pass."""

    def scenario(side: Side, bob: str) -> tuple[list[bytes], list[bytes]]:
        side.store_all(bob, b"hello")
        other = f"other-{bob}"
        side.registers(other, f"Contact: <{side.contact(other)}>", "Expires: 0", f"X-MSilo-Owner: sip:{bob}")
        none = [seen.body for seen in side.sent()]
        side.register(other, f"X-MSilo-Owner: sip:{bob}")
        return none, [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == new == ([], [b"hello"])


def test_m_dump_for_somebody_without_mail(pair: Pair) -> None:
    old, new = pair.play(lambda side, bob: (side.dump(bob).code, side.sent()))
    assert old == new == (200, [])


# ---- ours alone ------------------------------------------------------------------------------------------------------


def test_m_dump_of_two_at_the_most(lite: Start) -> None:
    """OpenSIPS has it as the second argument of m_dump; the rest waits for the next one."""
    side = lite()
    side.store_all(BOB, b"one", b"two", b"three")
    for expected in ([b"one", b"two"], [b"three"]):
        side.dump(BOB, "X-MSilo-Max: 2")
        assert [shown(seen).body for seen in side.sent()] == expected


def test_a_register_for_two_at_the_most(lite: Start) -> None:
    side = lite()
    side.store_all(BOB, b"one", b"two", b"three")
    side.register(BOB, "X-MSilo-Max: 2")
    assert [shown(seen).body for seen in side.sent()] == [b"one", b"two"]


def test_m_store_addrs(lite: Start) -> None:
    """From, To and where it goes are as named; the owner decides whose REGISTER brings it."""
    side = lite()
    orders = (
        f"X-MSilo-Owner: sip:{BOB}",
        'X-MSilo-Src: "The Office" <sip:office@home.lan>',
        f"X-MSilo-Dst: <sip:{CARL}>",
    )
    assert side.message("group@home.lan", b"hello", *orders).code == 202
    side.register(CARL)
    assert side.sent() == []
    one = shown(side.replayed(BOB))
    assert one.uri == f"sip:{CARL}"
    assert one.all("To") == [f"<sip:{CARL}>"]
    assert one.all("From") == ['"The Office" <sip:office@home.lan>']


def test_m_store_addrs_with_empty_addresses(lite: Start) -> None:
    """They fall back to From and To, as in msilo."""
    side = lite()
    orders = (f"X-MSilo-Owner: sip:{BOB}", "X-MSilo-Src:", "X-MSilo-Dst:")
    assert side.message(BOB, b"hello", *orders).code == 202
    one = shown(side.replayed(BOB))
    assert (one.all("From"), one.all("To")) == (["<sip:alice@home.lan>"], [f"<sip:{BOB}>"])


def test_use_mode_1_keeps_the_call_id(lite: Start) -> None:
    """The tag is fresh each time: two messages of one session must not look like one request sent twice (482)."""
    side = lite(use_mode=1)
    for text in (b"one", b"two"):
        raw = side.alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=text, call_id="session-1")
        second = raw.replace(b"CSeq: 1 ", b"CSeq: 2 ").replace(b"branch=z9hG4bK", b"branch=z9hG4bKb")
        assert side.alice.ask(second if text == b"two" else raw, side.address).code == 202
    side.register(BOB)
    one, two = side.sent()
    assert one["Call-ID"] == two["Call-ID"] == "session-1"
    assert one["From"] != two["From"]


def test_use_mode_0_makes_a_call_id_of_its_own(pair: Pair) -> None:
    def scenario(side: Side, bob: str) -> bool:
        raw = side.written(bob, b"hello")
        assert side.alice.ask(raw, side.address).code == 202
        return side.replayed(bob)["Call-ID"].encode() in raw

    old, new = pair.play(scenario)
    assert (old, new) == (False, False)


def test_without_control_the_headers_mean_nothing(lite: Start) -> None:
    """Else any phone behind a trusted proxy could read or redirect another's mail."""
    side = lite(peer="[]")
    orders = (f"X-MSilo-Owner: sip:{CARL}", "X-MSilo-Src: <sip:boss@home.lan>", f"X-MSilo-Dst: <sip:{CARL}>")
    assert side.message(BOB, b"hello", *orders).code == 202
    assert side.dump(BOB).code == 200
    side.register(CARL)
    assert side.sent() == []
    one = side.replayed(BOB)
    assert (shown(one).all("From"), one.uri) == (["<sip:alice@home.lan>"], f"sip:{BOB}")


@pytest.mark.parametrize(
    "line", ["X-MSilo-Owner: nobody", "X-MSilo-Flags: thirty", "X-MSilo-Flags: 32", "X-MSilo-Dst: <>"]
)
def test_an_order_that_cannot_be_understood(lite: Start, line: str) -> None:
    """Refused as a whole, never half-obeyed."""
    side = lite()
    assert side.message(BOB, b"hello", line).code == 400
    assert side.rows() == []


def test_orders_are_never_replayed(pair: Pair) -> None:
    """The original keeps them like any header it does not know."""

    def scenario(side: Side, bob: str) -> list[str]:
        replay = side.delivered(bob, b"hello", f"X-MSilo-Owner: sip:{bob}", "X-MSilo-Flags: 1")
        return [name for name, _ in replay.headers if name in ("x-msilo-owner", "x-msilo-flags")]

    old, new = pair.play(scenario)
    assert old == ["x-msilo-owner", "x-msilo-flags"]
    assert new == []
