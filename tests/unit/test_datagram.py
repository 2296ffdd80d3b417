"""Answers and requests as text: what is plain, what is left to PJSIP, and each line of what is written."""

import pytest

from msilo_lite.sip.datagram import LARGEST, OURS, address_of, asked, branch_of, plain_hop, request, response
from msilo_lite.sip.lines import split
from msilo_lite.sip.wire import Outgoing

PLAIN = (
    b"MESSAGE sip:bob@home.lan SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP pbx.home.lan:5080;branch=z9hG4bK776asdhds;rport\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKfirst\r\n"
    b"Max-Forwards: 69\r\n"
    b"Record-Route: <sip:pbx.home.lan;lr>\r\n"
    b'f: "Alice; tag=0" <sip:alice@home.lan>;tag=88sja8x\r\n'
    b"To: <sip:bob@home.lan;tag=no>\r\n"
    b"i: 987asjd97y7atg\r\n"
    b"CSeq: 986759 MESSAGE\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


def lines(raw: bytes, host: str = "192.0.2.9", port: int = 4711, *headers: tuple[bytes, bytes]) -> list[bytes]:
    found = asked(split(raw), host, port)
    assert found is not None
    return response(found, 202, b"Accepted", headers).split(b"\r\n")


# -- answers -----------------------------------------------------------------------------------------------------------
def test_an_answer_repeats_what_rfc_3261_8_2_6_wants_and_nothing_else() -> None:
    assert lines(PLAIN, "192.0.2.9", 4711, (b"Retry-After", b"5")) == [
        b"SIP/2.0 202 Accepted",
        b"Via: SIP/2.0/UDP pbx.home.lan:5080;branch=z9hG4bK776asdhds;rport=4711;received=192.0.2.9",
        b"Via: SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKfirst",
        b"Record-Route: <sip:pbx.home.lan;lr>",
        b'From: "Alice; tag=0" <sip:alice@home.lan>;tag=88sja8x',
        b"To: <sip:bob@home.lan;tag=no>;tag=z9hG4bK776asdhds",
        b"Call-ID: 987asjd97y7atg",
        b"CSeq: 986759 MESSAGE",
        b"Retry-After: 5",
        b"Content-Length: 0",
        b"",
        b"",
    ]


@pytest.mark.parametrize("to", [b"<sip:bob@home.lan>;tag=abc", b"sip:bob@home.lan;tag=abc", b"<sip:b@x> ; TAG=abc"])
def test_a_to_tag_is_kept(to: bytes) -> None:
    assert b"To: " + to in lines(PLAIN.replace(b"<sip:bob@home.lan;tag=no>", to))


def test_the_same_request_gets_the_same_tag() -> None:
    assert lines(PLAIN) == lines(PLAIN)


@pytest.mark.parametrize(
    ("via", "back"),
    [
        (b"pbx.home.lan:5080;branch=z9hG4bK1;rport", ("192.0.2.9", 4711)),  # RFC 3581 4
        (b"pbx.home.lan:5080;branch=z9hG4bK1", ("192.0.2.9", 5080)),  # RFC 3261 18.2.2
        (b"pbx.home.lan;branch=z9hG4bK1", ("192.0.2.9", 5060)),
        (b"[2001:db8::1]:5090;branch=z9hG4bK1", ("192.0.2.9", 5090)),
    ],
)
def test_where_an_answer_goes(via: bytes, back: tuple[str, int]) -> None:
    found = asked(split(PLAIN.replace(b"pbx.home.lan:5080;branch=z9hG4bK776asdhds;rport", via)), "192.0.2.9", 4711)
    assert found is not None
    assert found.back == back


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b";rport", b";rport;maddr=239.1.1.1"),
        (b";rport", b";rport;received=1.2.3.4"),
        (b";rport", b";rport=99"),
        (b";rport", b";ttl=1"),
        (b"branch=z9hG4bK776asdhds", b"branch=776asdhds"),  # RFC 2543
        (b";branch=z9hG4bK776asdhds", b""),
        (b";rport\r\n", b";rport, SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2\r\n"),
        (b";rport\r\n", b";rport\r\n ;more=1\r\n"),
        (b";branch", b" ;branch"),
        (b"SIP/2.0/UDP pbx", b"SIP/2.0/TCP pbx"),
        (b"Max-Forwards: 69\r\n", b"Max-Forwards:\r\n 69\r\n"),
        (b"Max-Forwards: 69\r\n", b"Max-Forwards: 69\n"),
        (b"Max-Forwards: 69\r\n", b"Subject: a\rVia: b\r\n"),
        (b"SIP/2.0\r\nVia: ", b"SIP/2.0\r\nSubject: first\r\nVia: "),
        (b"\r\n\r\nhello", b""),
    ],
)
def test_what_takes_more_than_a_look_is_left_to_pjsip(old: bytes, new: bytes) -> None:
    changed = PLAIN.replace(old, new, 1)
    assert changed != PLAIN
    assert asked(split(changed), "192.0.2.9", 4711) is None


# -- requests ----------------------------------------------------------------------------------------------------------
def outgoing(**changed: object) -> Outgoing:
    values: dict[str, object] = {
        "target": "sip:bob@127.0.0.1:5080", "from_": '"Alice" <sip:alice@home.lan>', "to": "<sip:bob@home.lan>",
        "call_id": "c1", "headers": ((b"Date", b"Sat"), (b"X-MSilo-ID", b"1-2")), "ctype": b"text/plain;charset=utf-8",
        "body": "grüße".encode(),
    }  # fmt: skip
    return Outgoing(**{**values, **changed})  # type: ignore[arg-type]  # any field by name


def test_a_request_line_by_line() -> None:
    made = request(outgoing(), b"127.0.0.1:5070", OURS + b"1", b"t1", b"msilo-lite/test")
    assert made is not None
    assert made.split(b"\r\n") == [
        b"MESSAGE sip:bob@127.0.0.1:5080 SIP/2.0",
        b"Via: SIP/2.0/UDP 127.0.0.1:5070;rport;branch=z9hG4bKMs1",
        b"Max-Forwards: 70",
        b'From: "Alice" <sip:alice@home.lan>;tag=t1',
        b"To: <sip:bob@home.lan>",
        b"Call-ID: c1",
        b"CSeq: 1 MESSAGE",
        b"User-Agent: msilo-lite/test",
        b"Date: Sat",
        b"X-MSilo-ID: 1-2",
        b"Content-Type: text/plain;charset=utf-8",
        b"Content-Length: 7",
        b"",
        "grüße".encode(),
    ]


def test_a_hidden_route_is_followed_and_not_written() -> None:
    made = request(outgoing(routes=("<sip:10.0.0.1;lr;hide>", "<sip:10.0.0.2;lr>")), b"h", OURS, b"t", b"a")
    assert made is not None
    assert b"\r\nRoute: <sip:10.0.0.2;lr>\r\n" in made
    assert b"10.0.0.1" not in made


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "sip:bob@127.0.0.1\r\nX: y"},
        {"from_": "<sip:a@x>\nX: y"},
        {"to": "<sip:a@x>\rX: y"},
        {"call_id": "a\r\nX: y"},
        {"headers": ((b"Subject", b"a\r\n\r\nb"),)},
        {"ctype": b"text/plain\r\nX: y"},
        {"from_": "<sip:a\0@x>"},
        {"body": b"x" * LARGEST},
    ],
)
def test_what_would_break_out_or_is_long_is_left_to_pjsip(changed: dict[str, object]) -> None:
    assert request(outgoing(**changed), b"h", OURS, b"t", b"a") is None


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:bob@127.0.0.1", ("127.0.0.1", 5060)),
        ("sip:bob@127.0.0.1:5080;ob", ("127.0.0.1", 5080)),
        ("sip:bob@[::1]:5080;transport=UDP", ("::1", 5080)),
        ("sip:127.0.0.1", ("127.0.0.1", 5060)),
        ("sip:bob@127.0.0.1;transport=tcp", None),
        ("sips:bob@127.0.0.1", None),
        ("sip:bob@127.0.0.1;maddr=10.0.0.1", None),
        ("sip:bob@127.0.0.1;method=INVITE", None),
        ("sip:bob@127.0.0.1?Subject=x", None),
        ("sip:bob@home.lan", None),
        ("tel:+123", None),
        ("nonsense", None),
    ],
)
def test_where_a_uri_leads_by_udp(uri: str, hop: tuple[str, int] | None) -> None:
    assert address_of(uri) == hop


@pytest.mark.parametrize(
    ("changed", "hop"),
    [
        ({}, ("127.0.0.1", 5080)),
        ({"routes": ("<sip:127.0.0.2:5060;lr;hide>",)}, ("127.0.0.2", 5060)),
        ({"routes": ("<sip:127.0.0.2:5060>",)}, None),  # a strict router
        ({"routes": ("<sip:proxy.lan;lr>",)}, None),
        ({"method": "SUBSCRIBE"}, None),
        ({"to_tag": "x"}, None),
        ({"body": b""}, None),  # a Content-Type without a body
        ({"body": b"", "ctype": b""}, ("127.0.0.1", 5080)),
    ],
)
def test_the_plain_hop(changed: dict[str, object], hop: tuple[str, int] | None) -> None:
    assert plain_hop(outgoing(**changed)) == hop


def test_the_branch_of_an_answer() -> None:
    ours = OURS + b"0123456789abcdef01234567"
    assert branch_of(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;rport=1;branch=%s;received=1.2.3.4\r\n\r\n" % ours) == ours
    assert branch_of(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKPjabc\r\n\r\n") is None
