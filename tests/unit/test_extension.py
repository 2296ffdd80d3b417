"""The registration of the silo by hand: when a REGISTER goes, and what each answer makes of it."""

from __future__ import annotations

from itertools import count

import pytest

from msilo_lite.box.policy import PBX_BACKOFF
from msilo_lite.pbx.extension import LONGEST, PATIENCE, REFUSED_PAUSE, Extension
from msilo_lite.sip.wire import CSEQ_STEP, Answer, Outgoing

from .kit import NO_ANSWER, NOW, heard

CONTACT, ME, ROUTE = "sip:silo@127.0.0.2:5070", "sip:silo@pbx.lan", "<sip:pbx.lan;lr;hide>"


class Rig:
    """An extension with a clock."""

    def __init__(self) -> None:
        numbers = count(1)
        self.extension = Extension("sip:pbx.lan", ME, CONTACT, (ROUTE,), 300, lambda: f"r{next(numbers)}")
        self.now = float(NOW)

    def asked(self, after: float = 0) -> Outgoing | None:
        self.now += after
        return self.extension.tick(self.now)

    def answer(self, answer: Answer | int, *headers: str) -> None:
        ended = heard(answer, "Because", *headers) if isinstance(answer, int) else answer
        self.extension.answered(ended, self.now)

    def pause(self, longest: int = 2 * LONGEST) -> float:
        """Seconds until the next REGISTER goes."""
        low, high = 0.0, float(longest)
        while high - low > 0.5:
            middle = (low + high) / 2
            waits = self.extension._since <= self.now + middle < self.extension._due
            low, high = (middle, high) if waits else (low, middle)
        return high


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_register(rig: Rig) -> None:
    first = rig.asked()
    assert first
    assert (first.method, first.target, first.from_, first.to) == ("REGISTER", "sip:pbx.lan", f"<{ME}>", f"<{ME}>")
    assert dict(first.headers) == {b"Contact": f"<{CONTACT}>".encode(), b"Expires": b"300"}
    assert (first.routes, first.call_id) == ((ROUTE,), "r1@msilo-lite")
    assert rig.asked(5) is None, "it is under way"
    assert rig.extension.words == "asked, no answer yet"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (("Expires: 300",), 180),
        ((f"Contact: <{CONTACT}>;expires=100", "Expires: 300"), 60),
        (("Contact: <sip:other@x>;expires=20", f"Contact: <{CONTACT}>;expires=100"), 60),
        ((f"Contact: <{CONTACT}>;expires=5",), 10),
        ((), 180),
        (("Expires: 86400",), 51840),
    ],
)
def test_it_is_refreshed_in_time(rig: Rig, headers: tuple[str, ...], seconds: int) -> None:
    """Also where the registrar grants more than was asked."""
    first = rig.asked()
    rig.answer(200, *headers)
    assert rig.extension.words == f"registered as {ME}"
    assert rig.asked(seconds - 1) is None
    again = rig.asked(1)
    assert first
    assert again
    assert (again.call_id, again.cseq, again.from_tag) == (first.call_id, first.cseq + CSEQ_STEP, first.from_tag)


def test_who_does_not_answer_is_asked_less_and_less_often(rig: Rig) -> None:
    pauses = []
    for _ in range(7):
        assert rig.asked()
        rig.answer(NO_ANSWER)
        pauses.append(round(rig.pause()))
        rig.now += pauses[-1]
    assert pauses == [*PBX_BACKOFF, PBX_BACKOFF[-1], PBX_BACKOFF[-1]]
    assert rig.extension.words == "not registered: no answer"


@pytest.mark.parametrize("code", [401, 403, 404, 407])
def test_a_refusal_rests(rig: Rig, code: int) -> None:
    rig.asked()
    rig.answer(code)
    assert rig.asked(REFUSED_PAUSE - 1) is None
    assert rig.asked(1)
    assert ("is the password right?" in rig.extension.words) is (code != 404)


@pytest.mark.parametrize(("wait", "seconds"), [(3600, 3600), (7200, 7200), (5, 30), (10**9, LONGEST)])
def test_retry_after_is_kept_to_however_long(rig: Rig, wait: int, seconds: int) -> None:
    rig.asked()
    rig.answer(503, f"Retry-After: {wait}")
    assert round(rig.pause()) == pytest.approx(seconds, abs=2)
    assert rig.asked(1) is None


def test_too_brief(rig: Rig) -> None:
    rig.asked()
    rig.answer(423, "Min-Expires: 600")
    again = rig.asked()
    assert again
    assert dict(again.headers)[b"Expires"] == b"600"
    rig.answer(423, "Min-Expires: 600")
    assert rig.asked() is None, "not in a circle"


def test_a_register_that_nobody_ended_is_given_up(rig: Rig) -> None:
    rig.asked()
    assert rig.asked(PATIENCE - 1) is None
    assert rig.asked(1)


@pytest.mark.parametrize("jump", [-100_000, 100_000])
def test_a_clock_that_is_set_only_makes_it_register_sooner(rig: Rig, jump: float) -> None:
    rig.asked()
    rig.answer(200, "Expires: 300")
    assert rig.asked(jump)
    rig.answer(200, "Expires: 300")
    assert rig.asked(179) is None
    assert rig.asked(1)


def test_the_end(rig: Rig) -> None:
    assert rig.extension.leave() is None
    rig.asked()
    rig.answer(200, "Expires: 300")
    last = rig.extension.leave()
    assert last
    assert dict(last.headers)[b"Expires"] == b"0"
