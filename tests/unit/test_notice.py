"""Who is told that a recipient is away, what the notice looks like, and who is never told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from msilo_lite.box.message import Contact, Message
from msilo_lite.box.policy import Policy
from msilo_lite.box.silo import Reading
from msilo_lite.errors import BadRequest, Rejected, StoreError
from msilo_lite.gatekeeper import Gatekeeper
from msilo_lite.outbound.bindings import Bindings
from msilo_lite.outbound.notice import REMEMBERED, Notices, Wording
from msilo_lite.outbound.scheduler import Scheduler
from msilo_lite.reception import Reception
from msilo_lite.settings.config import Config
from msilo_lite.settings.control import OWN_ID, Orders
from msilo_lite.settings.pseudo import Subject, Template
from msilo_lite.settings.terms import wording_of
from msilo_lite.sip.address import Aor, parse_address
from msilo_lite.sip.lines import split
from msilo_lite.sip.wire import Incoming, Outgoing, Request
from tests.conftest import OpenRig

from .kit import BOB, CARL, NOW, PROXY, Rig, contact, message, request

ROUTE = ("<sip:127.0.0.1:5060;lr;hide>",)
SILO = "sip:silo@home.lan"
ALICE = "sip:alice@home.lan"


def worded(
    *, from_: str = SILO, body: str = "$rU is away", ctype: str = "Content-Type: text/plain\r\n", contact_: str = "",
    use_contact: bool = True, skip_flag: int = -1, interval: int = 600, automatic: tuple[str, ...] = (SILO,),
) -> Wording:  # fmt: skip
    return Wording(
        from_address=Template.parse(from_),
        body=Template.parse(body),
        ctype=Template.parse_lines(ctype),
        contact=Template.parse_lines(contact_) if contact_ else None,
        use_contact=use_contact,
        skip_flag=skip_flag,
        interval=interval,
        automatic=frozenset(automatic),
    )


def teller(proxy: str | None = PROXY, bindings: tuple[Contact, ...] = (), **changed: Any) -> Notices:
    return Notices(worded(**changed), Bindings(bindings), proxy)


def about(
    notices: Notices, *more: str, what: Message | None = None, now: int = NOW, orders: Orders | None = None,
    mark: str = "notice-1", body: bytes = b"hello", **changed: str | None,
) -> Outgoing | None:  # fmt: skip
    """The notice about a message that was stored for a request."""
    got = request("MESSAGE", "sip:bob@home.lan", *more, body=body, **changed)
    from_ = parse_address(got.get("from") or "", tel=True)
    stored = what or message(from_=from_.text, src=from_.uri)
    stored = replace(stored, arrived=now)
    made = notices.about(stored, Subject(got, "127.0.0.1", 5080, now), orders or Orders(), mark)
    return made if made and notices.leaves(stored, mark) else None


def told(notices: Notices, *more: str, **changed: Any) -> bool:
    return about(notices, *more, **changed) is not None


# -- what it looks like --------------------------------------------------------------------------------------------
def test_a_notice() -> None:
    assert about(teller(), "Subject: Hi", from_='"A" <sip:alice@home.lan>;tag=1') == Outgoing(
        target=ALICE,
        from_="<sip:silo@home.lan>",
        to="<sip:alice@home.lan>",
        call_id="notice-1@msilo-lite",
        headers=(
            (b"Date", b"Fri, 15 Jan 2027 08:00:00 GMT"),
            (b"X-MSilo-ID", b"notice-1"),
            (b"Auto-Submitted", b"auto-replied"),
        ),
        ctype=b"text/plain",
        body=b"bob is away",
        routes=ROUTE,
    )


def test_its_words_come_from_the_request() -> None:
    notices = teller(
        from_='"$tU" <sip:$rU@$rd>',
        body="$fU, $tn is away: $hdr(Subject), $$5, $si:$sp, $rb, $hdr(None)",
        ctype="Content-Type: text/plain;charset=utf-8\r\nX-Call: $ci\r\n",
        contact_="Contact: <sip:null@$fd>",
    )
    out = about(
        notices, "Subject: Zoë", to='"Bob" <sip:bobby@home.lan>', call_id="c7", from_="<sip:alice@x.lan>", body=b"\xff"
    )
    assert out is not None
    assert out.from_ == '"bobby" <sip:bob@home.lan>'
    assert out.to == "<sip:alice@x.lan>"
    assert out.body == 'alice, "Bob" is away: Zoë, $5, 127.0.0.1:5080, '.encode() + b"\xff, <null>"
    assert out.ctype == b"text/plain;charset=utf-8"
    assert out.headers[3:] == ((b"Contact", b"<sip:null@x.lan>"), (b"X-Call", b"c7"))


def test_nothing_of_a_request_can_start_a_header() -> None:
    notices = teller(from_='"$hdr(X-Name)" <sip:silo@home.lan>', contact_="X-About: $hdr(Subject)")
    out = about(notices, "Subject: a\x0cX-Evil: 1", "X-Name: b\x0cX-Evil: 2\x00")
    assert out is not None
    assert "\x0c" not in out.from_
    assert "\x00" not in out.from_
    assert dict(out.headers)[b"X-About"] == b"a X-Evil: 1"


@pytest.mark.parametrize("ctype", ["X-Only: this", "$hdr(X-None)"])
def test_a_content_type_that_is_none_means_text(ctype: str) -> None:
    out = about(teller(ctype=ctype))
    assert out is not None
    assert out.ctype == b"text/plain"


@pytest.mark.parametrize("changed", [{"from_": "$hdr(X-None)"}, {"body": "$hdr(X-None)"}])
def test_a_lone_variable_without_value_is_no_notice(changed: dict[str, str]) -> None:
    notices = teller(**changed)  # type: ignore[arg-type]  # any field of Wording by name
    assert about(notices) is None
    assert not notices.returned(request("MESSAGE", ALICE, "X-MSilo-ID: notice-1"))
    assert told(notices, "X-None: sip:x@home.lan")  # and nobody counts as told


@pytest.mark.parametrize("from_", ["nobody", "$rU", "http://x", "<sip:silo@home.lan"])
def test_a_from_that_is_no_address_raises(from_: str) -> None:
    with pytest.raises(BadRequest):
        about(teller(from_=from_))


def test_what_the_settings_mean() -> None:
    settings = {"from_address": "sip:Silo@Home.lan;x=y", "offline_message": "away", "reminder": "SIP:reminder@home.lan"}
    config = Config.model_validate(settings | {"content_type_hdr": "Content-Type: text/plain", "notice_interval": 7})
    wording = wording_of(config)
    assert wording is not None
    assert wording.automatic == {"sip:silo@home.lan", "sip:reminder@home.lan"}
    assert (wording.use_contact, wording.skip_flag, wording.interval, wording.contact) == (True, -1, 7, None)
    assert wording_of(Config.model_validate(settings | {"offline_message": None})) is None
    assert wording_of(Config.model_validate({"offline_message": "x", "content_type_hdr": "Content-Type: a/b"})) is None
    assert not told(Notices(None, Bindings(()), PROXY))


# -- never about what no person wrote ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        ("Auto-Submitted: auto-replied", False),
        ("Auto-Submitted: auto-generated", False),
        ("auto-submitted:  AUTO-NOTIFIED ; owner-token=x", False),
        ("Auto-Submitted: anything", False),
        ("Auto-Submitted: no", True),
        ("Auto-Submitted: No;x=y", True),
        ("Auto-Submitted:", True),
        ("X-Auto-Submitted: auto-replied", True),
    ],
)
def test_an_automatic_message(line: str, is_told: bool) -> None:
    assert told(teller(), line) == is_told


@pytest.mark.parametrize(
    ("from_", "is_told"),
    [
        ("<sip:silo@home.lan>;tag=1", False),
        ('"Silo" <SIP:Silo@HOME.lan;user=phone>', False),
        ("sip:silo@home.lan", False),
        ("<sip:silo2@home.lan>", True),
        ("<sip:silo@other.lan>", True),
    ],
)
def test_a_message_from_the_silo_itself(from_: str, is_told: bool) -> None:
    assert told(teller(), from_=from_) == is_told


def test_a_reminder_is_not_told_of() -> None:
    """Its sender knows that it is for later."""
    assert not told(teller(), what=message(due=NOW + 60))


@pytest.mark.parametrize(
    ("flag", "flags", "is_told"),
    [(5, {5, 6}, False), (0, {0}, False), (5, {6}, True), (5, set(), True), (-1, {5}, True)],
)
def test_the_flag_that_skips_it(flag: int, flags: set[int], is_told: bool) -> None:
    assert told(teller(skip_flag=flag), orders=Orders(flags=frozenset(flags))) == is_told


def test_who_was_not_told_for_a_reason_is_told_of_the_next() -> None:
    notices = teller(skip_flag=5)
    assert not told(notices, orders=Orders(flags=frozenset({5})))
    assert not told(notices, "Auto-Submitted: auto-replied")
    assert told(notices)


# -- one in a while ------------------------------------------------------------------------------------------------
def test_one_for_each_pair_in_an_interval() -> None:
    notices = teller(interval=600)
    assert told(notices)
    assert not told(notices)
    assert not told(notices, now=NOW + 599)
    assert told(notices, from_="<sip:zoe@home.lan>")
    assert told(notices, what=message(CARL))
    assert told(notices, now=NOW + 600)
    assert not told(notices, now=NOW + 1199)


def test_no_interval_at_all() -> None:
    notices = teller(interval=0)
    assert [told(notices) for _ in range(3)] == [True] * 3


def test_the_first_message_after_a_start_is_told_of_whatever_the_clock_says() -> None:
    assert told(teller(), now=0)


def test_a_clock_set_back_does_not_silence_it() -> None:
    notices = teller(interval=600)
    assert told(notices, now=NOW + 86400)
    assert told(notices, now=NOW)


def test_what_is_remembered_is_bounded() -> None:
    notices = teller(interval=86400)
    first = request("MESSAGE", ALICE, "X-MSilo-ID: notice-0")
    for number in range(REMEMBERED):
        assert told(notices, from_=f"<sip:user{number}@home.lan>", mark=f"notice-{number}")
    assert notices.returned(first)
    assert not told(notices, from_="<sip:user0@home.lan>")
    assert told(notices, from_="<sip:one-more@home.lan>", mark="notice-more")
    assert not notices.returned(first)
    assert told(notices, from_="<sip:user0@home.lan>")
    assert not told(notices, from_="<sip:user9@home.lan>")


def test_a_notice_that_comes_back_is_known() -> None:
    notices = teller()
    assert not notices.returned(request("MESSAGE", ALICE, "X-MSilo-ID: notice-1"))
    about(notices)
    assert notices.returned(request("MESSAGE", ALICE, "x-msilo-id: notice-1"))
    assert not notices.returned(request("MESSAGE", ALICE, "X-MSilo-ID: notice-2"))
    assert not notices.returned(request("MESSAGE", ALICE, "X-MSilo-ID:"))
    assert not notices.returned(request("MESSAGE", ALICE))


# -- where it goes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("Contact: <sip:alice@127.0.0.1:5099;x=y>;expires=60", "sip:alice@127.0.0.1:5099;x=y"),
        ("m: sip:alice@127.0.0.1:5099", "sip:alice@127.0.0.1:5099"),
        ("Contact: <SIP:alice@127.0.0.1>", "SIP:alice@127.0.0.1"),
        ("Contact: <sips:alice@127.0.0.1>", ALICE),
        ("Contact: <sip:alice@phone.home.lan>", "sip:alice@phone.home.lan"),
        ("Contact: <sip:127.0.0.1:5099>", "sip:127.0.0.1:5099"),
        ('Contact: "A, B" <sip:a@127.0.0.1>, <sip:b@127.0.0.1>', "sip:a@127.0.0.1"),
        ("Contact: *", ALICE),
        ("Contact: nonsense", ALICE),
        ("Contact:", ALICE),
        ("Contact: <tel:+4930>", ALICE),
        ("Contact: <sip:>", ALICE),
        ("Subject: no Contact", ALICE),
    ],
)
def test_through_the_proxy_to_the_contact_or_else_to_from(line: str, target: str) -> None:
    out = about(teller(), line)
    assert out is not None
    assert (out.target, out.routes, out.to) == (target, ROUTE, "<sip:alice@home.lan>")


def test_without_use_contact_to_from() -> None:
    out = about(teller(use_contact=False), "Contact: <sip:alice@127.0.0.1:5099>")
    assert out is not None
    assert (out.target, out.routes) == (ALICE, ROUTE)


PHONE = contact("sip:alice@127.0.0.1:5091", aor=Aor("alice", "home.lan"), path=("<sip:127.0.0.9;lr>",))


def test_straight_to_where_the_sender_is_registered() -> None:
    out = about(teller(None, (PHONE,)))
    assert out is not None
    assert (out.target, out.routes, out.to) == (
        "sip:alice@127.0.0.1:5091",
        ("<sip:127.0.0.9;lr>",),
        "<sip:alice@home.lan>",
    )


def test_straight_to_the_contact_of_the_message_where_it_has_one() -> None:
    line = "Contact: <sip:alice@127.0.0.1:5099>"
    out = about(teller(None, (PHONE,)), line)
    assert out is not None
    assert (out.target, out.routes) == ("sip:alice@127.0.0.1:5099", ())
    out = about(teller(None, (PHONE,), use_contact=False), line)
    assert out is not None
    assert out.target == "sip:alice@127.0.0.1:5091"


@pytest.mark.parametrize("from_", ["<sip:alice@127.0.0.1:5098>", "<sip:alice@[::1]:5098>"])
def test_straight_to_an_address(from_: str) -> None:
    out = about(teller(None), from_=from_)
    assert out is not None
    assert (out.target, out.routes) == (from_.strip("<>"), ())


def test_a_registration_that_is_over_does_not_count() -> None:
    with pytest.raises(BadRequest):
        about(teller(None, (PHONE,)), now=PHONE.expires)


def asks_dns(out: Outgoing) -> bool:
    """Whether PJSIP would have to look a name up, on the only thread there is."""
    return "phone.home.lan" in (out.routes or (out.target,))[0]


@pytest.mark.parametrize(
    ("line", "bindings"),
    [
        ("Contact: <sip:alice@phone.home.lan>", ()),
        ("Contact: <sip:alice@phone.home.lan>", (PHONE,)),
        ("X: y", (contact("sip:alice@phone.home.lan", aor=PHONE.aor),)),
        ("X: y", (contact("sip:alice@127.0.0.1", aor=PHONE.aor, path=("<sip:phone.home.lan;lr>",)),)),
    ],
)
def test_a_name_is_never_looked_up(line: str, bindings: tuple[Contact, ...]) -> None:
    try:
        out = about(teller(None, bindings), line)
    except BadRequest:
        return
    assert out is not None
    assert not asks_dns(out)


@pytest.mark.parametrize("from_", ["<sip:alice@home.lan>", "<tel:+4930123>"])
def test_nobody_is_told_who_cannot_be_reached(from_: str) -> None:
    notices = teller(None)
    with pytest.raises(BadRequest):
        about(notices, from_=from_)
    assert told(notices, "Contact: <sip:alice@127.0.0.1:5099>", from_=from_)  # and he does not count as told


def test_the_one_who_sent_it_is_told_even_where_it_was_stored_in_anothers_name() -> None:
    """msilo 4.2: To is the From URI of the stored MESSAGE, never srcaddr."""
    what = message(src="sip:team@home.lan", from_="<sip:team@home.lan>")
    out = about(teller(), what=what, orders=Orders(src=parse_address("sip:team@home.lan")))
    assert out is not None
    assert (out.target, out.to) == (ALICE, "<sip:alice@home.lan>")


# -- at the front desk ---------------------------------------------------------------------------------------------
WORDS = {
    "from_address": SILO,
    "offline_message": "$rU is away",
    "content_type_hdr": "Content-Type: text/plain\r\n",
    "outbound_proxy": PROXY,
    "peer": ({"address": "127.0.0.2", "control": True},),
    "skip_notification_flag": 5,
}


class Desk:
    """A reception over the parts of a rig; one turn of the loop at a time."""

    def __init__(self, rig: Rig, **changed: Any) -> None:
        self.rig = rig
        config = Config.model_validate(WORDS | changed)
        scheduler = Scheduler(0.1, 60, 10, 1)
        gate = Gatekeeper(config, rig.silo.places.aor)
        self.reception = Reception(config, rig.silo, rig.bindings, rig.replay, scheduler, lambda *_: (481, None), gate)

    def take(self, *requests: Request, host: str = "127.0.0.1", now: int = NOW) -> list[Outgoing]:
        """Requests that share a turn; the notices that leave after it."""
        for one in requests:
            self.reception.take(Incoming(split(b""), host, 5080, 0), one, now)
        try:
            fresh = self.rig.silo.commit(now)
        except StoreError:
            assert self.reception.stored(frozenset()) == []
            return []
        return [one.notice for one in self.reception.stored(fresh) if one.notice]


@pytest.fixture
def desk(open_rig: OpenRig) -> Desk:
    reading = Reading(snd_time=Template.parse("$hdr(X-Send-At)"))
    return Desk(open_rig(proxy=PROXY, policy=Policy(reminders=True), reading=reading))


def write(*more: str, body: bytes = b"hello", **changed: str | None) -> Request:
    return request("MESSAGE", "sip:bob@home.lan", *more, body=body, **changed)


def test_a_stored_message_is_told_of_after_the_commit(desk: Desk) -> None:
    (notice,) = desk.take(write())
    assert (notice.target, notice.body) == (ALICE, b"bob is away")
    mark = dict(notice.headers)[b"X-MSilo-ID"].decode()
    assert notice.call_id == f"{mark}@msilo-lite"
    assert desk.take(write()) == []


def test_each_notice_has_a_mark_of_its_own(desk: Desk) -> None:
    marks = [dict(desk.take(write(), now=NOW + 600 * turn)[0].headers)[b"X-MSilo-ID"] for turn in range(3)]
    assert len(set(marks)) == 3


@pytest.mark.parametrize("line", ["X-MSilo-ID: 9-0123456789abcdef", "X-MSilo-ID: notice-0123", "x-msilo-id:"])
def test_what_another_silo_sent_is_stored_and_not_told_of(desk: Desk, line: str) -> None:
    assert desk.take(write(line)) == []
    assert len(desk.rig.box()) == 1
    assert desk.take(write())


@pytest.mark.parametrize("line", ["X-Send-At: +60s", "Auto-Submitted: auto-replied"])
def test_what_is_stored_and_not_told_of(desk: Desk, line: str) -> None:
    assert desk.take(write(line)) == []
    assert len(desk.rig.box()) == 1


def test_a_notice_that_a_failure_route_brings_back_is_refused(desk: Desk) -> None:
    (notice,) = desk.take(write())
    mark = dict(notice.headers)[b"X-MSilo-ID"].decode()
    with pytest.raises(Rejected) as caught:
        desk.take(request("MESSAGE", ALICE, f"X-MSilo-ID: {mark}", to=notice.to, from_=notice.from_))
    assert caught.value.status == 480
    desk.rig.silo.commit(NOW)
    assert len(desk.rig.box()) == 1
    assert desk.rig.counters()["returned_messages"] == 1


def test_our_own_replay_coming_back_is_not_told_of(desk: Desk) -> None:
    desk.take(write("X-MSilo-ID: 1-1"))
    (send,) = desk.rig.wake(BOB)
    with pytest.raises(Rejected):
        desk.take(write(f"X-MSilo-ID: {send.item.msilo_id}"))
    assert desk.reception.stored(frozenset()) == []


def test_the_flag_counts_from_a_peer_with_control_only(desk: Desk) -> None:
    assert desk.take(write("X-MSilo-Flags: 5"), host="127.0.0.2") == []
    assert len(desk.take(write("X-MSilo-Flags: 5"))) == 1


def test_a_repeat_is_not_told_of(open_rig: OpenRig) -> None:
    desk = Desk(open_rig(proxy=PROXY), notice_interval=0)
    same = write()
    assert len(desk.take(same)) == 1
    assert desk.take(same) == []
    assert len(desk.take(write())) == 1


@pytest.mark.parametrize("interval", [0, 600])
def test_a_message_and_its_repeat_in_one_turn_are_told_of_once(open_rig: OpenRig, interval: int) -> None:
    desk = Desk(open_rig(proxy=PROXY), notice_interval=interval)
    same = write()
    assert len(desk.take(same, same)) == 1
    assert len(desk.rig.box()) == 1


def test_who_got_no_202_is_told_when_he_comes_again(desk: Desk) -> None:
    """The disk failed, the sender got 503 and repeats the message."""
    same = write()
    with closing(sqlite3.connect(desk.rig.file)) as other:
        other.execute("CREATE TRIGGER broken BEFORE INSERT ON msilo_counter BEGIN SELECT RAISE(ABORT, 'full'); END")
    assert desk.take(same) == []
    with closing(sqlite3.connect(desk.rig.file)) as other:
        other.execute("DROP TRIGGER broken")
    assert len(desk.take(same, now=NOW + 5)) == 1


def test_a_notice_that_can_go_nowhere_is_counted_and_the_message_is_stored(open_rig: OpenRig) -> None:
    desk = Desk(open_rig(), outbound_proxy=None)
    assert desk.take(write()) == []
    assert len(desk.rig.box()) == 1
    assert desk.rig.counters()["failed_notices"] == 1
    assert OWN_ID not in desk.rig.box()[0].message.kept


def test_what_is_not_stored_is_not_told_of(desk: Desk) -> None:
    assert desk.take(write(content_type="application/im-iscomposing+xml")) == []
    with pytest.raises(Rejected):
        desk.take(write(expires="0"))
    assert desk.reception.stored(frozenset()) == []
