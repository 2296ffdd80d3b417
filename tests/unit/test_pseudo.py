"""Pseudo-variables: the values are those that Kamailio 5.6.3 printed for the same requests."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from msilo_lite.settings.pseudo import EXAMPLES, FRAME, NULL, PLAIN, Subject, Template

from .kit import read

WINTER, SUMMER = 1_795_428_914, 1_782_468_914  # 23 November 2026 10:15:14 and 26 June 2026 10:15:14, both UTC

FULL = (
    b"MESSAGE sip:bob:pw@Home.LAN:5070;transport=udp;lr SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bKx;rport\r\n"
    b'From: "Alice \\"A\\" Smith" <sip:alice;p=1:secret@Home.LAN:5062;x=y>;tag=a1\r\n'
    b"To: sip:bob%40x@[::1]:5070;tag=t\r\n"
    b"Call-ID: c1@x\r\n"
    b"CSeq: 1 MESSAGE\r\n"
    b'Contact:  <sip:a@1.2.3.4>;q=1 ,  "x, y" <sip:b@h> \r\n'
    b"m: <sip:c@h>\r\n"
    b"Content-Type: text/plain ; charset=utf-8\r\n"
    b"X-A: one\r\n"
    b"X-a:two,three\r\n"
    b"X-A:\tfour\r\n"
    b"X-B: a\x01b\x7f\xff\r\n"
    b"Subject: folded\r\n\tline\r\n  two\r\n"
    b"X-Empty:\r\n"
    b"Route: <sip:1.2.3.4;lr>, <sip:5.6.7.8;lr>\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)
BARE = (
    b"MESSAGE sip:home.lan SIP/2.0\r\n"
    b"f: <sip:Home.lan>;tag=1\r\n"
    b"t: Bob B <sips:b%6fb@h>\r\n"
    b"Call-ID: c\r\n"
    b"X-Empty:  \r\n\r\n"
)


def subject(raw: bytes = FULL, host: str = "127.0.0.1", now: int = WINTER) -> Subject:
    return Subject(read(raw), host, 5080, now)


def carrying(*lines: str) -> Subject:
    """A request with these header lines."""
    head = "".join(f"{line}\r\n" for line in lines)
    return subject(f"MESSAGE sip:b@h SIP/2.0\r\n{head}\r\n".encode("utf-8", "surrogateescape"))


def value(text: str, of: Subject) -> str | None:
    return Template.parse(text).expand(of)


# -- values --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "full", "bare"),
    [
        ("$fu", "sip:alice;p=1:secret@Home.LAN:5062;x=y", "sip:Home.lan"),
        ("$fU", "alice;p=1", None),
        ("$fd", "Home.LAN", "Home.lan"),
        ("$fn", '"Alice \\"A\\" Smith"', None),
        ("$tu", "sip:bob%40x@[::1]:5070", "sips:b%6fb@h"),
        ("$tU", "bob%40x", "b%6fb"),
        ("$td", "[::1]", "h"),
        ("$tn", None, "Bob B"),
        ("$ru", "sip:bob:pw@Home.LAN:5070;transport=udp;lr", "sip:home.lan"),
        ("$rU", "bob", None),
        ("$rd", "Home.LAN", "home.lan"),
        ("$ou", "sip:bob:pw@Home.LAN:5070;transport=udp;lr", "sip:home.lan"),
        ("$oU", "bob", None),
        ("$od", "Home.LAN", "home.lan"),
        ("$ci", "c1@x", "c"),
        ("$ct", '<sip:a@1.2.3.4>;q=1 ,  "x, y" <sip:b@h>', None),  # the first line, as it stands
        ("$cT", "text/plain ; charset=utf-8", None),
        ("$rb", "hello", ""),  # an empty body is no null
        ("$si", "127.0.0.1", "127.0.0.1"),
        ("$sp", "5080", "5080"),
        ("$Ts", "1795428914", "1795428914"),
        ("$TS", "1795428914", "1795428914"),
        ("$$", "$", "$"),
        ("$($)", "$", "$"),
        ("$(fu)", "sip:alice;p=1:secret@Home.LAN:5062;x=y", "sip:Home.lan"),
        ("$hdr(X-A)", "one", None),
        ("$hdr(x-a)", "one", None),
        ("$hdr(X-A )", "one", None),
        ("$(hdr(X-A))", "one", None),
        ("$(hdr(X-A)[0])", "one", None),
        ("$(hdr(X-A)[1])", "two,three", None),  # a list in one line is one value
        ("$(hdr(X-A)[-1])", "four", None),
        ("$(hdr(X-A)[-3])", "one", None),
        ("$(hdr(X-A)[3])", None, None),
        ("$(hdr(X-A)[-4])", None, None),
        ("$(hdr(X-A)[999999999])", None, None),
        ("$(hdr(X-A)[*])", "one,two,three,four", None),
        ("$hdr(X-A)[1]", "one[1]", "<null>[1]"),  # an index only counts inside of parentheses
        ("$hdr(f)", '"Alice \\"A\\" Smith" <sip:alice;p=1:secret@Home.LAN:5062;x=y>;tag=a1', "<sip:Home.lan>;tag=1"),
        ("$hdr(From)", '"Alice \\"A\\" Smith" <sip:alice;p=1:secret@Home.LAN:5062;x=y>;tag=a1', "<sip:Home.lan>;tag=1"),
        ("$(hdr(m)[*])", '<sip:a@1.2.3.4>;q=1 ,  "x, y" <sip:b@h>,<sip:c@h>', None),
        ("$hdr(v)", "SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bKx;rport", None),
        ("$hdr(Route)", "<sip:1.2.3.4;lr>, <sip:5.6.7.8;lr>", None),
        ("$hdr(Subject)", "folded line two", None),  # Kamailio leaves the line ends in
        ("$hdr(s)", "folded line two", None),
        ("$hdr(X-B)", "a\x01b\x7f\udcff", None),
        ("$hdr(X-Empty)", "", ""),
        ("$hdr(*)", "SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bKx;rport", "<sip:Home.lan>;tag=1"),
        ("$(hdr(*)[-1])", "5", ""),
    ],
)
def test_a_value(text: str, full: str | None, bare: str | None) -> None:
    assert value(text, subject()) == full
    assert value(text, subject(BARE)) == bare


def test_every_variable_has_a_value() -> None:
    for text in [*(f"${name}" for name in PLAIN), *(f"${name}({example})" for name, example in EXAMPLES.items())]:
        assert value(f"<{text}>", subject()) not in (None, "<>", text)


def test_a_source_address_has_no_brackets() -> None:
    assert value("$si", subject(host="::1")) == "::1"


def test_a_body_is_all_that_came() -> None:
    got = subject(b"MESSAGE sip:b@h SIP/2.0\r\nContent-Length: 5\r\n\r\nhello \xffworld\r\n")
    assert value("$rb", got) == "hello \udcffworld\r\n"


@pytest.mark.parametrize(
    ("line", "uri", "user", "host", "name"),
    [
        ("sip:a@h", "sip:a@h", "a", "h", None),
        ("sip:a@h ;tag=1", "sip:a@h", "a", "h", None),
        ("sip:a@h?x=y;tag=1", "sip:a@h?x=y", "a", "h", None),
        ("sip:u;v=w@h;tag=1", "sip:u", None, "u", None),  # without brackets the first semicolon ends the URI
        ("sip:a,b@h", "sip:a,b@h", "a,b", "h", None),
        ("A<sip:a@h>", "sip:a@h", "a", "h", "A"),
        ("A\tB  \t< sip:a@h >;tag=1", "sip:a@h", "a", "h", "A\tB"),
        ("A,B: C@D (x) [y] 'z' <sip:a@h>", "sip:a@h", "a", "h", "A,B: C@D (x) [y] 'z'"),
        ('""<sip:a@h>', "sip:a@h", "a", "h", '""'),
        ('" A <B> \\" \\\\" <sip:a@h>', "sip:a@h", "a", "h", '" A <B> \\" \\\\"'),
        ("Zoë \udcff <sip:a@h>", "sip:a@h", "a", "h", "Zoë \udcff"),
        ("<SIP:a@h>", "SIP:a@h", "a", "h", None),
        ("<sip:a@h..:>", "sip:a@h..:", "a", "h..", None),
        ("<sip:1.2.3.4:5060>", "sip:1.2.3.4:5060", None, "1.2.3.4", None),
        ("<sip:[::1]:5>", "sip:[::1]:5", None, "[::1]", None),
        ("<sip:a:@h:99?x=y>", "sip:a:@h:99?x=y", "a", "h", None),
        ("<sip:h;x=a:b@c>", "sip:h;x=a:b@c", "h;x=a", "c", None),
        ("<sip:a?b/c&d$e#*@h;x:y>", "sip:a?b/c&d$e#*@h;x:y", "a?b/c&d$e#*", "h", None),
        ("<sip:%zz\udcffü@h>", "sip:%zz\udcffü@h", "%zz\udcffü", "h", None),
        ("<sip:a@my_h>", "sip:a@my_h", "a", "my_h", None),  # Kamailio: no URI; our addresses take such hosts
        ("<tel:+12-3;phone-context=x>", "tel:+12-3;phone-context=x", "+12-3", None, None),
        ("tel:+1;tag=1", "tel:+1", "+1", None, None),
        ("<xmpp:a@h>", "xmpp:a@h", None, None, None),
        ("<sip:a@>", "sip:a@", None, None, None),
        ("<sip:>", "sip:", None, None, None),
        ("<sip:a@h:bad>", "sip:a@h:bad", None, None, None),
        ("<sip:a@b@c>", "sip:a@b@c", None, None, None),
        ("<sip:a:b:c@h>", "sip:a:b:c@h", None, None, None),
        ("<sip:a@h;x@y>", "sip:a@h;x@y", None, None, None),
        ("<sip:a@[::1>", "sip:a@[::1", None, None, None),
        ("<sip:a@-h>", "sip:a@-h", None, None, None),
        ("<sip:a@h,b>", "sip:a@h,b", None, None, None),
        ("*", "*", None, None, None),
        ("", None, None, None, None),
        ("<>", None, None, None, None),
        ("<sip:a b@h>", None, None, None, None),
        ("A sip:a@h", None, None, None, None),
        ("A;B <sip:a@h>", None, None, None, None),
        ('A "B" <sip:a@h>', None, None, None, None),
        ('"A" B <sip:a@h>', None, None, None, None),
        ('"A <sip:a@h>', None, None, None, None),
        ("<sip:a@h", None, None, None, None),
        ("<<sip:a@h>>", None, None, None, None),
        ("<sip:a@h> x", None, None, None, None),
        ("<sip:a@h>,<sip:b@h>", None, None, None, None),
    ],
)
def test_an_address(line: str, uri: str | None, user: str | None, host: str | None, name: str | None) -> None:
    got = carrying(f"From: {line}", f"t: {line}")
    assert [value(text, got) for text in ("$fu", "$fU", "$fd", "$fn")] == [uri, user, host, name]
    assert [value(text, got) for text in ("$tu", "$tU", "$td", "$tn")] == [uri, user, host, name]


# -- time ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_berlin")
@pytest.mark.parametrize(
    ("text", "winter", "summer"),
    [
        ("$time(sec)", "14", "14"),
        ("$time(min)", "15", "15"),
        ("$time(hour)", "11", "12"),
        ("$time(mday)", "23", "26"),
        ("$time(mon)", "11", "6"),
        ("$time(year)", "2026", "2026"),
        ("$time(wday)", "2", "6"),  # Sunday is 1
        ("$time(yday)", "327", "177"),
        ("$time(isdst)", "0", "1"),
        ("$(time(hour))", "11", "12"),
        ("$timef(%Y-%m-%d %H:%M:%S %Z)", "2026-11-23 11:15:14 CET", "2026-06-26 12:15:14 CEST"),
        ("$timef(%c %z %s)", "Mon Nov 23 11:15:14 2026 +0100 1795428914", "Fri Jun 26 12:15:14 2026 +0200 1782468914"),
        ("$timef(%f|%q|%|%E|%5Y|%%)", "%f|%q|%|%E|02026|%", "%f|%q|%|%E|02026|%"),
        ("$timef(%H h (%M))", "11 h (15)", "12 h (15)"),
        ("$timef(at noon)", "at noon", "at noon"),
        ("$timef( )", " ", " "),
        ("$timef(%n)", "\n", "\n"),
        ("$time(%H:%M)", "11:15", "12:15"),  # an error in Kamailio
    ],
)
def test_a_time_is_local(text: str, winter: str, summer: str) -> None:
    assert value(text, subject(now=WINTER)) == winter
    assert value(text, subject(now=SUMMER)) == summer


# -- text around variables -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        ("plain", "plain"),
        ("<$tu>", "<sip:bob%40x@[::1]:5070>"),
        ("$rU-x", "bob-x"),
        ("$(rU).x", "bob.x"),
        ("$rU)", "bob)"),
        ("$(rU)(x)", "bob(x)"),
        ("$rUä", "bobä"),
        ("$rU$rd", "bobHome.LAN"),
        ("a$$b", "a$b"),
        ("$$$rU", "$bob"),
        ("$rU $hdr(X-None) $tn", "bob <null> <null>"),
        ("$hdr(X-None) ", "<null> "),
        ("$hdr(X-Empty)", ""),
        ("\\x0c\\n\t\r\n", "\\x0c\\n\t\r\n"),
    ],
)
def test_a_text(text: str, printed: str) -> None:
    made = Template.parse(text)
    assert made.text == text
    assert made.expand(subject()) == printed


@pytest.mark.parametrize(
    ("text", "fixed", "printed"),
    [("", True, ""), ("a", True, "a"), ("$$5", True, "$5"), ("$si", False, None), ("a $sp", False, f"a {NULL}")],
)
def test_without_a_request_every_variable_is_null(text: str, fixed: bool, printed: str | None) -> None:
    made = Template.parse(text)
    assert (made.fixed, made.expand(None), made.expand_line(None)) == (fixed, printed, printed)


def test_a_lone_null_gives_nothing() -> None:
    assert Template.parse("$hdr(X-None)").expand(subject()) is None
    assert Template.parse("$hdr(X-None)").expand_line(subject()) is None


# -- errors --------------------------------------------------------------------------------------------------------
CONTROL = (
    " is set by Kamailio's script; let a peer with control = true say it in a header of the request, and write that, "
    "such as $hdr(X-MSilo-Send-Time)"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("$avp(x)", "$avp(x)" + CONTROL),
        ("at $(avp(s:snd)[0]) then", "$(avp(s:snd)[0])" + CONTROL),
        ("$var(x)", "$var(x)" + CONTROL),
        ("$shv(x)", "$shv(x)" + CONTROL),
        ("$sht(a=>$fu)", "$sht(a=>$fu)" + CONTROL),
        ("$xavp(a=>b)", "$xavp(a=>b)" + CONTROL),
        ("$(fU{s.len})", "$(fU{s.len}) has a transformation, which is not supported; write $fU"),
        ("$(hdr(X-A)[1]{re.subst,/(a)/b/})",
         "$(hdr(X-A)[1]{re.subst,/(a)/b/}) has a transformation, which is not supported; write $hdr(X-A)"),
        ("$FU", "$FU is not a known variable; write $fU"),
        ("$fx", "$fx is not a known variable; write $fu"),
        ("$headr(X)", "$headr(X) is not a known variable; write $hdr(Subject)"),
        ("$tme(sec)", "$tme(sec) is not a known variable; write $time(hour)"),
        ("Hello $fU.", "$fU. is not a known variable; write $fU, or $(fU). where text follows it"),
        ("$fUs", "$fUs is not a known variable; write $fU, or $(fU)s where text follows it"),
        ("$from", "$from goes by another name here; write $fu"),
        ("$ua", "$ua goes by another name here; write $hdr(User-Agent)"),
        ("$hrd(X)", "$hrd(X) is not a known variable; write $hdr(Subject)"),
        ("$tim", "$tim is not a known variable; write $time(hour)"),
        ("100 $", "$ names no variable; write $$ for a dollar sign"),
        ("$ x", "$ names no variable; write $$ for a dollar sign"),
        ("$5", "$5 names no variable; write $$ for a dollar sign"),
        ("$()", "$() names no variable; write $$ for a dollar sign"),
        ("$($fu)", "$($fu) names no variable; write $$ for a dollar sign"),
        ("$( fU)", "$( fU) names no variable; write $$ for a dollar sign"),
        ("$(fU )", "$(fU ) ends in ' ', which means nothing here; write $fU"),
        ("$(fU[0])", "$(fU[0]) ends in '[0]', which means nothing here; write $fU"),
        ("$(hdr(X)[x])", "$(hdr(X)[x]) ends in '[x]', which means nothing here; write $hdr(X)"),
        ("$(hdr(X)[])", "$(hdr(X)[]) ends in '[]', which means nothing here; write $hdr(X)"),
        ("$(timef(%H)[0])", "$(timef(%H)[0]) ends in '[0]', which means nothing here; write $timef(%H)"),
        ("$(fU", "$( lacks a closing parenthesis; write one, as in $hdr(Subject)"),
        ("$hdr(X", "$hdr( lacks a closing parenthesis; write one, as in $hdr(Subject)"),
        ("$(hdr(X)[1]", "$( lacks a closing parenthesis; write one, as in $hdr(Subject)"),
        ("$fU(x)", "$fU(x) has an argument, $fU takes none; write $(fU) where a parenthesis follows it"),
        ("$hdr", "$hdr lacks its argument; write $hdr(Subject)"),
        ("$hdr()", "$hdr() lacks its argument; write $hdr(Subject)"),
        ("$time", "$time lacks its argument; write $time(hour)"),
        ("$timef()", "$timef() lacks its argument; write $timef(%H:%M)"),
        ("$hdr(X A)", "$hdr(X A) names no header; write its name alone, such as $hdr(Subject)"),
        ("$hdr(X:)", "$hdr(X:) names no header; write its name alone, such as $hdr(Subject)"),
        ("$hdr($fu)", "$hdr($fu) names no header; write its name alone, such as $hdr(Subject)"),
        ("$hdr( )", "$hdr( ) names no header; write its name alone, such as $hdr(Subject)"),
        ("$time(sec )", "$time(sec ) asks for no part of a time; write one of sec, min, hour, mday, mon, year, wday, "
         "yday, isdst, or $time(%H:%M)"),
    ],
)  # fmt: skip
def test_what_is_no_variable(text: str, sentence: str) -> None:
    for parse in (Template.parse, Template.parse_lines):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            parse(text)


# -- header lines --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", ()),
        ("\r\n", ()),
        ("X-A: 1", (("X-A", "1"),)),
        ("X-A: 1\r\nX-B :2\r\n", (("X-A", "1"), ("X-B", "2"))),
        ("X-A: 1\n\r\n \nX-B:\n", (("X-A", "1"), ("X-B", ""))),
        ("X-A: 1\r\n\t2\r\nX-B: 3", (("X-A", "1 2"), ("X-B", "3"))),
        ("Contact: <$tu>\r\n", (("Contact", "<sip:bob%40x@[::1]:5070>"),)),
        ("Content-Type: $cT", (("Content-Type", "text/plain ; charset=utf-8"),)),
        ("X-A: $hdr(X-None)", (("X-A", NULL),)),
        ("X-$rU: $$1", (("X-bob", "$1"),)),
        ("X-A: $rU\r\n$hdr(X-None)\r\nX-B: $sp", (("X-A", "bob"), ("X-B", "5080"))),
    ],
)
def test_header_lines(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    made = Template.parse_lines(text)
    assert made.lines(subject()) == pairs
    assert made.fixed == ("$" not in text.replace("$$", ""))


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ("X-A: 1", (("X-A", "1"),)),
        ("Content-Type : a/b;c=d", (("Content-Type", "a/b;c=d"),)),
        ("Subject: a: b\udcff", (("Subject", "a: b\udcff"),)),
        ("X-A: 1\\x0c\\nX-B: 2", (("X-A", "1\\x0c\\nX-B: 2"),)),  # one line is one header
        ("X-A: 1\x0cX-B: 2\x00\x0b\x7f", (("X-A", "1 X-B: 2"),)),
        ("no colon", ()),
        (": 1", ()),
        ("X A: 1", ()),
        ("<sip:a@b>", ()),
        ("", ()),
        ("Content-Length: 0", ()),
        ("l: 0", ()),
        ("VIA: x", ()),
        ("Route: <sip:evil;lr>", ()),
        ("X-MSilo-Owner: sip:a@b", ()),
    ],
)
def test_a_variable_may_be_a_whole_line(given: str, pairs: tuple[tuple[str, str], ...]) -> None:
    for text in ("$hdr(X-Lines)", "$hdr(X-Lines)\r\n"):
        assert Template.parse_lines(text).lines(carrying(f"X-Lines: {given}")) == pairs


def test_lines_that_are_all_null_are_no_answer() -> None:
    assert Template.parse_lines("$hdr(X-Lines)\r\n").lines(subject()) is None
    assert Template.parse_lines("$hdr(X-Lines)\r\n$hdr(X-More)").lines(None) is None
    assert Template.parse_lines("X-A: 1").lines(None) == (("X-A", "1"),)


@pytest.mark.parametrize("line", ["X-A: $rb", "X-A: <$rb>", "X-A:$hdr(X-Lines)$rb", "X-$rb: 1", "$hdr(X-Lines) $rb"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\x0c", "\r\n ", "\x00", "\x0b\x0c"])
def test_no_value_starts_a_line(line: str, end: str) -> None:
    body = f"a{end}X-Evil: 1{end}{end}second body".encode()
    got = subject(b"MESSAGE sip:b@h SIP/2.0\r\nX-Lines: X-B: 1\r\n\r\n" + body)
    pairs = Template.parse_lines(line).lines(got)
    assert pairs is not None
    assert len(pairs) == (not line.startswith("X-$"))
    for name, text in pairs:
        assert name in ("X-A", "X-B")
        assert not any(char < " " for char in text)
        assert "X-Evil: 1" in text


def test_a_value_in_a_header_is_one_line() -> None:
    got = carrying("X-A: a\x0cb\x00\x7f\tc")
    assert Template.parse("<$hdr(X-A)>").expand_line(got) == "<a b  \tc>"
    assert Template.parse("<$hdr(X-A)>").expand(got) == "<a\x0cb\x00\x7f\tc>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("text/plain", "'text/plain' is no header line; write a name and a colon first, such as X-Info: stored"),
        ("X-A: 1\r\nX-B", "'X-B' is no header line; write a name and a colon first, such as X-Info: stored"),
        ("$fu", "'$fu' is no header line; write a name first, such as X-Info: $fu"),
        ("$fu: 1", "'$fu: 1' is no header line; write a name first, such as X-Info: $fu"),
        ("<$fu>", "'<' is no header name; write letters, digits and dashes before the colon"),
        ("X A: 1", "'X A' is no header name; write letters, digits and dashes before the colon"),
        (": 1", "'' is no header name; write letters, digits and dashes before the colon"),
        ("X\x0cA: 1", "'X\\x0cA' is no header name; write letters, digits and dashes before the colon"),
        ("X-Ä: 1", "'X-Ä' is no header name; write letters, digits and dashes before the colon"),
        ("X-A: 1\r\nVia: $si", "Via is written by the SIP stack; leave the line out, or name it X-Via"),
        ("l: 5", "l is written by the SIP stack; leave the line out, or name it X-l"),
    ],
)
def test_what_is_no_header_line(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Template.parse_lines(text)


def test_the_frame_of_a_request_is_the_stacks() -> None:
    assert {"via", "from", "to", "call-id", "cseq", "max-forwards", "content-length", "route"} <= FRAME
    assert not FRAME & {"contact", "content-type", "subject"}
