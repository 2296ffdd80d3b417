"""Bodies and their types: what the original damages (W1, and W15 in `test_weaknesses`) and ours returns as it came."""

import zlib

import pytest

from .both import Pair, Side
from .shown import Shown, shown

pytestmark = pytest.mark.sip

CPIM = (
    b"From: Alice <sip:alice@home.lan>\r\nTo: Bob <sip:bob@home.lan>\r\nDateTime: 2027-07-15T12:00:00Z\r\n\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe"
)
PARTS = b"--frontier\r\nContent-Type: text/plain\r\n\r\none\r\n--frontier--\r\n"
MULTIPART = 'multipart/mixed;boundary="frontier"'


@pytest.mark.parametrize(
    ("body", "ctype"),
    [
        pytest.param(b"<b>Hello</b>", "text/html", id="html"),
        pytest.param(bytes(range(256)), "application/octet-stream", id="all-bytes"),
        pytest.param(b"a\0b", "application/octet-stream", id="nul"),
        pytest.param(b"{}", "application/x_y.2+json", id="digits-and-underscore"),
        pytest.param("Grüße, 你好, 😀".encode(), "text/plain", id="utf-8"),
        pytest.param(b"[Offline message - x] y", "text/plain", id="looks-like-a-prefix"),
        pytest.param(b"\r\n\r\nhello\r\n\r\n", "text/plain", id="blank-lines"),
    ],
)
def test_bodies_that_both_return(pair: Pair, body: bytes, ctype: str) -> None:
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, body, ctype=ctype)))
    assert new == old
    assert (new.body, new.all("Content-Type")) == (body, [ctype])
    assert new.prefix == ("Offline" if ctype == "text/plain" else "")


@pytest.mark.parametrize(
    ("body", "ctype", "becomes"),
    [
        pytest.param(b"Gr\xfc\xdfe", "text/plain;charset=iso-8859-1", "text/plain", id="charset"),
        pytest.param(b"hello", "text/plain; format=flowed", "text/plain", id="parameter"),
        pytest.param(b"hello", "TEXT/Plain", "text/plain", id="upper-case"),
        pytest.param(PARTS, MULTIPART, "multipart/mixed", id="boundary"),
        pytest.param(b"<b>Hello</b>", "text/html; charset=utf-8", "text/html", id="html-charset"),
        pytest.param(CPIM, "message/cpim", "text/plain", id="cpim"),
    ],
)
def test_w1_content_type(pair: Pair, body: bytes, ctype: str, becomes: str) -> None:
    """The original drops parameters, so that no charset and no boundary comes back, and calls CPIM a plain text."""
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, body, ctype=ctype)))
    assert (old.body, old.all("Content-Type")) == (body, [becomes])
    assert (new.body, new.all("Content-Type")) == (body, [ctype])
    assert new.without("content-type").headers == old.without("content-type").headers


def test_w1_cpim_is_not_dated(pair: Pair) -> None:
    """A phone that reads CPIM finds msilo's words where the CPIM headers should begin."""
    old, new = pair.play(lambda side, bob: side.delivered(bob, CPIM, ctype="message/cpim"))
    assert old.body.startswith(b"[Offline message - ")
    assert new.body == CPIM


@pytest.mark.parametrize(
    "line", ["Subject: lunch", "Priority: urgent", "Call-Info: <http://home.lan/a.png>;purpose=icon", "s: short form"]
)
def test_w1_headers_that_belong_to_the_message(pair: Pair, line: str) -> None:
    """Dropped by the original because it knows them; ours keeps all that is not of one hop."""
    name, _, value = line.replace("s: ", "Subject: ").partition(": ")
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, b"hello", line)))
    assert old.all(name) == []
    assert new.all(name) == [value]
    assert new.without(name.lower()) == old


def test_w1_an_encoded_body_stays_decodable(pair: Pair) -> None:
    """The original drops Content-Encoding and puts words before the encoded bytes."""
    body = zlib.compress(b"hello")

    def scenario(side: Side, bob: str) -> Shown:
        return shown(side.delivered(bob, body, "Content-Encoding: deflate"))

    old, new = pair.play(scenario)
    assert (old.prefix, old.all("Content-Encoding")) == ("Offline", [])
    assert (new.prefix, new.all("Content-Encoding")) == ("", ["deflate"])
    assert zlib.decompress(new.body) == b"hello"


@pytest.mark.parametrize(("size", "words"), [(978, "Offline"), (979, ""), (3000, "")])
def test_prefix_before_a_long_text(pair: Pair, size: int, words: str) -> None:
    """Over 978 bytes the original leaves its words out; ours says when it was written, however long it is."""
    old, new = pair.play(lambda side, bob: shown(side.delivered(bob, b"x" * size)))
    assert (old.prefix, old.body) == (words, b"x" * size)
    assert (new.prefix, new.body) == ("Offline", b"x" * size)


def test_a_text_of_5000_bytes(pair: Pair) -> None:
    """More than our SIP stack sends: refused and not stored, so that 202 keeps its meaning; the original takes it."""

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        return side.message(bob, b"x" * 5000).code, len(side.rows(bob))

    old, new = pair.play(scenario)
    assert old == (202, 1)
    assert new == (513, 0)


def test_a_message_without_body(pair: Pair) -> None:
    """Refused by the original, as if it were out of order."""

    def scenario(side: Side, bob: str) -> tuple[int, list[bytes]]:
        code = side.message(bob, b"").code
        side.register(bob)
        return code, [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == (503, [])
    assert new == (202, [b""])


def test_a_message_without_content_length(pair: Pair) -> None:
    """Legal on UDP (RFC 3261 18.3): the body goes to the end of the datagram. Refused by the original."""

    def scenario(side: Side, bob: str) -> tuple[int, list[bytes]]:
        raw = side.written(bob, b"hello").replace(b"Content-Length: 5\r\n", b"")
        code = side.alice.ask(raw, side.address).code
        side.register(bob)
        return code, [shown(seen).body for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == (503, [])
    assert new == (202, [b"hello"])


def test_a_comma_in_the_boundary(pair: Pair) -> None:
    """Refused by the original."""
    ctype = 'multipart/mixed;boundary="a,b"'

    def scenario(side: Side, bob: str) -> tuple[int, list[list[str]]]:
        code = side.message(bob, PARTS, ctype=ctype).code
        side.register(bob)
        return code, [seen.all("Content-Type") for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == (503, [])
    assert new == (202, [[ctype]])


def test_a_body_without_content_type(pair: Pair) -> None:
    """Refused by both (RFC 3261 20.15); ours says whose fault it is."""
    old, new = pair.play(lambda side, bob: side.message(bob, b"hello", ctype="").code)
    assert (old, new) == (503, 400)


def test_typing_notifications_are_not_kept(pair: Pair) -> None:
    """That somebody was typing an hour ago (RFC 3994) is worthless; the original wakes the phone with it."""
    ctype = "application/im-iscomposing+xml"

    def scenario(side: Side, bob: str) -> tuple[int, int]:
        code = side.message(bob, b"<isComposing/>", ctype=ctype).code
        side.register(bob)
        return code, len(side.sent())

    old, new = pair.play(scenario)
    assert old == (202, 1)
    assert new == (200, 0)
