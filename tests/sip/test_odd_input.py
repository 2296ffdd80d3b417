"""Odd but legal content, and content that lies about its length: it comes out as it went in, or is refused."""

from __future__ import annotations

import pytest

from .conftest import PickUp
from .peers import Silo

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
HEAD = ("Max-Forwards: 70", "CSeq: 1 MESSAGE")


def through(silo: Silo, phone: PickUp, raw: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Leave a message for bob, let him register, and return what reaches him: headers and body."""
    alice, bob = phone("alice"), phone("bob")
    host, port = alice.address
    answer = alice.ask(raw.replace(b"@VIA@", f"SIP/2.0/UDP {host}:{port};rport".encode()), silo.address)
    assert answer.code == 202, answer
    assert bob.register(silo.address).code == 200
    seen = bob.take()
    silo.empties()
    return list(seen.headers), seen.body


def written(*lines: str, body: bytes) -> bytes:
    return "\r\n".join([f"MESSAGE sip:{BOB} SIP/2.0", *lines, "", ""]).encode("utf-8", "surrogateescape") + body


@pytest.mark.parametrize(
    ("body", "ctype"),
    [
        (bytes(range(256)) * 4, "application/octet-stream"),
        (b"\x00", "text/plain"),
        (b"\xff\xfe caf\xe9", "text/plain;charset=iso-8859-1"),
        ("👩🏽‍🚀🇮🇹😀".encode(), "text/plain;charset=utf-8"),
        (b"a\nb\rc\r\n\r\nd\r\n", "text/plain"),
        (b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n", "message/sip"),
        (b"x", f"application/{'x' * 188}"),
        (b"x", 'multipart/mixed;boundary="; , <a@b>";type="text/plain"'),
    ],
    ids=["all bytes", "one NUL", "latin-1", "four-byte emoji", "line ends", "a response", "200 characters", "quoted"],
)
def test_any_body_and_type_come_out_as_they_went_in(silo: Silo, phone: PickUp, body: bytes, ctype: str) -> None:
    lines = ("Via: @VIA@", *HEAD, "From: <sip:alice@home.lan>;tag=1", f"To: <sip:{BOB}>", "Call-ID: odd")
    raw = written(*lines, f"Content-Type: {ctype}", f"Content-Length: {len(body)}", body=body)
    headers, got = through(silo, phone, raw)
    assert got == body
    assert dict(headers)["content-type"] == ctype


def test_compact_and_folded_headers_are_the_same_headers(silo: Silo, phone: PickUp) -> None:
    raw = written(
        "v: @VIA@", "mAX-fORWARDS: 70", "f: Alice <sip:alice@home.lan>", "\t;tag=7", f"t: <sip:{BOB}>",
        "i: compact", "CSEQ: 1", "   MESSAGE", "s: dinner", "  at", "\t eight", "c: text/plain", "l: 2", "e: identity",
        body=b"ok",
    )  # fmt: skip
    headers, got = through(silo, phone, raw)
    found = dict(headers)
    assert got == b"ok"
    assert found["subject"] == "dinner at eight"
    assert found["content-encoding"] == "identity"
    assert found["from"].startswith("Alice <sip:alice@home.lan>;tag=")


def test_a_header_many_times_keeps_its_values_and_their_order(silo: Silo, phone: PickUp) -> None:
    raw = written(
        "Via: @VIA@", *HEAD, "From: <sip:alice@home.lan>;tag=1", f"To: <sip:{BOB}>", "Call-ID: many",
        "X-Room: one", "X-Floor: 2", "x-room: two", "X-ROOM: three", "Content-Length: 0", body=b"",
    )  # fmt: skip
    headers, _ = through(silo, phone, raw)
    assert [value for name, value in headers if name == "x-room"] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("header", "code", "stored"),
    [
        ("Content-Length: 3", 202, b"12345"[:3]),  # RFC 3261 18.3: what is beyond it is not part of the message
        ("Content-Length: 0", 202, b""),
        ("X-None: 1", 202, b"12345"),  # none: the rest of the datagram
        ("Content-Length: 6", 400, None),
        ("Content-Length: 99999", 400, None),
        ("Content-Length: 00005", 202, b"12345"),
    ],
)
def test_content_length(silo: Silo, phone: PickUp, header: str, code: int, stored: bytes | None) -> None:
    alice, bob = phone("alice"), phone("bob")
    host, port = alice.address
    raw = written(
        f"Via: SIP/2.0/UDP {host}:{port};rport", *HEAD, "From: <sip:alice@home.lan>;tag=1", f"To: <sip:{BOB}>",
        "Call-ID: length", "Content-Type: text/plain", header, body=b"12345",
    )  # fmt: skip
    assert alice.ask(raw, silo.address).code == code
    if stored is None:
        assert silo.list_json() == []
        return
    bob.register(silo.address)
    assert bob.take().body == stored


@pytest.mark.parametrize(
    ("target", "owner"),
    [
        ("sip:b%6fb@home.lan", "bob"),  # an escape of what needs none is the character (RFC 3261 19.1.4)
        ("sip:BOB@home.lan", "BOB"),  # users have case
        ("sip:bob@HOME.lan", "bob"),  # hosts have none
        ("sip:bob;room=1@home.lan", "bob;room=1"),
        ("sip:bob%40office@home.lan", "bob%40office"),
        ("sip:bob:secret@home.lan", "bob"),
        ("sip:bob@home.lan:5090;transport=udp;user=phone", "bob"),
        ("sip:%2B39055@home.lan", "+39055"),
        ("sip:b%F0%9F%90%9Db@home.lan", "b%F0%9F%90%9Db"),
        ("sip:bob?x@home.lan", "bob?x"),
    ],
)
def test_whose_mail_it_is(silo: Silo, phone: PickUp, target: str, owner: str) -> None:
    """Escapes, case, semicolons and @ in user parts: one user has one box, two users have two."""
    alice = phone("alice")
    raw = alice.request("MESSAGE", "x@home.lan", "Content-Type: text/plain", body=b"hi")
    raw = raw.replace(b"MESSAGE sip:x@home.lan SIP", f"MESSAGE {target} SIP".encode())
    assert alice.ask(raw, silo.address).code == 202
    assert [row["to"] for row in silo.list_json()] == [f"{owner}@home.lan"]


def test_escapes_that_are_no_text_are_refused(silo: Silo, phone: PickUp) -> None:
    """%FF and %FE would become one and the same user where escapes are shown as text."""
    alice = phone("alice")
    raw = alice.request("MESSAGE", "x@home.lan", "Content-Type: text/plain", body=b"hi")
    for user in (b"b%FF", b"b%FE"):
        once = raw.replace(b"MESSAGE sip:x@", b"MESSAGE sip:" + user + b"@").replace(b"Call-ID: ", b"Call-ID: " + user)
        assert alice.ask(once, silo.address).code == 400
    assert silo.list_json() == []


def test_headers_in_a_uri_name_nobody(silo: Silo, phone: PickUp) -> None:
    """RFC 3261 19.1.1: `?subject=x` is for a request that a person makes of the URI; it belongs to no address."""
    alice, bob = phone("alice"), phone("bob")
    raw = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"hi")
    raw = raw.replace(b"From: <sip:alice@home.lan>", b"From: <sip:alice@home.lan?subject=x>")
    assert alice.ask(raw, silo.address).code == 202
    contact = f"Contact: <{bob.contact}?Route=%3Csip:127.0.0.9%3E>"
    assert bob.ask(bob.request("REGISTER", BOB, contact, "Expires: 60"), silo.address).code == 200
    got = bob.take()
    assert got.uri == bob.contact
    assert got["From"].startswith("<sip:alice@home.lan?subject=x>")
