"""What a replay looks like: the sender's own words, and what the parameters add."""

from __future__ import annotations

import pytest

from msilo_lite.compose import MSILO_ID, fits, hidden_route, replay, replay_size
from msilo_lite.errors import BadRequest
from msilo_lite.policy import MAX_REQUEST, RECEIVE_BUFFER
from msilo_lite.wire import Outgoing, kept_headers

from .kit import AGENT, BOB, NOW, PLAIN, message, request, waiting


# -- replay --------------------------------------------------------------------------------------------------------
def test_a_replay_repeats_the_message() -> None:
    stored = message(
        body=b"\x00\xff",
        ctype='a/b; c="d"',
        kept="Subject: Hi\r\nX-A: b: c\r\n",
        from_='"A" <sip:a@b>',
        to="B <sip:b@h>",
    )
    out = replay(
        waiting(stored), "sip:bob@127.0.0.1:5090", ("<sip:p;lr>",), PLAIN, call_id="c1", trusted=False, now=NOW
    )
    assert out == Outgoing(
        target="sip:bob@127.0.0.1:5090",
        from_='"A" <sip:a@b>',
        to="B <sip:b@h>",
        call_id="c1",
        headers=(
            (b"Date", b"Fri, 15 Jan 2027 08:00:00 GMT"),
            (b"X-MSilo-ID", b"9-0123456789abcdef"),
            (b"Subject", b"Hi"),
            (b"X-A", b"b: c"),
        ),
        ctype=b'a/b; c="d"',
        body=b"\x00\xff",
        routes=("<sip:p;lr>",),
    )


@pytest.mark.parametrize("name", ["P-Asserted-Identity", "p-preferred-identity"])
def test_identity_stays_inside_the_trust_domain(name: str) -> None:
    item = waiting(message(kept=f"{name}: <sip:a@b>\r\nX: y\r\n"))
    inside = {key for key, _ in replay(item, "sip:b@h", (), PLAIN, call_id="c1", trusted=True, now=NOW).headers}
    outside = {key for key, _ in replay(item, "sip:b@h", (), PLAIN, call_id="c1", trusted=False, now=NOW).headers}
    assert inside - outside == {name.encode()}


def written(out: Outgoing) -> bytes:
    """A replay as PJSIP writes it, with the longest Via, tag and Max-Forwards."""
    lines = [
        f"MESSAGE {out.target} SIP/2.0".encode(),
        b"Via: SIP/2.0/UDP [2001:0db8:85a3:0000:0000:8a2e:0370:7334]:65535;rport;branch=z9hG4bKPj" + b"x" * 32,
        b"Max-Forwards: 70",
        b"From: " + out.from_.encode("utf-8", "surrogateescape") + b";tag=" + b"x" * 32,
        b"To: " + out.to.encode("utf-8", "surrogateescape"),
        b"Call-ID: " + out.call_id.encode(),
        b"CSeq: 1 MESSAGE",
        *(name + b": " + value for name, value in out.headers),
        b"User-Agent: " + AGENT.encode(),
        *([b"Content-Type: " + out.ctype] if out.ctype else []),
        b"Content-Length: " + str(len(out.body)).rjust(5).encode(),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + out.body


@pytest.mark.parametrize("size", [0, 1, 2000, 4000])
@pytest.mark.parametrize("kept", ["", "Subject: Zoë\r\n", "X-A: \r\nX-B: \udcff\udcff\r\n"])
def test_replay_size_is_an_upper_bound_and_a_close_one(size: int, kept: str) -> None:
    stored = message(body=b"x" * size, kept=kept, from_='"Zoë" <sip:a@b>')
    item = waiting(stored, msilo_id="f" * (MSILO_ID - 17) + "-" + "0" * 16)
    real = len(written(replay(item, stored.owner.uri, (), PLAIN, call_id="c1", trusted=True, now=NOW)))
    assert real <= replay_size(stored, PLAIN) <= real + 64


def test_accepted_means_replayable() -> None:
    room = MAX_REQUEST - replay_size(message(body=b""), PLAIN)
    fits(message(body=b"x" * room), PLAIN, 0)
    with pytest.raises(BadRequest) as caught:
        fits(message(body=b"x" * (room + 1)), PLAIN, 0)
    assert caught.value.status == 513


def test_room_is_left_for_a_contact_longer_than_the_aor() -> None:
    """What is accepted fits PJSIP's buffer also with a Request-URI and Route of that length."""
    target = 400
    aor = len(BOB.uri)
    room = RECEIVE_BUFFER - 1 - replay_size(message(body=b""), PLAIN) - (target - aor)
    fits(message(body=b"x" * room), PLAIN, target)
    with pytest.raises(BadRequest) as caught:
        fits(message(body=b"x" * (room + 1)), PLAIN, target)
    assert caught.value.status == 513


@pytest.mark.parametrize(
    ("proxy", "route"),
    [
        ("sip:127.0.0.1:5060", "<sip:127.0.0.1:5060;lr;hide>"),
        ("sip:127.0.0.1;lr", "<sip:127.0.0.1;lr;hide>"),
        ("sip:127.0.0.1;LR;transport=udp", "<sip:127.0.0.1;LR;transport=udp;hide>"),
        ("sip:127.0.0.1;lrx=1", "<sip:127.0.0.1;lrx=1;lr;hide>"),
    ],
)
def test_the_route_to_the_proxy_is_loose_and_hidden(proxy: str, route: str) -> None:
    assert hidden_route(proxy) == route


def test_bytes_that_are_not_utf_8_come_out_as_they_came() -> None:
    got = request("MESSAGE", "sip:bob@home.lan", "Subject: Jos\udce9")
    out = replay(waiting(message(kept=kept_headers(got))), "sip:b@h", (), PLAIN, call_id="c1", trusted=True, now=NOW)
    assert (b"Subject", b"Jos\xe9") in out.headers
