"""Subscriptions by hand: what goes out, what answers and NOTIFYs make of it, who is woken, and when the clock jumps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count, pairwise
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from msilo_lite.box.policy import PBX_BACKOFF
from msilo_lite.pbx.subscription import ANEW, NOTIFY_WITHIN, REST
from msilo_lite.pbx.watch import EVENT_REST, LOOK, PACE, PACKAGES, TURN, Watches
from msilo_lite.sip.address import Aor
from msilo_lite.sip.wire import Answer, Outgoing

from .kit import BOB, CARL, NO_ANSWER, NOW, heard, request

ME, CONTACT, ROUTE = "sip:silo@home.lan", "sip:silo@127.0.0.2:5070", "<sip:127.0.0.1:5060;lr;hide>"
PBX = "sip:127.0.0.1:5060"
MINUTE, HOUR, DAY = 60, 3600, 86400
CROWD = [Aor(f"u{number}", "home.lan") for number in range(1000)]


def pidf(basic: str) -> bytes:
    inside = f'<tuple id="1"><status><basic>{basic}</basic></status></tuple>'
    return f'<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@home.lan">{inside}</presence>'.encode()


def reginfo(version: int, contact: str, state: str = "full") -> bytes:
    row = f'<contact id="1" state="{contact}" event="created"><uri>sip:bob@127.0.0.1:5090</uri></contact>'
    inside = f'<registration aor="sip:bob@home.lan" id="1" state="active">{row}</registration>'
    head = f'<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="{version}" state="{state}">'
    return f"{head}{inside}</reginfo>".encode()


class Rig:
    """Watches with a clock, and a PBX's side of the dialogs."""

    def __init__(self, event: Literal["presence", "reg"] = "presence", most: int = 250, expires: int = 600) -> None:
        numbers = count(1)
        self.event = event
        self.watches = Watches(event, ME, CONTACT, (ROUTE,), most, expires, fresh=lambda: f"r{next(numbers)}")
        self.now = float(NOW)
        self.cseq = count(1)

    def want(self, *owners: Aor, after: float = 0) -> list[tuple[int, Outgoing]]:
        """Want these, and tick."""
        self.now += after
        self.watches.want(owners, self.now)
        return self.tick(LOOK)

    def tick(self, after: float = 1) -> list[tuple[int, Outgoing]]:
        self.now += after
        return self.watches.tick(self.now)

    def one(self, after: float = 1) -> tuple[int, Outgoing]:
        """The only SUBSCRIBE of a tick."""
        (sent,) = self.tick(after)
        return sent

    def answer(self, sent: tuple[int, Outgoing], answer: Answer | int, *headers: str, tag: str = "pbx") -> None:
        if isinstance(answer, int) and 200 <= answer < 300:
            headers = (f"To: <sip:bob@home.lan>;tag={tag}", f"Contact: <{PBX}>", *headers)
        ended = heard(answer, "Because", *headers) if isinstance(answer, int) else answer
        assert self.watches.answered(sent[0], ended, self.now)

    def notify(
        self,
        sent: tuple[int, Outgoing],
        body: bytes | str = b"",
        state: str | None = "active;expires=600",
        *more: str,
        cseq: int | None = None,
        tag: str | None = "pbx",
        **changed: str | None,
    ) -> tuple[int, Aor | None]:
        """A NOTIFY in the dialog of a SUBSCRIBE; `body`: bytes, or a basic status."""
        out = sent[1]
        document = pidf(body) if isinstance(body, str) else body
        lines = [] if state is None else [f"Subscription-State: {state}"]
        values: dict[str, str | None] = {
            "from_": f"<{out.to.strip('<>')}>" + (f";tag={tag}" if tag else ""),
            "to": f"{out.from_};tag={out.from_tag}",
            "call_id": out.call_id,
            "cseq": f"{next(self.cseq) if cseq is None else cseq} NOTIFY",
            "event": self.event,
            "contact": f"<{PBX}>",
            "content_type": PACKAGES[self.event][0] if document else None,
        }
        got = request("NOTIFY", CONTACT, *lines, *more, body=document, **(values | changed))
        return self.watches.notified(got, self.now)

    def live(self, owner: Aor = BOB, basic: str = "closed") -> tuple[int, Outgoing]:
        """A subscription that runs."""
        (sent,) = self.want(owner)
        self.answer(sent, 200, "Expires: 600")
        body = basic if self.event == "presence" else reginfo(0, "active" if basic == "open" else "terminated")
        assert self.notify(sent, body)[0] == 200
        return sent

    def states(self) -> list[str]:
        return list(self.watches.states().values())


def header(out: Outgoing, name: bytes) -> bytes | None:
    return dict(out.headers).get(name)


def expires_of(sent: tuple[int, Outgoing]) -> int:
    return int(header(sent[1], b"Expires") or b"-1")


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- what goes out ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("event", "accept"), [("presence", b"application/pidf+xml"), ("reg", b"application/reginfo+xml")]
)
def test_the_first_subscribe(event: Literal["presence", "reg"], accept: bytes) -> None:
    rig = Rig(event)
    ((token, out),) = rig.want(BOB)
    assert 2**41 < token < 2**42
    assert out == Outgoing(
        "sip:bob@home.lan",
        f"<{ME}>",
        "<sip:bob@home.lan>",
        "r2@msilo-lite",
        (
            (b"Event", event.encode()),
            (b"Accept", accept),
            (b"Contact", f"<{CONTACT}>".encode()),
            (b"Expires", b"600"),
        ),
        b"",
        b"",
        (ROUTE,),
        method="SUBSCRIBE",
        cseq=1,
        from_tag="r1",
        to_tag="",
    )
    assert rig.states() == ["asked"]
    assert rig.tick() == []


def test_tokens_of_the_two_events_differ() -> None:
    assert Rig("presence").want(BOB)[0][0] != Rig("reg").want(BOB)[0][0]


@pytest.mark.parametrize("order", ["answer", "notify"])
def test_a_refresh_is_in_the_dialog_whatever_came_first(rig: Rig, order: str) -> None:
    (first,) = rig.want(BOB)
    for step in ("answer", "notify") if order == "answer" else ("notify", "answer"):
        if step == "answer":  # the callee's order, which is turned round (RFC 3261 12.1.2)
            rig.answer(
                first, 202, "Expires: 600", "Record-Route: <sip:p1;lr>, <sip:p2;lr>", "Record-Route: <sip:p3;lr>"
            )
        else:
            record = "Record-Route: <sip:p3;lr>, <sip:p2;lr>, <sip:p1;lr>"
            assert rig.notify(first, "closed", "active;expires=600", record) == (200, None)
    assert rig.tick(398) == []
    _, out = rig.one(3)
    routes = ("<sip:p3;lr>", "<sip:p2;lr>", "<sip:p1;lr>")
    assert out == replace(first[1], target=PBX, cseq=out.cseq, to_tag="pbx", routes=routes)
    assert out.cseq > first[1].cseq


def test_without_a_route_set_the_way_stays_the_configured_one(rig: Rig) -> None:
    rig.live()
    assert rig.one(401)[1].routes == (ROUTE,)


def test_a_target_may_change_but_not_the_route_set(rig: Rig) -> None:
    first = rig.live()
    rig.notify(first, "closed", "active;expires=600", "Record-Route: <sip:new;lr>", contact="<sip:10.0.0.1>")
    second = rig.one(401)
    assert (second[1].target, second[1].routes) == ("sip:10.0.0.1", (ROUTE,))
    answer = heard(200, "OK", "t: <sip:bob@home.lan>;tag=pbx", "m: <sip:10.0.0.2>", "Record-Route: <sip:new;lr>")
    rig.answer(second, answer)
    third = rig.one(401)
    assert (third[1].target, third[1].routes) == ("sip:10.0.0.2", (ROUTE,))
    rig.answer(third, heard(200, "OK", "To: <sip:bob@home.lan>;tag=fork", "Contact: <sip:10.9.9.9>"))
    assert rig.one(401)[1].target == "sip:10.0.0.2"


@pytest.mark.parametrize(
    ("answered", "notified", "due"),
    [
        ("Expires: 600", "active;expires=600", 400),
        ("Expires: 60", "active", 40),
        ("Expires: 600", "active;expires=60", 40),
        ("Expires: 90000", "active", 400),
        ("X: y", "active", 400),
        ("Expires: soon", 'active;expires="60"', 40),
        ("Expires: 3", "active", 5),
        ("Expires: 600", "pending;expires=60", 40),
        ("Expires: 600", "Active;Expires=60", 40),
        ("Expires: 600", "active;expires=9999999999", 57600),
    ],
)
def test_when_the_refresh_is_due(rig: Rig, answered: str, notified: str, due: int) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 200, answered)
    assert rig.notify(sent, "closed", notified)[0] == 200
    assert rig.tick(due - 1) == []
    assert expires_of(rig.one(1)) == 600


def test_a_notify_without_expires_before_the_2xx(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    assert rig.notify(sent, "closed", "active") == (200, None)
    assert rig.tick(20) == []
    rig.answer(sent, 200, "Expires: 60")
    assert rig.tick(39) == []
    rig.one(1)


def test_cseq_leaves_room_for_a_password_and_call_id_and_tag_stay(rig: Rig) -> None:
    sent = [rig.live()]
    for _ in range(5):
        sent.append(rig.one(401))
        rig.answer(sent[-1], 200)
    assert len({(out.call_id, out.from_tag) for _, out in sent}) == 1
    numbers = [out.cseq for _, out in sent]
    assert all(later - earlier >= 3 for earlier, later in pairwise(numbers))


def test_who_is_not_wanted_any_more_is_let_go(rig: Rig) -> None:
    rig.live()
    (end,) = rig.want()
    assert (expires_of(end), end[1].to_tag, rig.watches.dialogs) == (0, "pbx", 1)
    rig.answer(end, 200)
    assert rig.notify(end, "closed", "terminated;reason=timeout") == (200, None)
    assert (rig.watches.dialogs, rig.watches.states(), rig.tick()) == (0, {}, [])


def test_an_end_waits_for_the_first_answer(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    assert rig.want() == []
    rig.answer(sent, 200)
    assert expires_of(rig.one()) == 0


@pytest.mark.parametrize("answer", [404, 503, 481, 423, NO_ANSWER, Answer(200, "OK")])
def test_without_a_dialog_there_is_nothing_to_end(rig: Rig, answer: Answer | int) -> None:
    (sent,) = rig.want(BOB)
    rig.watches.want((), rig.now)
    rig.answer(sent, answer, "Min-Expires: 3600")
    assert rig.tick() == []
    assert rig.watches.dialogs == 0


@pytest.mark.parametrize("answer", [200, 481, 500, 403, NO_ANSWER])
def test_an_end_is_asked_for_once(rig: Rig, answer: Answer | int) -> None:
    first = rig.live()
    (end,) = rig.want()
    rig.answer(end, answer)
    assert rig.watches.dialogs == 0
    assert rig.tick(HOUR) == []
    assert rig.notify(first, "open") == (481, None)  # which ends it at the PBX


# -- answers ---------------------------------------------------------------------------------------------------------
def test_tokens_of_others_are_not_ours(rig: Rig) -> None:
    ((token, _),) = rig.want(BOB)
    for other in (0, 1, 2**40 + 1, 2**41, token + 1, 2**42 + 1):
        assert not rig.watches.answered(other, heard(200), rig.now)
    assert rig.watches.answered(token, NO_ANSWER, rig.now)
    assert rig.watches.answered(token, NO_ANSWER, rig.now)


@pytest.mark.parametrize(
    ("code", "headers", "pause", "words"),
    [
        (401, (), REST, "refused: 401 Because, next try in 60 min"),
        (403, (), REST, "refused: 403 Because, next try in 60 min"),
        (407, (), REST, "refused: 407 Because, next try in 60 min"),
        (404, (), REST, "refused: 404 Because, next try in 60 min"),
        (410, (), REST, "refused: 410 Because, next try in 60 min"),
        (400, (), REST, "refused: 400 Because, next try in 60 min"),
        (300, (), REST, "refused: 300 Because, next try in 60 min"),
        (302, (), REST, "refused: 302 Because, next try in 60 min"),
        (600, (), REST, "refused: 600 Because, next try in 60 min"),
        (603, (), REST, "refused: 603 Because, next try in 60 min"),
        (404, ("Retry-After: 7200",), 7200, "refused: 404 Because, next try in 2 h"),
        (404, ("Retry-After: 60",), REST, "refused: 404 Because, next try in 60 min"),
        (404, ("Retry-After: 999999999",), DAY, "refused: 404 Because, next try in 24 h"),
        (408, (), 30, "refused: 408 Because, next try in 1 min"),
        (480, (), 30, "refused: 480 Because, next try in 1 min"),
        (491, (), 30, "refused: 491 Because, next try in 1 min"),
        (500, (), 30, "refused: 500 Because, next try in 1 min"),
        (503, ("Retry-After: 300",), 300, "refused: 503 Because, next try in 5 min"),
        (503, ("Retry-After: 5",), 30, "refused: 503 Because, next try in 1 min"),
        (423, (), REST, "refused: 423 Because, next try in 60 min"),
        (423, ("Min-Expires: 600",), REST, "refused: 423 Because, next try in 60 min"),
        (423, ("Min-Expires: 86401",), REST, "refused: 423 Because, next try in 60 min"),
        (489, (), EVENT_REST, "refused: 489 Because, the PBX has no event presence, next try in 6 h"),
        (405, (), EVENT_REST, "refused: 405 Because, the PBX has no event presence, next try in 6 h"),
        (501, (), EVENT_REST, "refused: 501 Because, the PBX has no event presence, next try in 6 h"),
    ],
)
def test_refusals(rig: Rig, code: int, headers: tuple[str, ...], pause: int, words: str) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, code, *headers)
    assert rig.states() == [words]
    assert rig.tick(pause - 1) == []
    again = rig.one(1)
    assert (again[1].to_tag, again[1].call_id != sent[1].call_id, again[1].from_tag != sent[1].from_tag) == (
        "",
        True,
        True,
    )


def test_states_in_words(rig: Rig) -> None:
    sent = rig.want(BOB, CARL, *CROWD)
    rig.answer(sent[0], 200)
    rig.notify(sent[0], "open")
    rig.answer(sent[1], 404)
    rig.tick(120)
    states = rig.watches.states()
    assert states["bob@home.lan"] == "open"
    assert states["carl@home.lan"] == "refused: 404 Because, next try in 58 min"
    assert states["u0@home.lan"] == "asked"
    assert states["u999@home.lan"] == "waits for its turn"


def test_nobody_answers_longer_and_longer(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    for pause in (*PBX_BACKOFF, PBX_BACKOFF[-1]):
        rig.answer(sent, NO_ANSWER)
        assert rig.states()[0].startswith("no answer: 408 Request Timeout, next try in ")
        assert rig.tick(pause - 1) == []
        sent = rig.one(1)
    rig.answer(sent, 200)
    rig.notify(sent, "closed")
    rig.answer(rig.one(401), 480)
    assert rig.tick(PBX_BACKOFF[0] - 1) == []
    rig.one(1)


def test_a_pbx_that_accepts_and_never_notifies(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    for pause in PBX_BACKOFF[:3]:
        rig.answer(sent, 200)
        assert rig.tick(NOTIFY_WITHIN - 1) == []
        assert rig.tick(1) == []
        assert rig.states()[0].startswith("no NOTIFY came, next try in ")
        assert rig.tick(pause - 1) == []
        sent = rig.one(1)
        assert sent[1].to_tag == ""


def test_too_brief_is_mended_once_and_for_everybody(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 423, "Min-Expires: 1800")
    again = rig.one()
    assert (expires_of(again), again[1].call_id, again[1].cseq > sent[1].cseq) == (1800, sent[1].call_id, True)
    rig.answer(again, 423, "Min-Expires: 3600")
    assert rig.tick() == []
    assert rig.states() == ["refused: 423 Because, next try in 60 min"]
    assert [expires_of(one) for one in rig.want(BOB, CARL)] == [1800]


def test_too_brief_for_a_refresh(rig: Rig) -> None:
    first = rig.live()
    rig.answer(rig.one(401), 423, "Min-Expires: 900")
    again = rig.one()
    assert (expires_of(again), again[1].call_id) == (900, first[1].call_id)


def test_an_unknown_event_rests_for_everybody(rig: Rig) -> None:
    sent = rig.want(*CROWD[:30])
    rig.answer(sent[0], 489)
    for one in sent[1:]:
        rig.answer(one, NO_ANSWER)
    assert rig.tick(HOUR) == []
    assert len(set(rig.states())) == 1
    assert len(rig.tick(5 * HOUR)) == PACE


def test_one_odd_user_does_not_stop_an_event_that_others_have(rig: Rig) -> None:
    rig.live()
    (odd,) = rig.want(BOB, CARL)
    rig.answer(odd, 405)
    assert [expires_of(one) for one in rig.want(BOB, CARL, CROWD[0])] == [600]
    assert rig.watches.states()["carl@home.lan"] == "refused: 405 Because, next try in 6 h"


@pytest.mark.parametrize("code", [404, 405, 410, 416, 480, 482, 483, 484, 485, 489, 501, 604])
def test_a_refusal_ends_the_dialog(rig: Rig, code: int) -> None:
    first = rig.live()
    rig.answer(rig.one(401), code)
    assert rig.watches.dialogs == 0
    assert rig.notify(first, "open") == (481, None)


@pytest.mark.parametrize("answer", [500, 503, 408, NO_ANSWER])
def test_a_failed_refresh_leaves_the_dialog_until_it_lapses(rig: Rig, answer: Answer | int) -> None:
    first = rig.live()
    rig.answer(rig.one(401), answer)
    for pause in PBX_BACKOFF[:2]:
        assert rig.tick(pause - 1) == []
        again = rig.one(1)
        assert again[1].call_id == first[1].call_id
        rig.answer(again, answer)
    assert rig.notify(first, "open", "active") == (200, BOB)  # it still works in one direction
    again = rig.one(120)
    assert again[1].call_id == first[1].call_id
    rig.answer(again, answer)
    assert rig.one()[1].call_id != first[1].call_id


def test_a_refresh_that_succeeds_ends_the_back_off(rig: Rig) -> None:
    rig.live()
    rig.answer(rig.one(401), 500)
    rig.answer(rig.one(PBX_BACKOFF[0]), 200)
    rig.answer(rig.one(401), 500)
    assert rig.tick(PBX_BACKOFF[0] - 1) == []
    rig.one(1)


def test_481_makes_a_new_dialog_at_once_but_not_in_a_circle(rig: Rig) -> None:
    first = rig.live(basic="open")
    rig.answer(rig.one(401), 481)
    second = rig.one()
    assert (second[1].to_tag, second[1].call_id != first[1].call_id) == ("", True)
    rig.answer(second, 481)
    assert rig.tick(PBX_BACKOFF[0] - 1) == []
    third = rig.one(1)
    rig.answer(third, 200)
    assert rig.notify(third, "open") == (200, BOB)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("To: <sip:bob@home.lan>",),
        ("To: nonsense;tag=x", "Contact: <sip:evil@10.0.0.1>"),
        ("To: <sip:bob@home.lan>;tag=x", "Contact: <mailto:x@y>"),
        ("To: <sip:bob@home.lan>;tag=x", "Contact: <sip:x\ry>"),
        ("To: <sip:bob@home.lan>;tag=x", "Record-Route: <sip:x"),
        ('To: <sip:bob@home.lan>;tag="x y"',),
    ],
)
def test_a_2xx_that_cannot_be_read_leaves_it_to_the_notify(rig: Rig, headers: tuple[str, ...]) -> None:
    (sent,) = rig.want(BOB)
    assert rig.watches.answered(sent[0], heard(200, "OK", *headers), rig.now)
    assert rig.notify(sent, "open") == (200, BOB)
    again = rig.one(401)
    assert (again[1].target, again[1].to_tag) == (PBX, "pbx")


# -- NOTIFYs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("told", "wakes"),
    [
        (["open"], [True]),
        (["closed"], [False]),
        (["open", "open"], [True, False]),
        (["closed", "open"], [False, True]),
        (["open", "closed", "open"], [True, False, True]),
        (["open", b"", "open"], [True, False, True]),
        ([b"", "open"], [False, True]),
        (["closed", b" \r\n", "closed", "open", "open"], [False, False, False, True, False]),
    ],
)
@pytest.mark.parametrize("answer_after", [0, 1, 2])
def test_who_is_woken(rig: Rig, told: list[bytes | str], wakes: list[bool], answer_after: int) -> None:
    (sent,) = rig.want(BOB)
    for number, (body, woken) in enumerate(zip(told, wakes, strict=True)):
        if number == answer_after:
            rig.answer(sent, 200)
        assert rig.notify(sent, body) == (200, BOB if woken else None)


def test_pending_tells_nothing_and_stays(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 200)
    assert rig.notify(sent, "open", "pending;expires=600") == (200, None)
    assert rig.states() == ["pending"]
    assert rig.notify(sent, "open") == (200, BOB)
    assert rig.states() == ["open"]
    assert rig.notify(sent, "closed") == (200, None)
    assert rig.states() == ["closed"]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"call_id": "unknown"}, 481),
        ({"call_id": None}, 481),
        ({"to": f"<{ME}>;tag=other"}, 481),
        ({"to": f"<{ME}>"}, 481),
        ({"tag": "other"}, 481),
        ({"tag": None}, 400),
        ({"from_": "nonsense"}, 400),
        ({"to": None}, 400),
        ({"event": "dialog"}, 489),
        ({"event": "presence.winfo"}, 489),
        ({"event": None}, 489),
        ({"event": "Presence;id=7"}, 200),
        ({"state": None}, 400),
        ({"state": ";expires=5"}, 400),
        ({"state": "extension;expires=600"}, 200),
        ({"cseq": 1}, 200),
        ({"contact": "<mailto:x@y>"}, 416),
        ({"contact": "nonsense"}, 400),
        ({"contact": None}, 200),
        ({"body": b"<presence"}, 400),
        ({"body": b"<!DOCTYPE x><presence/>"}, 400),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "Application/PIDF+xml; charset=utf-8"}, 200),
        ({"content_type": None}, 200),
        ({"content_length": "9999"}, 400),
    ],
)
def test_how_a_notify_is_answered(rig: Rig, changed: dict[str, Any], status: int) -> None:
    sent = rig.live()
    values: dict[str, Any] = {"body": "closed", "state": "active;expires=600"} | changed
    assert rig.notify(sent, **values) == (status, None)
    before = rig.one(401)
    assert (before[1].target, before[1].to_tag) == (PBX, "pbx")  # whatever it said
    assert rig.notify(sent, "open") == (200, BOB)


def test_a_repeated_notify_wakes_once_and_an_older_one_not_at_all(rig: Rig) -> None:
    sent = rig.live()
    assert rig.notify(sent, "open", cseq=7) == (200, BOB)
    assert rig.notify(sent, "open", cseq=7) == (200, None)
    assert rig.notify(sent, "closed", cseq=6) == (500, None)
    assert rig.states() == ["open"]


def test_an_asterisk_that_was_restarted_repeats_its_last_number(rig: Rig) -> None:
    sent = rig.live()
    assert rig.notify(sent, "closed", cseq=7) == (200, None)
    assert rig.notify(sent, "open", cseq=7) == (200, BOB)


def test_a_pbx_that_lost_count_is_asked_how_it_is(rig: Rig) -> None:
    sent = rig.live()
    assert rig.notify(sent, "closed", cseq=7) == (200, None)
    assert rig.notify(sent, "open", cseq=6) == (500, None)
    again = rig.one()
    assert again[1].call_id == sent[1].call_id
    rig.answer(again, 481)
    assert rig.notify(rig.one(), "open", cseq=1) == (200, BOB)


def test_an_unreadable_notify_is_told_of(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 200)
    assert rig.notify(sent, b"<presence") == (400, None)
    assert rig.states()[0].startswith("a NOTIFY cannot be read: ")
    rig.tick(NOTIFY_WITHIN)
    assert rig.states()[0].startswith("a NOTIFY cannot be read: ")


def test_of_a_fork_the_branch_that_notifies_first_counts(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 200, tag="b")
    assert rig.notify(sent, "open", tag="a") == (200, BOB)
    assert rig.notify(sent, "open", tag="b") == (481, None)
    assert rig.one(401)[1].to_tag == "a"


@pytest.mark.parametrize(
    ("state", "pause", "words"),
    [
        ("terminated;reason=deactivated", 0, "asked"),
        ("terminated;reason=deactivated;retry-after=500", 0, "asked"),
        ("terminated;reason=timeout", 0, "asked"),
        ("terminated", 0, "asked"),
        ("terminated;reason=whatever", 0, "asked"),
        ("terminated;retry-after=500", 500, "ended by the PBX, no reason given, next try in 9 min"),
        ("terminated;reason=probation", 30, "ended by the PBX, probation, next try in 1 min"),
        ("terminated;reason=probation;retry-after=900", 900, "ended by the PBX, probation, next try in 15 min"),
        ("terminated;reason=giveup", 30, "ended by the PBX, giveup, next try in 1 min"),
        ("terminated;reason=giveup;retry-after=5", 30, "ended by the PBX, giveup, next try in 1 min"),
        ("terminated;reason=rejected", REST, "ended by the PBX, rejected, next try in 60 min"),
        ("terminated;reason=noresource;retry-after=9", REST, "ended by the PBX, noresource, next try in 60 min"),
        ("Terminated; Reason=NoResource", REST, "ended by the PBX, noresource, next try in 60 min"),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_how_a_subscription_is_terminated(rig: Rig, state: str, pause: int, words: str, answered: bool) -> None:
    (sent,) = rig.want(BOB)
    if answered:
        rig.answer(sent, 200)
        rig.notify(sent, "closed")
    assert rig.notify(sent, b"", state) == (200, None)
    if not answered:
        rig.answer(sent, 200)  # too late to count
    if pause:
        assert rig.states() == [words]
        assert rig.tick(pause - 1) == []
    again = rig.one(1)
    assert (again[1].call_id != sent[1].call_id, again[1].to_tag) == (True, "")
    assert rig.notify(sent, b"", state, cseq=1000) == (200, None)  # the same once more
    assert rig.notify(sent, "open", cseq=1001) == (481, None)
    assert rig.notify(again, "open") == (200, BOB)


def test_a_pbx_that_ends_each_subscription_is_not_asked_in_a_circle(rig: Rig) -> None:
    sent = 0
    rig.watches.want((BOB,), rig.now)
    for _ in range(10 * MINUTE):
        for one in rig.tick(1):
            sent += 1
            rig.answer(one, 200)
            rig.notify(one, "closed")
            rig.notify(one, b"", "terminated;reason=timeout")
    assert sent <= 2 * 10 * MINUTE / ANEW


def test_the_last_word_may_wake(rig: Rig) -> None:
    sent = rig.live()
    assert rig.notify(sent, "open", "terminated;reason=deactivated") == (200, BOB)


# -- reg -------------------------------------------------------------------------------------------------------------
def test_registrations_full_and_partial() -> None:
    rig = Rig("reg")
    sent = rig.live()
    told = [(1, "active", BOB), (2, "active", None), (3, "terminated", None), (4, "active", BOB)]
    for version, contact, woken in told:
        assert rig.notify(sent, reginfo(version, contact, "partial")) == (200, woken)
    assert rig.notify(sent, reginfo(0, "terminated")) == (200, None)
    assert rig.states() == ["closed"]
    assert rig.tick(398) == []


def test_a_gap_asks_for_full_state_at_once_but_not_in_a_circle() -> None:
    rig = Rig("reg")
    sent = rig.live()
    assert rig.notify(sent, reginfo(5, "active", "partial"), "active") == (200, BOB)
    again = rig.one()
    assert (again[1].call_id, expires_of(again)) == (sent[1].call_id, 600)
    rig.answer(again, 200)
    assert rig.notify(sent, reginfo(9, "active", "partial")) == (200, None)
    assert rig.tick(ANEW - 5) == []
    assert rig.notify(sent, reginfo(19, "active", "partial")) == (200, None)
    assert rig.tick(6) == []
    assert rig.notify(sent, reginfo(29, "active", "partial")) == (200, None)
    rig.one()


def test_a_gap_while_a_refresh_is_under_way() -> None:
    rig = Rig("reg")
    sent = rig.live()
    refresh = rig.one(401)
    assert rig.notify(sent, reginfo(5, "active", "partial")) == (200, BOB)
    assert rig.tick() == []
    rig.answer(refresh, 200)
    rig.one()


# -- who has a place -------------------------------------------------------------------------------------------------
def test_many_are_asked_a_few_at_a_time(rig: Rig) -> None:
    assert len(rig.want(*CROWD)) == PACE
    assert rig.tick(LOOK / 2) == []
    assert [len(rig.tick(LOOK)) for _ in range(14)] == [PACE] * 11 + [250 - 12 * PACE, 0, 0]
    assert rig.watches.dialogs == 250


def test_the_most_needed_go_first(rig: Rig) -> None:
    rig = Rig(most=2)
    assert [out.target for _, out in rig.want(CARL, BOB, *CROWD)] == ["sip:carl@home.lan", "sip:bob@home.lan"]


def test_who_has_no_place_gets_a_turn() -> None:
    rig = Rig(most=2)
    owners = CROWD[:5]
    rig.watches.want(owners, rig.now)
    begun: list[str] = []
    ended: list[str] = []
    for _ in range(11 * TURN):
        for sent in rig.tick(1):
            (begun if expires_of(sent) else ended).append(sent[1].to)
            rig.answer(sent, 200, "Expires: 600")
            if expires_of(sent):
                assert rig.notify(sent, "open")[1] is not None
            assert rig.watches.dialogs <= 2
    turns = Counter(begun)
    assert begun[:5] == [f"<{owner.uri}>" for owner in owners]
    assert min(turns.values()) >= 3  # of 22 turns in all; where two waited as long, the needier one goes first
    assert len(ended) == len(begun) - 2


def test_nobody_loses_a_place_that_nobody_takes() -> None:
    rig = Rig(most=2)
    for sent in rig.want(BOB, CARL):
        rig.answer(sent, 200)
        rig.notify(sent, "closed")
    rig.tick(TURN)
    (end,) = rig.want(BOB, CARL, CROWD[0])
    assert (expires_of(end), rig.tick()) == (0, [])
    rig.answer(end, 200)
    ends, new = rig.tick()  # now bob waits, for carl
    assert (expires_of(ends), ends[1].to, new[1].target) == (0, "<sip:carl@home.lan>", CROWD[0].uri)


def test_who_leaves_anyway_makes_room() -> None:
    rig = Rig(most=2)
    for sent in rig.want(BOB, CARL):
        rig.answer(sent, 200)
        rig.notify(sent, "closed")
    rig.tick(TURN)
    (end,) = rig.want(CARL, CROWD[0])
    assert (expires_of(end), end[1].to) == (0, "<sip:bob@home.lan>")


def test_a_turn_is_not_cut_short() -> None:
    rig = Rig(most=1)
    rig.tick(HOUR)
    rig.live()
    rig.watches.want((BOB, CARL), rig.now)
    assert rig.tick(TURN - 1) == []
    assert expires_of(rig.one(1)) == 0


@pytest.mark.parametrize("answer_first", [True, False])
def test_the_end_of_a_turn_is_no_refusal(answer_first: bool) -> None:
    rig = Rig(most=1)
    first = rig.live()
    rig.watches.want((BOB, CARL), rig.now)
    end = rig.one(TURN)
    if answer_first:
        rig.answer(end, 200)
    assert rig.notify(first, "closed", "terminated;reason=noresource") == (200, None)
    if not answer_first:
        rig.answer(end, 200)
    assert rig.watches.states()["bob@home.lan"] == "waits for its turn"
    assert rig.one()[1].target == "sip:carl@home.lan"


def test_a_refusal_of_who_is_not_wanted_is_forgotten(rig: Rig) -> None:
    first = rig.live()
    rig.watches.want((), rig.now)
    assert rig.notify(first, b"", "terminated;reason=noresource") == (200, None)
    assert len(rig.want(BOB)) == 1


def test_with_places_for_all_nobody_is_turned_out() -> None:
    rig = Rig(most=2)
    for sent in rig.want(BOB, CARL):
        rig.answer(sent, 200)
        rig.notify(sent, "closed")
    assert rig.tick(2 * TURN) == []


def test_who_rests_keeps_no_place() -> None:
    rig = Rig(most=1)
    (sent,) = rig.want(BOB, CARL)
    rig.answer(sent, 404)
    other = rig.one()
    assert other[1].target == "sip:carl@home.lan"
    rig.answer(other, 200)
    rig.notify(other, "closed")
    assert rig.tick(2 * TURN) == []
    assert rig.watches.states()["bob@home.lan"].startswith("refused: 404")


def test_a_rest_outlasts_a_while_without_mail(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 404)
    assert rig.want(after=60) == []
    assert rig.want(BOB, after=60) == []
    assert rig.want(after=HOUR) == []
    assert len(rig.want(BOB)) == 1


def test_no_wake_is_lost_when_mail_comes_anew_before_the_end_was_sent(rig: Rig) -> None:
    sent = rig.live(basic="open")
    rig.watches.want((), rig.now)
    assert rig.notify(sent, "open") == (200, None)
    rig.watches.want((BOB,), rig.now)
    refresh = rig.one()
    assert (refresh[1].call_id, expires_of(refresh)) == (sent[1].call_id, 600)
    rig.answer(refresh, 200)
    assert rig.notify(sent, "open") == (200, BOB)
    assert rig.notify(sent, "open") == (200, None)


def test_no_wake_is_lost_when_mail_comes_anew_while_a_refresh_is_under_way(rig: Rig) -> None:
    sent = rig.live(basic="open")
    refresh = rig.one(401)
    assert rig.notify(sent, "open") == (200, None)
    rig.watches.want((), rig.now)
    rig.watches.want((BOB,), rig.now)
    rig.answer(refresh, 200)
    again = rig.one()
    assert expires_of(again) == 600
    assert rig.notify(again, "open") == (200, BOB)


def test_no_wake_is_lost_when_mail_comes_anew_while_the_end_is_under_way(rig: Rig) -> None:
    sent = rig.live(basic="open")
    (end,) = rig.want()
    assert rig.want(BOB) == []
    rig.answer(end, 200)
    assert rig.notify(sent, b"", "terminated;reason=timeout") == (200, None)
    again = rig.one()
    assert again[1].call_id != sent[1].call_id
    assert rig.notify(again, "open") == (200, BOB)


def test_who_has_no_mail_is_not_woken(rig: Rig) -> None:
    sent = rig.live()
    rig.watches.want((), rig.now)
    assert rig.notify(sent, "open") == (200, None)


# -- time, and memory ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("jump", [-DAY, DAY, -10 * 365 * DAY])
def test_a_clock_that_is_set_neither_stalls_nor_bursts(jump: float) -> None:
    rig = Rig()
    rig.watches.want(CROWD[:200], rig.now)
    calls = set()
    for _ in range(10):
        for sent in rig.tick():
            calls.add(sent[1].call_id)
            rig.answer(sent, 200)
            rig.notify(sent, "closed")
    assert len(calls) == 200
    rig.now += jump
    refreshed: list[int] = []
    for _ in range(401):
        batch = rig.tick()
        assert {sent[1].call_id for sent in batch} <= calls  # no new dialog is needed
        refreshed.append(len(batch))
        for sent in batch:
            rig.answer(sent, 200)
            rig.notify(sent, "closed")
    assert max(refreshed) <= PACE
    assert sum(refreshed) >= 200


def test_a_clock_set_back_does_not_prolong_a_rest(rig: Rig) -> None:
    (sent,) = rig.want(BOB)
    rig.answer(sent, 404)
    rig.tick(REST / 2)
    rig.tick(-DAY)
    assert rig.states() == ["refused: 404 Because, next try in 30 min"]
    rig.one(REST / 2)


def test_missed_ticks_are_not_made_up_for(rig: Rig) -> None:
    rig.watches.want(CROWD, rig.now)
    assert len(rig.tick(1000)) == PACE
    assert rig.tick(LOOK / 2) == []


def test_users_that_come_and_go_leave_nothing_behind() -> None:
    rig = Rig(most=20)
    stays = rig.live()
    for number in range(2500):
        owner = Aor(f"x{number}", "home.lan")
        for sent in rig.want(BOB, owner):
            if not expires_of(sent) or sent[1].call_id == stays[1].call_id:
                rig.answer(sent, 200)
            elif number % 3 == 0:
                rig.answer(sent, 404)
            else:
                rig.answer(sent, 200)
                rig.notify(sent, "closed", "active" if number % 3 == 1 else "terminated")
    assert len(rig.watches._calls) < 2500
    assert rig.notify(stays, "open") == (200, BOB)
    for sent in rig.want() + rig.tick():
        rig.answer(sent, 200)
    rig.tick(2 * HOUR)
    watches = rig.watches
    assert (watches.dialogs, watches._of, watches._under_way) == (0, {}, {})


# -- anything in any order -------------------------------------------------------------------------------------------
OWNERS = [BOB, CARL, *CROWD[:4]]
ANSWERS = [200, 202, 204, 400, 401, 403, 404, 408, 410, 423, 480, 481, 489, 500, 501, 503, 603]
STATES = [
    "active", "active;expires=60", "pending", "terminated", "terminated;reason=deactivated", "terminated;reason=giveup",
    "terminated;reason=rejected", "terminated;reason=timeout;retry-after=9", "strange", "active;expires=0",
]  # fmt: skip


class AnyOrder(RuleBasedStateMachine):
    """A PBX that does what it likes; the model is what went over the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(most=3)
        self.wanted: tuple[Aor, ...] = ()
        self.under_way: dict[int, Outgoing] = {}
        self.sent: dict[str, list[Outgoing]] = {}
        self.tokens: set[int] = set()
        self.told: dict[str, bool] = {}
        "By Call-ID: whether the last NOTIFY that was taken said open."
        self.owner: dict[str, Aor] = {}

    @rule(owners=st.lists(st.sampled_from(OWNERS), unique=True))
    def want(self, owners: list[Aor]) -> None:
        for call_id, owner in self.owner.items():
            if owner in owners and owner not in self.wanted:
                self.told[call_id] = False
        self.wanted = tuple(owners)
        self.rig.watches.want(owners, self.rig.now)

    @rule(after=st.sampled_from([0.0, 0.1, 1.0, 31.0, 61.0, 401.0, 601.0, 3601.0, DAY, -DAY, -5.0]))
    def tick(self, after: float) -> None:
        batch = self.rig.tick(after)
        assert len(batch) <= PACE
        for token, out in batch:
            assert 2**41 < token < 2**42
            assert token not in self.tokens
            self.tokens.add(token)
            self.under_way[token] = out
            before = self.sent.setdefault(out.call_id, [])
            if before:
                assert out.cseq > before[-1].cseq
                assert (out.from_tag, out.to, out.from_) == (before[-1].from_tag, before[-1].to, before[-1].from_)
            else:
                assert (out.cseq, out.to_tag, expires_of((token, out)) > 0) == (1, "", True)
                assert out.from_tag not in {each[0].from_tag for each in self.sent.values() if each}
            before.append(out)
            self.owner[out.call_id] = Aor.parse(out.to)
        assert len({out.to for _, out in batch}) == len(batch)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), code=st.sampled_from([*ANSWERS, None]), brief=st.sampled_from(["60", "900", "0", "x"]))
    def answer(self, data: st.DataObject, code: int | None, brief: str) -> None:
        token = data.draw(st.sampled_from(sorted(self.under_way)))
        sent = token, self.under_way.pop(token)
        if code is None:
            self.rig.answer(sent, NO_ANSWER)
        else:
            self.rig.answer(
                sent, code, f"Expires: {brief}", f"Min-Expires: {brief}", tag=data.draw(st.sampled_from("ab"))
            )

    @precondition(lambda self: self.sent)
    @rule(
        data=st.data(), state=st.sampled_from(STATES), body=st.sampled_from(["open", "open", "closed", b"", b"<x"]),
        tag=st.sampled_from("aab"),
    )  # fmt: skip
    def notify(self, data: st.DataObject, state: str, body: bytes | str, tag: str) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.sent)))
        status, woken = self.rig.notify((0, self.sent[call_id][-1]), body, state, tag=tag)
        assert status in (200, 400, 481)
        was_open, owner = self.told.get(call_id, False), self.owner[call_id]
        says_open = body == "open" and state != "pending"
        if woken is not None:
            assert (status, woken, says_open, was_open) == (200, owner, True, False)
        if status == 200:
            ended = "terminated" in state  # an old dialog's last word is taken and not heard
            assert woken or ended or was_open or not says_open or owner not in self.wanted
            self.told[call_id] = says_open

    @rule()
    def repeat(self) -> None:
        for call_id, all_sent in self.sent.items():
            assert self.rig.notify((0, all_sent[-1]), "open", call_id=f"{call_id}x") == (481, None)

    @invariant()
    def there_are_never_too_many(self) -> None:
        assert self.rig.watches.dialogs <= 3
        assert set(self.rig.watches.states()) == {str(owner) for owner in self.wanted}
        assert len(self.rig.watches._of) <= len(OWNERS)

    def teardown(self) -> None:
        """Whatever happened: from now on the PBX behaves, and everybody who is wanted is told of within a day."""
        missing = set(self.wanted)
        for token, out in self.under_way.items():
            self.rig.answer((token, out), NO_ANSWER)
        for _ in range(1500):
            for sent in self.rig.tick(61):
                self.rig.answer(sent, 200, f"Expires: {header(sent[1], b'Expires')!r}")
                if expires_of(sent):
                    tag = sent[1].to_tag or "a"
                    assert self.rig.notify(sent, "open", tag=tag)[0] == 200
                    missing.discard(Aor.parse(sent[1].to))
            if not missing:
                break
        assert not missing


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase


# -- more phones, more users, and the end ----------------------------------------------------------------------------
def test_one_more_phone_wakes_while_another_one_is_there() -> None:
    """RFC 3680: presence says only open; reg tells of each Contact."""
    rig = Rig("reg")
    sent = rig.live(basic="open")
    head, _, tail = reginfo(1, "active", "partial").partition(b'id="1" state="active" event')
    second = head + b'id="2" state="active" event' + tail
    assert rig.notify(sent, second) == (200, BOB)
    assert rig.notify(sent, second.replace(b'version="1"', b'version="2"')) == (200, None), "a refresh tells nothing"
    full = reginfo(0, "active").replace(b'id="1" state="active" event', b'id="3" state="active" event')
    assert rig.notify(sent, full) == (200, BOB), "the same after a restart of the PBX, which gives new ids"
    assert rig.notify(sent, full) == (200, None)


def test_three_hundred_users_take_turns_at_the_places_there_are() -> None:
    """Each is asked about, and no more than 250 at the same time."""
    rig, users, asked = Rig(), CROWD[:300], Counter[str]()
    rig.watches.want(users, rig.now)
    for _ in range(20 * MINUTE):
        for sent in rig.tick(1):
            asked[sent[1].to] += expires_of(sent) > 0 and sent[1].to_tag == ""
            rig.answer(sent, 200, f"Expires: {expires_of(sent)}", tag=f"t{sent[0]}")
        assert rig.watches.dialogs <= 250
    assert len(asked) == 300
    assert min(asked.values()) >= 1


def test_leaving_ends_what_is_open_a_few_at_a_time(rig: Rig) -> None:
    users = CROWD[:50]
    rig.watches.want(users, rig.now)
    begun = [sent for _ in range(5) for sent in rig.tick(1)]
    for sent in begun[:45]:
        rig.answer(sent, 200, "Expires: 600", tag=f"t{sent[0]}")
    left: list[tuple[int, Outgoing]] = []
    while more := rig.watches.leave(rig.now):
        assert len(more) <= PACE
        assert {expires_of(one) for one in more} == {0}
        assert rig.watches.leave(rig.now) == [], "the others wait for these"
        for one in more:
            rig.answer(one, 200, tag=f"t{one[0]}")
            assert rig.watches.leaving
            assert rig.notify(one, "open", "terminated", tag=f"t{one[0]}") == (200, None), "and nobody is woken"
        left += more
    assert len({one[1].call_id for one in left}) == len(left) == 45
    assert rig.watches.leaving, "five are not answered yet"
    for sent in begun[45:]:
        rig.answer(sent, NO_ANSWER)
    assert not rig.watches.leaving


@pytest.mark.parametrize("answer", [481, 500, NO_ANSWER])
def test_a_goodbye_that_is_refused_is_done_with(rig: Rig, answer: Answer | int) -> None:
    rig.live()
    (goodbye,) = rig.watches.leave(rig.now)
    assert rig.watches.leaving
    rig.answer(goodbye, answer)
    assert not rig.watches.leaving
    assert rig.watches.leave(rig.now) == []
