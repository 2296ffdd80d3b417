"""A text that waited, as it reaches the phone: addresses, dates, the words before it, the headers with it."""

from dataclasses import replace

import pytest

from ..phone import Seen
from .both import Pair, Side
from .conftest import PairOf
from .shown import GMT, Shown, offline_prefix, shown

pytestmark = pytest.mark.sip

KEPT = (
    "X-Foo: 1",
    "x-FOO: two words",
    "Reply-To: <sip:alice@elsewhere.lan>",
    "In-Reply-To: 70710@saturn.lan",
    "Content-Language: de",
    "Content-ID: <1@home.lan>",
    "MIME-Version: 1.0",
    "Geolocation: <cid:1@home.lan>",
    "History-Info: <sip:bob@home.lan>;index=1",
    "Resource-Priority: wps.3",
    'P-Asserted-Identity: "Alice" <sip:alice@home.lan>',
    "Privacy: none",
)
DROPPED = (
    "Accept: text/plain",
    "Accept-Contact: *;mobility=fixed",
    "Accept-Language: de",
    "Allow: MESSAGE",
    "Allow-Events: presence",
    "Contact: <sip:alice@127.0.0.1:9>",
    "Date: Sat, 01 Jan 2022 00:00:00 GMT",
    "Event: presence",
    "Expires: 3600",
    "Identity-Info: <https://home.lan/cert>;alg=rsa-sha1",
    "Min-Expires: 60",
    "Min-SE: 90",
    "Path: <sip:127.0.0.1:9;lr>",
    "Proxy-Authorization: Digest username=alice",
    "Reason: SIP;cause=200",
    "Record-Route: <sip:127.0.0.1:9;lr>",
    "Refer-To: <sip:carl@home.lan>",
    "Reject-Contact: *;mobility=fixed",
    "Request-Disposition: queue",
    "Server: phone/1",
    "Session-Expires: 90",
    "SIP-If-Match: 1",
    "Subscription-State: active",
    "Supported: path",
    "Unsupported: 100rel",
    "User-Agent: phone/1",
    "WWW-Authenticate: Digest realm=home.lan",
    "k: path",
    "o: presence",
)


def test_plain_replay(pair: Pair) -> None:
    """A new request from the sender to the address of record, with the Date of the arrival."""
    owners = []

    def scenario(side: Side, bob: str) -> Shown:
        owners.append(bob)
        return shown(side.delivered(bob, b"Hello, Bob"))

    old, new = pair.play(scenario)
    assert new == old
    headers = (
        ("content-type", "text/plain"),
        ("date", GMT),
        ("from", "<sip:alice@home.lan>"),
        ("to", f"<sip:{owners[0]}>"),
    )
    assert new == Shown(f"sip:{owners[0]}", headers, "Offline", b"Hello, Bob")


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin"])
def test_prefix_in_the_servers_local_time(pair_of: PairOf, tz: str) -> None:
    """45 bytes before a text: msilo's words, and C's ctime of the arrival where the server is."""
    old, new = pair_of(tz=tz).play(lambda side, bob: side.delivered(bob, b"Hello, Bob"))
    for seen in (old, new):
        assert seen.body == offline_prefix(seen, tz) + b"Hello, Bob"
        assert len(seen.body) == 45 + len(b"Hello, Bob")
        assert seen["Date"].endswith(" GMT")


def test_add_date_0_sends_the_text_alone(pair_of: PairOf) -> None:
    old, new = pair_of(add_date=0).play(lambda side, bob: shown(side.delivered(bob, b"Hello, Bob")))
    assert new == old
    assert (new.prefix, new.body, new.all("Date")) == ("", b"Hello, Bob", [GMT])


def test_add_contact_1_adds_the_senders(pair_of: PairOf) -> None:
    """Against RFC 3428 section 4; some old clients answer to it."""
    old, new = pair_of(add_contact=1).play(lambda side, bob: shown(side.delivered(bob)))
    assert new == old
    assert new.all("Contact") == ["<sip:alice@home.lan>;msilo=yes"]


def test_no_contact_by_default(pair: Pair) -> None:
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob)))
    assert old.all("Contact") == new.all("Contact") == []


def test_headers_of_the_message_are_kept(pair: Pair) -> None:
    """Unknown ones and the identities, verbatim and in order."""

    def scenario(side: Side, bob: str) -> tuple[Shown, list[str]]:
        replay = side.delivered(bob, b"hello", *KEPT)
        return shown(replay), [value for name, value in replay.headers if name == "x-foo"]

    old, new = pair.play(scenario)
    assert new == old
    assert new[1] == ["1", "two words"]
    for line in KEPT:
        name, _, value = line.partition(": ")
        assert value in new[0].all(name)


def test_a_preferred_identity_goes_nowhere(pair: Pair) -> None:
    """A phone's word to its first proxy, which takes it away (RFC 3325 9.2); the original passes it on."""
    line = "P-Preferred-Identity: <sip:alice@home.lan>"
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, b"hello", line, "X-Foo: 1")))
    assert old.all("P-Preferred-Identity") == ["<sip:alice@home.lan>"]
    assert new.all("P-Preferred-Identity") == []
    assert new.all("X-Foo") == ["1"]


def test_headers_of_a_hop_are_dropped(pair: Pair) -> None:
    """What speaks of the sender's agent, dialog or route says nothing about the replay."""
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, b"hello", *DROPPED)))
    assert new == old
    assert {name for name, _ in new.headers} == {"content-type", "date", "from", "to"}


def test_a_folded_header_is_kept(pair: Pair) -> None:
    """The original sends it folded as it came, ours on one line (RFC 3261 7.3.1 says they are the same)."""

    def scenario(side: Side, bob: str) -> str:
        replay = side.delivered(bob, b"hello", "X-Long: one", " two", "X-Short: 3")
        return " ".join(f"{name}: {value}" if value else name for name, value in replay.headers if name != "via")

    old, new = pair.play(scenario)
    assert "x-long: one two x-short: 3" in old
    assert "x-long: one two x-short: 3" in new


def test_display_name_of_the_sender(pair: Pair) -> None:
    """Lost by the original; ours shows it."""

    def scenario(side: Side, bob: str) -> Shown:
        raw = side.written(bob, b"hello").replace(b"From: <", b'From: "Alice A." <')
        assert side.alice.ask(raw, side.address).code == 202
        return shown(side.replayed(bob))

    old, new = pair.play(scenario)
    assert old.all("From") == ["<sip:alice@home.lan>"]
    assert new.all("From") == ['"Alice A." <sip:alice@home.lan>']
    assert new.without("from") == old.without("from")


def test_to_uri_comes_back_as_written(pair: Pair) -> None:
    """Phones file a conversation by it, so neither side touches it. As Request-URI ours takes the owner's address."""

    def scenario(side: Side, bob: str) -> Shown:
        assert side.message(bob, to=f"sip:{bob}:5060;user=phone").code == 202
        return shown(side.replayed(bob))

    old, new = pair.play(scenario)
    assert new.all("To") == old.all("To")
    assert old.uri in new.all("To")[0]
    assert replace(new, uri="") == replace(old, uri="")


def test_extra_hdrs_speak_of_the_register(pair_of: PairOf) -> None:
    lines = "X-Woken-By: $fu\r\nX-Agent: $hdr(User-Agent)\r\n"

    def scenario(side: Side, bob: str) -> tuple[Shown, list[str], bool]:
        assert side.message(bob, b"hello", "X-Kept: 1").code == 202
        side.registers(bob, f"Contact: <{side.contact(bob)}>", "User-Agent: phone/1")
        replay = side.phone.take()
        woken = replay["X-Woken-By"] == f"sip:{bob.partition('@')[0]}@home.lan"
        names = [name for name, _ in replay.headers if name.startswith("x-") and name != "x-msilo-id"]
        return shown(replay).without("x-woken-by"), names, woken

    old, new = pair_of(extra_hdrs=lines).play(scenario)
    assert new == old
    assert new[0].all("X-Agent") == ["phone/1"]
    assert new[1:] == (["x-woken-by", "x-agent", "x-kept"], True)


def test_extra_hdrs_with_a_variable_that_is_null(pair_of: PairOf) -> None:
    """Inside a longer text it prints as `<null>`."""
    lines = "X-Woken-By: $fu\r\nX-Agent: $hdr(User-Agent)\r\n"
    old, new = pair_of(extra_hdrs=lines).play(lambda side, bob: shown(side.delivered(bob)))
    assert new == old
    assert new.all("X-Agent") == ["<null>"]


def test_extra_hdrs_avp_replaces_the_headers_kept(pair_of: PairOf) -> None:
    pair = pair_of(extra_hdrs_avp="X-Chosen: $hdr(X-Foo) of $fU\r\n")
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, b"hello", "X-Foo: 1", "X-Bar: 2")))
    assert new == old
    assert new.all("X-Chosen") == ["1 of alice"]
    assert new.all("X-Foo") == new.all("X-Bar") == []


def test_outbound_proxy_is_the_next_hop_for_everybody(pair: Pair) -> None:
    """The Request-URI stays the address of record and no Route tells: the proxy looks the Contact up itself."""

    def scenario(side: Side, bob: str) -> tuple[bool, list[str]]:
        side.store_all(bob, b"hello")
        side.registers(bob, "Contact: <sip:bob@127.0.0.9:9>", "Expires: 60")
        replay = side.phone.take()
        return replay.uri == f"sip:{bob}", replay.all("Route")

    old, new = pair.play(scenario)
    assert old == new == (True, [])


def test_a_phone_at_its_contact_sees_the_same(pair_of: PairOf) -> None:
    """Without a PBX between: Kamailio sends to itself and looks the Contact up, ours sends to the Contact."""

    def scenario(side: Side, bob: str) -> tuple[Shown, bool]:
        replay = side.delivered(bob, b"hello", "X-Foo: 1")
        return replace(shown(replay), uri=""), replay.uri == side.contact(bob)

    old, new = pair_of(straight=True).play(scenario)
    assert new == old
    assert new[1]


def test_several_messages_in_the_order_of_their_arrival(pair: Pair) -> None:
    """One worker and no loss: then the original keeps order, too."""

    def scenario(side: Side, bob: str) -> list[Shown]:
        side.store_all(bob, b"one", b"two", b"three")
        side.register(bob)
        return [shown(side.phone.take()) for _ in range(3)]

    old, new = pair.play(scenario)
    assert new == old
    assert [one.body for one in new] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("code", [200, 202])
def test_what_was_delivered_is_not_sent_again(pair_of: PairOf, code: int) -> None:
    """Any 2xx of the phone ends it: at ours at once, in the original with the next run of the cleaner."""

    def scenario(side: Side, bob: str) -> list[Seen]:
        side.store_all(bob, b"hello")
        side.replayed(bob, code)
        side.register(bob)
        at_once = side.sent()
        side.ends(bob)
        side.register(bob)
        return at_once + side.sent()

    old, new = pair_of(check_time=1).play(scenario)
    assert old == new == []


def test_another_case_of_the_user_is_another_user(pair: Pair) -> None:
    """User parts have case (RFC 3261 19.1.4)."""

    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob.replace("bob", "Bob")).code == 202
        side.register(bob)
        return len(side.sent())

    old, new = pair.play(scenario)
    assert old == new == 0


def test_an_escaped_letter_is_that_letter(pair: Pair) -> None:
    """RFC 3261 19.1.4: the original has two boxes, ours one."""

    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob.replace("bob", "%62ob")).code == 202
        side.register(bob)
        return len(side.sent())

    old, new = pair.play(scenario)
    assert (old, new) == (0, 1)


def test_the_host_in_other_case(pair: Pair) -> None:
    """A host name has no case (RFC 3261 19.1.4): the original has two boxes, ours one."""

    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob.replace("home.lan", "HOME.lan")).code == 202
        side.register(bob)
        return len(side.sent())

    old, new = pair.play(scenario)
    assert (old, new) == (0, 1)


def test_no_user_in_the_request_uri(pair: Pair) -> None:
    """Nobody's message is refused by both; ours says why."""

    def scenario(side: Side, bob: str) -> int:
        return side.message("home.lan").code

    old, new = pair.play(scenario)
    assert (old, new) == (503, 404)
