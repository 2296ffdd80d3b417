"""Any bytes are a request or a BadRequest; what a sender wrote reaches the phone unchanged."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from msilo_lite.box.policy import Policy, sip_date
from msilo_lite.errors import BadRequest, MsiloError, Refused
from msilo_lite.outbound.compose import replay, replay_size
from msilo_lite.pbx.registration import judge
from msilo_lite.sip.address import Aor, aor_of, parse_uri
from msilo_lite.sip.response import redirect, retry_after
from msilo_lite.sip.wire import Answer, check, content_type, kept_headers
from tests.unit.kit import NOW, PLAIN, message, read, request, text_of, waiting

NAMES = ("Via", "From", "f", "To", "t", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "l", "Content-Type", "c",
         "Contact", "m", "Expires", "Date", "Require", "Path", "Allow", "Subject", "X-MSilo-ID", "X-A")  # fmt: skip
VALUES = (
    "1 MESSAGE", "1 REGISTER", "0", "70", "5", "99999999999999999999", "<sip:a@b>", "sip:a@b;tag=x", "*", "<tel:+1>",
    '"<sip:x@y>" <sip:a@b>;expires=0', "<sip:a@b>;methods=\"MESSAGE\"", "text/plain", "Sat, 13 Nov 2010 23:29:00 GMT",
    "a, b", '"', "<", ">", ";", "=", ",", "\\", "\r", "\n ", "\0", "\udcff", "%", "@", ":", "[::1]", "9" * 30, "",
)  # fmt: skip
values = st.lists(st.sampled_from(VALUES) | st.text(max_size=8), max_size=4).map("".join)
lines = st.tuples(st.sampled_from(NAMES) | st.text(max_size=4), values).map(lambda pair: f"{pair[0]}: {pair[1]}\r\n")


@st.composite
def almost_requests(draw: st.DrawFn) -> bytes:
    """Text that looks like a request at first sight."""
    method = draw(st.sampled_from(["MESSAGE", "REGISTER", "OPTIONS", ""]))
    target = draw(st.sampled_from(["sip:bob@home.lan", "tel:+1", "sip:[::1]:5060;lr"]) | values)
    head = f"{method} {target} SIP/2.0\r\n{''.join(draw(st.lists(lines, max_size=12)))}\r\n"
    return head.encode("utf-8", "surrogateescape" if "\udcff" in head else "replace") + draw(st.binary(max_size=20))


def ours(uri: str) -> Aor | None:
    return aor_of(parse_uri(uri))


def look_at_everything(raw: bytes) -> None:
    """All that is done with a request before it is stored; every refusal is one of ours."""
    try:
        got = read(raw)
        body = check(got)
    except BadRequest as error:
        assert 400 <= error.status <= 699  # noqa: PT017 (either outcome is fine)
        return
    assert len(body) <= len(got.body)
    for step in (
        lambda: content_type(got, body),
        lambda: kept_headers(got),
        lambda: judge(got, ours, NOW),
        lambda: Policy().lifetime(got.get("expires"), got.get("date"), NOW),
    ):
        try:
            step()
        except Refused as error:
            assert 400 <= error.status <= 699  # noqa: PT017 (either outcome is fine)


@given(st.binary(max_size=300))
@example(b"\n")
@example(b"MESSAGE sip:a@b SIP/2.0\r\n\r\n")
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    look_at_everything(raw)


@given(almost_requests())
@example(text_of("REGISTER", "sip:home.lan", 'Contact: sip:a@b;x="<"', body=b""))
@example(text_of("MESSAGE", "sip:bob@home.lan", "Expires: 60", "Date: Sat, 13 Nov 99999999999999999999 23:29:00 GMT"))
@example(text_of("MESSAGE", "sip:bob@home.lan", "Expires: 60", "Date: Sat, 13 Nov 2010 23:29:00 +99999999999999999999"))
def test_anything_like_a_request_is_one_or_refused(raw: bytes) -> None:
    look_at_everything(raw)


@given(st.lists(values, min_size=6, max_size=6), st.integers(0, 10**6))
def test_any_request_with_any_values_is_stored_or_refused(some: list[str], now: int) -> None:
    from_, to, contact, expires, date, ctype = some
    raw = text_of(
        "REGISTER", "sip:home.lan", f"Contact: {contact}", from_=from_, to=to, expires=expires,
        date=date or sip_date(now), content_type=ctype,
    ) if not any("\udcff" not in one and not one.isascii() for one in some) else b""  # fmt: skip
    look_at_everything(raw)


@given(st.binary(max_size=200))
def test_any_response_is_looked_at_without_an_error(raw: bytes) -> None:
    for answer in (Answer(302, "x", raw), Answer(503, "x", b"SIP/2.0 302 x\r\nContact: " + raw + b"\r\n\r\n")):
        seconds, target = retry_after(answer), redirect(answer)
        assert seconds is None or seconds >= 0
        assert target is None or aor_of(parse_uri(target)) is not None


# -- what goes in comes out ----------------------------------------------------------------------------------------
printable = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), max_size=30)
raw_text = st.binary(max_size=20).map(
    lambda data: bytes(b for b in data if b > 32 and b != 127).decode("utf-8", "surrogateescape")
)
header_values = printable | raw_text | st.sampled_from(["a: b", "a b\tc", ""])
token = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~", min_size=1, max_size=12)
header_names = token.map(lambda name: f"X-{name}").filter(lambda name: not name.lower().startswith("x-msilo-"))
ctypes = st.sampled_from(["text/plain", 'multipart/mixed; boundary="a,b;c"', "message/CPIM", 'a/b;x="\\""'])


@given(st.lists(st.tuples(header_names, header_values), max_size=5), st.binary(max_size=300), ctypes, st.booleans())
def test_type_body_and_headers_reach_the_phone_as_written(
    headers: list[tuple[str, str]], body: bytes, ctype: str, fold: bool
) -> None:
    sent = [(name, value.strip()) for name, value in headers]
    more = [f"{name}:{chr(13) + chr(10) + ' ' if fold else ' '}{value}" for name, value in sent]
    got = request("MESSAGE", "sip:bob@home.lan", *more, body=body, content_type=ctype if body else None)
    taken = check(got)
    stored = message(body=taken, ctype=content_type(got, taken), kept=kept_headers(got))
    out = replay(waiting(stored), "sip:bob@127.0.0.1", (), PLAIN, call_id="c1", trusted=True, now=NOW)
    assert out.body == body
    assert out.ctype == (ctype.encode() if body else b"")
    assert list(out.headers[2:]) == [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in sent]
    whole = sum(len(name) + len(value) + 4 for name, value in out.headers) + len(out.body) + len(out.ctype)
    assert whole <= replay_size(stored, PLAIN)


@given(almost_requests())
def test_nothing_kept_can_start_a_line_of_its_own(raw: bytes) -> None:
    try:
        kept = kept_headers(read(raw))
    except MsiloError:
        return
    for line in kept.split("\r\n"):
        assert not any(char < " " and char != "\t" for char in line)
    assert kept == "" or kept.endswith("\r\n")
