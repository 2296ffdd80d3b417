"""Who may not: a stranger that notifies, a proxy that asks for the password, a name that nobody knows."""

import re

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
PIDF = (
    '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@home.lan"><tuple id="1"><status><basic>{}</basic>'
    "</status></tuple></presence>"
)
CHALLENGE = 'WWW-Authenticate: Digest realm="pbx", nonce="n1"'


def notify(phone: Phone, asked: Seen, basic: str, *, cseq: int = 1, expires: int = 600) -> bytes:
    """A NOTIFY in the dialog of a SUBSCRIBE that was answered by "proxy"."""
    lines = ("Event: presence", f"Subscription-State: active;expires={expires}", f"Contact: <{phone.contact}>")
    body = PIDF.format(basic).encode()
    raw = phone.request("NOTIFY", "silo@home.lan", *lines, "Content-Type: application/pidf+xml", body=body).decode()
    own = {"From": f"{asked['To']};tag=proxy", "To": asked["From"], "Call-ID": asked["Call-ID"]}
    for name, value in (own | {"CSeq": f"{cseq} NOTIFY"}).items():
        raw = re.sub(rf"(?m)^{name}: [^\r\n]*", f"{name}: {value}", raw)
    return raw.encode()


def test_nobody_else_notifies(start_silo: StartSilo, phone: PickUp) -> None:
    """From an address that is not trusted: 403. From a trusted one that does not know the dialog: 481."""
    proxy, alice, stranger, guest = phone("proxy"), phone("alice"), phone("proxy", "127.0.0.7"), phone("guest")
    uri = f"sip:127.0.0.1:{proxy.address[1]}"
    silo = start_silo("--outbound-proxy", uri, "--set", "watch=presence", "--trusted", "127.0.0.1/32")
    assert alice.message(silo.address, BOB, b"Hello").code == 202
    asked = proxy.receive()
    proxy.answer(asked, 200, f"Contact: <{proxy.contact}>", "Expires: 600")
    assert stranger.ask(notify(stranger, asked, "open"), silo.address).code == 403
    forged = notify(guest, asked, "open").replace(b";tag=proxy", b";tag=guess").replace(b"CSeq: 1", b"CSeq: 99")
    lost = re.sub(rb"Call-ID: [^\r\n]*", b"Call-ID: another", notify(guest, asked, "open"))
    assert proxy.ask(notify(proxy, asked, "closed"), silo.address).code == 200
    assert [guest.ask(raw, silo.address).code for raw in (forged, lost)] == [481, 481]
    assert proxy.glance(0.5) is None, "nothing was sent"
    assert proxy.ask(notify(proxy, asked, "open", cseq=2), silo.address).code == 200
    assert proxy.take().body == b"Hello"


def test_the_password_is_for_our_own_pbx(start_silo: StartSilo, phone: PickUp) -> None:
    """A dialog whose route leads elsewhere is asked for it there, and does not answer; the PBX itself gets it."""
    proxy, other, alice = phone("proxy"), phone("other"), phone("alice")
    uri = f"sip:127.0.0.1:{proxy.address[1]}"
    credentials = ("--set", "user=silo", "--set", "password=secret")
    silo = start_silo("--outbound-proxy", uri, "--set", "watch=presence", *credentials)
    assert alice.message(silo.address, BOB, b"Hello").code == 202
    proxy.answer(proxy.receive(), 401, CHALLENGE)
    asked = proxy.receive()
    assert asked["Authorization"].startswith('Digest username="silo"')
    route = f"Record-Route: <sip:127.0.0.1:{other.address[1]};lr>"
    proxy.answer(asked, 200, f"Contact: <{proxy.contact}>", "Expires: 6", route)
    raw = notify(proxy, asked, "closed", expires=6).replace(b"Event: presence", f"{route}\r\nEvent: presence".encode())
    assert proxy.ask(raw, silo.address).code == 200
    refresh = other.receive(10)
    assert (refresh.method, refresh.all("Authorization")) == ("SUBSCRIBE", [])
    other.answer(refresh, 401, CHALLENGE)
    until(lambda: "401" in str(silo.facts.get("watched")), 10, "it says so")
    assert other.glance(0.5) is None


def test_a_phone_that_asks_for_the_password_does_not_get_it(start_silo: StartSilo, phone: PickUp) -> None:
    silo, alice, bob = start_silo("--set", "user=silo", "--set", "password=secret"), phone("alice"), phone("bob")
    assert alice.message(silo.address, BOB, b"Hello").code == 202
    bob.register(silo.address)
    bob.take(401, CHALLENGE)
    assert bob.glance(0.5) is None


def test_a_proxy_under_a_name(start_silo: StartSilo, proxy: Phone, phone: PickUp) -> None:
    """It is looked up beside the loop; the Request-URI stays the AoR, and its peer table counts."""
    silo = start_silo(
        "--outbound-proxy", f"sip:localhost:{proxy.address[1]}", "--set", "watch=presence",
        "--set", 'peer=[{"address": "127.0.0.1", "trust_2xx": "confirm"}]',
    )  # fmt: skip
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 202
    asked = proxy.receive()
    assert (asked.method, asked.uri, asked.all("Route")) == ("SUBSCRIBE", f"sip:{BOB}", [])
    proxy.answer(asked, 200, f"Contact: <{proxy.contact}>", "Expires: 600")
    assert proxy.ask(notify(proxy, asked, "open"), silo.address).code == 200
    arrived = proxy.take()
    assert (arrived.uri, arrived.all("Route")) == (f"sip:{BOB}", [])
    until(lambda: [state for _, state, _ in silo.box] == ["handed"], 5, "it is handed over")


def test_a_proxy_under_a_name_that_nobody_knows(start_silo: StartSilo, phone: PickUp) -> None:
    """The silo serves all the same, and `list` says what is wrong."""
    silo = start_silo("--outbound-proxy", "sip:pbx.invalid")
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 202
    phone("bob").register(silo.address)
    until(lambda: "pbx.invalid has no address now" in str(silo.list_json()[0]["why"]), 10, "list says why")
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 202


def test_many_who_wait_for_the_same_moment_are_not_a_burst(start_silo: StartSilo, phone: PickUp) -> None:
    """60 users whose back-off ends at once, as after an outage of the PBX: 20 a second begin."""
    proxy, alice = phone("proxy"), phone("alice")
    uri = f"sip:127.0.0.1:{proxy.address[1]}"
    silo = start_silo("--outbound-proxy", uri, "--set", "max_in_flight=200")
    for number in range(60):
        assert alice.message(silo.address, f"u{number}@home.lan", b"Hello").code == 202
    silo.forward()
    arrived: list[float] = []
    while len(arrived) < 60:
        proxy.take(seconds=10)
        arrived.append(proxy.since)
    most = max(sum(start <= at < start + 1 for at in arrived) for start in arrived)
    assert most <= 40 + 2, "a second's worth that was left, and that second's own"
    assert arrived[-1] - arrived[0] >= 1.5
    silo.empties()
