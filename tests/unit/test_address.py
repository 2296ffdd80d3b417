"""Addresses: what is a SIP URI, a name-addr, an AoR, an address to listen on."""

from __future__ import annotations

import pytest

from msilo_lite.errors import BadRequest
from msilo_lite.sip.address import (
    Aor,
    Endpoint,
    aor_of,
    finds_its_way,
    is_literal,
    parse_address,
    parse_uri,
    remote_of,
    same_uri,
    split_list,
)


@pytest.mark.parametrize(
    ("text", "aor"),
    [
        ("sip:bob@home.lan", Aor("bob", "home.lan")),
        ("SIP:bob@HOME.LAN", Aor("bob", "home.lan")),
        ("sips:bob@home.lan", Aor("bob", "home.lan")),
        ("sip:Bob@home.lan", Aor("Bob", "home.lan")),
        ("sip:bob@home.lan:5070;transport=udp", Aor("bob", "home.lan")),
        ("sip:bob:secret@home.lan", Aor("bob", "home.lan")),
        ("sip:bob@home.lan.", Aor("bob", "home.lan")),
        ("sip:b%6Fb@home.lan", Aor("bob", "home.lan")),
        ("sip:+49301234@home.lan", Aor("+49301234", "home.lan")),
        ("sip:bob@pbx1", Aor("bob", "pbx1")),
        ("sip:bob@192.0.2.1", Aor("bob", "192.0.2.1")),
        ("sip:bob@[2001:DB8::1]:5060", Aor("bob", "[2001:db8::1]")),
        ("sip:%0d%0aVia%3a@home.lan", Aor("\r\nVia:", "home.lan")),
        ("sip:home.lan", None),
    ],
)
def test_whose_mailbox(text: str, aor: Aor | None) -> None:
    assert aor_of(parse_uri(text)) == aor


def test_an_aor_is_written_with_its_escapes() -> None:
    strange = Aor("b@b\r\n", "home.lan")
    assert strange.uri == "sip:b%40b%0D%0A@home.lan"
    assert str(strange) == "b%40b%0D%0A@home.lan"
    assert aor_of(parse_uri(strange.uri)) == strange


@pytest.mark.parametrize("text", ["bob@home.lan", "sip:bob@home.lan", "SIPS:bob@home.lan"])
def test_an_owner_as_the_operator_writes_it(text: str) -> None:
    assert Aor.parse(text) == Aor("bob", "home.lan")


@pytest.mark.parametrize(("text", "status"), [("bob", 404), ("home.lan", 404), ("", 400), ("a b@c", 400)])
def test_what_names_nobody(text: str, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        Aor.parse(text)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("tel:+123", 416),
        ("mailto:bob@home.lan", 416),
        ("urn:service:sos", 416),
        ("bob", 400),
        ("", 400),
        ("sip:", 400),
        ("sip:bob@", 400),
        ("sip:b ob@home.lan", 400),
        ("sip:bob@home.lan;self=1", 400),
        ("sip:bob@home.lan:port", 400),
        ("sip:bob@home.lan\r\nVia: x", 400),
        ("sip:b\x00b@home.lan", 400),
        ("sip:b\udcffb@home.lan", 400),
    ],
)
def test_what_is_no_uri_of_ours(text: str, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_uri(text)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("value", "text", "uri", "tag"),
    [
        ("<sip:bob@home.lan>", "<sip:bob@home.lan>", "sip:bob@home.lan", None),
        ("<sip:bob@home.lan>;tag=x", "<sip:bob@home.lan>", "sip:bob@home.lan", "x"),
        ("<sip:bob@home.lan> ; TAG = x ; y", "<sip:bob@home.lan>", "sip:bob@home.lan", "x"),
        ("sip:bob@home.lan;tag=x", "<sip:bob@home.lan>", "sip:bob@home.lan", "x"),
        ("sip:bob@home.lan", "<sip:bob@home.lan>", "sip:bob@home.lan", None),
        ("Bob <sip:bob@home.lan;user=phone>;tag=x", "Bob <sip:bob@home.lan;user=phone>", None, "x"),
        ('"B, \\"<b>" <sip:bob@home.lan>;tag=x', '"B, \\"<b>" <sip:bob@home.lan>', "sip:bob@home.lan", "x"),
        ('"sip:eve@x" <sip:bob@home.lan>', '"sip:eve@x" <sip:bob@home.lan>', "sip:bob@home.lan", None),
        ("<SIP:Bob@Home.lan>", "<SIP:Bob@Home.lan>", "SIP:Bob@Home.lan", None),
        ('"Zoë 🍝" <sip:bob@home.lan>', '"Zoë 🍝" <sip:bob@home.lan>', "sip:bob@home.lan", None),
        ('"\udce9" <sip:bob@home.lan>', '"\udce9" <sip:bob@home.lan>', "sip:bob@home.lan", None),
    ],
)
def test_an_address_is_split(value: str, text: str, uri: str | None, tag: str | None) -> None:
    parsed = parse_address(value)
    assert parsed.text == text
    assert parsed.uri == (uri or "sip:bob@home.lan;user=phone")
    assert parsed.get("tag") == tag


def test_a_parameter_without_value_is_there() -> None:
    assert parse_address("<sip:a@b>;lr").get("lr") == ""


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("", 400),
        ("Bob", 400),
        ("<sip:bob@home.lan", 400),
        ("<sip:a@b>, <sip:c@d>", 400),
        ("<tel:+123>", 416),
        ("tel:+123", 416),
        ("<mailto:a@b>", 416),
        ('"Bob" <urn:x:y>', 416),
        ("<sip:a@b>;self=1", 400),
        # a quoted parameter is no name-addr; a second display name is none either
        ('"a" <garbage> "b" <sip:bob@home.lan>', 400),
    ],
)
def test_what_is_no_address(value: str, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_address(value)
    assert caught.value.status == status


@pytest.mark.parametrize("value", ['sip:bob@home.lan;x="<"', 'sip:bob@home.lan;x="<sip:eve@home.lan>"'])
def test_angle_brackets_in_a_parameter_are_no_uri(value: str) -> None:
    parsed = parse_address(value)
    assert (parsed.text, parsed.uri) == ("<sip:bob@home.lan>", "sip:bob@home.lan")


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("", []),
        (" , ,", []),
        ("a, b ,c", ["a", "b", "c"]),
        ('"a, b" <sip:x@y>, <sip:z@y;p=1,2>', ['"a, b" <sip:x@y>', "<sip:z@y;p=1,2>"]),
        ('"a\\", b" <sip:x@y>', ['"a\\", b" <sip:x@y>']),
        ('<sip:x@y>;methods="INVITE, MESSAGE", *', ['<sip:x@y>;methods="INVITE, MESSAGE"', "*"]),
    ],
)
def test_a_list_is_split_at_its_own_commas(value: str, items: list[str]) -> None:
    assert split_list(value) == items


# RFC 3261 19.1.4 gives these as examples
EQUAL = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
]
DIFFERENT = [
    ("SIP:ALICE@AtlanTa.CoM;Transport=udp", "sip:alice@AtlanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:bob@home.lan", "sips:bob@home.lan"),
    ("sip:bob@home.lan", "sip:bob:secret@home.lan"),
    ("sip:bob@home.lan", "sip:bob@home.lan;maddr=192.0.2.1"),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_same_uri(a: str, b: str) -> None:
    assert same_uri(a, b)
    assert same_uri(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_uri(a: str, b: str) -> None:
    assert not same_uri(a, b)
    assert not same_uri(b, a)


@pytest.mark.parametrize(
    ("host", "literal"),
    [("127.0.0.1", True), ("[::1]", True), ("::1", True), ("home.lan", False), ("1.2.3", False), ("", False)],
)
def test_what_needs_no_look_up(host: str, literal: bool) -> None:
    assert is_literal(host) is literal


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("udp:127.0.0.1:5070", "127.0.0.1", 5070, "udp:127.0.0.1:5070"),
        ("UDP:0.0.0.0:0", "0.0.0.0", 0, "udp:0.0.0.0:0"),
        (" udp:[::1]:65535 ", "::1", 65535, "udp:[::1]:65535"),
        ("tcp:127.0.0.1:5060", "127.0.0.1", 5060, "tcp:127.0.0.1:5060"),
        ("TLS:[::1]:5061", "::1", 5061, "tls:[::1]:5061"),
    ],
)
def test_an_address_to_listen_on(text: str, host: str, port: int, shown: str) -> None:
    assert Endpoint.parse(text) == Endpoint(host, port, shown.partition(":")[0])
    assert str(Endpoint(host, port, shown.partition(":")[0])) == shown


@pytest.mark.parametrize(
    ("uri", "shown", "name"),
    [
        ("sip:bob@127.0.0.1", "udp:127.0.0.1:5060", "127.0.0.1"),
        ("sip:bob@127.0.0.1:5090;transport=TCP", "tcp:127.0.0.1:5090", "127.0.0.1"),
        ("sip:bob@[::1];transport=tls", "tls:[::1]:5061", "::1"),
        ("sips:pbx.home.lan", "tls:pbx.home.lan:5061", "pbx.home.lan"),
        ("sips:bob@127.0.0.1;transport=tcp", "tls:127.0.0.1:5061", "127.0.0.1"),
        ("sip:pbx.home.lan;maddr=127.0.0.1;transport=tls", "tls:127.0.0.1:5061", "pbx.home.lan"),
        ("sip:bob@127.0.0.1;transport=ws", "ws:127.0.0.1:5060", "127.0.0.1"),
    ],
)
def test_where_a_request_to_a_uri_is_sent(uri: str, shown: str, name: str) -> None:
    assert (str(remote_of(uri)), remote_of(uri).name) == (shown, name)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:bob@127.0.0.1", True),
        ("sip:bob@pbx.home.lan", False),
        ("sip:bob@pbx.home.lan;transport=tcp", True),
        ("sips:bob@pbx.home.lan", True),
        ("sip:bob@pbx.home.lan;transport=ws", False),
    ],
)
def test_which_way_needs_no_look_up_by_pjsip(uri: str, expected: bool) -> None:
    assert finds_its_way(uri) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("127.0.0.1:5070", "is not of the form"),
        ("udp:127.0.0.1", "is not of the form"),
        ("udp:::1:5070", "is not of the form"),
        ("ws:127.0.0.1:5070", "only udp, tcp, tls are served"),
        ("udp:localhost:5070", "is not an IP address"),
        ("udp:127.0.0.1:65536", "is not a port number"),
    ],
)
def test_what_cannot_be_listened_on(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Endpoint.parse(text)
