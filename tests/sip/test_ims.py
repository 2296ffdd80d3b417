"""An S-CSCF registers its users at us (3GPP TS 24.229 5.4.1.7): To is the user, From and Contact are the server's."""

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
BODIES = {
    "none": ("", b""),
    "the phone's own REGISTER": (
        "message/sip",
        b"REGISTER sip:home.lan SIP/2.0\r\nTo: <sip:carol@home.lan>\r\nContact: <sip:carol@127.0.0.1:9>\r\n\r\n",
    ),
    "service information": ("application/3gpp-ims+xml", b'<?xml version="1.0"?><ims-3gpp version="1"/>'),
}


def registered(scscf: Phone, silo: Silo, kind: str = "none", *, expires: int = 600) -> Seen:
    host, port = scscf.address
    ctype, body = BODIES[kind]
    lines = [f"Contact: <sip:{host}:{port}>", f"Expires: {expires}", 'P-Visited-Network-ID: "home.lan"']
    lines += [f"Content-Type: {ctype}"] if ctype else []
    raw = scscf.request("REGISTER", BOB, *lines, body=body).decode()
    raw = raw.replace(f"REGISTER sip:{BOB}", "REGISTER sip:silo.home.lan", 1)
    raw = raw.replace(f"From: <sip:{scscf.user}@home.lan>", "From: <sip:scscf.home.lan:6060>", 1)
    return scscf.ask(raw.encode(), silo.address)


@pytest.mark.parametrize("kind", BODIES)
def test_it_wakes_the_user_and_the_way_leads_through_the_server(silo: Silo, phone: PickUp, kind: str) -> None:
    alice, scscf = phone("alice"), phone("scscf")
    for user in ("bob", "carol"):
        assert alice.message(silo.address, f"{user}@home.lan", user.encode()).code == 202
    assert registered(scscf, silo, kind).code == 200
    arrived = scscf.take()
    assert (arrived.uri, arrived["To"], arrived.text) == (f"sip:{BOB}", f"<sip:{BOB}>", "bob")
    assert arrived["Route"].startswith(f"<sip:{scscf.address[0]}:{scscf.address[1]};lr")
    assert scscf.glance(0.4) is None
    assert [row["to"] for row in silo.list_json()] == ["carol@home.lan"]


def test_its_end_is_no_wake_up_and_nothing_goes_there_any_more(silo: Silo, phone: PickUp) -> None:
    alice, scscf = phone("alice"), phone("scscf")
    assert registered(scscf, silo).code == 200
    assert alice.message(silo.address, BOB, b"Hello").code == 202
    assert registered(scscf, silo, expires=0).code == 200
    assert scscf.glance(0.5) is None
    silo.dump(BOB).wait(15)
    (row,) = silo.list_json()
    assert row["why"].startswith("not registered")
    assert scscf.glance(0.2) is None


def test_with_a_proxy_the_way_is_the_proxy(start_silo: StartSilo, proxy: Phone, phone: PickUp) -> None:
    silo = start_silo("--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")
    alice, scscf = phone("alice"), phone("scscf")
    assert alice.message(silo.address, BOB, b"Hello").code == 202
    assert registered(scscf, silo).code == 200
    assert proxy.take().uri == f"sip:{BOB}"
    assert scscf.glance(0.2) is None


def test_a_server_under_a_name_wakes_and_is_not_looked_up(silo: Silo, phone: PickUp) -> None:
    """The reason says what is missing."""
    alice, scscf = phone("alice"), phone("scscf")
    assert alice.message(silo.address, BOB, b"Hello").code == 202
    raw = scscf.request("REGISTER", BOB, "Contact: <sip:scscf.ims.lan:6060>", "Expires: 600").decode()
    raw = raw.replace("From: <sip:scscf@home.lan>", "From: <sip:scscf.ims.lan>", 1)
    assert scscf.ask(raw.encode(), silo.address).code == 200
    until(lambda: "outbound_proxy" in str(silo.list_json()[0]["why"]), 5, "list says why")
