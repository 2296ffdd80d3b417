"""Any bytes in any pieces: the same messages or the same refusal, and never another error."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.sip.framing import Framer, Head, Ping, Refusal, Whole, answer, objection, shortened, stamped
from tests.unit.kit import text_of

MESSAGE = text_of(call_id="fixed", via="SIP/2.0/TCP 127.0.0.1:5080;branch=z9hG4bKfixed")
PIECES = st.one_of(
    st.just(MESSAGE),
    st.just(b"\r\n"),
    st.just(b"\r\n\r\n"),
    st.just(text_of(body=b"x" * 4000, call_id="long", via="SIP/2.0/TCP a;branch=b")),
    st.sampled_from([b"Content-Length: 3\r\n", b"l:1\r\n", b"\r\n \r\n", b"\x00", b"\r", b"\n", b"SIP/2.0 200 OK\r\n"]),
    st.binary(max_size=40),
    st.builds(lambda at, byte: MESSAGE[:at] + byte + MESSAGE[at:], st.integers(0, len(MESSAGE)), st.binary(max_size=3)),
    st.builds(lambda a, b: MESSAGE[: min(a, b)] + MESSAGE[max(a, b) :], *[st.integers(0, len(MESSAGE))] * 2),
)
STREAMS = st.lists(PIECES, max_size=6).map(b"".join)


def events(stream: bytes, cuts: list[int]) -> list[Whole | Ping | Refusal]:
    framer, found = Framer(), []
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        framer.feed(stream[start:end])
        while event := framer.next():
            found.append(event)
    return found


@given(STREAMS, st.lists(st.integers(0, 20000), max_size=30))
def test_pieces_do_not_matter(stream: bytes, cuts: list[int]) -> None:
    assert events(stream, cuts) == events(stream, [])


@given(STREAMS)
def test_byte_by_byte_is_the_same(stream: bytes) -> None:
    stream = stream[:1500]
    assert events(stream, list(range(len(stream)))) == events(stream, [])


@given(STREAMS)
def test_what_comes_out_stood_in_the_stream_and_is_framed_by_its_own_length(stream: bytes) -> None:
    at = 0
    for event in events(stream, []):
        if isinstance(event, Whole):
            at = stream.index(event.raw, at) + len(event.raw)
            head, _, body = event.raw.partition(b"\r\n\r\n")
            assert len(body) == int(event.head.get(b"content-length"))
            assert (head.count(b"\r"), head.count(b"\n"), head.count(b"\0")) == (head.count(b"\r\n"),) * 2 + (0,)


@given(STREAMS)
def test_every_answer_of_ours_is_one_message(stream: bytes) -> None:
    for event in events(stream, []):
        if isinstance(event, Ping):
            continue
        objection(event.head)
        for said in (answer(event.head, 400, "Bad Request"), shortened(event.head)):
            if said.startswith(b"SIP/2.0 "):
                (back,) = events(said, [])
                assert isinstance(back, Whole)


@given(st.binary(max_size=200), st.ip_addresses().map(str), st.integers(0, 65535))
def test_a_via_is_stamped_whatever_it_says(via: bytes, host: str, port: int) -> None:
    said = stamped(via, host, port)
    assert said.count(b"\n") == via.count(b"\n")
    assert len(said) <= len(via) + len(f";received={host}") + len("=65535") * (via.lower().count(b"rport") + 1)


@given(st.binary(max_size=400))
def test_any_head_is_read(raw: bytes) -> None:
    head = Head.of(raw)
    assert isinstance(head.code, int)
    assert head.method == b"" or head.code == 0
