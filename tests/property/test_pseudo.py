"""Any text is a template or refused with a sentence; no request makes one fail or break out of a header."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from msilo_lite.errors import BadRequest
from msilo_lite.settings.pseudo import EXAMPLES, PLAIN, Subject, Template
from tests.unit.kit import read

LAST = 2**31 - 1
VARIABLES = (
    *(f"${name}" for name in PLAIN),
    *(f"$({name})" for name in PLAIN),
    *(f"${name}({example})" for name, example in EXAMPLES.items()),
    "$hdr(X-A)", "$(hdr(X-A)[-1])", "$(hdr(f)[*])", "$hdr(*)", "$time(isdst)", "$time(wday)", "$timef(%c %Z %n)", "$$",
)  # fmt: skip
PIECES = (
    "$", "(", ")", "[", "]", "{s.len}", "hdr", "time", "timef", "avp", "X-A", "%Y", "%5Y", "%E", ":", " ", "\r\n", "\n",
    "\r", "X-B: ", "Contact: ", "l: ", "\0", "\x7f", "\udcff", "0", "-1", "*",
)  # fmt: skip
texts = st.lists(st.sampled_from(VARIABLES + PIECES) | st.text(max_size=5), max_size=8).map("".join)
templates = st.lists(st.sampled_from((*VARIABLES, "X-B: ", "\r\n", " ", "<", ">")), max_size=8).map("".join)

VALUES = (
    "<sip:a@h>", '"A" <sip:a:b@[::1]:5;x>', "sip:a@h;tag=1", "<tel:+1>", "sip:", '"', "<", "X-C: 1", "Via: x", "\r",
    "\0", "\xff", "@", ":", ";", "?", " ", "\t",
)  # fmt: skip
values = st.lists(st.sampled_from(VALUES), max_size=6).map("".join)
lines = st.tuples(st.sampled_from(["From", "t", "m", "X-A", "Call-ID", "c"]), values).map(": ".join)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """What `wire.read` mostly takes."""
    target = draw(st.sampled_from(["sip:b@h", "tel:+1", "sip:@", "\0", "sip:a:b:c@d"]))
    head = "\r\n".join([f"MESSAGE {target} SIP/2.0", *draw(st.lists(lines, max_size=6)), "", ""])
    return head.encode("latin-1") + draw(st.binary(max_size=20))


def parsed(text: str) -> list[Template]:
    """Its forms as template and as header lines, those that there are."""
    made = []
    for parse in (Template.parse, Template.parse_lines):
        try:
            made.append(parse(text))
        except ValueError as error:
            assert type(error) is ValueError  # noqa: PT017 (either outcome is fine)
            assert re.search("; (write|leave) ", str(error))  # noqa: PT017
    return made


def expand_everything(text: str, raw: bytes, host: str, port: int, now: int) -> None:
    try:
        subject = Subject(read(raw), host, port, now)
    except BadRequest:
        return
    for made in parsed(text):
        for one in (subject, None):
            assert (made.expand(one) is None) == (made.expand_line(one) is None)
            for name, value in made.lines(one) or ():
                assert name
                assert ":" not in name
                assert not any((char < " " and char != "\t") or char == "\x7f" for char in name + value)
                (name + value).encode("utf-8", "surrogateescape")


# a lone surrogate that is no byte cannot come out of TOML
encodable = texts.filter(
    lambda text: not any("\ud800" <= char < "\udc80" or "\udcff" < char < "\ue000" for char in text)
)


@given(texts | st.text(max_size=30))
@example("$(")
@example("$(()")
@example("$timef(%")
@example("$timef(\udcff%Y\0)")
def test_any_text_is_a_template_or_refused(text: str) -> None:
    for made in parsed(text):
        assert made.text == text
        assert made.fixed == (made.expand(None) is not None and not any(not isinstance(p, str) for p in made.parts))


@given(encodable, requests(), st.integers(0, 65535), st.integers(0, LAST))
def test_any_template_expands(text: str, raw: bytes, port: int, now: int) -> None:
    expand_everything(text, raw, "127.0.0.1", port, now)


@given(templates, requests() | st.binary(max_size=60), st.sampled_from(["", "::1", "1.2.3.4"]))
def test_any_request_expands(text: str, raw: bytes, host: str) -> None:
    expand_everything(text, raw, host, 5060, LAST)
    expand_everything(text, b"MESSAGE sip:b@h SIP/2.0\r\n\r\n" + raw, host, 5060, 0)


@given(requests(), templates)
def test_the_operator_decides_how_many_lines_there_are(raw: bytes, text: str) -> None:
    try:
        subject = Subject(read(raw), "::1", 5060, 0)
        made = Template.parse_lines(text)
    except (ValueError, BadRequest):
        return
    assert len(made.lines(subject) or ()) <= text.count("\n") + 1
