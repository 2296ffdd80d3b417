"""Where messages end in a stream, what is refused, and the answers of the door."""

from __future__ import annotations

import pytest

from msilo_lite.sip.framing import (
    HEAD_MOST,
    LIMIT,
    SKIP_MOST,
    Framer,
    Head,
    Ping,
    Refusal,
    Whole,
    answer,
    branch_of,
    first_line,
    objection,
    shortened,
    stamped,
    with_first_via,
    with_via,
    without_via,
)
from tests.unit.kit import text_of


def events(*pieces: bytes) -> list[Whole | Ping | Refusal]:
    framer, found = Framer(), []
    for piece in pieces:
        framer.feed(piece)
        while event := framer.next():
            found.append(event)
    return found


def refusal(raw: bytes) -> Refusal:
    (event,) = events(raw)
    assert isinstance(event, Refusal)
    return event


def test_messages_behind_one_another() -> None:
    first, second = text_of(body=b"one"), text_of("OPTIONS", body=b"")
    assert [one.raw for one in events(first + second) if isinstance(one, Whole)] == [first, second]


def test_a_body_may_look_like_a_message() -> None:
    inner = text_of(body=b"inner")
    assert [one.raw for one in events(text_of(body=inner) + inner) if isinstance(one, Whole)][1] == inner


def test_compact_spaced_and_folded_lines() -> None:
    raw = text_of(content_length=None, body=b"").replace(b"\r\n\r\n", b"\r\nSubject: a\r\n b\r\nl \t:\t 3 \r\n\r\nabc")
    (event,) = events(raw)
    assert isinstance(event, Whole)
    assert (event.raw, event.head.get(b"subject")) == (raw, b"a b")


def test_a_ping_is_two_line_ends_and_one_is_nothing() -> None:
    message = text_of()
    assert [type(one) for one in events(b"\r\n\r\n", b"\r\n", b"\r\n", b"\r\n" + message)] == [Ping, Ping, Whole]


@pytest.mark.parametrize(
    "change",
    [
        (b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5"),
        (b"Content-Length: 5", b"Content-Length: 5\r\nl: 5"),
        (b"Content-Length: 5", b"Content-Length: +5"),
        (b"Content-Length: 5", b"Content-Length: -5"),
        (b"Content-Length: 5", b"Content-Length: 5, 5"),
        (b"Content-Length: 5", b"Content-Length: 0x5"),
        (b"Content-Length: 5", b"Content-Length: 5;a"),
        (b"Content-Length: 5", b"Content-Length:"),
        (b"Content-Length: 5", b"Content-Length: 99999999999"),
        (b"Content-Length: 5", b"Subject: x\r\n Content-Length: 5"),
        (b"Content-Length: 5\r\n", b""),
        (b"Content-Length: 5", b"X: a\nContent-Length: 5"),
        (b"Content-Length: 5", b"X: a\rContent-Length: 7\r\nContent-Length: 5"),
        (b"Content-Length: 5", b"X: a\x00\r\nContent-Length: 5"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_stream(change: tuple[bytes, bytes]) -> None:
    said = refusal(text_of().replace(*change) + text_of())
    assert (said.status, said.closes) == (400, True)
    assert said.head.method == b"MESSAGE"


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"SIP/3.0 200 OK\r\n\r\n"]
)
def test_what_is_no_sip_is_refused_without_a_method(raw: bytes) -> None:
    assert refusal(raw).head.method == b""


def test_a_message_too_long_is_refused_before_its_body_came_and_skipped() -> None:
    long, short = text_of(body=b"x" * 5000), text_of()
    head = long.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    first, *rest = events(head, long[len(head) :], short)
    assert isinstance(first, Refusal)
    assert (first.status, first.closes) == (513, False)
    assert [one.raw for one in rest if isinstance(one, Whole)] == [short]


def test_the_limit_is_exact() -> None:
    size = LIMIT - len(text_of(body=b"x" * 1000)) + 1000  # digits of the length included
    fits = text_of(body=b"x" * size)
    assert [len(fits), type(events(fits)[0])] == [LIMIT, Whole]
    assert refusal(text_of(body=b"x" * (size + 1))).status == 513


@pytest.mark.parametrize(
    "raw",
    [
        text_of(body=b"").replace(b"Content-Length: 0", b"Content-Length: %d" % (SKIP_MOST + 1)),
        text_of("MESSAGE", "sip:bob@home.lan", "X-Long: " + "x" * HEAD_MOST),
        b"MESSAGE sip:bob@home.lan SIP/2.0\r\n" + b"x" * HEAD_MOST,
    ],
    ids=["too much to skip", "a long head", "a head without end"],
)
def test_what_cannot_be_skipped_ends_the_stream(raw: bytes) -> None:
    said = refusal(raw + text_of())
    assert (said.status, said.closes) == (513, True)


def test_a_broken_stream_keeps_nothing() -> None:
    framer = Framer()
    framer.feed(b"nonsense\r\n\r\n")
    assert isinstance(framer.next(), Refusal)
    framer.feed(text_of() * 1000)
    assert (framer.next(), framer.partial) == (None, False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((b"", b""), None),
        ((b"SIP/2.0\r", b"SIP/7.0\r"), (505, "Version Not Supported")),
        ((b"To:", b"X-To:"), (400, "Via, From, To, Call-ID and CSeq are needed")),
        ((b"Cseq:", b"X-Cseq:"), (400, "Via, From, To, Call-ID and CSeq are needed")),
    ],
)
def test_what_pjsip_would_not_answer(change: tuple[bytes, bytes], expected: tuple[int, str] | None) -> None:
    assert objection(Head.of(text_of().replace(*change, 1))) == expected


def test_an_answer_repeats_what_it_must() -> None:
    head = Head.of(
        text_of("MESSAGE", "sip:bob@home.lan", "v: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx", via="SIP/2.0/TCP a;branch=b")
    )
    lines = answer(head, 513, "Message Too Large", "Retry-After: 5").decode().split("\r\n")
    assert lines[0] == "SIP/2.0 513 Message Too Large"
    names = [line.partition(":")[0] for line in lines[1:-2]]
    assert names == ["Via", "From", "To", "Call-Id", "Cseq", "v", "Retry-After", "Content-Length"]
    assert lines[3].startswith("To: <sip:bob@home.lan>;tag=")
    assert answer(head, 513, "x") == answer(head, 513, "x")  # a tag without state


def test_an_answer_keeps_the_tag_there_is_and_injects_nothing() -> None:
    said = answer(Head.of(text_of(to="<sip:bob@home.lan>;tag=t")), 400, "a\r\nX: y")
    assert said.count(b"tag=t\r\n") == 1
    assert b"\r\nX:" not in said


def test_our_via_goes_on_top_and_away() -> None:
    raw = text_of()
    dressed = with_via(raw, b"SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bKx")
    assert branch_of(first_line(dressed)) == b"z9hG4bKx"
    assert without_via(dressed) == raw


@pytest.mark.parametrize(
    ("via", "expected"),
    [
        ("SIP/2.0/TCP 10.0.0.1;branch=b;rport", "SIP/2.0/TCP 10.0.0.1;branch=b;rport=5;received=10.0.0.9"),
        ("SIP/2.0/TCP 10.0.0.9;rport;branch=b", "SIP/2.0/TCP 10.0.0.9;rport=5;branch=b;received=10.0.0.9"),
        ("SIP/2.0/TCP 10.0.0.9:5060;branch=b", "SIP/2.0/TCP 10.0.0.9:5060;branch=b"),
        ("SIP/2.0/TCP 10.0.0.90;branch=b", "SIP/2.0/TCP 10.0.0.90;branch=b;received=10.0.0.9"),
        ("SIP/2.0/TCP a;branch=b;received=c", "SIP/2.0/TCP a;branch=b;received=c"),
        (
            "SIP/2.0/TCP a;branch=b, SIP/2.0/UDP d;rport",
            "SIP/2.0/TCP a;branch=b;received=10.0.0.9, SIP/2.0/UDP d;rport",
        ),
        ('SIP/2.0/TCP a;x="b,c;rport"', 'SIP/2.0/TCP a;x="b,c;rport";received=10.0.0.9'),
    ],
)
def test_where_a_request_came_from(via: str, expected: str) -> None:
    assert stamped(via.encode(), "10.0.0.9", 5).decode() == expected


def test_only_the_first_via_changes() -> None:
    raw = text_of("MESSAGE", "sip:bob@home.lan", "Via: SIP/2.0/UDP b", via="SIP/2.0/TCP a;\r\n branch=x")
    changed = Head.of(with_first_via(raw, lambda old: b"SIP/2.0/UDP c;was=" + old[-8:]))
    assert changed.all(b"via") == [b"SIP/2.0/UDP c;was=branch=x", b"SIP/2.0/UDP b"]


def test_a_response_too_long_loses_its_body_then_what_nobody_needs() -> None:
    lines = ("Content-Type: text/plain", "Retry-After: 9", "Subject: x")
    raw = text_of("MESSAGE", "x", *lines, body=b"x" * 5000).replace(b"MESSAGE x SIP/2.0", b"SIP/2.0 486 Busy Here", 1)
    head = Head.of(raw)
    assert head.code == 486
    assert b"Subject: x" in shortened(head)
    assert shortened(head).endswith(b"Content-Length: 0\r\n\r\n")
    small = Head.of(shortened(head, 100))
    assert (small.all(b"subject"), small.get(b"retry-after"), small.answerable) == ([], b"9", True)
