"""What `check` finds out by asking: a real Kamailio, a real Asterisk, and a scripted PBX for the rest."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import run_on_terminal

from .asterisk import Asterisk
from .conftest import PickUp, StartAsterisk, StartKamailio, StartSilo
from .peers import Kamailio, Silo
from .phone import Address, Phone, Seen
from .process import free_port

pytestmark = pytest.mark.sip

QUIET = ("--set", "add_date=0", "--set", "max_messages=100", "--set", "domain=home.lan")
Found = dict[str, tuple[str, str]]


def check(folder: Path, *words: str, code: int | None = None) -> Found:
    """Each finding of `check`, by what it is about: how bad, and in which words."""
    argv = [sys.executable, "-m", "msilo_lite", "check", "--json", *QUIET, *words]
    if "--db-url" not in words:
        argv += ["--db-url", f"sqlite:///{folder}/check.sqlite"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert done.stderr == "", done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    if code is not None:
        assert done.returncode == code, found
    return {one["about"]: (one["level"], one["words"]) for one in found}


def towards(address: Address) -> tuple[str, str]:
    return "--set", f"outbound_proxy=sip:{address[0]}:{address[1]}"


# -- beside the real ones, all as it should be -------------------------------------------------------------------------
def test_beside_a_kamailio_all_is_well_and_a_message_comes_round(kamailio: Kamailio, phone: PickUp) -> None:
    silo = kamailio.silo
    bob = phone("bob")
    phone("alice").message(kamailio.address, "bob@home.lan", b"real mail")
    found = check(silo.folder, *towards(kamailio.address), "--db-url", silo.db_url, "--loop", "carol")
    assert found["pbx"][0] == "ok"
    assert found["loop"][0] == "ok", found
    assert "carol came" in found["loop"][1]
    assert found["max_body"] == ("ok", "3,000 bytes came back whole")
    assert [row["to"] for row in silo.list_json("--all")] == ["bob@home.lan"]  # nothing of it was stored
    bob.register(kamailio.address)
    assert bob.take().body == b"real mail"


def test_beside_a_kamailio_in_the_place_of_the_daemon(kamailio: Kamailio) -> None:
    """Without a daemon it asks from the daemon's own address, and takes what comes round itself."""
    silo = kamailio.silo
    silo.stop()
    bind = ("--set", f"bind=udp:127.0.0.1:{silo.address[1]}")
    found = check(silo.folder, *towards(kamailio.address), *bind, "--db-url", silo.db_url, "--loop", "carol")
    assert found["message"] == (
        "ok",
        f"127.0.0.1:{kamailio.address[1]} takes what we send (to nobody: 480 Temporarily Unavailable)",
    )
    assert found["loop"][0] == "ok", found
    assert found["port"][0] == "ok"


@pytest.fixture
def pair(start_silo: StartSilo, start_asterisk: StartAsterisk) -> tuple[Asterisk, Silo]:
    silo = start_silo(bind=("udp:127.0.0.2:0",))
    silo.stop()
    return start_asterisk(silo.address), silo


BEHIND = ("--set", "watch=presence", "--set", "trust_2xx=confirm", "--set", "max_body=1023")


def behind(pair: tuple[Asterisk, Silo], *words: str) -> tuple[str, ...]:
    asterisk, silo = pair
    bind = ("--set", f"bind=udp:127.0.0.2:{silo.address[1]}")
    return (*towards(asterisk.address), *bind, *words, "--db-url", silo.db_url)


@pytest.mark.parametrize("served", [True, False])
def test_beside_an_asterisk_all_is_well(pair: tuple[Asterisk, Silo], served: bool) -> None:
    asterisk, silo = pair
    if served:
        silo.options = ("--domain", "home.lan", *towards(asterisk.address), *BEHIND)
        silo.start()
    found = check(silo.folder, *behind(pair, *BEHIND), "--loop", "bob", code=0)
    assert {level for level, _ in found.values()} == {"ok"}
    assert found["wake-up"][1].endswith("tells about bob (Event: presence)")
    assert found["loop"][1].startswith("a message to bob came round")
    assert found["max_body"] == ("ok", "1,023 bytes came back whole")
    assert "handed over, unconfirmed" in found["trust_2xx"][1]
    if served:
        assert silo.list_json("--all") == []


def test_what_does_not_fit_an_asterisk(pair: tuple[Asterisk, Silo]) -> None:
    """Its name tells, and with --loop the length is measured."""
    found = check(pair[1].folder, *behind(pair), "--loop", "bob", code=2)
    assert found["max_body"][0] == "wrong"
    assert "max_body = 1023" in found["max_body"][1]
    assert found["trust_2xx"][0] == "wrong"
    assert found["wake-up"][0] == "wrong"
    assert 'watch = "presence"' in found["wake-up"][1]


def test_an_asterisk_that_does_not_know_us(pair: tuple[Asterisk, Silo]) -> None:
    """From another address we are a stranger: 401 at each request, and `check` says whom to trust."""
    asterisk, silo = pair
    bind = ("--set", f"bind=udp:127.0.0.3:{free_port('127.0.0.3')}")
    found = check(silo.folder, *towards(asterisk.address), *bind, *BEHIND, code=2)
    assert found["message"][0] == "wrong"
    assert "asks us for a password (401" in found["message"][1]
    assert "trust udp:127.0.0.3:" in found["message"][1]
    assert found["wake-up"][0] == "wrong"


def test_a_user_without_a_hint(pair: tuple[Asterisk, Silo]) -> None:
    found = check(pair[1].folder, *behind(pair, *BEHIND), "--loop", "carol", code=2)
    assert found["wake-up"][0] == "wrong"
    assert "needs a hint" in found["wake-up"][1]
    assert found["loop"][0] == "wrong"


def test_an_event_that_asterisk_does_not_know(pair: tuple[Asterisk, Silo]) -> None:
    words = ("--set", "watch=reg", "--set", "trust_2xx=confirm", "--set", "max_body=1023")
    found = check(pair[1].folder, *behind(pair, *words), code=2)
    assert found["wake-up"][0] == "wrong"
    assert "knows no Event reg (489" in found["wake-up"][1]


@pytest.mark.parametrize("password", ["silo-password", "wrong"])
def test_the_extension_and_its_password(start_asterisk: StartAsterisk, tmp_path: Path, password: str) -> None:
    asterisk = start_asterisk(None)
    account = ("--set", "user=silo", "--set", f"password={password}", "--set", "bind=udp:127.0.0.1:0")
    registrar = ("--set", f"registrar=sip:{asterisk.address[0]}:{asterisk.address[1]}")
    found = check(tmp_path, *towards(asterisk.address), *registrar, *account, *BEHIND)
    if password == "wrong":
        assert found["extension"][0] == "wrong"
        assert "is the password right?" in found["extension"][1]
        assert found["message"][0] == "wrong"
    else:
        assert found["extension"][0] == "ok"
        assert found["message"][0] == "ok"
        assert found["clock"][0] == "ok"  # Asterisk tells its time when it registers somebody
    assert asterisk.contacts("silo") == []  # it only asked


# -- a Kamailio that does not know us ----------------------------------------------------------------------------------
def test_passwords_that_phones_are_asked_for(start_kamailio: StartKamailio, tmp_path: Path) -> None:
    kamailio = start_kamailio("WITH_AUTH")
    silo = kamailio.silo
    silo.stop()
    where = (*towards(kamailio.address), "--db-url", silo.db_url)
    stranger = check(tmp_path, *where, "--set", "bind=udp:127.0.0.1:0", code=2)
    assert "asks us for a password (407" in stranger["message"][1]
    bind = ("--set", f"bind=udp:127.0.0.1:{silo.address[1]}")
    unnamed = check(tmp_path, *where, *bind, "--loop", "carol")
    assert unnamed["loop"][0] == "warning"
    assert "--as-password-file" in unnamed["loop"][1]
    secret = tmp_path / "secret"
    secret.write_text("alice-password\n")
    named = check(tmp_path, *where, *bind, "--loop", "carol", "--as", "alice", "--as-password-file", str(secret))
    assert named["loop"][0] == "ok", named
    secret.write_text("wrong\n")
    wrong = check(tmp_path, *where, *bind, "--loop", "carol", "--as", "alice", "--as-password-file", str(secret))
    assert wrong["loop"][0] == "wrong"
    silo.start()  # its port is taken now, and the daemon is asked what it knows
    served = check(tmp_path, *where, *bind)
    assert served["message"][0] == "warning"
    assert "may answer the daemon otherwise" in served["message"][1]


def test_a_domain_that_is_not_the_pbxs(kamailio: Kamailio) -> None:
    found = check(kamailio.silo.folder, *towards(kamailio.address), "--set", "domain=elsewhere.example", code=2)
    assert found["message"][0] == "wrong"
    assert "403 Not a user of this domain" in found["message"][1]


def test_a_phone_that_is_there_takes_the_message(start_kamailio: StartKamailio, phone: PickUp) -> None:
    kamailio = start_kamailio("PHONE_TIMEOUT=3000")
    bob = phone("bob")
    bob.register(kamailio.address)
    with answering(bob, lambda seen: (200, ())):
        found = check(
            kamailio.silo.folder, *towards(kamailio.address), "--db-url", kamailio.silo.db_url, "--loop", "bob"
        )
    assert found["loop"][0] == "wrong"
    assert "either a phone of bob is there and has it" in found["loop"][1]


# -- a scripted PBX ----------------------------------------------------------------------------------------------------
Script = Callable[[Seen], tuple[int, tuple[str, ...]] | None]


@contextmanager
def answering(phone: Phone, script: Script) -> Iterator[None]:
    """A PBX that answers each request as the script says, until the block ends."""
    ended = threading.Event()

    def play() -> None:
        while not ended.is_set():
            seen = phone.glance(0.05)
            if seen and seen.first and seen.method and (answer := script(seen)):
                phone.answer(seen, answer[0], *answer[1])

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def by_method(**answers: Any) -> Script:
    """Codes by method; 0: silence. `more`: header lines of each answer."""
    more = answers.pop("more", ())
    return lambda seen: (answers.get(seen.method, 200), more) if answers.get(seen.method, 200) else None


SCRIPTED: list[tuple[dict[str, Any], tuple[str, ...], str, str, str]] = [
    ({"MESSAGE": 0}, (), "message", "wrong", "does not answer our MESSAGE, though it answers OPTIONS"),
    ({"MESSAGE": 405}, (), "message", "wrong", "takes no MESSAGE (405"),
    ({"MESSAGE": 482}, (), "message", "wrong", "goes in a circle"),
    ({"MESSAGE": 500}, (), "message", "warning", "answers our MESSAGE with 500"),
    ({"SUBSCRIBE": 404}, ("watch=presence",), "wake-up", "ok", "name a user of yours with --loop"),
    ({"SUBSCRIBE": 403}, ("watch=presence",), "wake-up", "wrong", "refuses our SUBSCRIBE (403"),
    ({"more": ("Server: FreeSWITCH-mod_sofia/1.10",)}, (), "trust_2xx", "wrong", "before it has tried"),
    ({"more": ("User-Agent: FPBX-16.0.40(18.9.0)",)}, ("trust_2xx=confirm",), "max_body", "wrong", "max_body = 1023"),
    ({"more": (f"Date: {formatdate(time.time() - 11000, usegmt=True)}",)}, (), "clock", "warning", "h behind"),
    ({"more": (f"Date: {formatdate(time.time() + 11000, usegmt=True)}",)}, (), "clock", "warning", "h ahead of"),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "settings", "about", "level", "words"), SCRIPTED)
def test_each_finding(
    tmp_path: Path, proxy: Phone, answers: dict[str, Any], settings: tuple[str, ...], about: str, level: str, words: str
) -> None:
    chosen = [word for one in settings for word in ("--set", one)]
    with answering(proxy, by_method(**answers)):
        found = check(tmp_path, *towards(proxy.address), "--set", "bind=udp:127.0.0.1:0", *chosen)
    assert found[about][0] == level, found
    assert words in found[about][1]


def test_a_pbx_that_tells_no_time_is_not_accused(tmp_path: Path, proxy: Phone) -> None:
    with answering(proxy, by_method()):
        found = check(tmp_path, *towards(proxy.address), "--set", "bind=udp:127.0.0.1:0", code=0)
    assert "clock" not in found
    assert found["pbx"][1].endswith("answers OPTIONS with 200")


def test_a_closed_port_is_known_at_once(tmp_path: Path) -> None:
    address = ("127.0.0.1", free_port())
    since = time.monotonic()
    found = check(tmp_path, *towards(address), "--set", "bind=udp:127.0.0.1:0", code=2)
    assert found["pbx"] == (
        "wrong",
        f"127.0.0.1:{address[1]} cannot be reached: no program listens there. Is it up, and is this its address?",
    )
    assert time.monotonic() - since < 5


def test_a_person_sees_what_is_being_waited_for(tmp_path: Path, proxy: Phone) -> None:
    words = (*towards(proxy.address), "--set", "bind=udp:127.0.0.1:0", *QUIET, "--db-url", f"sqlite:///{tmp_path}/x")
    with answering(proxy, by_method(OPTIONS=0)):
        ran = run_on_terminal(tmp_path, "check", *words)
    assert ran.code == 2
    assert "does not answer OPTIONS within 5 s" in ran.out
    assert f"asking {proxy.address[0]}:{proxy.address[1]} whether it is there" in ran.out


def test_offline_sends_nothing(tmp_path: Path, proxy: Phone) -> None:
    found = check(tmp_path, *towards(proxy.address), "--offline", code=0)
    assert set(found) == {"settings", "database"}
    assert proxy.glance(0.2) is None


def test_a_port_that_somebody_has(tmp_path: Path, proxy: Phone) -> None:
    found = check(tmp_path, "--set", f"bind=udp:127.0.0.1:{proxy.address[1]}", code=2)
    assert found["port"][0] == "wrong"
    assert f"udp:127.0.0.1:{proxy.address[1]} is taken by another program" in found["port"][1]


def test_a_request_from_an_address_that_is_not_trusted(tmp_path: Path, proxy: Phone, phone: PickUp) -> None:
    """It comes round, but from an address that the daemon would refuse."""
    port, other = free_port(), phone("proxy", "127.0.0.5")

    def script(seen: Seen) -> tuple[int, tuple[str, ...]]:
        if seen.method == "MESSAGE":
            lines = ("Content-Type: text/plain",)
            other.send(other.request("MESSAGE", "bob@home.lan", *lines, body=seen.body), ("127.0.0.1", port))
        return 202, ()

    chosen = ("--set", f"bind=udp:127.0.0.1:{port}", "--set", "trusted=127.0.0.1/32", "--loop", "bob")
    with answering(proxy, script):
        found = check(tmp_path, *towards(proxy.address), *chosen, code=2)
    assert found["loop"] == (
        "wrong", "a request came from 127.0.0.5, which is not in trusted: add it, if it is the PBX"
    )  # fmt: skip


def test_a_daemon_that_does_not_trust_the_pbx(start_kamailio: StartKamailio) -> None:
    kamailio = start_kamailio()
    silo = kamailio.silo
    silo.stop()
    silo.options = (*silo.options, "--trusted", "192.0.2.0/24")
    silo.start()
    found = check(silo.folder, *towards(kamailio.address), "--db-url", silo.db_url, "--loop", "carol", code=2)
    assert found["loop"][0] == "wrong"
    assert "an address that is not in trusted" in found["loop"][1]


def test_a_text_of_a_stranger_is_never_taken_for_a_check(silo: Silo, phone: PickUp) -> None:
    """Only what was announced is; words alone are mail like any other."""
    alice = phone("alice")
    body = b"msilo-lite check 0123456789abcdef"
    assert alice.message(silo.address, "bob@home.lan", body).code == 202
    marked = alice.message(silo.address, "bob@home.lan", b"x", "text/plain", "X-MSilo-ID: check-0123456789abcdef")
    assert marked.code == 202
    assert len(silo.list_json()) == 2


def test_a_daemon_that_was_refused_says_so(start_silo: StartSilo, proxy: Phone) -> None:
    """What the daemon knows from its own address counts more than what a free port is told."""
    silo = start_silo("--domain", "home.lan", *towards(proxy.address), "--set", "trust_2xx=any")
    silo.cli("store", "bob@home.lan", "hello", "--from", "sip:alice@home.lan")
    with answering(proxy, by_method(MESSAGE=407)):
        silo.dump("bob@home.lan").wait(20)
        found = check(silo.folder, *towards(proxy.address), "--db-url", silo.db_url,
                      "--set", f"bind=udp:127.0.0.1:{silo.address[1]}", code=2)  # fmt: skip
    assert found["daemon"][0] == "wrong"
    assert "it says: " in found["daemon"][1]
