"""The verbs on stored messages, over a real file."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.box.delivery import Event, State
from msilo_lite.box.message import Message, Turn
from msilo_lite.box.policy import FULL_RETRY, LAST_SECOND, Policy
from msilo_lite.box.silo import Places, Reading, Source
from msilo_lite.errors import BadRequest, MsiloError, Refused, Rejected, StoreError
from msilo_lite.outbound.compose import replay
from msilo_lite.outbound.lanes import Send
from msilo_lite.settings.pseudo import Template
from msilo_lite.sip.address import Aor, parse_address
from msilo_lite.sip.wire import Request
from tests.conftest import OpenRig

from .kit import BOB, CARL, NOW, PLAIN, PROXY, Rig, message, request, texts

PBX = Source("127.0.0.2", 5060, control=True)
PHONE = Source("127.0.0.1", 5080)
TIMED = Reading(snd_time=Template.parse("$hdr(X-Send-At)"))
DAY = 86400


def refused(rig: Rig, *more: str, target: str = "sip:bob@home.lan", **changed: Any) -> int:
    """The status a MESSAGE is refused with; nothing may be staged."""
    with pytest.raises(Refused) as caught:
        rig.silo.accept(request("MESSAGE", target, *more, **changed), NOW)
    assert rig.silo.turn.new == []
    return caught.value.status


# -- places --------------------------------------------------------------------------------------------------------
HOME = Places(("home.lan", "b.lan"), frozenset({"127.0.0.1", "[::1]"}))
ANYWHERE = Places((), frozenset({"127.0.0.1"}))


@pytest.mark.parametrize(
    ("places", "uri", "owner"),
    [
        (HOME, "sip:bob@home.lan", "bob@home.lan"),
        (HOME, "sip:bob@B.LAN:5060", "bob@b.lan"),
        (HOME, "sip:bob@127.0.0.1:5070", "bob@home.lan"),
        (HOME, "sip:bob@[::1]", "bob@home.lan"),
        (HOME, "sip:bob@elsewhere.lan", None),
        (HOME, "sip:home.lan", None),
        (ANYWHERE, "sip:bob@elsewhere.lan", "bob@elsewhere.lan"),
        (ANYWHERE, "sip:bob@127.0.0.1", "bob@127.0.0.1"),
        (ANYWHERE, "sip:home.lan", None),
    ],
)
def test_whose_users_are_ours(places: Places, uri: str, owner: str | None) -> None:
    assert places.aor(uri) == (Aor.parse(owner) if owner else None)


@pytest.mark.parametrize(
    ("places", "to", "text", "uri"),
    [
        (HOME, '"B" <sip:bob@home.lan>', '"B" <sip:bob@home.lan>', "sip:bob@home.lan"),
        (HOME, '"B" <sip:bob@127.0.0.1:5070>', '"B" <sip:bob@home.lan>', "sip:bob@home.lan"),
        (HOME, "<sip:bob@[::1];user=phone>", "<sip:bob@home.lan;user=phone>", "sip:bob@home.lan;user=phone"),
        (HOME, "<sip:bob@elsewhere.lan>", "<sip:bob@elsewhere.lan>", "sip:bob@elsewhere.lan"),
        (ANYWHERE, "<sip:bob@127.0.0.1>", "<sip:bob@127.0.0.1>", "sip:bob@127.0.0.1"),
    ],
)
def test_to_as_it_is_replayed(places: Places, to: str, text: str, uri: str) -> None:
    assert places.shown(parse_address(to)) == (text, uri)


# -- accept --------------------------------------------------------------------------------------------------------
def test_a_message_is_stored_as_it_came(rig: Rig) -> None:
    rig.silo.accept(
        request(
            "MESSAGE", "sip:bob@home.lan:5060", "Subject: Zoë", body=b"\x00\xff",
            from_='"A, x" <sip:alice@x.lan>;tag=1',
            to="Bob <sip:Bobby@home.lan>;tag=2", content_type='a/b;c="d"', call_id="the-call", expires="60",
        ),
        NOW,
    )  # fmt: skip
    rig.silo.commit(NOW)
    (item,) = rig.box()
    expected = message(
        src="sip:alice@x.lan", dst="sip:Bobby@home.lan", from_='"A, x" <sip:alice@x.lan>',
        to="Bob <sip:Bobby@home.lan>", ctype='a/b;c="d"', body=b"\x00\xff", kept="Subject: Zoë\r\n", arrived=NOW,
        expires=NOW + 60, call_id="the-call", key=item.message.key,
    )  # fmt: skip
    assert item.message == expected
    assert (item.state, item.attempts, item.code, item.reason, item.known) == (State.PENDING, 0, None, None, True)


def test_nothing_is_stored_before_the_commit(rig: Rig) -> None:
    rig.silo.accept(request(), NOW)
    assert rig.box() == []
    assert rig.silo.has_mail(BOB, NOW)
    assert not rig.silo.has_mail(CARL, NOW)
    rig.silo.commit(NOW)
    assert len(rig.box()) == 1
    assert rig.silo.has_mail(BOB, NOW)


@pytest.mark.parametrize("later", [False, True])
def test_a_retransmission_is_accepted_again_and_stored_once(rig: Rig, later: bool) -> None:
    same = request()
    assert rig.silo.accept(same, NOW) is not None
    if later:
        rig.silo.commit(NOW)
    assert rig.silo.accept(same, NOW + 1) is not None
    rig.silo.commit(NOW)
    assert len(rig.box()) == 1
    counters = rig.counters()
    assert (counters["stored_messages"], counters["duplicate_messages"]) == (1, 1)


def test_a_retransmission_of_a_delivered_message_is_not_stored_again(rig: Rig) -> None:
    same = request()
    rig.silo.accept(same, NOW)
    rig.silo.commit(NOW)
    rig.answer(rig.wake(BOB)[0], 200)
    rig.silo.accept(same, NOW)
    rig.silo.commit(NOW)
    assert rig.box() == []


def test_who_the_message_is_for(open_rig: OpenRig) -> None:
    rig = open_rig(domains=("home.lan",))
    cases = [
        ("sip:bob@home.lan", "<sip:carl@home.lan>", BOB),
        ("sip:bob@127.0.0.1", "<sip:carl@home.lan>", BOB),
        ("sip:bob@elsewhere.lan", "<sip:carl@home.lan>", CARL),
        ("sip:home.lan", "<sip:carl@home.lan>", CARL),
    ]
    for target, to, owner in cases:
        stored = rig.silo.accept(request("MESSAGE", target, to=to), NOW)
        assert stored is not None
        assert stored.owner == owner
    rig.silo.turn = Turn()
    assert refused(rig, target="sip:bob@elsewhere.lan", to="<sip:bob@elsewhere.lan>") == 404
    assert refused(rig, target="sip:home.lan", to="<sip:home.lan>") == 404


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"content_length": "6"}, 400),
        ({"content_type": None}, 400),
        ({"from": None}, 400),
        ({"from": "nonsense"}, 400),
        ({"from": '"a\x0cX-Evil: 1" <sip:a@b>'}, 400),
        ({"from": '"a\x00" <sip:a@b>'}, 400),
        ({"from": '"\x1b[31m" <sip:a@b>'}, 400),
        ({"from": 'sip:a@b;x="<"'}, None),
        ({"to": '"a\x0cX-Evil: 1" <sip:bob@home.lan>'}, 400),
        ({"from": "<tel:+123>"}, None),
        ({"max_forwards": "0"}, 483),
        ({"expires": "0"}, 480),
        ({"expires": "60", "date": "Sat, 13 Nov 99999999999999999999 23:29:00 GMT"}, None),
    ],
)
def test_accept_refuses_or_takes_and_does_nothing_else(rig: Rig, changed: dict[str, Any], status: int | None) -> None:
    if status:
        assert refused(rig, **changed) == status
    else:
        assert rig.silo.accept(request(**changed), NOW) is not None


def test_a_message_too_long_to_be_replayed_is_refused(rig: Rig) -> None:
    assert refused(rig, f"Subject: {'x' * 3600}") == 513


@pytest.mark.parametrize("ctype", ["application/im-iscomposing+xml", "Application/IM-IsComposing+XML;charset=utf-8"])
def test_typing_is_forgotten(rig: Rig, ctype: str) -> None:
    assert rig.silo.accept(request(content_type=ctype), NOW) is None
    rig.silo.commit(NOW)
    assert rig.box() == []
    assert rig.counters() == {"forgotten_messages": 1}


def test_our_own_replay_coming_back_is_refused_and_not_stored(rig: Rig) -> None:
    rig.write("one")
    (send,) = rig.wake(BOB)
    with pytest.raises(Rejected) as caught:
        rig.silo.accept(request("MESSAGE", "sip:bob@home.lan", f"X-MSilo-ID: {send.item.msilo_id}"), NOW)
    assert caught.value.status == 480
    rig.silo.commit(NOW)
    assert rig.states() == ["one sending"]
    assert rig.counters()["returned_messages"] == 1


@pytest.mark.parametrize("forged", ["1-0000000000000000", "1", "-", "zz-1", "f" * 40, "-1-2", "\udcff", "1-\udcff"])
def test_a_made_up_id_is_not_our_replay(rig: Rig, forged: str) -> None:
    rig.write("one")
    stored = rig.silo.accept(request("MESSAGE", "sip:bob@home.lan", f"X-MSilo-ID: {forged}"), NOW)
    assert stored is not None
    assert stored.kept == ("X-MSilo-Path: 1-0000000000000000\r\n" if forged == "1-0000000000000000" else "")


# -- orders: m_store(owner), m_store_addrs -------------------------------------------------------------------------
def ordered(rig: Rig, *lines: str, source: Source = PBX, **changed: Any) -> Message:
    stored = rig.silo.accept(request("MESSAGE", "sip:bob@home.lan", *lines, **changed), NOW, source)
    assert stored is not None
    return stored


def test_whose_box_it_is_by_order(rig: Rig) -> None:
    stored = ordered(rig, 'X-MSilo-Owner: "Carl" <sip:carl@HOME.lan:5070;x=y>')
    assert (stored.owner, stored.dst, stored.to, stored.target) == (CARL, "sip:bob@home.lan", "<sip:bob@home.lan>", "")
    rig.silo.commit(NOW)
    assert (rig.states(BOB), rig.states(CARL)) == ([], ["hello pending"])


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ("X-MSilo-Owner: sip:carl@elsewhere.lan", 404),
        ("X-MSilo-Owner: sip:home.lan", 404),
        ("X-MSilo-Owner:", 400),
        ("X-MSilo-Owner: carl", 400),
        ("X-MSilo-Src: carl", 400),
        ("X-MSilo-Max: many", 400),
        ("X-MSilo-Flags: 77", 400),
    ],
)
def test_an_order_that_cannot_be_obeyed_is_refused_and_nothing_is_stored(
    open_rig: OpenRig, order: str, status: int
) -> None:
    rig = open_rig(domains=("home.lan",))
    with pytest.raises(BadRequest) as caught:
        ordered(rig, order)
    assert caught.value.status == status
    assert rig.silo.turn.new == []
    assert ordered(rig, order, source=PHONE).owner == BOB


def test_our_own_address_by_order_means_the_first_domain(open_rig: OpenRig) -> None:
    rig = open_rig(domains=("home.lan",))
    assert ordered(rig, "X-MSilo-Owner: sip:carl@127.0.0.1:5070").owner == CARL


def test_other_addresses_by_order(rig: Rig) -> None:
    stored = ordered(
        rig,
        "X-MSilo-Owner: sip:carl@home.lan",
        'X-MSilo-Src: "The team" <sip:team@home.lan>;tag=7',
        "X-MSilo-Dst: Group <sip:group@elsewhere.lan;user=phone>",
        from_='"A" <sip:alice@home.lan>;tag=1',
    )
    assert stored.owner == CARL
    assert (stored.src, stored.from_) == ("sip:team@home.lan", '"The team" <sip:team@home.lan>')
    assert (stored.dst, stored.to) == (
        "sip:group@elsewhere.lan;user=phone",
        "Group <sip:group@elsewhere.lan;user=phone>",
    )
    assert stored.target == stored.dst
    assert stored.kept == ""


def test_empty_addresses_mean_from_and_to(rig: Rig) -> None:
    stored = ordered(rig, "X-MSilo-Owner: sip:carl@home.lan", "X-MSilo-Src:", "X-MSilo-Dst:")
    assert (stored.src, stored.dst, stored.target) == ("sip:alice@home.lan", "sip:bob@home.lan", "")


def test_the_address_by_order_survives_a_restart(open_rig: OpenRig) -> None:
    rig = open_rig()
    ordered(rig, "X-MSilo-Dst: <sip:group@elsewhere.lan>")
    rig.silo.commit(NOW)
    rig.close()
    (item,) = open_rig().box()
    assert (item.message.target, item.message.to) == ("sip:group@elsewhere.lan", "<sip:group@elsewhere.lan>")


def test_who_may_not_order_is_heard_as_if_he_had_not(rig: Rig) -> None:
    lines = ("X-MSilo-Owner: sip:carl@home.lan", "X-MSilo-Src: sip:boss@home.lan", "X-MSilo-Dst: sip:carl@home.lan")
    for source in (PHONE, None):
        stored = rig.silo.accept(request("MESSAGE", "sip:bob@home.lan", *lines, "Subject: Hi"), NOW, source)
        assert stored is not None
        assert (stored.owner, stored.src, stored.target, stored.kept) == (
            BOB, "sip:alice@home.lan", "", "Subject: Hi\r\n",
        )  # fmt: skip


def test_no_order_is_ever_kept(rig: Rig) -> None:
    lines = ("X-MSilo-Flags: 1", "x-msilo-max: 2", "X-MSILO-ID: 77-1", "X-MSilo-Else: 3", "X-Other: 4")
    for source in (PBX, PHONE):
        assert ordered(rig, *lines, source=source).kept == "X-Other: 4\r\n"


def test_one_request_for_two_owners_is_two_messages(rig: Rig) -> None:
    same: dict[str, Any] = {"call_id": "c1", "from": "<sip:alice@home.lan>;tag=1"}
    for owner in ("bob", "carl", "bob"):
        ordered(rig, f"X-MSilo-Owner: sip:{owner}@home.lan", **same)
    rig.silo.commit(NOW)
    assert (rig.states(BOB), rig.states(CARL)) == (["hello pending"], ["hello pending"])


# -- reminders -----------------------------------------------------------------------------------------------------
@pytest.fixture
def timed(open_rig: OpenRig) -> Rig:
    """Parts that take the time to send at from a header; bob is registered."""
    rig = open_rig(policy=Policy(reminders=True), reading=TIMED)
    rig.register("bob")
    return rig


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("+90", None),
        ("+90s", NOW + 90),
        (" +1h ", NOW + 3600),
        ("20270115090000", NOW + 3600),
        ("2027-01-15T10:00:00+01:00", NOW + 3600),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T07:59:00Z", NOW - 60),
        ("2027-01-15T07:58:59Z", None),
        ("", 0),
        ("143000", None),
        ("2027011508000", None),
        ("20270231120000", None),
        ("tomorrow", None),
        ("0", None),
        ("20380119031408", None),
        ("+9999999999s", None),
    ],
)
def test_when_it_is_due(open_rig: OpenRig, text: str, due: int | None) -> None:
    rig = open_rig(policy=Policy(reminders=True, zone=UTC), reading=TIMED)
    if due is None:
        assert refused(rig, f"X-Send-At: {text}") == 400
        return
    stored = rig.silo.accept(request("MESSAGE", "sip:bob@home.lan", f"X-Send-At: {text}"), NOW)
    assert stored is not None
    assert stored.due == due


def test_without_a_time_it_is_no_reminder(timed: Rig) -> None:
    timed.write("a")
    assert [item.message.due for item in timed.box()] == [0]
    assert timed.silo.has_mail(BOB, NOW)


def test_a_reminder_where_reminders_are_off_is_refused(open_rig: OpenRig) -> None:
    rig = open_rig(reading=TIMED)
    assert refused(rig, "X-Send-At: +60s") == 400
    rig.write("a")
    assert rig.states() == ["a pending"]


def test_the_time_may_come_by_order_only(open_rig: OpenRig) -> None:
    reading = Reading(snd_time=Template.parse("$hdr(X-MSilo-Send-Time)"))
    rig = open_rig(policy=Policy(reminders=True), reading=reading)
    assert ordered(rig, "X-MSilo-Send-Time: +60s").due == NOW + 60
    assert ordered(rig, "X-MSilo-Send-Time: +60s", source=PHONE).due == 0
    assert ordered(rig, "X-MSilo-Send-Time: nonsense", source=PHONE).due == 0


@pytest.mark.parametrize(("expires", "lives"), [(None, 259200), ("60", 60), ("999999", 259200), ("nonsense", 259200)])
def test_the_life_of_a_reminder_counts_from_its_time(timed: Rig, expires: str | None, lives: int) -> None:
    stored = timed.silo.accept(request("MESSAGE", "sip:bob@home.lan", f"X-Send-At: +{30 * DAY}s", expires=expires), NOW)
    assert stored is not None
    assert stored.due == NOW + 30 * DAY
    assert stored.expires - stored.due == lives


def test_a_reminder_that_is_due_long_after_expire_time_is_sent(timed: Rig) -> None:
    """The original purges it before (W4)."""
    timed.silo.accept(request("MESSAGE", "sip:bob@home.lan", "X-Send-At: +30d"), NOW)
    timed.silo.commit(NOW)
    timed.now += 30 * DAY
    assert timed.silo.lapse(timed.now - 1, 9) == 0
    timed.register("bob")
    assert texts(timed.wake(BOB)) == ["hello"]


def test_what_wants_to_live_no_second_is_refused_as_a_reminder_too(timed: Rig) -> None:
    assert refused(timed, "X-Send-At: +60s", expires="0") == 480


def test_no_reminder_outlives_the_table(open_rig: OpenRig) -> None:
    rig = open_rig(policy=Policy(expire_time=1000, reminders=True), reading=TIMED)
    last = LAST_SECOND - 1000 - NOW
    stored = rig.silo.accept(request("MESSAGE", "sip:bob@home.lan", f"X-Send-At: +{last}s"), NOW)
    assert stored is not None
    assert stored.expires == LAST_SECOND
    rig.silo.turn = Turn()
    assert refused(rig, f"X-Send-At: +{last + 1}s") == 400


def test_a_reminder_that_is_not_due_is_no_mail(timed: Rig) -> None:
    request_ = request("MESSAGE", "sip:bob@home.lan", "X-Send-At: +60s")
    timed.silo.accept(request_, NOW)
    for committed in (False, True):
        if committed:
            timed.silo.commit(NOW)
        assert not timed.silo.has_mail(BOB, NOW)
        assert not timed.silo.has_mail(BOB, NOW + 59)
        assert timed.silo.has_mail(BOB, NOW + 60)
    assert timed.wake(BOB) == []
    assert timed.states() == ["hello pending"]


def test_a_reminder_counts_as_one(timed: Rig) -> None:
    timed.silo.accept(request("MESSAGE", "sip:bob@home.lan", "X-Send-At: +60s"), NOW)
    timed.write("a")
    timed.now += 60
    (send,) = timed.wake(BOB)
    (send,) = timed.answer(send, 200)
    assert send.item.message.body == b"a"
    timed.answer(send, 200)
    assert timed.counters() == {"stored_messages": 2, "dumped_messages": 1, "dumped_reminders": 1}


@pytest.mark.parametrize(("event", "counter"), [(Event.MISSED, "failed_reminders"), (Event.UNFIT, "failed_reminders")])
def test_a_failed_reminder_stays_one(timed: Rig, event: Event, counter: str) -> None:
    timed.silo.accept(request("MESSAGE", "sip:bob@home.lan", "X-Send-At: +60s"), NOW)
    timed.silo.commit(NOW)
    (item,) = timed.silo.begin(BOB, 0, 9, NOW + 60)
    timed.silo.commit(NOW)
    timed.silo.settle(item, event, NOW + 60, 486, "busy")
    timed.silo.commit(NOW)
    (left,) = timed.box()
    assert (left.reminder, left.message.due, left.message.src) == (True, NOW + 60, "sip:alice@home.lan")
    assert timed.counters()[counter] == 1


def test_a_repeated_reminder_is_stored_once(timed: Rig) -> None:
    same = request("MESSAGE", "sip:bob@home.lan", "X-Send-At: +60s")
    timed.silo.accept(same, NOW)
    timed.silo.commit(NOW)
    timed.silo.accept(same, NOW + 4)
    timed.silo.commit(NOW + 4)
    assert [item.message.due for item in timed.box()] == [NOW + 60]


# -- extra_hdrs_avp ------------------------------------------------------------------------------------------------
def chooses(open_rig: OpenRig, text: str) -> Rig:
    return open_rig(reading=Reading(headers=Template.parse_lines(text)))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("X-Kept: $hdr(Subject)", "X-Kept: Hi\r\n"),
        ("X-One: 1\r\nX-From: $fU", "X-One: 1\r\nX-From: alice\r\n"),
        ("$hdr(X-Lines)", "X-Inner: 7\r\n"),
        ("$hdr(X-None)", "Subject: Hi\r\nX-Lines: X-Inner: 7\r\n"),
        ("X-None: $hdr(X-None)", "X-None: <null>\r\n"),
        ("X-One: 1\r\n$hdr(X-None)", "X-One: 1\r\n"),
    ],
)
def test_what_is_kept_by_expression(open_rig: OpenRig, text: str, kept: str) -> None:
    stored = ordered(chooses(open_rig, text), "Subject: Hi", "X-Lines: X-Inner: 7", source=PHONE)
    assert stored.kept == kept


@pytest.mark.parametrize(
    "line",
    ["X-Lines: X-MSilo-ID: 1-1", "X-Lines: From: <sip:boss@home.lan>", "X-Lines: v: SIP/2.0/UDP x", "X-Lines: ?"],
)
def test_a_phone_that_fills_the_expression_writes_no_header_of_the_frame(open_rig: OpenRig, line: str) -> None:
    assert ordered(chooses(open_rig, "$hdr(X-Lines)"), line, source=PHONE).kept == ""


def test_the_expression_sees_orders_of_a_peer_with_control_only(open_rig: OpenRig) -> None:
    rig = chooses(open_rig, "$hdr(X-MSilo-Keep)")
    assert ordered(rig, "X-MSilo-Keep: X-A: 1", "Subject: Hi").kept == "X-A: 1\r\n"
    assert ordered(rig, "X-MSilo-Keep: X-A: 1", "Subject: Hi", source=PHONE).kept == "Subject: Hi\r\n"


def test_what_is_kept_by_expression_counts_towards_the_size(open_rig: OpenRig) -> None:
    rig = chooses(open_rig, "X-A: $hdr(Subject)\r\nX-B: $hdr(Subject)\r\nX-C: $hdr(Subject)")
    assert refused(rig, f"Subject: {'x' * 1300}") == 513


# -- ignored_types -------------------------------------------------------------------------------------------------
def test_types_to_forget_are_a_setting(open_rig: OpenRig) -> None:
    rig = open_rig(reading=Reading(ignored=frozenset({"text/x-noise", "a/b"})))
    assert rig.silo.accept(request(content_type="Text/X-Noise;v=1"), NOW) is None
    assert rig.silo.accept(request(content_type="a/b"), NOW) is None
    assert rig.silo.accept(request(content_type="application/im-iscomposing+xml"), NOW) is not None
    assert rig.silo.accept(request(content_type=None, body=b""), NOW) is not None


# -- max_messages --------------------------------------------------------------------------------------------------
@pytest.fixture
def small(open_rig: OpenRig) -> Rig:
    """A box for two; bob is registered."""
    rig = open_rig(policy=Policy(max_messages=2, reminders=True), reading=TIMED)
    rig.register("bob")
    return rig


def is_full(rig: Rig, *more: str, now: int = NOW, **changed: Any) -> bool:
    """Whether one more message is refused, and if so as it should be."""
    one, staged = request("MESSAGE", "sip:bob@home.lan", *more, **changed), len(rig.silo.turn.new)
    try:
        return rig.silo.accept(one, now) is None
    except Rejected as refusal:
        how = refusal.status, refusal.headers, len(rig.silo.turn.new)
    if how != (480, (("Retry-After", str(FULL_RETRY)),), staged):
        pytest.fail(f"refused in another way: {how}")
    return True


def test_a_full_box_takes_no_more(small: Rig) -> None:
    small.write("a", "b")
    assert is_full(small)
    small.write("c", to="carl")
    assert small.states() == ["a pending", "b pending"]


def test_messages_of_the_same_turn_count(small: Rig) -> None:
    assert [is_full(small) for _ in range(3)] == [False, False, True]
    small.silo.commit(NOW)
    assert len(small.box()) == 2


def test_messages_on_disk_and_of_the_same_turn_count_together(small: Rig) -> None:
    small.write("a")
    assert [is_full(small) for _ in range(2)] == [False, True]


def test_those_of_others_do_not_count(small: Rig) -> None:
    small.silo.accept(request("MESSAGE", CARL.uri, to=f"<{CARL.uri}>"), NOW)
    assert [is_full(small) for _ in range(3)] == [False, False, True]


def test_a_repeat_of_what_is_in_a_full_box_is_taken_again(small: Rig) -> None:
    first = request(body=b"a")
    small.silo.accept(first, NOW)
    small.silo.commit(NOW)
    small.write("b")
    assert small.silo.accept(first, NOW) is not None
    small.silo.commit(NOW)
    assert small.states() == ["a pending", "b pending"]


def test_a_repeat_in_the_same_turn_is_taken_again(small: Rig) -> None:
    first, second = request(body=b"a"), request(body=b"b")
    for one in (first, second, first, second):
        assert small.silo.accept(one, NOW) is not None
    assert is_full(small)
    small.silo.commit(NOW)
    assert small.states() == ["a pending", "b pending"]


@pytest.mark.parametrize("committed", [False, True])
def test_a_repeat_takes_no_room(small: Rig, committed: bool) -> None:
    """One message that came twice leaves room for one more."""
    first = request(body=b"a")
    small.silo.accept(first, NOW)
    if committed:
        small.silo.commit(NOW)
    small.silo.accept(first, NOW)
    assert not is_full(small, body=b"b")
    assert is_full(small)
    small.silo.commit(NOW)
    assert small.states() == ["a pending", "b pending"]


def test_a_repeat_of_a_delivered_message_takes_no_room(small: Rig) -> None:
    first = request(body=b"a")
    small.silo.accept(first, NOW)
    small.silo.commit(NOW)
    small.answer(small.wake(BOB)[0], 200)
    small.turn()
    small.silo.accept(first, NOW)
    assert [is_full(small) for _ in range(3)] == [False, False, True]


def test_what_is_over_does_not_count(small: Rig) -> None:
    """The original counts it until it is purged."""
    small.write("a", expires="10")
    small.write("b", expires="11")
    assert is_full(small, now=NOW + 9)
    assert not is_full(small, now=NOW + 10)


def test_reminders_count(small: Rig) -> None:
    small.silo.accept(request("MESSAGE", "sip:bob@home.lan", "X-Send-At: +1d"), NOW)
    small.silo.commit(NOW)
    assert [is_full(small) for _ in range(2)] == [False, True]
    assert is_full(small, "X-Send-At: +1d")


def test_a_reminder_counts_before_and_after_its_time(small: Rig) -> None:
    for line in ("X-Send-At: +1d", "X-Send-At: +60d"):
        small.silo.accept(request("MESSAGE", "sip:bob@home.lan", line), NOW)
    small.silo.commit(NOW)
    assert is_full(small)
    assert is_full(small, now=NOW + 2 * DAY)
    assert not is_full(small, now=NOW + 30 * DAY)


def test_messages_under_way_count_until_they_have_arrived(small: Rig) -> None:
    small.write("a", "b")
    (send,) = small.wake(BOB)
    assert is_full(small)
    small.answer(send, 200)
    small.turn()
    assert not is_full(small)


def test_a_box_without_limit(rig: Rig) -> None:
    for _ in range(50):
        assert not is_full(rig)


def test_what_may_not_be_taken_stays_out_of_the_counters(small: Rig) -> None:
    small.write("a", "b")
    assert is_full(small)
    small.silo.commit(NOW)
    assert small.counters() == {"stored_messages": 2}


# -- what could break out of a header ------------------------------------------------------------------------------
@pytest.mark.parametrize("call_id", ["c1\x0cX-Evil: 1", "c1\x00", "c1\x1b[31m"])
def test_no_call_id_can_start_a_header(rig: Rig, call_id: str) -> None:
    """With use_mode = 1 it is sent again."""
    with contextlib.suppress(BadRequest):
        stored = rig.silo.accept(request(call_id=call_id), NOW)
        assert stored is not None
        assert stored.call_id.isprintable()


# -- the rest ------------------------------------------------------------------------------------------------------
def test_begin_claims_the_oldest_of_one_owner(rig: Rig) -> None:
    rig.write("a", "b", "c")
    rig.write("other", to="carl")
    first = rig.silo.begin(BOB, 0, 2, NOW)
    assert [item.message.body for item in first] == [b"a", b"b"]
    assert rig.states() == ["a pending", "b pending", "c pending"]
    rig.silo.commit(NOW)
    assert rig.states() == ["a sending", "b sending", "c pending"]
    assert [item.message.body for item in rig.silo.begin(BOB, first[-1].silo_id, 9, NOW)] == [b"c"]


@pytest.mark.parametrize(
    ("event", "left", "counter"),
    [
        (Event.ACCEPTED, [], "dumped_messages"),
        (Event.REFUSED, [], "failed_messages"),
        (Event.LAPSE, [], "expired_messages"),
        (Event.MISSED, ["a pending"], "failed_messages"),
        (Event.UNFIT, ["a parked"], "failed_messages"),
        (Event.RELEASE, ["a pending"], None),
    ],
)
def test_settle(rig: Rig, event: Event, left: list[str], counter: str | None) -> None:
    rig.write("a")
    (item,) = rig.silo.begin(BOB, 0, 9, NOW)
    rig.silo.commit(NOW)
    rig.silo.settle(item, event, NOW, 299, "words")
    assert rig.states() == ["a sending"]
    rig.silo.commit(NOW)
    assert rig.states() == left
    expected = {"stored_messages": 1} | ({counter: 1} if counter else {})
    assert rig.counters() == expected
    if left:
        (kept,) = rig.box()
        assert (kept.code, kept.reason, kept.attempts) == (299, "words", int(event is not Event.RELEASE))


def test_an_event_that_settles_nothing_is_an_error(rig: Rig) -> None:
    rig.write("a")
    (item,) = rig.silo.begin(BOB, 0, 9, NOW)
    with pytest.raises(MsiloError, match="cannot take begin"):
        rig.silo.settle(item, Event.BEGIN, NOW, None, "")
    assert rig.silo.turn.settled == []


def test_lapse_ends_what_is_over_and_not_under_way(rig: Rig) -> None:
    for text, expires in (("a", "60"), ("b", "60"), ("c", "61"), ("d", "60")):
        rig.write(text, expires=expires)
    rig.silo.begin(BOB, 0, 1, NOW)
    rig.silo.commit(NOW)
    assert rig.silo.lapse(NOW + 59, 9) == 0
    assert rig.silo.lapse(NOW + 60, 1) == 1
    rig.silo.commit(NOW + 60)
    assert rig.silo.lapse(NOW + 60, 9) == 1
    rig.silo.commit(NOW + 60)
    assert rig.states() == ["a sending", "c pending"]
    assert rig.counters()["expired_messages"] == 2


def test_a_message_that_lapses_while_its_owner_is_woken_is_counted_once(rig: Rig) -> None:
    rig.write("a", expires="60")
    rig.now += 60
    rig.silo.lapse(rig.now, 9)
    assert rig.wake(BOB) == []
    rig.turn()
    assert rig.box() == []
    assert rig.counters()["expired_messages"] == 1


def break_disk(rig: Rig) -> None:
    """Make every write fail late, after messages went in."""
    with closing(sqlite3.connect(rig.file)) as other:
        other.execute("CREATE TRIGGER broken BEFORE INSERT ON msilo_counter BEGIN SELECT RAISE(ABORT, 'full'); END")


def mend_disk(rig: Rig) -> None:
    with closing(sqlite3.connect(rig.file)) as other:
        other.execute("DROP TRIGGER broken")


def test_a_failed_commit_keeps_nothing_new_and_the_rest_for_later(rig: Rig) -> None:
    rig.write("a")
    (item,) = rig.silo.begin(BOB, 0, 9, NOW)
    rig.silo.commit(NOW)
    rig.silo.settle(item, Event.ACCEPTED, NOW, 200, "OK")
    rig.silo.accept(request(body=b"b"), NOW)
    break_disk(rig)
    with pytest.raises(StoreError, match="full"):
        rig.silo.commit(NOW)
    assert rig.states() == ["a sending"]
    assert not rig.silo.turn.urgent
    mend_disk(rig)
    rig.silo.commit(NOW)
    assert rig.states() == []
    assert rig.counters() == {"stored_messages": 1, "dumped_messages": 1}


def test_after_a_failed_commit_ids_do_not_clash(rig: Rig) -> None:
    rig.write("a")
    break_disk(rig)
    rig.silo.accept(request(body=b"b"), NOW)
    with pytest.raises(StoreError):
        rig.silo.commit(NOW)
    mend_disk(rig)
    rig.write("c", "d")
    assert rig.states() == ["a pending", "c pending", "d pending"]
    assert len({item.msilo_id for item in rig.box()}) == 3


def test_an_empty_turn_touches_no_disk(rig: Rig) -> None:
    rig.silo.commit(NOW)
    break_disk(rig)
    rig.silo.commit(NOW)


def test_recover_puts_back_what_was_under_way(open_rig: OpenRig) -> None:
    rig = open_rig()
    rig.write("a", "b")
    rig.write("c", to="carl")
    rig.silo.begin(BOB, 0, 1, NOW)
    rig.silo.commit(NOW)
    rig.close()
    again = open_rig()
    assert again.interrupted == [BOB]
    (a, _, _) = again.box()
    assert (a.state, a.reason) == (State.PENDING, "the daemon stopped before the answer came")
    assert again.states() == ["a pending", "b pending"]


# -- several silos -------------------------------------------------------------------------------------------------
def pass_on(send: Send) -> Request:
    """What the next silo hears of a replay."""
    out = replay(send.item, send.way.target, (), PLAIN, call_id="again", trusted=True, now=NOW)
    lines = [f"{name.decode()}: {value.decode()}" for name, value in out.headers if name != b"Date"]
    return request("MESSAGE", out.target, *lines, body=out.body)


def test_two_silos_that_point_at_each_other_settle(tmp_path: Path) -> None:
    with closing(Rig(tmp_path / "a.sqlite", proxy=PROXY)) as a, closing(Rig(tmp_path / "b.sqlite", proxy=PROXY)) as b:
        a.write("hello")
        (there,) = a.wake(BOB)
        assert b.silo.accept(pass_on(there), NOW) is not None
        b.silo.commit(NOW)
        (back,) = b.wake(BOB)
        with pytest.raises(Rejected) as caught:
            a.silo.accept(pass_on(back), NOW)
        assert caught.value.status == 480
        assert b.states() == ["hello sending"]


def test_a_chain_of_silos_ends(rig: Rig) -> None:
    path = "X-MSilo-Path: 1-0123456789abcdef, 2-0123456789abcdef"
    assert rig.silo.accept(request("MESSAGE", BOB.uri, path, "X-MSilo-ID: 3-0123456789abcdef"), NOW) is not None
    with pytest.raises(Rejected) as caught:
        rig.silo.accept(
            request("MESSAGE", BOB.uri, path + ", 4-0123456789abcdef", "X-MSilo-ID: 3-0123456789abcdef"), NOW
        )
    assert caught.value.status == 483
