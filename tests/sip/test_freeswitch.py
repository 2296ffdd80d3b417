"""The whole story through a real FreeSWITCH with the example configuration, where one is installed."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import until

from .asterisk import Handset
from .conftest import PickUpHandset, StartSilo
from .freeswitch import FreeSwitch
from .peers import Silo
from .process import free_port

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
BEHIND = ("--domain", "home.lan", "--set", "watch=presence", "--set", "trust_2xx=confirm")
ACCOUNT = ("--set", "user=silo", "--set", "password=silo-password")


@pytest.fixture
def pair(tmp_path: Path, start_silo: StartSilo) -> Iterator[tuple[FreeSwitch, Silo]]:
    port = free_port()
    with closing(FreeSwitch(tmp_path, ("127.0.0.1", port))) as switch:
        proxy = f"sip:{switch.address[0]}:{switch.address[1]}"
        silo = start_silo("--outbound-proxy", proxy, *BEHIND, *ACCOUNT, bind=(f"udp:127.0.0.1:{port}",))
        yield switch.start(), silo


def write(user: Handset, switch: FreeSwitch, *texts: str) -> None:
    for text in texts:
        assert user.message(switch.address, BOB, text.encode()).code == 202


def whys(silo: Silo) -> list[str]:
    return [row["why"].partition(";")[0] for row in silo.list_json()]


def take(phone: Handset, count: int, seconds: float = 15) -> list[str]:
    return [phone.take(seconds=seconds).text for _ in range(count)]


def test_away_stored_back_delivered(pair: tuple[FreeSwitch, Silo], handset: PickUpHandset) -> None:
    switch, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, switch, "one", "two 🍝", "three")
    until(lambda: len(silo.list_json()) == 3, 10, "three messages wait")
    assert [row["from"] for row in silo.list_json()] == ["<sip:alice@home.lan>"] * 3
    silo.watches(BOB, "closed")
    assert bob.register(switch.address).code == 200
    first = bob.take(seconds=15)
    assert [first.text, *take(bob, 2)] == ["one", "two 🍝", "three"]
    assert first["From"].partition(";")[0].endswith("<sip:alice@home.lan>")
    until(lambda: [row["state"] for row in silo.list_json()] == ["handed over"] * 3, 10, "all are handed over")


def test_check_finds_nothing_against_it(pair: tuple[FreeSwitch, Silo]) -> None:
    switch, silo = pair
    settings = (*BEHIND[2:], *ACCOUNT, "--set", "domain=home.lan", "--set", "add_date=0", "--set", "max_messages=9")
    proxy = f"outbound_proxy=sip:{switch.address[0]}:{switch.address[1]}"
    done = silo.cli("check", *settings, "--set", proxy, "--loop", "bob")
    assert done.returncode == 0, done.stdout
    assert "\nok\tloop\t" in done.stdout
    assert "FreeSWITCH" in done.stdout
    assert silo.list_json("--all") == []


def test_registered_user_gets_it_without_the_silo(pair: tuple[FreeSwitch, Silo], handset: PickUpHandset) -> None:
    switch, silo = pair
    alice, bob = handset("alice"), handset("bob")
    bob.register(switch.address)
    write(alice, switch, "Hello")
    assert bob.take(seconds=10).text == "Hello"
    assert silo.list_json("--all") == []


def test_what_comes_back_keeps_its_place(pair: tuple[FreeSwitch, Silo], handset: PickUpHandset) -> None:
    switch, silo = pair
    alice, bob = handset("alice"), handset("bob")
    write(alice, switch, "one", "two")
    until(lambda: len(silo.list_json()) == 2, 10, "two messages wait")
    silo.dump(BOB).wait(15)  # nobody is there: FreeSWITCH takes them and brings them back
    until(lambda: whys(silo) == ["it came back, its phone was away"] * 2, 15, "both came back")
    bob.register(switch.address)
    assert take(bob, 2, 25) == ["one", "two"]


def test_only_with_a_password_and_never_with_a_forged_mark(
    pair: tuple[FreeSwitch, Silo], handset: PickUpHandset
) -> None:
    switch, silo = pair
    stranger, alice = handset("alice", password="wrong"), handset("alice")
    assert stranger.message(switch.address, BOB, b"x").code in (401, 403)
    mark = "X-MSilo-ID: 1-0123456789abcdef"
    assert alice.message(switch.address, BOB, b"two", "text/plain", mark).code == 202
    until(lambda: len(silo.list_json()) == 1, 10, "it is a message like any other")
    assert "0123456789abcdef" not in silo.cli("show", str(silo.list_json()[0]["id"])).stdout


def test_user_parts_that_are_commands_end_there(pair: tuple[FreeSwitch, Silo], handset: PickUpHandset) -> None:
    switch, silo = pair
    alice = handset("alice")
    assert alice.message(switch.address, "api+status@home.lan", b"x").code == 202
    assert alice.message(switch.address, "$%7Bstatus()%7D@home.lan", b"x").code == 202
    write(alice, switch, "after them")
    until(lambda: len(silo.list_json()) == 1, 10, "the last one waits")
    assert silo.list_json()[0]["to"] == BOB
