"""The example Asterisk, with scripted phones and a scripted silo: what a real silo behind it has to reckon with.

Asterisk answers every MESSAGE 202 before its dialplan begins. What arrives, and what does not, only the ends can tell.
"""

import re
import signal
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.waiting import until

from .asterisk import Asterisk, Handset
from .conftest import PickUpHandset, StartAsterisk
from .peers import Baresip
from .phone import Seen

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
DATABASE = {"registrar", "subscription_persistence"}
MARK = "1a-0123456789abcdef"
ALICE = '"Älice (1), of \\"home\\"" <sip:alice@home.lan>'


@pytest.fixture
def silo(handset: PickUpHandset) -> Handset:
    """A scripted silo, at an address that no phone has."""
    return handset("silo", "127.0.0.2")


@pytest.fixture
def asterisk(start_asterisk: StartAsterisk, silo: Handset) -> Asterisk:
    return start_asterisk(silo.address)


def text(user: Handset, to: str, body: bytes, *extra: str, sender: str = "") -> bytes:
    """A MESSAGE with that From, the phone's own when it is empty."""
    raw = user.request("MESSAGE", to, "Content-Type: text/plain", *extra, body=body)
    return re.sub(rb"(?<=From: )<[^>]*>", lambda own: sender.encode() or own[0], raw, count=1)


def replay(silo: Handset, asterisk: Asterisk, body: bytes = b"Hello", *extra: str, to: str = BOB) -> int:
    """What the silo sends when a phone is back: alice's From, and the mark of the silo."""
    return silo.ask(text(silo, to, body, f"X-MSilo-ID: {MARK}", *extra, sender=ALICE), asterisk.address).code


def subscribe(
    watcher: Handset, asterisk: Asterisk, user: str = "bob", event: str = "presence", expires: int = 300
) -> Seen:
    lines = (f"Contact: <{watcher.contact}>", f"Event: {event}", "Accept: application/pidf+xml", f"Expires: {expires}")
    return watcher.ask(watcher.request("SUBSCRIBE", f"{user}@home.lan", *lines), asterisk.address)


def told(watcher: Handset, *others: Handset, seconds: float = 5) -> str:
    """What the next NOTIFY says: open or closed. Meanwhile the others answer their OPTIONS."""

    def look() -> Seen | None:
        for other in others:
            other.glance(0.01)
        return watcher.glance(0.05)

    notify = until(look, seconds, "a NOTIFY")
    assert notify is not None
    assert notify.method == "NOTIFY"
    watcher.answer(notify, 200)
    (basic,) = re.findall("<basic>(.*)</basic>", notify.text)
    return str(basic)


def sender(seen: Seen) -> str:
    """From without its tag."""
    return seen["From"].rpartition(";tag=")[0]


# From phone to phone, and to the silo


def test_registered_user_gets_it_without_the_silo(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    alice, bob = handset("alice"), handset("bob")
    assert bob.register(asterisk.address).code == 200
    assert asterisk.contacts("bob") == [bob.contact]
    assert alice.message(asterisk.address, BOB, "Grüße 😀".encode()).code == 202
    arrived = bob.take()
    assert (arrived.uri, arrived["To"], sender(arrived)) == (bob.contact, f"<sip:{BOB}>", "<sip:alice@home.lan>")
    assert arrived.text == "Grüße 😀"
    assert silo.glance(0.3) is None


def test_away_reaches_the_silo(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    """The Request-URI is the silo's own address with the user in it, To and From have the user's domain."""
    alice = handset("alice")
    request = text(alice, "bob@192.168.1.1", b"Hello", sender='"Älice" <sip:alice@192.168.1.1:5062;transport=udp>')
    assert alice.ask(request, asterisk.address).code == 202
    arrived = silo.take(202)
    assert arrived.uri == "sip:bob@{}:{}".format(*silo.address)
    assert arrived["To"] == f"<sip:{BOB}>"
    assert sender(arrived) == '"Älice" <sip:alice@home.lan>'
    assert arrived.body == b"Hello"
    assert alice.glance(0.2) is None


def test_what_goes_on_to_the_silo(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    """Two headers, and none of those by which the silo knows its own messages."""
    marks = (f"X-MSilo-ID: {MARK}", "X-MSilo-Owner: sip:carol@home.lan", "X-MSilo-Flags: 1")
    others = ("Expires: 60", "Auto-Submitted: auto-replied", "Subject: Food", "Date: Sun, 22 Nov 2026 10:00:00 GMT")
    handset("alice").message(asterisk.address, BOB, b"Hello", "text/plain;charset=UTF-8", *marks, *others)
    arrived = silo.take(202)
    usual = {"via", "from", "to", "call-id", "cseq", "max-forwards", "user-agent", "content-length"}
    carried = {name: value for name, value in arrived.headers if name not in usual}
    assert carried == {"expires": "60", "auto-submitted": "auto-replied", "content-type": "text/plain"}


@pytest.mark.parametrize(
    "name",
    ['"Smith, John"', '"a) (b"', '"x ? y : z"', '"${DOMAIN} $[1+1]"', '"a:carol@home.lan <sip:carol@home.lan>"', ""],
)
def test_names_neither_break_nor_forge_anything(
    asterisk: Asterisk, silo: Handset, handset: PickUpHandset, name: str
) -> None:
    alice = handset("alice")
    alice.ask(text(alice, BOB, b"Hello", sender=f"{name} <sip:alice@home.lan>"), asterisk.address)
    assert sender(silo.take(202)) == f"{name} <sip:alice@home.lan>".strip()


def test_a_very_long_name(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    """Asterisk keeps no header of 512 bytes and more."""
    alice, name = handset("alice"), "Alice" * 150
    alice.ask(text(alice, BOB, b"Hello", sender=f'"{name}" <sip:alice@home.lan>'), asterisk.address)
    assert sender(silo.take(202)) == f'"{name}" <sip:alice@home.lan>'


def test_unknown_users_are_refused_at_once(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    assert handset("alice").message(asterisk.address, "carol@home.lan", b"Hello").code == 404
    assert handset("alice").message(asterisk.address, "silo@home.lan", b"Hello").code == 404
    assert replay(silo, asterisk, to="carol@home.lan") == 404


@pytest.mark.parametrize("length", [1, 1022, 1023])
def test_bodies_that_asterisk_carries(asterisk: Asterisk, silo: Handset, handset: PickUpHandset, length: int) -> None:
    assert handset("alice").message(asterisk.address, BOB, b"x" * length).code == 202
    assert silo.take(202).body == b"x" * length


@pytest.mark.parametrize("length", [1024, 2000])
def test_longer_bodies_are_lost_and_the_sender_is_told(
    asterisk: Asterisk, silo: Handset, handset: PickUpHandset, length: int
) -> None:
    alice = handset("alice")
    alice.register(asterisk.address)
    assert alice.message(asterisk.address, BOB, b"x" * length).code == 202
    sorry = alice.take()
    assert sender(sorry) == f"<sip:{BOB}>"
    assert "at most 1023 bytes" in sorry.text
    assert silo.glance(0.2) is None


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [(b"a\nb\r\n\n", b"a\nb"), (b"\xff\xfe\x01\t ", b"\xff\xfe\x01\t "), (b"a\0b", b"a"), (b"", b"")],
)
def test_what_it_does_to_bytes(
    asterisk: Asterisk, silo: Handset, handset: PickUpHandset, sent: bytes, arrives: bytes
) -> None:
    """Line ends at the end are taken away, a NUL ends the text, all else passes."""
    handset("alice").message(asterisk.address, BOB, sent)
    assert silo.take(202).body == arrives


def test_only_plain_text(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    """415 at once, from phones and from the silo."""
    alice = handset("alice")
    for ctype in (
        "text/html",
        "message/cpim",
        "application/im-iscomposing+xml",
        "image/png",
        "multipart/mixed;boundary=b",
    ):
        assert alice.message(asterisk.address, BOB, b"x", ctype).code == 415
        assert silo.message(asterisk.address, BOB, b"x", ctype).code == 415
    assert alice.ask(alice.request("MESSAGE", BOB, body=b"x"), asterisk.address).code == 415
    for ctype in ("text/plain;charset=iso-8859-1", "Text/Plain"):
        assert alice.message(asterisk.address, BOB, b"x", ctype).code == 202
        assert silo.take(202)["Content-Type"].lower() == "text/plain"


def test_every_phone_of_a_user(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    desk, mobile = handset("bob"), handset("bob")
    desk.register(asterisk.address)
    mobile.register(asterisk.address)
    handset("alice").message(asterisk.address, BOB, b"Hello")
    assert [desk.take().body, mobile.take().body] == [b"Hello", b"Hello"]


@pytest.mark.parametrize("code", [0, 480, 486, 503])
def test_what_a_phone_answers_nobody_hears(
    asterisk: Asterisk, silo: Handset, handset: PickUpHandset, code: int
) -> None:
    """A refusal, or no answer at all (0): the message is lost. The silo cannot know."""
    alice, bob = handset("alice"), handset("bob")
    bob.register(asterisk.address)
    alice.message(asterisk.address, BOB, b"Hello")
    bob.take(code) if code else bob.receive()
    assert replay(silo, asterisk) == 202
    assert [silo.glance(0.5), alice.glance(0.1)] == [None, None]


# Who is who


def test_phones_cannot_say_they_were_the_silo(asterisk: Asterisk, handset: PickUpHandset) -> None:
    liar = handset("silo")
    assert liar.ask(text(liar, BOB, b"x", f"X-MSilo-ID: {MARK}"), asterisk.address).code == 401
    assert subscribe(liar, asterisk).code == 401


def test_nobody_writes_in_the_name_of_another(asterisk: Asterisk, handset: PickUpHandset) -> None:
    alice = handset("alice")
    assert alice.ask(text(alice, BOB, b"x", sender=f"<sip:{BOB}>"), asterisk.address).code == 401
    assert handset("bob", password="alice-password").register(asterisk.address).code == 401
    assert handset("carol").message(asterisk.address, BOB, b"x").code == 401


# From the silo


def test_the_replay_reaches_the_phone(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    bob = handset("bob")
    bob.register(asterisk.address)
    extra = ("Date: Sun, 22 Nov 2026 10:00:00 GMT", "Subject: Food", "X-MSilo-Late: 5")
    assert replay(silo, asterisk, "Grüße 😀".encode(), *extra) == 202
    arrived = bob.take()
    assert sender(arrived) == ALICE
    assert (arrived.uri, arrived["To"], arrived.text) == (bob.contact, f"<sip:{BOB}>", "Grüße 😀")
    assert arrived["Date"] == "Sun, 22 Nov 2026 10:00:00 GMT"
    assert not [name for name, _ in arrived.headers if name.startswith("x-msilo") or name == "subject"]
    assert silo.glance(0.3) is None


def test_the_replay_comes_back(asterisk: Asterisk, silo: Handset) -> None:
    """Bob is away again: the same mark and body, another Call-ID, after the 202."""
    request = text(silo, BOB, b"Hello", f"X-MSilo-ID: {MARK}", sender=ALICE)
    assert silo.ask(request, asterisk.address).code == 202
    back = silo.take(480)
    assert back["X-MSilo-ID"] == MARK
    assert back.uri == "sip:bob@{}:{}".format(*silo.address)
    assert (back["To"], sender(back), back.body) == (f"<sip:{BOB}>", ALICE, b"Hello")
    assert back["Call-ID"].encode() not in request
    assert silo.glance(0.3) is None


def test_what_asterisk_would_empty_comes_back(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    bob = handset("bob")
    bob.register(asterisk.address)
    assert replay(silo, asterisk, b"x" * 1024) == 202
    back = silo.take(480)
    assert (back["X-MSilo-ID"], back.body) == (MARK, b"")
    assert bob.glance(0.2) is None


def test_without_the_mark_nothing_comes_back(asterisk: Asterisk, silo: Handset) -> None:
    """It would be stored as new."""
    assert silo.ask(text(silo, BOB, b"Hello", sender=ALICE), asterisk.address).code == 202
    assert silo.glance(0.3) is None


def test_order_holds_when_the_next_waits_for_the_202(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    bob, got = handset("bob"), list[int]()
    bob.register(asterisk.address)
    for number in range(100):
        assert replay(silo, asterisk, b"%d" % number) == 202
        got.append(int(bob.take().body))
    assert got == list(range(100))


def test_a_repeated_request_is_one(asterisk: Asterisk, silo: Handset) -> None:
    request = text(silo, BOB, b"Hello", f"X-MSilo-ID: {MARK}", sender=ALICE)
    assert [silo.ask(request, asterisk.address).code] == [202]
    assert silo.take(480).body == b"Hello"
    assert silo.ask(request, asterisk.address).code == 202
    assert silo.glance(0.3) is None


# When the silo is not there


def test_the_sender_hears_of_a_silo_that_has_not_registered(
    start_asterisk: StartAsterisk, handset: PickUpHandset
) -> None:
    asterisk, alice = start_asterisk(None), handset("alice")
    alice.register(asterisk.address)
    assert alice.message(asterisk.address, BOB, b"Hello").code == 202
    assert alice.take().text == "Not delivered: bob is away and nothing here can keep the message."


def test_the_sender_hears_of_a_silo_that_is_silent(
    start_asterisk: StartAsterisk, silo: Handset, handset: PickUpHandset
) -> None:
    asterisk, alice = start_asterisk(silo.address, qualify=1), handset("alice")
    until(lambda: not asterisk.contacts("silo"), 15, "Asterisk has noticed that the silo answers no OPTIONS")
    alice.register(asterisk.address)
    assert alice.message(asterisk.address, BOB, b"Hello").code == 202
    assert alice.take().text.startswith("Not delivered: bob is away")


# The silo as an extension with a password


@pytest.fixture
def extension(start_asterisk: StartAsterisk, handset: PickUpHandset) -> tuple[Asterisk, Handset]:
    asterisk, silo = start_asterisk(None), handset("silo")
    assert silo.register(asterisk.address).code == 200
    return asterisk, silo


def test_the_extension_gets_what_nobody_takes(extension: tuple[Asterisk, Handset], handset: PickUpHandset) -> None:
    asterisk, silo = extension
    assert handset("alice").message(asterisk.address, BOB, b"Hello").code == 202
    arrived = silo.take(202)
    assert arrived.uri == silo.contact.replace("silo", "bob")
    assert (arrived["To"], sender(arrived)) == (f"<sip:{BOB}>", "<sip:alice@home.lan>")


def test_the_extension_is_asked_for_its_own_password(
    extension: tuple[Asterisk, Handset], handset: PickUpHandset
) -> None:
    """Whatever its From says: a 401, and the digest of the silo."""
    asterisk, silo = extension
    request = text(silo, BOB, b"Hello", f"X-MSilo-ID: {MARK}", sender=ALICE)
    silo.send(request, asterisk.address)
    refusal = silo.receive()
    assert refusal.code == 401
    assert 'realm="asterisk"' in refusal["WWW-Authenticate"]
    silo.send(silo.authorize(request, refusal), asterisk.address)
    assert silo.receive().code == 202
    back = silo.take(480)
    assert (back["X-MSilo-ID"], sender(back)) == (MARK, ALICE)

    bob = handset("bob")
    bob.register(asterisk.address)
    assert replay(silo, asterisk) == 202
    assert sender(bob.take()) == ALICE


def test_the_extension_watches(extension: tuple[Asterisk, Handset], handset: PickUpHandset) -> None:
    asterisk, silo = extension
    assert subscribe(silo, asterisk).code == 200
    assert told(silo) == "closed"
    handset("bob").register(asterisk.address)
    assert told(silo) == "open"


def test_phones_cannot_say_they_were_the_extension(extension: tuple[Asterisk, Handset], handset: PickUpHandset) -> None:
    asterisk, _ = extension
    liar = handset("silo", password="alice-password")
    assert liar.ask(text(liar, BOB, b"x", f"X-MSilo-ID: {MARK}", sender=ALICE), asterisk.address).code == 401
    assert liar.register(asterisk.address).code == 401


# Presence


def test_presence_follows_the_first_and_the_last_phone(
    asterisk: Asterisk, silo: Handset, handset: PickUpHandset
) -> None:
    desk, mobile = handset("bob"), handset("bob")
    answer = subscribe(silo, asterisk)
    assert (answer.code, answer["Expires"]) == (200, "300")
    assert told(silo) == "closed"
    desk.register(asterisk.address)
    assert told(silo) == "open"
    desk.register(asterisk.address)
    mobile.register(asterisk.address)
    desk.register(asterisk.address, expires=0)
    assert silo.glance(0.5) is None, "neither a refresh nor a second phone is told"
    mobile.register(asterisk.address, expires=0)
    assert told(silo) == "closed"


def test_what_it_refuses_to_watch(asterisk: Asterisk, silo: Handset) -> None:
    assert subscribe(silo, asterisk, "carol").code == 404  # no hint
    assert subscribe(silo, asterisk, event="reg").code == 489
    assert subscribe(silo, asterisk, expires=0).code == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_forgets_nothing(
    asterisk: Asterisk, silo: Handset, handset: PickUpHandset, number: signal.Signals
) -> None:
    """Who is registered and who watches is in its database, up to a second late; the first it sends is a NOTIFY."""
    bob = handset("bob")
    bob.register(asterisk.address)
    subscribe(silo, asterisk)
    assert told(silo) == "open"
    until(lambda: {key.split("/")[1] for key in asterisk.stored} >= DATABASE, 5, "both are on disk")
    asterisk.restart(number)
    assert told(silo) == "open"
    assert replay(silo, asterisk) == 202
    assert bob.take().body == b"Hello"


def test_a_phone_that_is_silent_is_away(start_asterisk: StartAsterisk, silo: Handset, handset: PickUpHandset) -> None:
    """Registered, but it answers no OPTIONS: its messages go to the silo. It wakes the silo without a REGISTER."""
    asterisk, alice, bob = start_asterisk(silo.address, qualify=1), handset("alice"), handset("bob")
    subscribe(silo, asterisk)
    assert told(silo) == "closed"
    bob.there = False
    bob.register(asterisk.address)
    assert asterisk.contacts("bob") == [bob.contact], "until the first OPTIONS has failed it counts as there"
    assert silo.glance(0.3) is None, "but its presence is closed"
    bob.there = True
    assert told(silo, bob) == "open"

    assert told(silo, seconds=10) == "closed", "bob does not look, and so answers no more"
    assert asterisk.contacts("bob") == []
    alice.message(asterisk.address, BOB, b"Hello")
    assert silo.take(202).body == b"Hello"
    assert replay(silo, asterisk) == 202
    assert silo.take(480)["X-MSilo-ID"] == MARK

    assert told(silo, bob, seconds=10) == "open"


def test_a_broken_tcp_connection_is_noticed_at_once(asterisk: Asterisk, silo: Handset, handset: PickUpHandset) -> None:
    bob = handset("bob")
    subscribe(silo, asterisk)
    assert told(silo) == "closed"
    with socket.create_connection(asterisk.address, 5) as connection:
        contact = "Contact: <sip:bob@{}:{};transport=tcp>".format(*connection.getsockname())
        request = bob.request("REGISTER", BOB, contact, "Expires: 300").replace(b"/UDP", b"/TCP", 1)
        connection.sendall(request)
        refusal = Seen.parse(connection.recv(4000))
        connection.sendall(bob.authorize(request, refusal))
        assert told(silo) == "open"
    assert told(silo) == "closed"
    assert asterisk.contacts("bob") == []


def test_a_real_phone(start_asterisk: StartAsterisk, silo: Handset, tmp_path: Path, ends: ExitStack) -> None:
    """baresip answers the digest and the OPTIONS, and shows what the silo kept for it."""
    asterisk = start_asterisk(silo.address, qualify=1)
    proxy = asterisk.address
    bob = Baresip(tmp_path, proxy, user="bob", password="bob-password", contact="sip:alice@home.lan")
    subscribe(silo, asterisk)
    assert told(silo) == "closed"
    ends.enter_context(closing(bob)).start()
    assert told(silo) == "open"
    assert replay(silo, asterisk, "Grüße 😀".encode()) == 202
    until(lambda: bob.messages, 5, "baresip has the message")
    assert (bob.messages[0].text, sender(bob.messages[0])) == ("Grüße 😀", ALICE)
    assert silo.glance(0.2) is None

    bob.message("Hello from a real phone")  # to alice, who is away
    arrived = silo.take(202)
    assert (arrived.text, sender(arrived)) == ("Hello from a real phone", "<sip:bob@home.lan>")
    bob.quit()
    assert told(silo) == "closed"


def test_several_at_once(start_asterisk: StartAsterisk, silo: Handset, handset: PickUpHandset) -> None:
    one, other = start_asterisk(silo.address), start_asterisk(silo.address)
    bob = handset("bob")
    bob.register(one.address)
    assert (one.contacts("bob"), other.contacts("bob")) == ([bob.contact], [])
