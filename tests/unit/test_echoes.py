"""Messages of `check`: known by an announced number alone, for a while."""

import pytest

from msilo_lite.pbx.echoes import LIFE, Echo, Echoes, body_of, mark_of, number_in
from msilo_lite.sip.wire import Request

from .kit import read

NUMBER, NOW = 0x0123456789ABCDEF, 1_800_000_000.0


def message(body: bytes, *lines: str) -> Request:
    return read("\r\n".join(["MESSAGE sip:bob@home.lan SIP/2.0", *lines, "", ""]).encode() + body)


@pytest.mark.parametrize(
    "request_",
    [
        message(body_of(NUMBER)),
        message(body_of(NUMBER, 3000)),
        message(b"", f"X-MSilo-ID: {mark_of(NUMBER)}"),  # as an Asterisk leaves a long one
    ],
)
def test_an_announced_one_is_taken_once_it_was_announced(request_: Request) -> None:
    echoes = Echoes()
    assert number_in(request_) == NUMBER
    assert echoes.take(request_, "192.0.2.1", NOW) is None
    echoes.expect(NUMBER, NOW)
    assert echoes.take(request_, "192.0.2.1", NOW + 1) == Echo(NUMBER, "192.0.2.1", len(request_.body))
    assert echoes.take(request_, "192.0.2.1", NOW + LIFE + 1) is None
    assert echoes.take(request_, "192.0.2.1", NOW - LIFE) is None  # the clock was set back


@pytest.mark.parametrize(
    "request_",
    [
        message(body_of(NUMBER + 1)),
        message(b"see: " + body_of(NUMBER)),
        message(b"msilo-lite check 0123456789ABCDEF"),
        message(b"msilo-lite check 0123456789abcdef0"),
        message(b"", f"X-MSilo-ID: {mark_of(NUMBER)}0"),
        message(b"", "X-MSilo-ID: 12-0123456789abcdef"),
    ],
)
def test_what_only_looks_like_one_is_mail(request_: Request) -> None:
    echoes = Echoes()
    echoes.expect(NUMBER, NOW)
    assert echoes.take(request_, "192.0.2.1", NOW) is None


def test_a_body_has_the_length_that_was_asked_for() -> None:
    assert [len(body_of(NUMBER, size)) for size in (0, 1023, 3000)] == [33, 1023, 3000]


def test_old_numbers_are_forgotten() -> None:
    echoes = Echoes()
    for number in range(1000):
        echoes.expect(number, NOW + number)
    assert len(echoes._until) <= LIFE + 2
