"""A request as lines: the quick way and the thorough one read the same, and what is no plain text is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.sip.lines import Lines, _split_odd, octets, split
from tests.sip.torture import CASES, Torture

PLAIN = b"MESSAGE sip:bob@home.lan SIP/2.0\r\nVia: SIP/2.0/UDP pbx;branch=z9hG4bK1\r\nSubject:  a: b\t\r\n\r\nhello"
PIECES = (b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"a", b"\xc3\xbc", b"\xff", b"\0", b"\x0b", b"\x85", b"\r\n\r\n")


def test_a_plain_request() -> None:
    assert split(PLAIN) == Lines(
        PLAIN,
        "MESSAGE sip:bob@home.lan SIP/2.0",
        [("Via", ":", " SIP/2.0/UDP pbx;branch=z9hG4bK1"), ("Subject", ":", "  a: b\t")],
        b"hello",
        plain=True,
        clean=True,
        torn=False,
    )


@pytest.mark.parametrize(
    ("old", "new", "plain", "clean", "torn"),
    [
        (b"\r\nSubject", b"\nSubject", False, True, False),
        (b"a: b", b"a\r\n b", False, True, False),
        (b"a: b", b"a\n\tb", False, True, False),
        (b"a: b", b"a\x01b", False, False, False),
        (b"a: b", b"a\x7fb", False, False, False),
        (b"a: b", b"a\rb", False, False, True),
        (b"a: b", b"a\xff\xc3\xbcb", True, True, False),
        (b"a: b", b"a\x85b", True, True, False),
        (b"\r\n\r\nhello", b"\n\nhello", False, True, False),
        (b"\r\n\r\nhello", b"", False, True, False),
    ],
)
def test_what_is_seen(old: bytes, new: bytes, plain: bool, clean: bool, torn: bool) -> None:
    changed = PLAIN.replace(old, new, 1)
    assert changed != PLAIN
    found = split(changed)
    assert (found.raw, found.plain, found.clean, found.torn) == (changed, plain, clean, torn)


def test_a_folded_line_is_one() -> None:
    assert split(PLAIN.replace(b"a: b", b"a\r\n  b\r\n c")).fields[1] == ("Subject", ":", "  a b c\t")


def agree(raw: bytes) -> None:
    """Both ways of reading find the same; the quick one has to say that it is plain."""
    quick, thorough = split(raw), _split_odd(raw)
    assert quick._replace(plain=False) == thorough
    if quick.plain:
        lines = [quick.start, *("".join(field) for field in quick.fields)]
        assert octets("\r\n".join(lines)) + b"\r\n\r\n" + quick.body == raw


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
def test_the_quick_way_finds_what_the_thorough_one_does(text: bytes) -> None:
    agree(text)
    agree(b"MESSAGE sip:b SIP/2.0\r\nVia: x\r\n" + text)


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.name)
def test_torture(case: Torture) -> None:
    agree(case.raw)
