"""What each answer of a PBX means: every code, with and without a password, from our own port and from another."""

import time
from email.utils import formatdate

import pytest

from msilo_lite.box.delivery import Hop, Trust
from msilo_lite.cli import verdicts
from msilo_lite.cli.verdicts import FINE, WARNING, WRONG, Asked
from msilo_lite.sip.wire import Answer

NOW = 1_800_000_000.0


def asked(code: int, *lines: str, own: bool = True, password: bool = False, local: bool = False) -> Asked:
    raw = "\r\n".join([f"SIP/2.0 {code} Reason", *lines, "", ""]).encode()
    answer = Answer(code, "Reason", b"" if local else raw, local) if code else None
    return Asked("pbx:5060", "udp:192.0.2.1:5070", own, password, answer, NOW)


@pytest.mark.parametrize("code", [*range(200, 300), 404, 408, 410, 430, 480, 486, 487, 604])
def test_a_message_that_is_taken_or_finds_nobody_is_fine(code: int) -> None:
    assert verdicts.about_message(asked(code)).level == FINE


@pytest.mark.parametrize("code", [401, 403, 407])
def test_distrust(code: int) -> None:
    plain, elsewhere = verdicts.about_message(asked(code)), verdicts.about_message(asked(code, own=False))
    assert (plain.level, elsewhere.level) == (WRONG, WARNING)
    assert "let it trust udp:192.0.2.1:5070" in plain.words
    assert "may answer the daemon otherwise" in elsewhere.words
    named = verdicts.about_message(asked(code, own=False, password=True))
    assert (named.level, "refuses our password" in named.words) == (WRONG, True)


@pytest.mark.parametrize(
    ("code", "level"),
    [(405, WRONG), (501, WRONG), (482, WRONG), (483, WRONG), (400, WARNING), (500, WARNING), (0, WRONG)],
)
def test_other_answers_to_a_message(code: int, level: str) -> None:
    assert verdicts.about_message(asked(code)).level == level


def test_a_local_end_is_no_answer() -> None:
    silent = asked(408, local=True)
    assert (silent.code, silent.said, silent.product) == (0, "nothing", "")
    assert verdicts.about_options(silent, 5).level == WRONG


@pytest.mark.parametrize(
    ("code", "real", "level", "words"),
    [
        (200, True, FINE, "tells about bob"),
        (202, False, FINE, "tells about bob"),
        (404, True, WRONG, "needs a hint"),
        (404, False, FINE, "name a user of yours"),
        (489, True, WRONG, 'Try watch = "reg"'),
        (403, True, WRONG, "refuses our SUBSCRIBE"),
        (500, True, WRONG, "nothing wakes anybody"),
        (0, True, WRONG, "does not answer our SUBSCRIBE"),
    ],
)
def test_subscribe(code: int, real: bool, level: str, words: str) -> None:
    found = verdicts.about_subscribe(asked(code), "presence", "bob", real=real)
    assert (found.level, words in found.words) == (level, True)


@pytest.mark.parametrize(
    ("code", "level"), [(200, FINE), (401, WRONG), (403, WRONG), (404, WRONG), (500, WRONG), (0, WRONG)]
)
def test_register(code: int, level: str) -> None:
    assert verdicts.about_register(asked(code), "silo").level == level


@pytest.mark.parametrize(
    ("product", "hop", "expected"),
    [
        ("Asterisk PBX 22.10.1", Hop(), {"max_body": WRONG, "trust_2xx": WRONG}),
        ("FPBX-16.0.40(18.9.0)", Hop(Trust.CONFIRM, 1023), {"trust_2xx": FINE}),
        ("Asterisk PBX 22", Hop(Trust.CONFIRM, 1024), {"max_body": WRONG, "trust_2xx": FINE}),
        ("FreeSWITCH-mod_sofia/1.10.12", Hop(), {"trust_2xx": WRONG}),
        ("kamailio (5.6.3 (x86_64/linux))", Hop(), {}),
        ("", Hop(), {}),
    ],
)
def test_the_product_and_what_it_needs(product: str, hop: Hop, expected: dict[str, str]) -> None:
    lines = (f"Server: {product}",) if product else ()
    found = {one.about: one.level for one in verdicts.about_product([asked(200), asked(200, *lines)], hop)}
    assert found == expected


def test_without_watch_something_has_to_wake_us() -> None:
    asterisk, plain = [asked(200, "User-Agent: Asterisk PBX 22")], [asked(200)]
    levels = [
        [one.level for one in verdicts.about_silence(answers, heard)]
        for answers, heard in ((asterisk, True), (plain, True), (plain, False), (plain, None))
    ]
    assert levels == [[WRONG], [FINE], [WARNING], []]


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [(0, FINE, "agree"), (-60, FINE, "agree"), (61, WARNING, "61 s ahead of"), (-7200, WARNING, "2.0 h behind")],
)
def test_clocks(seconds: int, level: str, words: str) -> None:
    found = verdicts.about_clocks([asked(200), asked(200, f"Date: {formatdate(NOW + seconds, usegmt=True)}")])
    assert found is not None
    assert (found.level, words in found.words) == (level, True)


@pytest.mark.parametrize("lines", [(), ("Date: yesterday",), ("Date:",), ("Date: Wed, 99 Nov 2026 99:00:00 GMT",)])
def test_a_pbx_that_tells_no_time_is_not_accused(lines: tuple[str, ...]) -> None:
    assert verdicts.about_clocks([asked(200, *lines), asked(0)]) is None
    assert time.time() > 0


@pytest.mark.parametrize(
    ("sent", "came", "allowed", "level"),
    [
        (1023, 1023, 1023, FINE),
        (1100, 0, 0, WRONG),
        (1100, None, 0, WRONG),
        (3000, 1400, 0, WRONG),
        (3000, 3000, 0, FINE),
    ],
)
def test_a_long_text_that_went_round(sent: int, came: int | None, allowed: int, level: str) -> None:
    found = verdicts.about_body(sent, came, allowed)
    assert found is not None
    assert found.level == level
