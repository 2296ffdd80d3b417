"""The whole story over TCP and TLS with real peers: Kamailio as the PBX, baresip as a phone."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.waiting import until

from .certificates import Authority
from .conftest import PickUp, StartSilo
from .peers import Baresip, Kamailio
from .process import free_port
from .test_tls import options

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
OWN = "127.0.0.5"
"An address that only the silo has: over TCP its port tells nothing."


@pytest.fixture(params=["tcp", "tls"])
def kamailio(request: pytest.FixtureRequest, tmp_path: Path, ends: ExitStack, start_silo: StartSilo) -> Kamailio:
    """Kamailio and a silo that speak TCP or TLS with one another, each in both directions."""
    port = free_port()
    authority = Authority(tmp_path)
    silo_shown, proxy_shown = authority.issue("silo", OWN), authority.issue("proxy", "127.0.0.1")
    if request.param == "tcp":
        silo = start_silo("--outbound-proxy", f"sip:127.0.0.1:{port};transport=tcp", bind=(f"tcp:{OWN}:0",))
        defines = ['SILO_TRANSPORT="tcp"']
    else:
        tls_port = free_port()
        more = options(silo_shown, tls_ca=authority.file, tls_client_ca=authority.file)
        silo = start_silo("--outbound-proxy", f"sips:127.0.0.1:{tls_port}", *more, bind=(f"tls:{OWN}:0",))
        defines = ['SILO_TRANSPORT="tls"', "WITH_TLS", f"TLS_PORT={tls_port}", f'TLS_CA="{authority.file}"']
        defines += [f'TLS_CERTIFICATE="{proxy_shown.certificate}"', f'TLS_KEY="{proxy_shown.key}"']
    return ends.enter_context(closing(Kamailio(tmp_path, silo, port=port, defines=defines))).start()


def test_away_stored_back_delivered(kamailio: Kamailio, phone: PickUp) -> None:
    """Bob's REGISTER reaches the silo as a copy over the same transport; his mail comes through Kamailio in order."""
    alice, bob = phone("alice"), phone("bob")
    for number in range(5):
        assert alice.message(kamailio.address, BOB, b"%d" % number).code == 202
    assert len(kamailio.silo.list_json()) == 5
    assert bob.register(kamailio.address).code == 200
    seen = [bob.take() for _ in range(5)]
    assert [one.body for one in seen] == [b"%d" % number for number in range(5)]
    assert all(f"{OWN}:" in one.all("Via")[1] for one in seen)
    kamailio.silo.empties()
    counted = kamailio.silo.status_json()["counters"]
    kind = kamailio.silo.bind[0].partition(":")[0]
    assert counted[f"{kind}_connections"] < 5  # Kamailio keeps them


def test_restarts_on_both_sides(kamailio: Kamailio, phone: PickUp) -> None:
    """Connections that died meanwhile are made anew, in both directions."""
    alice, bob = phone("alice"), phone("bob")
    assert alice.message(kamailio.address, BOB, b"1").code == 202
    kamailio.silo.restart()
    until(lambda: alice.message(kamailio.address, BOB, b"2").code == 202, 20, "Kamailio has connected again")
    bob.register(kamailio.address)
    assert [bob.take().body, bob.take().body] == [b"1", b"2"]
    kamailio.silo.empties()
    kamailio.restart()
    assert alice.message(kamailio.address, BOB, b"3").code == 202
    bob.register(kamailio.address)
    assert bob.take().body == b"3"
    kamailio.silo.empties()


def test_a_real_phone_registered_over_tcp_gets_its_mail(start_silo: StartSilo, phone: PickUp, tmp_path: Path) -> None:
    """baresip straight at the silo, which is no registrar and yet learns where it is."""
    silo = start_silo(bind=("udp:127.0.0.1:0", "tcp:127.0.0.1:0"))
    for text in ("one 🥛", "two"):
        assert phone("alice").message(silo.address, BOB, text.encode(), "text/plain;charset=utf-8").code == 202
    with closing(Baresip(tmp_path, silo.addresses[1], user="bob", password="x", contact=BOB, transport="tcp")) as bob:
        bob.start()
        until(lambda: [one.text for one in bob.messages] == ["one 🥛", "two"], 15, "baresip has both")
        assert all(one["Via"].startswith("SIP/2.0/TCP ") for one in bob.messages)
        silo.empties()


def test_an_extension_over_tcp(start_silo: StartSilo, tmp_path: Path, ends: ExitStack, phone: PickUp) -> None:
    """The silo registers at a real Kamailio over TCP, under a Contact that leads back to it over TCP."""
    port = free_port()
    way = (
        "--domain",
        "home.lan",
        "--set",
        f"registrar=sip:home.lan:{port};maddr=127.0.0.1;transport=tcp",
        "--set",
        "user=silo",
    )
    silo = start_silo(*way, bind=("udp:127.0.0.1:0", "tcp:127.0.0.1:0"))
    kamailio = ends.enter_context(closing(Kamailio(tmp_path, silo, port=port))).start()
    silo.restart()  # it tries again at once
    contact = f"sip:silo@127.0.0.1:{silo.addresses[1][1]};transport=tcp"
    until(lambda: kamailio.contacts("silo") == [contact], 15, "Kamailio knows the silo")
    assert phone("alice").message(kamailio.address, "silo@home.lan", b"hello").code == 202
    assert [row["to"] for row in silo.list_json()] == ["silo@home.lan"]
    assert silo.status_json()["counters"]["tcp_connections"] == 1
