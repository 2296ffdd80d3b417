"""What a replay looks like: the sender's own words, and what the parameters add."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.box.message import Message
from msilo_lite.box.policy import MAX_REQUEST, RECEIVE_BUFFER, sip_date
from msilo_lite.errors import BadRequest
from msilo_lite.outbound.bindings import USUAL_CONTACT
from msilo_lite.outbound.compose import LATE, MSILO_ID, Dress, fits, hidden_route, prefix, replay, replay_size, sender
from msilo_lite.sip.wire import Outgoing, kept_headers

from .kit import AGENT, BOB, NOW, PLAIN, message, request, waiting

DATED = Dress(AGENT)
REMINDING = Dress(AGENT, add_date=False, reminder="sip:reminder@home.lan")
DUE = NOW + 3600


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


@pytest.mark.parametrize("name", ["P-Asserted-Identity", "p-asserted-identity"])
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
        b"Call-ID: " + out.call_id.encode("utf-8", "surrogateescape"),
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


# -- the words before a text ---------------------------------------------------------------------------------------
IN_WINTER = int(datetime(2026, 11, 2, 22, 28, 9, tzinfo=UTC).timestamp())
IN_SUMMER = int(datetime(2026, 7, 15, 22, 30, 0, tzinfo=UTC).timestamp())
PRINT_PREFIXES = """
import sys
from msilo_lite.outbound.compose import Dress, prefix
from tests.unit.kit import message
for at in map(int, sys.argv[1:]):
    for what in (message(arrived=at), message(arrived=1, due=at)):
        sys.stdout.buffer.write(prefix(what, Dress("x")) + b"\\n")
"""


@pytest.mark.parametrize(
    ("zone", "winter", "summer"),
    [
        ("UTC", b"Mon Nov  2 22:28:09 2026", b"Wed Jul 15 22:30:00 2026"),
        ("Europe/Berlin", b"Mon Nov  2 23:28:09 2026", b"Thu Jul 16 00:30:00 2026"),
    ],
)
def test_the_words_are_msilos_byte_for_byte_in_local_time(zone: str, winter: bytes, summer: bytes) -> None:
    argv = [sys.executable, "-c", PRINT_PREFIXES, str(IN_WINTER), str(IN_SUMMER)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(argv, env={**os.environ, "TZ": zone}, cwd=root, capture_output=True, check=True)
    lines = done.stdout.split(b"\n")
    assert lines == [
        b"[Offline message - " + winter + b"] ",
        b"[Reminder message - " + winter + b"] ",
        b"[Offline message - " + summer + b"] ",
        b"[Reminder message - " + summer + b"] ",
        b"",
    ]
    assert [len(line) for line in lines] == [45, 46, 45, 46, 0]


@given(at=st.integers(0, 2**31 - 1), due=st.booleans())
def test_the_words_have_one_length_whatever_the_date(at: int, due: bool) -> None:
    words = prefix(message(arrived=at, due=at if due and at else 0), DATED)
    assert words.endswith(f" message - {time.ctime(at)}] ".encode())
    assert len(words) == (46 if due and at else 45)


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 978, b"x" * 979, b"x" * 3000, "Zoë 🥛".encode(), b"\x00\xff"])
def test_the_words_stand_before_a_text_of_any_length(body: bytes) -> None:
    out = replay(waiting(message(body=body)), BOB.uri, (), DATED, call_id="c1", trusted=True, now=NOW)
    assert out.body == f"[Offline message - {time.ctime(NOW)}] ".encode() + body
    assert len(out.body) == len(body) + 45


@pytest.mark.parametrize(
    "ctype",
    [
        "text/plain",
        "Text/PLAIN",
        " text/plain ;format=flowed",
        "text/plain;charset=utf-8",
        'text/plain; charset="UTF-8"; format=flowed',
        "text/plain;format=flowed ; Charset = utf8",
        "text/plain;charset=us-ascii",
        "text/plain;charset=ISO-8859-15",
        "text/plain;charset=windows-1252",
        "text/plain;charset=cp1252",
        "text/plain;charset=koi8-r",
        "text/plain;charset=gb18030",
        "text/plain;charset=Big5",
        "text/plain;charset=euc-jp",
    ],
)
def test_a_text_that_has_ascii_in_it_gets_the_words(ctype: str) -> None:
    assert len(prefix(message(ctype=ctype), DATED)) == 45
    assert len(prefix(message(ctype=ctype, due=DUE), DATED)) == 46


@pytest.mark.parametrize(
    "ctype",
    [
        "",
        "text/html",
        "text/plainer",
        "text/plain-x;charset=utf-8",
        "application/x",
        "message/cpim",
        'multipart/mixed;boundary="text/plain"',
        "application/x;charset=utf-8",
        "text/plain;charset=utf-16",
        'text/plain;charset="UTF-16LE"',
        "text/plain; format=flowed; charset=UTF-32",
        "text/plain;charset=utf-7",
        "text/plain;charset=IBM037",
        # EBCDIC and UTF-16 under the names of Windows
        "text/plain;charset=cp037",
        "text/plain;charset=cp500",
        "text/plain;charset=cp1200",
        "text/plain;charset=windows-1200",
    ],
)
def test_everything_else_stays_as_it_came(ctype: str) -> None:
    for due in (0, DUE):
        item = waiting(message(ctype=ctype, body=b"\xfe\xff\x00a", due=due))
        out = replay(item, BOB.uri, (), DATED, call_id="c1", trusted=True, now=NOW)
        assert out.body == b"\xfe\xff\x00a"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Content-Encoding: gzip", 0),
        ("e: gzip", 0),
        ("content-ENCODING :deflate", 0),
        ("Content-Transfer-Encoding: base64", 0),
        ("Content-Transfer-Encoding: quoted-printable", 0),
        ("Content-Encoding: identity", 45),
        ("Content-Transfer-Encoding: 8bit", 45),
        ("Content-Transfer-Encoding: BINARY", 45),
        ("X-Content-Encoding: gzip", 45),
        ("Subject: Content-Encoding: gzip", 45),
    ],
)
def test_an_encoded_body_stays_as_it_came(line: str, words: int) -> None:
    kept = kept_headers(request("MESSAGE", "sip:bob@home.lan", "X-First: 1", line, "X-Last: 1"))
    assert len(prefix(message(kept=kept), DATED)) == words


def test_without_add_date_a_text_stays_as_it_came() -> None:
    for due in (0, DUE):
        assert prefix(message(due=due), PLAIN) == b""


# -- reminders -----------------------------------------------------------------------------------------------------
def headers(stored: Message, dress: Dress, *, now: int = NOW, extra: str = "") -> list[tuple[bytes, bytes]]:
    """The headers a message leaves with, but for X-MSilo-ID."""
    out = replay(waiting(stored), BOB.uri, (), dress, call_id="c1", trusted=True, now=now, extra=extra)
    return [pair for pair in out.headers if pair[0] != b"X-MSilo-ID"]


@pytest.mark.parametrize(
    ("from_", "name"),
    [
        ('"Alice" <sip:alice@home.lan>', "Alice"),
        ("Alice <sip:alice@home.lan>", "Alice"),
        ("Alice B. Carrol <sip:alice@home.lan>", "Alice B. Carrol"),
        ('"Alice \\"the boss\\" \\\\ Ä" <sip:alice@home.lan>', 'Alice \\"the boss\\" \\\\ Ä'),
        ('"a <sip:carl@home.lan>" <sip:alice@home.lan>', "a <sip:carl@home.lan>"),
        ('"Zoë 🥛" <sip:alice@home.lan>', "Zoë 🥛"),
        ('"Jos\udce9" <sip:alice@home.lan>', "Jos\udce9"),
        ("<sip:alice@home.lan>", "alice@home.lan"),
        ("<sip:alice@home.lan;user=phone>", "alice@home.lan"),
        ("<sip:alice@[::1]:5060>", "alice@[::1]:5060"),
        ("<tel:+4930123456>", "+4930123456"),
        ('"" <sip:alice@home.lan>', "alice@home.lan"),  # as phones without a name write it
        ('" " <sip:alice@home.lan>', "alice@home.lan"),
    ],
)
def test_a_reminder_is_from_the_reminder_in_the_name_of_who_wrote_it(from_: str, name: str) -> None:
    src = from_[from_.rindex("<") + 1 : -1]
    stored = message(from_=from_, src=src, due=DUE)
    assert sender(stored, REMINDING) == f'"{name}" <sip:reminder@home.lan>'
    assert (b"Reply-To", from_.encode("utf-8", "surrogateescape")) in headers(stored, REMINDING)


def test_without_a_reminder_address_it_is_from_who_wrote_it() -> None:
    stored = message(from_='"A" <sip:alice@home.lan>', due=DUE)
    assert sender(stored, PLAIN) == '"A" <sip:alice@home.lan>'
    assert headers(stored, PLAIN) == [(b"Date", sip_date(DUE).encode())]


def test_an_ordinary_message_is_never_from_the_reminder() -> None:
    stored = message(from_='"A" <sip:alice@home.lan>')
    assert sender(stored, REMINDING) == '"A" <sip:alice@home.lan>'
    assert headers(stored, REMINDING) == [(b"Date", sip_date(NOW).encode())]


@pytest.mark.parametrize("line", ["Reply-To: <sip:team@home.lan>", "reply-to: <sip:team@home.lan>"])
def test_a_reply_to_of_the_senders_own_wins(line: str) -> None:
    kept = kept_headers(request("MESSAGE", "sip:bob@home.lan", "Subject: Reply-To", line))
    found = headers(message(kept=kept, due=DUE), REMINDING)
    assert [value for name, value in found if name.lower() == b"reply-to"] == [b"<sip:team@home.lan>"]


def test_a_reply_to_inside_another_header_does_not_count() -> None:
    found = headers(message(kept="X-Reply-To: <sip:team@home.lan>\r\nSubject: Reply-To: x\r\n", due=DUE), REMINDING)
    assert (b"Reply-To", b"<sip:alice@home.lan>") in found


def test_the_date_of_a_reminder_is_when_it_was_due() -> None:
    assert (b"Date", sip_date(DUE).encode()) in headers(message(due=DUE), REMINDING, now=DUE + 5)


@pytest.mark.parametrize("after", [0, 1, LATE, LATE + 1, 86400])
def test_a_late_reminder_says_so(after: int) -> None:
    late = [value for name, value in headers(message(due=DUE), REMINDING, now=DUE + after) if name == b"X-MSilo-Late"]
    assert late == ([str(after).encode()] if after > LATE else [])


def test_an_ordinary_message_is_never_late() -> None:
    assert b"X-MSilo-Late" not in dict(headers(message(), REMINDING, now=NOW + 86400))


def test_a_reminder_keeps_the_headers_of_its_message() -> None:
    """msilo drops them."""
    assert (b"Subject", b"Hi") in headers(message(kept="Subject: Hi\r\n", due=DUE), REMINDING)


# -- add_contact, use_mode, extra_hdrs -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reminder", "due", "uri"),
    [
        ("", 0, "sip:alice@home.lan"),
        ("", DUE, "sip:alice@home.lan"),
        ("sip:reminder@home.lan", 0, "sip:alice@home.lan"),
        ("sip:reminder@home.lan", DUE, "sip:reminder@home.lan"),
    ],
)
def test_a_contact_as_msilo_writes_it(reminder: str, due: int, uri: str) -> None:
    dress = Dress(AGENT, add_date=False, add_contact=True, reminder=reminder)
    stored = message(from_='"A" <sip:alice@home.lan>', due=due)
    assert dict(headers(stored, dress))[b"Contact"] == f"<{uri}>;msilo=yes".encode()
    assert b"Contact" not in dict(headers(stored, changed(dress, add_contact=False)))


@pytest.mark.parametrize(
    ("keep", "had", "has"), [(True, "old@phone", "old@phone"), (True, "", "c1"), (False, "x", "c1")]
)
def test_use_mode_keeps_the_call_id(keep: bool, had: str, has: str) -> None:
    dress = Dress(AGENT, keep_call_id=keep)
    out = replay(waiting(message(call_id=had)), BOB.uri, (), dress, call_id="c1", trusted=True, now=NOW)
    assert out.call_id == has


def test_extra_lines_stand_before_the_kept_ones() -> None:
    found = headers(message(kept="Subject: Hi\r\n"), PLAIN, extra="X-Agent: a: b\r\nX-Two:  2 \r\n")
    assert found[1:] == [(b"X-Agent", b"a: b"), (b"X-Two", b"2"), (b"Subject", b"Hi")]


def test_extra_lines_make_no_second_content_type_and_are_not_for_reminders() -> None:
    assert len(headers(message(), PLAIN, extra="content-type: a/b\r\n")) == 1
    assert len(headers(message(due=DUE), PLAIN, extra="X-Agent: a\r\n")) == 1


@pytest.mark.parametrize("missing", [0, 1])
def test_extra_lines_give_way_where_there_is_no_room(missing: int) -> None:
    extra = "X-Agent: Zoë\r\n"
    room = MAX_REQUEST - replay_size(message(body=b""), PLAIN) - len(extra.encode())
    found = headers(message(body=b"x" * (room + missing)), PLAIN, extra=extra)
    assert ((b"X-Agent", "Zoë".encode()) in found) == (missing == 0)


@pytest.mark.parametrize("contact", [100, 250, USUAL_CONTACT])
@pytest.mark.parametrize("length", [20, 280])
def test_extra_lines_leave_room_for_a_contact_longer_than_the_aor(contact: int, length: int) -> None:
    """A message that was accepted must not become too long by what the parameters add."""
    biggest = next(size for size in range(MAX_REQUEST, 0, -1) if is_accepted(message(body=b"x" * size)))
    target, extra = "sip:bob@127.0.0.1;x=".ljust(contact, "x"), "X: ".ljust(length, "x") + "\r\n"
    sizes = set()
    for size in range(biggest - 400, biggest + 1, 20):
        item = waiting(message(body=b"x" * size), msilo_id="f" * (MSILO_ID - 17) + "-" + "0" * 16)
        sizes.add(len(written(replay(item, target, (), PLAIN, call_id="c" * 35, trusted=True, now=NOW, extra=extra))))
    assert max(sizes) < RECEIVE_BUFFER


def is_accepted(stored: Message) -> bool:
    try:
        fits(stored, PLAIN, USUAL_CONTACT)
    except BadRequest:
        return False
    return True


# -- the size ------------------------------------------------------------------------------------------------------
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=20)
lines = st.lists(words.map(lambda value: f"X-A: {value.strip()}\r\n"), max_size=5).map("".join)
dresses = st.builds(
    Dress,
    user_agent=st.just(AGENT),
    add_date=st.booleans(),
    add_contact=st.booleans(),
    reminder=st.sampled_from(["", "sip:reminder@home.lan", "sip:" + "r" * 200 + "@home.lan"]),
    keep_call_id=st.booleans(),
)
names = st.one_of(
    st.just(""),
    st.just("Alice "),
    words.map(lambda name: '"{}" '.format(name.replace("\\", "\\\\").replace('"', '\\"'))),
)


@st.composite
def stored_messages(draw: st.DrawFn) -> Message:
    src = draw(st.sampled_from(["sip:a@b", "sip:alice@home.lan;user=phone", "tel:+49", "sip:" + "a" * 100 + "@h"]))
    reply = draw(st.sampled_from(["", "Reply-To: <sip:x@y>\r\n"]))
    return message(
        src=src,
        from_=f"{draw(names)}<{src}>",
        to=f"{draw(names)}<sip:bob@home.lan>",
        ctype=draw(st.sampled_from(["", "text/plain", "text/plain;charset=utf-16", 'a/b;c="ü"'])),
        body=draw(st.binary(max_size=60)),
        kept=draw(lines) + reply,
        call_id=draw(words),
        due=draw(st.sampled_from([0, NOW, 2**31 - 1])),
        target=draw(st.sampled_from(["", "sip:group@home.lan", "sip:" + "g" * 100 + "@h"])),
    )


@given(
    stored=stored_messages(),
    dress=dresses,
    extra=st.one_of(st.just(""), lines, st.just("X-Long: " + "x" * 3000 + "\r\n")),
    now=st.sampled_from([NOW, NOW + 61, 2**31 + 10**8]),
    trusted=st.booleans(),
    fill=st.booleans(),
)
def test_replay_size_is_an_upper_bound_in_every_combination(
    stored: Message, dress: Dress, extra: str, now: int, trusted: bool, fill: bool
) -> None:
    if fill:  # as large as is accepted
        stored = changed(stored, body=stored.body + b"x" * max(0, MAX_REQUEST - replay_size(stored, dress)))
    item = waiting(stored, msilo_id="f" * (MSILO_ID - 17) + "-" + "0" * 16)
    target = stored.target or stored.owner.uri
    size = replay_size(stored, dress)
    bare = replay(item, target, (), dress, call_id="c" * 35, trusted=trusted, now=now)
    assert len(written(bare)) <= size
    assert len(written(bare)) >= size - 200
    more = replay(item, target, (), dress, call_id="c" * 35, trusted=trusted, now=now, extra=extra)
    assert len(written(more)) <= max(size, MAX_REQUEST)
