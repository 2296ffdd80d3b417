"""What is fuzzed: functions of any bytes, each of which ends, or raises only what its callers expect.

An exception that leaves one of these is a finding. They import what they try at the first call, under instrumentation.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from msilo_lite.box.policy import Policy
from msilo_lite.errors import BadRequest, ConfigError, Refused
from msilo_lite.outbound.compose import replay
from msilo_lite.pbx.presence import RegTable, read_pidf, read_reginfo
from msilo_lite.pbx.registration import judge
from msilo_lite.settings.config import Config
from msilo_lite.settings.pseudo import Subject, Template
from msilo_lite.settings.sources import load
from msilo_lite.sip.address import aor_of, parse_address, parse_uri, same_uri, split_list
from msilo_lite.sip.digest import best_of
from msilo_lite.sip.response import redirect, response_headers, retry_after
from msilo_lite.sip.wire import (
    Answer,
    check,
    content_type,
    kept_headers,
    kept_lines,
)
from tests.sip.torture import CASES
from tests.unit.kit import NOW, PLAIN, message, read, waiting

Target = Callable[[bytes], None]


def request(data: bytes) -> None:
    """A request, with all that is done to it before it is stored, and as a replay afterwards."""
    try:
        got = read(data)
        body = check(got)
    except BadRequest:
        return
    kept = kept_headers(got)
    assert "\n" not in kept.replace("\r\n", "")
    for step in (
        lambda: judge(got, lambda uri: aor_of(parse_uri(uri)), NOW),
        lambda: Policy().lifetime(got.get("expires"), got.get("date"), NOW),
        lambda: Template.parse("$fu $tU $rd $ct $hdr(Subject) $rb $ci $si").expand(
            Subject(got, "127.0.0.1", 5060, NOW)
        ),
    ):
        with contextlib.suppress(Refused):
            step()
    with contextlib.suppress(BadRequest):
        stored = message(body=body, ctype=content_type(got, body), kept=kept)
        sent = replay(waiting(stored), "sip:bob@127.0.0.1", (), PLAIN, call_id="c", trusted=True, now=NOW)
        for name, value in sent.headers:
            assert not {10, 13} & {*name, *value}, "a stored header breaks out of its line"


def response(data: bytes) -> None:
    """What a phone or a PBX answers."""
    for raw in (data, b"SIP/2.0 401 No\r\nWWW-Authenticate: " + data + b"\r\n\r\n"):
        answer = Answer(401, "No", raw)
        seconds, target = retry_after(answer), redirect(answer)
        assert seconds is None or seconds >= 0
        assert target is None or aor_of(parse_uri(target)) is not None
        best_of(response_headers(answer, "www-authenticate"))


def address(data: bytes) -> None:
    """An address, alone and in a list; equality is reflexive and symmetric."""
    text = data.decode("utf-8", "surrogateescape")
    split_list(text)
    kept_lines(text)
    with contextlib.suppress(BadRequest):
        parsed = parse_address(text, tel=True)
        assert parse_address(parsed.text, tel=True).uri == parsed.uri
        if parsed.uri.lower().startswith("sip"):
            assert same_uri(parsed.uri, parsed.uri)
            aor = aor_of(parse_uri(parsed.uri))
            assert aor is None or aor_of(parse_uri(aor.uri)) == aor, "an AoR names somebody else when it is written"


def presence(data: bytes) -> None:
    """The documents of a NOTIFY."""
    with contextlib.suppress(BadRequest):
        read_pidf(data)
    with contextlib.suppress(BadRequest):
        RegTable().take(read_reginfo(data))


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="msilo-fuzz-"))


def config(data: bytes) -> None:
    """A configuration file, and one value of one setting: settings, or one sentence."""
    file = _folder() / "fuzz.toml"
    file.write_bytes(data)
    names = [*Config.model_fields]
    value = data[1:].decode("utf-8", "surrogateescape")
    chosen = [f"{names[data[0] % len(names)]}={value}"] if data else []
    for where, items in ((file, []), (None, chosen)):
        try:
            load(where, {}, items)
        except ConfigError as error:
            assert str(error)  # noqa: PT017 (either outcome is fine)


@cache
def _edge() -> Target:
    from .edge import Edge

    return Edge(_folder() / "edge.sqlite").take


def edge(data: bytes) -> None:
    """A datagram at a real agent, with a real box behind it."""
    _edge()(data)


def canary(data: bytes) -> None:
    """Breaks on purpose, three decisions deep: a fuzzer that does not find this is not guided by anything."""
    if data[:1] == b"t" and data[1:2] == b"w" and data[2:3] == b"e":
        raise AssertionError("the canary was found")


TARGETS: dict[str, Target] = {one.__name__: one for one in (request, response, address, presence, config, edge)}
ALL = {**TARGETS, "canary": canary}


SEEDS: dict[str, tuple[bytes, ...]] = {
    "config": (
        b'bind = ["udp:127.0.0.1:5070"]',
        b'domain = "home.lan"',
        b'[[peer]]\naddress = "10.0.0.0/8"',
        b"settle = 0.1\nmax_messages = 3",
        b'extra_hdrs = "X: $fu\\r\\n"',
    ),
    "presence": (
        b'<presence xmlns="urn:ietf:params:xml:ns:pidf"><tuple><status><basic>open</basic></status></tuple></presence>',
        b'<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="0" state="full"><registration id="a" aor="sip:a@b"'
        b' state="active"><contact id="c" state="active" event="created"><uri>sip:a@c</uri></contact></registration>'
        b"</reginfo>",
    ),
    "address": (
        b'"A \\" B" <sip:a%20b@[::1]:5060;lr>;tag=x',
        b"sip:a;b=c@d.e?x=y",
        b"<tel:+1-2;phone-context=a>",
        b'a, <b>,"c"',
    ),
    "response": (
        b"SIP/2.0 302 Moved\r\nContact: <sip:a@b>\r\nRetry-After: 5 (x)\r\n\r\n",
        b'Digest realm="a", nonce="b", qop="auth"',
    ),
    "canary": (b"x",),
}


def seeds(name: str) -> tuple[bytes, ...]:
    """Where the fuzzer starts."""
    return SEEDS.get(name) or tuple(one.raw for one in CASES)
