"""Requests taken apart and put together again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from msilo_lite.box.policy import RECEIVE_BUFFER
from msilo_lite.errors import BadRequest
from msilo_lite.sip.response import redirect, retry_after
from msilo_lite.sip.wire import (
    COMPACT,
    Answer,
    check,
    content_type,
    dedupe_key,
    kept_headers,
    media_type,
    registrar_order,
)

from .kit import BOB, CARL, heard, read, request, text_of


# -- read ----------------------------------------------------------------------------------------------------------
def test_a_request_is_split() -> None:
    got = read(b"MESSAGE sip:bob@home.lan SIP/2.0\r\nSubject : Hi: there \r\nX-A:\r\n\r\nbody\r\n\r\n")
    assert (got.method, got.target, got.body) == ("MESSAGE", "sip:bob@home.lan", b"body\r\n\r\n")
    assert got.headers == (("subject", "Hi: there"), ("x-a", ""))
    assert got.names == ("Subject", "X-A")
    assert got.size == 72


@pytest.mark.parametrize("short", sorted(COMPACT))
def test_compact_names_are_long_ones(short: str) -> None:
    for name in (short, short.upper()):
        got = read(f"MESSAGE sip:b@h SIP/2.0\r\n{name}: v\r\n\r\n".encode())
        assert got.get(COMPACT[short]) == "v"


def test_the_compact_names_of_rfc_3261_are_all_there() -> None:
    core = {"c": "content-type", "e": "content-encoding", "f": "from", "i": "call-id", "k": "supported",
            "l": "content-length", "m": "contact", "s": "subject", "t": "to", "v": "via"}  # fmt: skip
    assert core.items() <= COMPACT.items()


@pytest.mark.parametrize("fold", ["\r\n ", "\r\n\t", "\n  ", "\r\n \t "])
def test_folded_lines_are_one_line(fold: str) -> None:
    got = read(f"MESSAGE sip:b@h SIP/2.0\r\nSubject: one{fold}two{fold}three\r\nX-A: y\r\n\r\n".encode())
    assert got.get("subject") == "one two three"
    assert got.get("x-a") == "y"


def test_line_ends_without_carriage_return() -> None:
    got = read(b"MESSAGE sip:b@h SIP/2.0\nX-A: y\n\nbody")
    assert (got.get("x-a"), got.body) == ("y", b"body")


def test_every_value_of_a_list_is_found() -> None:
    got = read(b'REGISTER sip:h SIP/2.0\r\nContact: <sip:a@b>, "x, y" <sip:c@d>\r\nm: <sip:e@f>\r\n\r\n')
    assert got.all("contact") == ["<sip:a@b>", '"x, y" <sip:c@d>', "<sip:e@f>"]
    assert got.get("contact") == '<sip:a@b>, "x, y" <sip:c@d>'
    assert got.all("path") == []
    assert got.get("path") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\r\n\r\n", b"MESSAGE\r\n\r\n", b"MESSAGE sip:b@h\r\n\r\n", b"MESSAGE sip:b@h SIP/2.0 x\r\n\r\n",
        b"MESSAGE sip:b@h SIP/2.0\r\nno colon\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request(raw: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read(raw)
    assert caught.value.status == 400


# -- check ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body", [b"", b"hello", b"a\0b\0", b"\xff\xfe\x80", "Zoë 🍝".encode(), b"\r\n\r\n", bytes(range(256))]
)
def test_a_body_is_taken_byte_for_byte(body: bytes) -> None:
    assert check(request(body=body)) == body
    assert check(request(body=body, content_length=None)) == body


@pytest.mark.parametrize(
    ("length", "body"), [("3", b"hel"), ("0", b""), ("05", b"hello"), (" 5 ", b"hello"), ("00000000000005", b"hello")]
)
def test_a_body_is_cut_to_its_content_length(length: str, body: bytes) -> None:
    assert check(request(content_length=length)) == body


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"content_length": "6"}, 400),
        ({"content_length": "99999999999999999999"}, 400),
        ({"content_length": "-1"}, 400),
        ({"content_length": "+5"}, 400),
        ({"content_length": "5x"}, 400),
        ({"content_length": ""}, 400),
        ({"content_length": "\u0665"}, 400),
        ({"content_length": "²"}, 400),
        ({"cseq": "1 INVITE"}, 400),
        ({"cseq": None}, 400),
        ({"max_forwards": "0"}, 483),
    ],
)
def test_an_unsound_request(changed: dict[str, Any], status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        check(request(**changed))
    assert caught.value.status == status


@pytest.mark.parametrize(("target", "status"), [("tel:+123", 416), ("urn:service:sos", 416), ("sip:", 400)])
def test_a_request_uri_that_is_not_served(target: str, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        check(request("MESSAGE", target))
    assert caught.value.status == status


def test_a_datagram_that_fills_the_buffer_was_cut() -> None:
    whole = len(text_of(body=b""))
    fitting = RECEIVE_BUFFER - whole - len("Content-Type: text/plain\r\n") - 3 - 20
    assert len(check(request(body=b"x" * fitting))) == fitting
    with pytest.raises(BadRequest) as caught:
        check(request(body=b"x" * RECEIVE_BUFFER))
    assert caught.value.status == 513
    cut = read(text_of(body=b"x" * RECEIVE_BUFFER)[:RECEIVE_BUFFER])
    with pytest.raises(BadRequest) as caught:  # 513 and not 400: the missing rest is our fault
        check(cut)
    assert caught.value.status == 513


def test_a_required_extension_is_named_in_the_answer() -> None:
    with pytest.raises(BadRequest) as caught:
        check(request("MESSAGE", "sip:bob@home.lan", "Require: 100rel, timer", "Require: foo"))
    assert caught.value.status == 420
    assert caught.value.headers == (("Unsupported", "100rel, timer, foo"),)


def test_an_answer_carries_no_line_end_of_the_request() -> None:
    with pytest.raises(BadRequest) as caught:
        check(request("MESSAGE", "sip:bob@home.lan", "Require: 100rel\rX-Evil: 1\x00"))
    assert all(ord(char) >= 32 for _, value in caught.value.headers for char in value)


def test_what_orders_the_registers_of_a_phone() -> None:
    assert registrar_order(request("REGISTER", call_id="c", cseq="17 REGISTER")) == ("c", 17)
    assert registrar_order(request("REGISTER", call_id=None, cseq="x REGISTER")) == ("", 0)


# -- what is kept --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", ["text/plain", 'multipart/mixed;boundary="a,b; c"', "Message/CPIM ; charset=x"])
def test_the_content_type_is_kept_whole(value: str) -> None:
    assert content_type(request(content_type=value), b"x") == value


@pytest.mark.parametrize("value", [None, "", "text", "text/plain\x00", "text/plain\rX-Evil: 1", "a/b\x7f"])
def test_a_content_type_that_cannot_be_repeated(value: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        content_type(request(content_type=value), b"x")
    assert caught.value.status == 400


def test_an_empty_body_needs_no_content_type() -> None:
    assert content_type(request(body=b""), b"") == ""
    assert content_type(request(body=b"", content_type="text/plain"), b"") == "text/plain"


def test_media_type() -> None:
    assert media_type(" Application/IM-isComposing+XML ; charset=utf-8") == "application/im-iscomposing+xml"


KEPT = (
    "Subject: Hi", "Priority: urgent", "Content-Encoding: gzip", "Content-Disposition: render", "Content-ID: <a@b>",
    "Reply-To: <sip:x@y>", "In-Reply-To: abc", "X-Custom: 1", "Organization: Home", "P-Asserted-Identity: <sip:a@b>",
    "Privacy: id", "MIME-Version: 1.0", "Call-Info: <http://x>", "Geolocation: <cid:x>",
)  # fmt: skip
DROPPED = (
    "Route: <sip:evil>", "Record-Route: <sip:evil>", "Contact: <sip:a@b>", "User-Agent: x", "Allow: INVITE",
    "Authorization: Digest x", "Proxy-Authorization: Digest x", "Expires: 60", "Supported: x", "X-MSilo-ID: 1-2",
    "X-msilo-anything: 1", "Date: x", "Event: x", "Path: <sip:x>", "Identity: x",
)  # fmt: skip


def test_which_headers_are_kept() -> None:
    got = request("MESSAGE", "sip:bob@home.lan", *KEPT, *DROPPED)
    assert kept_headers(got).split("\r\n") == [*KEPT, ""]


@pytest.mark.parametrize(("line", "kept"), [("s: Hi", "subject: Hi"), ("e: gzip", "content-encoding: gzip")])
def test_a_compact_header_is_kept_under_its_long_name(line: str, kept: str) -> None:
    assert kept_headers(request("MESSAGE", "sip:bob@home.lan", line)) == f"{kept}\r\n"


def test_a_folded_header_is_kept_on_one_line() -> None:
    assert kept_headers(request("MESSAGE", "sip:bob@home.lan", "Subject: one\r\n two")) == "Subject: one two\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "X-A: 1\x0cX-Evil: 2",
        "X-A: 1\x00",
        "X-A: \x1b[31m",
        "X-A\x00: 2",
        "\x1bX: 2",
        ": no name",
        "Two Words: 2",
        "X\udcff: 2",
    ],
)
def test_nothing_that_could_inject_a_header_is_kept(line: str) -> None:
    assert kept_headers(request("MESSAGE", "sip:bob@home.lan", line, "X-B: 3")) == "X-B: 3\r\n"


@pytest.mark.parametrize("line", ["X-A: 1\rX-Evil: 2", "X-A: 1\r\n\rX-MSilo-Owner: <sip:eve@home.lan>", "\rX-A: 1"])
def test_a_carriage_return_alone_is_refused(line: str) -> None:
    """A PBX that strips our headers by how their lines begin reads it otherwise than we would."""
    with pytest.raises(BadRequest) as caught:
        request("MESSAGE", "sip:bob@home.lan", line)
    assert caught.value.status == 400


def test_a_request_is_known_by_call_id_cseq_tag_owner_and_body() -> None:
    one = request(call_id="c", cseq="1 MESSAGE")
    key = dedupe_key(one, "tag", BOB, b"x")
    assert len(key) == 16
    assert key == dedupe_key(request(call_id="c", cseq="1 MESSAGE", from_="<sip:other@x>"), "tag", BOB, b"x")
    others = {
        dedupe_key(request(call_id="d", cseq="1 MESSAGE"), "tag", BOB, b"x"),
        dedupe_key(request(call_id="c", cseq="2 MESSAGE"), "tag", BOB, b"x"),
        dedupe_key(one, "other", BOB, b"x"),
        dedupe_key(one, "tag", CARL, b"x"),
        dedupe_key(one, "tag", BOB, b"y"),
        key,
    }
    assert len(others) == 6


# -- responses -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("Retry-After: 18", 18),
        ("retry-after:  18 ", 18),
        ("Retry-After: 18000;duration=3600", 18000),
        ("Retry-After: 120 (in a meeting)", 120),
        ("Retry-After: 1\r\n (folded)", 1),
        ("Retry-After: soon", None),
        ("Retry-After: -5", None),
        ("Retry-After:", None),
        ("X: y", None),
    ],
)
def test_retry_after(line: str, seconds: int | None) -> None:
    assert retry_after(heard(503, "Busy", line)) == seconds


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("Contact: <sip:bob@127.0.0.1:5091>;q=1", "sip:bob@127.0.0.1:5091"),
        ("m: sip:bob@127.0.0.1", "sip:bob@127.0.0.1"),
        ("Contact: <sip:one@127.0.0.1>, <sip:two@127.0.0.1>", "sip:one@127.0.0.1"),
        ("Contact: <sip:127.0.0.1>", None),
        ("Contact: <tel:+123>", None),
        ("Contact: *", None),
        ("Contact:", None),
        ("X: y", None),
    ],
)
def test_redirect(line: str, target: str | None) -> None:
    assert redirect(heard(302, "Moved", line)) == target


def test_an_end_without_an_answer_has_no_headers() -> None:
    local = Answer(408, "Request Timeout", local=True)
    assert (retry_after(local), redirect(local)) == (None, None)
    assert redirect(replace(local, raw=b"SIP/2.0 302 Moved")) is None
