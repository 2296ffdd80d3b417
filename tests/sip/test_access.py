"""Who may come in: real phones with and without a password, from networks that are trusted and from elsewhere.

The silo trusts 127.0.0.9 alone, so that everything from 127.0.0.1 comes from elsewhere.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from msilo_lite.sip.digest import Credentials, best_of
from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Baresip, Silo, Sipp
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

PROXY = "127.0.0.9"
PASSWORDS = {"alice": "wonder-land", "bob": 'se"cret', "carl": "other-word"}
BOB = "bob@home.lan"
StartGuarded = Callable[..., Silo]


@pytest.fixture
def guarded(start_silo: StartSilo, tmp_path: Path) -> StartGuarded:
    """Start a silo with accounts; more settings as TOML lines."""

    def start(*settings: str) -> Silo:
        accounts = tmp_path / "accounts"
        accounts.write_text("".join(f"{name}:{word}\n" for name, word in PASSWORDS.items()))
        accounts.chmod(0o600)
        config = tmp_path / "silo.toml"
        lines = ['domain = ["home.lan"]', f'trusted = ["{PROXY}"]', f'accounts_file = "{accounts}"', *settings]
        config.write_text("\n".join(lines))
        return start_silo("--config", str(config))

    return start


def questions(answer: Seen) -> list[str]:
    return answer.all("www-authenticate")


def prove(raw: bytes, answer: Seen, user: str, password: str = "", count: int = 1) -> bytes:
    """The request again with the answer to its 401, with the next CSeq and a branch of its own (RFC 3261 22.2)."""
    assert answer.code == 401
    best = best_of(questions(answer))
    assert best is not None
    method, target = raw.decode("utf-8", "surrogateescape").split(" ", 2)[:2]
    line = best.answer(Credentials(user, password or PASSWORDS[user]), method, target, f"c{count}", count)
    raw = raw.replace(b";branch=z9hG4bK", b";branch=z9hG4bKa", 1).replace(b"\r\nCSeq: 1 ", b"\r\nCSeq: 2 ")
    return raw.replace(b"\r\nContent-Length:", f"\r\nAuthorization: {line}\r\nContent-Length:".encode(), 1)


def asked(phone: Phone, silo: Silo, raw: bytes, user: str, password: str = "") -> Seen:
    """What a phone hears that gives its password when asked."""
    return phone.ask(prove(raw, phone.ask(raw, silo.address), user, password), silo.address)


def text(phone: Phone, owner: str = BOB, body: bytes = b"hello", *more: str) -> bytes:
    return phone.request("MESSAGE", owner, "Content-Type: text/plain", *more, body=body)


# -- SIPp ----------------------------------------------------------------------------------------------------------
KEYS = {"text": "hello", "from": "alice"}
ALICE = ("-au", "alice", "-ap", PASSWORDS["alice"], "-auth_uri", BOB)


def test_sipp_gives_its_password(guarded: StartGuarded, sipp: Sipp) -> None:
    silo = guarded('auth_algorithms = ["MD5"]')  # it reads one question, and knows MD5 alone
    run = sipp.run("store_asked", silo.address, *ALICE, calls=20, keys=KEYS)
    assert Counter(seen.code for seen in run.received) == {401: 20, 202: 20}
    assert len(silo.list_json()) == 20
    counters = silo.status_json()["counters"]
    assert (counters["challenged_requests"], counters["stored_messages"]) == (20, 20)


@pytest.mark.parametrize(
    ("options", "from_", "code"),
    [
        (("-au", "alice", "-ap", "wrong", "-auth_uri", BOB), "alice", 401),
        (("-au", "nobody", "-ap", PASSWORDS["alice"], "-auth_uri", BOB), "alice", 401),
        (ALICE, "bob", 403),  # in another's name
        (ALICE[:4], "alice", 400),  # SIPp's own URI is that of the host
    ],
)
def test_sipp_is_not_believed(
    guarded: StartGuarded, sipp: Sipp, options: tuple[str, ...], from_: str, code: int
) -> None:
    silo = guarded('auth_algorithms = ["MD5"]')
    run = sipp.start("store_asked", silo.address, *options, keys=KEYS | {"from": from_})
    assert run.wait(20) == 1, "the scenario wants a 202"
    assert [seen.code for seen in run.received if "MESSAGE" in seen["CSeq"]] == [401, code]
    assert silo.list_json() == []
    assert PASSWORDS["alice"] not in silo.process.errors


# -- by hand: what is asked, and what is a replay --------------------------------------------------------------------
def test_two_questions_the_strongest_first(guarded: StartGuarded, phone: PickUp) -> None:
    silo, alice = guarded(), phone("alice")
    answer = alice.ask(text(alice), silo.address)
    assert answer.code == 401
    assert [("SHA-256" in one, 'qop="auth"' in one, 'realm="home.lan"' in one) for one in questions(answer)] == [
        (True, True, True), (False, True, True)
    ]  # fmt: skip
    assert asked(alice, silo, text(alice), "alice").code == 202


def test_without_accounts_a_stranger_gets_403(start_silo: StartSilo, phone: PickUp) -> None:
    silo, alice = start_silo("--trusted", PROXY), phone("alice")
    assert alice.ask(text(alice), silo.address).code == 403
    assert silo.status_json()["counters"]["untrusted"] == 1


def test_a_retransmission_is_no_replay_and_is_stored_once(guarded: StartGuarded, phone: PickUp) -> None:
    silo, alice = guarded(), phone("alice")
    raw = text(alice)
    proved = prove(raw, alice.ask(raw, silo.address), "alice")
    assert [alice.ask(proved, silo.address).code for _ in range(4)] == [202] * 4
    assert len(silo.list_json()) == 1
    forged = alice.ask(proved.replace(b"hello", b"owned"), silo.address)
    assert forged.code == 401
    assert all("stale=true" in one for one in questions(forged))
    assert len(silo.list_json()) == 1


def test_a_nonce_serves_many_requests_and_ends(guarded: StartGuarded, phone: PickUp) -> None:
    silo, alice = guarded("nonce_time = 10"), phone("alice")
    first = text(alice)
    answer = alice.ask(first, silo.address)
    assert alice.ask(prove(first, answer, "alice", count=1), silo.address).code == 202
    assert alice.ask(prove(text(alice), answer, "alice", count=2), silo.address).code == 202

    def is_over() -> bool:
        late = alice.ask(prove(text(alice), answer, "alice", count=next(numbers)), silo.address)
        return late.code == 401 and "stale=true" in questions(late)[0]

    numbers = iter(range(3, 1000))
    until(is_over, 20, "the nonce is stale")


def test_guessing_is_slow(guarded: StartGuarded, phone: PickUp) -> None:
    silo, eve = guarded("auth_failures = 3"), phone("alice")
    codes = [asked(eve, silo, text(eve), "alice", "guess").code for _ in range(3)]
    answer = eve.ask(text(eve), silo.address)
    assert [*codes, answer.code] == [401, 401, 401, 503]
    assert 1 <= int(answer["Retry-After"]) <= 21
    other = phone("alice", "127.0.0.2")
    assert asked(other, silo, text(other), "alice").code == 202, "from another address all goes on"
    assert "too many wrong passwords" in silo.process.errors


# -- nobody turns another's mail to himself --------------------------------------------------------------------------
def register(phone: Phone, user: str, contact: str, from_: str = "") -> bytes:
    raw = phone.request("REGISTER", f"{user}@home.lan", f"Contact: <{contact}>", "Expires: 300")
    return raw.replace(f"From: <sip:{phone.user}@".encode(), f"From: <sip:{from_ or user}@".encode())


def bindings(silo: Silo) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(silo.database)) as file:
        return list(file.execute("SELECT username, uri FROM msilo_contact"))


def test_a_stranger_registers_nobody(start_silo: StartSilo, phone: PickUp) -> None:
    silo, eve = start_silo("--trusted", PROXY), phone("eve")
    assert phone("proxy", PROXY).message(silo.address, BOB, b"for bob alone").code == 202
    assert eve.ask(register(eve, "bob", eve.contact), silo.address).code == 403
    assert bindings(silo) == []
    assert list(eve.during(1)) == []


@pytest.mark.parametrize(
    ("as_user", "from_", "to"), [("alice", "bob", "bob"), ("alice", "alice", "bob"), ("alice", "bob", "alice")]
)
def test_a_user_registers_himself_alone(
    guarded: StartGuarded, phone: PickUp, as_user: str, from_: str, to: str
) -> None:
    silo, eve = guarded(), phone("eve")
    assert phone("proxy", PROXY).message(silo.address, BOB, b"for bob alone").code == 202
    assert asked(eve, silo, register(eve, to, eve.contact, from_), as_user).code == 403
    assert bindings(silo) == []
    assert list(eve.during(1)) == []
    (waiting,) = silo.list_json()
    assert waiting["attempts"] == 0


def test_a_user_without_the_password_registers_nobody(guarded: StartGuarded, phone: PickUp) -> None:
    silo, eve = guarded(), phone("eve")
    assert asked(eve, silo, register(eve, "bob", eve.contact), "bob", "guess").code == 401
    assert bindings(silo) == []


def test_the_route_of_a_user_is_his_contact_alone(guarded: StartGuarded, phone: PickUp) -> None:
    """A Path is a proxy's word (RFC 3327), and a phone is none."""
    silo, bob, elsewhere = guarded(), phone("bob"), phone("elsewhere")
    assert phone("proxy", PROXY).message(silo.address, BOB, b"hello").code == 202
    raw = register(bob, "bob", bob.contact).replace(b"Expires:", f"Path: <{elsewhere.contact};lr>\r\nExpires:".encode())
    assert asked(bob, silo, raw, "bob").code == 200
    message = bob.receive()
    assert message.text == "hello"
    bob.answer(message, 200)
    silo.empties()
    assert elsewhere.glance() is None


def test_what_a_trusted_proxy_copies_is_its_own_business(guarded: StartGuarded, phone: PickUp) -> None:
    """It has asked for the password, or should have: its word is taken, whatever Contact it brings."""
    silo, proxy, other = guarded(), phone("proxy", PROXY), phone("other")
    assert proxy.message(silo.address, BOB, b"hello").code == 202
    assert proxy.ask(register(proxy, "bob", other.contact), silo.address).code == 200
    message = other.receive()
    other.answer(message, 200)
    silo.empties()


def test_a_peer_that_may_not_wake_registers_nobody(start_silo: StartSilo, phone: PickUp) -> None:
    peers = '[{"address": "127.0.0.2", "wake": false}, {"address": "127.0.0.3", "store": false, "replayed": false}]'
    silo = start_silo("--set", f"peer={peers}")
    gateway, other = phone("bob", "127.0.0.2"), phone("bob", "127.0.0.3")
    assert gateway.message(silo.address, BOB, b"hello").code == 202
    assert gateway.ask(register(gateway, "bob", gateway.contact), silo.address).code == 403
    assert other.message(silo.address, BOB, b"hello").code == 403
    assert other.ask(register(other, "bob", other.contact), silo.address).code == 200
    message = other.receive()
    assert message.text == "hello"
    other.answer(message, 200)
    assert silo.status_json()["counters"]["refused_peer"] == 2


def test_marks_of_a_replay_are_believed_where_they_may_be(start_silo: StartSilo, phone: PickUp) -> None:
    """From others they are taken away, and the message counts as new."""
    silo = start_silo("--set", 'peer=[{"address": "127.0.0.2", "replayed": false}]')
    bob = phone("bob")
    assert phone("alice").message(silo.address, BOB, b"hello").code == 202
    assert bob.register(silo.address).code == 200
    own_id = bob.receive()["X-MSilo-ID"]
    mark = f"X-MSilo-ID: {own_id}"
    assert phone("proxy").message(silo.address, BOB, b"hello", "text/plain", mark).code == 480
    assert phone("proxy", "127.0.0.2").message(silo.address, BOB, b"hello", "text/plain", mark).code == 202


# -- a phone that people use -----------------------------------------------------------------------------------------
def test_baresip_is_a_user_of_the_silo_itself(
    guarded: StartGuarded, phone: PickUp, tmp_path: Path, ends: ExitStack
) -> None:
    silo = guarded('auth_algorithms = ["MD5"]')  # baresip 1.0 gives up at a question with an algorithm it does not know

    def pick_up(user: str, other: str) -> Baresip:
        made = Baresip(tmp_path, silo.address, user=user, password=PASSWORDS[user], contact=f"sip:{other}")
        return ends.enter_context(closing(made)).start()

    alice = pick_up("alice", "carl@home.lan")
    alice.message("Milk and bread, please")
    until(lambda: alice.codes(sent=False)[-1:] == [202], 10, "alice's phone sees 202")
    (waiting,) = silo.list_json()
    assert (waiting["to"], waiting["from"]) == ("carl@home.lan", "<sip:alice@home.lan>")
    carl = pick_up("carl", "alice@home.lan")
    (message,) = until(lambda: carl.messages, 10, "carl's phone has a message")
    assert message.text == "Milk and bread, please"
    silo.empties()
    assert dict(bindings(silo)).keys() == {"alice", "carl"}


# -- rows of another program -----------------------------------------------------------------------------------------
def test_a_row_that_could_be_read_as_more_stays_in_the_box(silo: Silo, phone: PickUp) -> None:
    """It holds nothing up, reaches nobody, and `list` says why."""
    bob = phone("bob")
    rows = [("sip:a@h>\r\nInjected: 1\r\nX: <x", "text/plain"), ("sip:a@h", "text/plain\r\nInjected: 1"),
            ("sip:a@h", "text/plain")]  # fmt: skip
    with closing(sqlite3.connect(silo.database)) as file:
        for number, (src, ctype) in enumerate(rows):
            file.execute(
                "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, ctype, body)"
                " VALUES (?, 'sip:bob@home.lan', 'bob', 'home.lan', 1800000000, 2000000000, ?, ?)",
                (src, ctype, b"text %d" % number),
            )
        file.commit()
    assert bob.register(silo.address).code == 200
    message = bob.receive()
    bob.answer(message, 200)
    assert message.text == "text 2"
    assert not message.all("Injected")
    until(lambda: len(silo.list_json()) == 2, 10, "the two others wait")
    assert bob.glance(1) is None
    reasons = [row["why"] for row in silo.list_json()]
    assert any("its From is no address" in why or "control characters" in why for why in reasons), reasons
