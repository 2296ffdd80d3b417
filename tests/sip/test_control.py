"""What a PBX with control does in headers: msilo's functions with their arguments. From others they do nothing."""

import json
import signal

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB, CARL = "bob@home.lan", "carl@home.lan"
PBX = "127.0.0.2"
QUIET = 0.8
"Seconds in which nothing may come."


def peers(*networks: tuple[str, bool]) -> tuple[str, str]:
    return "--set", "peer=" + json.dumps([{"address": at, "control": control} for at, control in networks])


SET = peers((PBX, True))


@pytest.fixture
def silo(start_silo: StartSilo) -> Silo:
    """A silo without proxy; the PBX has control."""
    return start_silo(*SET)


@pytest.fixture
def proxied(start_silo: StartSilo, proxy: Phone) -> Silo:
    return start_silo(*SET, "--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")


@pytest.fixture
def pbx(phone: PickUp) -> Phone:
    """A peer with control, for alice."""
    return phone("alice", PBX)


def store(sender: Phone, silo: Silo, *texts: str, owner: str = BOB, orders: tuple[str, ...] = ()) -> None:
    for text in texts:
        assert sender.message(silo.address, owner, text.encode(), "text/plain", *orders).code == 202


def register(sender: Phone, silo: Silo, user: str, at: Phone, *orders: str) -> Seen:
    """A REGISTER of `user` from `sender`, for a phone elsewhere."""
    lines = (f"Contact: <{at.contact}>", "Expires: 300", *orders)
    return sender.ask(sender.request("REGISTER", f"{user}@home.lan", *lines), silo.address)


def dump(sender: Phone, silo: Silo, *orders: str) -> Seen:
    return sender.ask(sender.request("OPTIONS", "silo@home.lan", *orders), silo.address)


def takes(phone: Phone, count: int) -> list[str]:
    """The texts of so many messages, and that none comes after them but repeats of the same request."""
    seen = [phone.take() for _ in range(count)]
    late = [one for one in phone.during(QUIET) if one["Via"] not in {known["Via"] for known in seen}]
    assert late == []
    return [one.text for one in seen]


def boxes(silo: Silo) -> list[str]:
    return [row["to"] for row in silo.list_json()]


# ---- MESSAGE: m_store(owner), m_store_addrs(owner, src, dst) --------------------------------------------------------


def test_whose_box_it_is(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    store(pbx, silo, "for carl", orders=(f"X-MSilo-Owner: <sip:{CARL}>",))
    assert boxes(silo) == [CARL]
    carl = phone("carl")
    carl.register(silo.address)
    seen = carl.take()
    assert (seen.text, seen.uri, seen["To"]) == ("for carl", carl.contact, f"<sip:{BOB}>")
    silo.empties()


def test_from_whom_and_to_whom_it_goes_through_the_proxy(proxied: Silo, proxy: Phone, pbx: Phone) -> None:
    orders = (
        f"X-MSilo-Owner: sip:{CARL}",
        'X-MSilo-Src: "The team" <sip:team@home.lan>',
        "X-MSilo-Dst: Group <sip:group@elsewhere.lan;user=phone>",
    )
    store(pbx, proxied, "Hello", orders=orders)
    assert boxes(proxied) == [CARL]
    assert dump(pbx, proxied, f"X-MSilo-Owner: sip:{CARL}").code == 200
    seen = proxy.take()
    assert seen.uri == "sip:group@elsewhere.lan;user=phone"
    assert seen["From"].startswith('"The team" <sip:team@home.lan>;tag=')
    assert seen["To"] == "Group <sip:group@elsewhere.lan;user=phone>"
    assert not seen.all("Route")
    proxied.empties()


def test_straight_it_goes_to_the_phone_of_the_owner(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    carl = phone("carl")
    orders = (f"X-MSilo-Owner: sip:{CARL}", "X-MSilo-Src: sip:team@home.lan", "X-MSilo-Dst: sip:group@home.lan")
    store(pbx, silo, "Hello", orders=orders)
    carl.register(silo.address)
    seen = carl.take()
    assert (seen.uri, seen["To"]) == (carl.contact, "<sip:group@home.lan>")
    assert seen["From"].startswith("<sip:team@home.lan>;tag=")


def test_empty_addresses_mean_from_and_to(proxied: Silo, proxy: Phone, pbx: Phone) -> None:
    store(pbx, proxied, "Hello", orders=("X-MSilo-Src:", "X-MSilo-Dst:"))
    assert dump(pbx, proxied, f"X-MSilo-Owner: sip:{BOB}").code == 200
    seen = proxy.take()
    assert (seen.uri, seen["To"]) == (f"sip:{BOB}", f"<sip:{BOB}>")
    assert seen["From"].startswith("<sip:alice@home.lan>;tag=")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_orders_survive_a_restart(proxied: Silo, proxy: Phone, pbx: Phone, number: signal.Signals) -> None:
    orders = (f"X-MSilo-Owner: sip:{CARL}", "X-MSilo-Src: sip:team@home.lan", "X-MSilo-Dst: sip:group@elsewhere.lan")
    store(pbx, proxied, "Hello", orders=orders)
    proxied.restart(number)
    assert dump(pbx, proxied, f"X-MSilo-Owner: sip:{CARL}").code == 200
    first = proxy.receive()
    proxied.restart(signal.SIGKILL)
    while proxy.glance():  # repeats of what was under way
        pass
    dump(pbx, proxied, f"X-MSilo-Owner: sip:{CARL}")
    second = proxy.take()
    for seen in (first, second):
        assert (seen.uri, seen["To"], seen.text) == ("sip:group@elsewhere.lan", "<sip:group@elsewhere.lan>", "Hello")
        assert seen["From"].startswith("<sip:team@home.lan>;tag=")
    proxied.empties()


def test_a_time_by_order(start_silo: StartSilo, proxy: Phone, pbx: Phone, phone: PickUp) -> None:
    """From a phone it is as if it were not there: the message is an ordinary one."""
    options = ("--set", "send_time=1", "--set", "snd_time_avp=$hdr(X-MSilo-Send-Time)")
    silo = start_silo(*SET, *options, "--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")
    store(pbx, silo, "later", orders=("X-MSilo-Send-Time: +2s",))
    store(phone("alice"), silo, "now", owner=CARL, orders=("X-MSilo-Send-Time: +2s",))
    assert [(row["to"], bool(row["due"])) for row in silo.list_json()] == [(BOB, True), (CARL, False)]
    assert takes(proxy, 1) == ["later"]
    assert boxes(silo) == [CARL]


# ---- REGISTER, OPTIONS: m_dump(owner, max) --------------------------------------------------------------------------


def test_a_register_for_another_owner(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    """As with m_dump("sip:carl@..."): bob's phone gets what waits for carl."""
    alice, desk = phone("alice"), phone("bob")
    store(alice, silo, "for carl", owner=CARL)
    store(alice, silo, "for bob")
    assert register(pbx, silo, "bob", desk, f"X-MSilo-Owner: sip:{CARL}").code == 200
    assert takes(desk, 1) == ["for carl"]
    assert boxes(silo) == [BOB]


def test_a_register_for_so_many(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    bob = phone("bob")
    store(phone("alice"), silo, "1", "2", "3", "4", "5")
    for texts in (["1", "2"], ["3", "4"], ["5"]):
        assert register(pbx, silo, "bob", bob, "X-MSilo-Max: 2").code == 200
        assert takes(bob, len(texts)) == texts
    silo.empties()


def test_a_register_without_limit_after_one_with(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    bob = phone("bob")
    store(phone("alice"), silo, "1", "2", "3", "4")
    register(pbx, silo, "bob", bob, "X-MSilo-Max: 1")
    first = bob.receive()
    register(pbx, silo, "bob", bob)
    bob.answer(first, 200)
    assert takes(bob, 3) == ["2", "3", "4"]


def test_options_for_an_owner(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    bob = phone("bob")
    bob.register(silo.address)
    store(phone("alice"), silo, "1", "2", "3")
    assert bob.glance(QUIET) is None
    assert dump(pbx, silo, f"X-MSilo-Owner: sip:{CARL}").code == 200
    assert dump(pbx, silo).code == 200
    assert bob.glance(QUIET) is None
    answer = dump(pbx, silo, f"X-MSilo-Owner: sip:{BOB}", "X-MSilo-Max: 2")
    assert answer.code == 200
    assert "MESSAGE" in answer["Allow"]
    assert takes(bob, 2) == ["1", "2"]
    assert dump(pbx, silo, f"X-MSilo-Owner: sip:{BOB}").code == 200
    assert takes(bob, 1) == ["3"]
    silo.empties()


def test_a_busy_phone_gets_no_more_than_was_asked_for(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    """Called for one, twice; the second time it is busy for it, and the call while it rang does not lift the limit."""
    bob = phone("bob")
    bob.register(silo.address)
    store(phone("alice"), silo, "1", "2", "3", "4", "5")
    order = (f"X-MSilo-Owner: sip:{BOB}", "X-MSilo-Max: 1")
    dump(pbx, silo, *order)
    first = bob.receive()
    dump(pbx, silo, *order)
    bob.answer(first, 200)
    assert bob.take(486).text == "2"
    got = 0
    for seen in bob.during(2):
        bob.answer(seen, 200)
        got += 1
    assert got <= 1
    assert len(boxes(silo)) >= 3


def test_a_crash_in_the_middle_of_a_dump(proxied: Silo, proxy: Phone, pbx: Phone) -> None:
    """What was under way may come twice; nothing is lost, and the order holds."""
    store(pbx, proxied, "1", "2", "3")
    dump(pbx, proxied, f"X-MSilo-Owner: sip:{BOB}", "X-MSilo-Max: 2")
    assert proxy.take().text == "1"
    assert proxy.receive().text == "2"
    proxied.restart(signal.SIGKILL)
    while proxy.glance():  # repeats of the request that nobody answered
        pass
    dump(pbx, proxied, f"X-MSilo-Owner: sip:{BOB}")
    texts = []
    for seen in proxy.during(3):
        proxy.answer(seen, 200)
        texts.append(seen.text)
    assert [text for text in dict.fromkeys(texts) if text != "1"] == ["2", "3"]
    proxied.empties()


# ---- who may not ----------------------------------------------------------------------------------------------------

ORDERS = (
    f"X-MSilo-Owner: sip:{CARL}",
    "X-MSilo-Src: sip:boss@home.lan",
    "X-MSilo-Dst: sip:group@elsewhere.lan",
    "X-MSilo-Max: 1",
)


def test_from_any_other_peer_nothing_of_it_counts(proxied: Silo, proxy: Phone, phone: PickUp) -> None:
    """Trusted, but without control: each request is what it would be without these headers."""
    alice, bob = phone("alice"), phone("bob")
    store(alice, proxied, "1", "2", orders=ORDERS)
    assert boxes(proxied) == [BOB, BOB]
    assert dump(alice, proxied, f"X-MSilo-Owner: sip:{BOB}").code == 200
    assert proxy.glance(QUIET) is None
    assert register(bob, proxied, "bob", bob, *ORDERS).code == 200
    seen = [proxy.take() for _ in range(2)]
    assert [one.text for one in seen] == ["1", "2"]
    for one in seen:
        assert (one.uri, one["To"]) == (f"sip:{BOB}", f"<sip:{BOB}>")
        assert one["From"].startswith("<sip:alice@home.lan>;tag=")


def test_nonsense_of_any_other_peer_does_no_harm(silo: Silo, phone: PickUp) -> None:
    lines = ("X-MSilo-Owner: nonsense", "X-MSilo-Max: nonsense", "X-MSilo-Flags: 99", "X-MSilo-Dst: *")
    alice = phone("alice")
    store(alice, silo, "Hello", orders=lines)
    assert dump(alice, silo, *lines).code == 200
    assert register(alice, silo, "alice", alice, *lines).code == 200


def test_the_smallest_network_says_who_has_control(start_silo: StartSilo, phone: PickUp) -> None:
    silo = start_silo(*peers(("127.0.0.0/8", True), ("127.0.0.3", False)))
    store(phone("alice"), silo, "with", orders=(f"X-MSilo-Owner: sip:{CARL}",))
    store(phone("alice", "127.0.0.3"), silo, "without", orders=(f"X-MSilo-Owner: sip:{CARL}",))
    assert boxes(silo) == [CARL, BOB]


def test_a_peer_is_trusted_though_trusted_does_not_name_it(start_silo: StartSilo, pbx: Phone, phone: PickUp) -> None:
    silo = start_silo(*SET, "--trusted", "127.0.0.9")
    store(pbx, silo, "Hello")
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 403
    assert boxes(silo) == [BOB]


# ---- orders that cannot be obeyed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["MESSAGE", "REGISTER", "OPTIONS"])
def test_an_order_that_cannot_be_understood_is_refused_and_does_nothing(
    proxied: Silo, proxy: Phone, pbx: Phone, method: str
) -> None:
    store(pbx, proxied, "Hello")
    cases = {
        "X-MSilo-Owner: carl": 400,
        "X-MSilo-Owner:": 400,
        "X-MSilo-Max: many": 400,
        "X-MSilo-Flags: 32": 400,
        "X-MSilo-Src: *": 400,
        "X-MSilo-Owner: sip:home.lan": 404,
    }
    for line, code in cases.items():
        lines = {"MESSAGE": ("Content-Type: text/plain",), "REGISTER": (f"Contact: <{pbx.contact}>",)}.get(method, ())
        body = b"refused" if method == "MESSAGE" else b""
        request = pbx.request(method, BOB, *lines, line, body=body)
        assert pbx.ask(request, proxied.address).code == code, line
    assert proxy.glance(QUIET) is None
    assert [row["attempts"] for row in proxied.list_json("--all")] == [0]


def test_an_owner_who_is_nobody_of_ours(start_silo: StartSilo, pbx: Phone) -> None:
    silo = start_silo(*SET, "--domain", "home.lan")
    line = "X-MSilo-Owner: sip:carl@elsewhere.lan"
    assert dump(pbx, silo, line).code == 404
    assert pbx.message(silo.address, BOB, b"Hello", "text/plain", line).code == 404
    assert register(pbx, silo, "bob", pbx, line).code == 404
    assert silo.list_json("--all") == []


# ---- never replayed -------------------------------------------------------------------------------------------------


def test_no_order_is_ever_replayed(silo: Silo, pbx: Phone, phone: PickUp) -> None:
    bob = phone("bob")
    lines = (
        f"X-MSilo-Owner: sip:{BOB}",
        "x-msilo-src: sip:alice@home.lan",
        "X-MSILO-FLAGS: 1",
        "X-MSilo-Max: 1",
        "X-MSilo-Secret: 1",
        "X-MSilo-Late: 99",
        "X-MSilo-ID: 77-0123456789abcdef",
        "X-Other: kept",
    )
    store(pbx, silo, "1", orders=lines)
    store(phone("alice"), silo, "2", orders=lines)
    bob.register(silo.address)
    for text in ("1", "2"):
        seen = bob.take()
        assert seen.text == text
        ours = [name for name, _ in seen.headers if name.startswith("x-msilo")]
        assert ours == ["x-msilo-id", "x-msilo-path"]  # the earlier silo's mark travels on, so that nothing circles
        assert seen["X-MSilo-Path"] == "77-0123456789abcdef"
        assert seen["X-MSilo-ID"] != "77-0123456789abcdef"
        assert seen["X-Other"] == "kept"
    until(lambda: not silo.list_json(), 10, "the box is empty")
