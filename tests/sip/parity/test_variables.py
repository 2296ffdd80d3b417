"""Pseudo-variables: all that make sense in msilo's parameters at once, in messages that are hard to read."""

import pytest

from .both import Pair, Side
from .conftest import PairOf

pytestmark = pytest.mark.sip

VARIABLES = (
    *("fu", "fU", "fd", "fn", "tu", "tU", "td", "tn", "ru", "rU", "rd", "ou", "oU", "od", "ci", "ct", "cT", "rb", "si"),
    *("hdr(X-Foo)", "(hdr(X-Foo)[1])", "(hdr(X-Foo)[-1])", "(hdr(X-Foo)[*])", "(hdr(X-Foo)[5])", "hdr(x-FOO)"),
    *("hdr(Subject)", "hdr(From)", "hdr(Content-Type)", "hdr(Call-ID)", "hdr(Nope)", "(fU)", "(hdr(Subject))"),
    *("time(year)", "time(mon)", "time(mday)", "timef(%Y-%m-%d)"),
)
BETWEEN = "\x01"
TEMPLATE = BETWEEN.join(f"${name}" for name in VARIABLES) + f"{BETWEEN}100% for $$5"
FROM = "From: <sip:alice@home.lan>"

MESSAGES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "plain": ((), {}),
    "three-of-a-header": (("X-Foo: one", "Subject: lunch, perhaps", "x-foo: two", "X-FOO: three"), {}),
    "list-in-a-header": (("X-Foo: one, two", "Contact: <sip:alice@127.0.0.1:9>, <sip:alice@127.0.0.2:9>"), {}),
    "contact": (("Contact: <sip:alice@127.0.0.1:9>;expires=60",), {}),
    "display-name": ((), {FROM: "From: Alice A <sip:alice@home.lan>"}),
    "quoted-name": ((), {FROM: 'From: "Alice \\"A\\" <x>, B." <sip:alice@home.lan>'}),
    "name-of-to": ((), {"\r\nTo: <": '\r\nTo: "Bob B." <'}),
    "bare-uri": ((), {FROM: "From: sip:alice@home.lan"}),
    "password-port-parameter": ((), {FROM: "From: <sip:alice:secret@home.lan:5062;user=phone>"}),
    "escapes": ((), {FROM: "From: <sip:al%69ce%40work@home.lan>"}),
    "upper-case": ((), {FROM: "From: <SIP:Alice@HOME.lan>"}),
    "address": ((), {FROM: "From: <sip:alice@127.0.0.1:9>"}),
    "ipv6": ((), {FROM: "From: <sip:alice@[::1]:9>"}),
    "compact": (
        ("s: lunch", "m: <sip:alice@127.0.0.1:9>"),
        {"\r\nFrom:": "\r\nf:", "\r\nTo:": "\r\nt:", "\r\nCall-ID:": "\r\ni:", "\r\nContent-Type:": "\r\nc:"},
    ),
    "blanks": (("X-Foo:   one", "Subject:"), {"From: <": "From:  <"}),
    "utf-8": (("Subject: Grüße",), {FROM: 'From: "Älice" <sip:alice@home.lan>'}),
    "type": ((), {"text/plain": "text/html; charset=utf-8"}),
}


@pytest.fixture(scope="module")
def telling(pair_of: PairOf) -> Pair:
    """Each notice tells the value of every variable."""
    content_type = "Content-Type: text/plain\r\n"
    return pair_of(from_address="sip:silo@home.lan", offline_message=TEMPLATE, content_type_hdr=content_type)


def values(side: Side, bob: str, name: str) -> dict[str, str]:
    """What each variable is in that message, and what stands after them."""
    lines, changes = MESSAGES[name]
    typed = ("Content-Type: text/plain", *lines)
    text = side.alice.request(
        "MESSAGE", bob, *typed, body="Grüße".encode(), call_id=f"call-{bob.partition('@')[0]}"
    ).decode()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    assert side.alice.ask(text.encode(), side.address).code == 202
    return dict(zip((*VARIABLES, ""), side.phone.take().text.split(BETWEEN), strict=True))


@pytest.mark.parametrize("name", MESSAGES)
def test_every_variable(telling: Pair, name: str) -> None:
    """To the byte."""
    old, new = telling.play(lambda side, bob: values(side, bob, name))
    assert {key: (old[key], new[key]) for key in old if new[key] != old[key]} == {}


def test_what_the_variables_are(telling: Pair) -> None:
    old, new = telling.play(lambda side, bob: values(side, bob, "three-of-a-header"))
    expected = {
        "fu": "sip:alice@home.lan",
        "fU": "alice",
        "fd": "home.lan",
        "fn": "<null>",
        "rb": "Grüße",
        "si": "127.0.0.1",
        "hdr(X-Foo)": "one",
        "(hdr(X-Foo)[-1])": "three",
        "hdr(Nope)": "<null>",
        "": "100% for $5",
    }
    assert {key: new[key] for key in expected} == {key: old[key] for key in expected} == expected
