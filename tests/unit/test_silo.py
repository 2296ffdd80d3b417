"""The verbs on stored messages, over a real file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from msilo_lite.address import Aor, parse_address
from msilo_lite.delivery import Event, State
from msilo_lite.errors import MsiloError, Refused, Rejected, StoreError
from msilo_lite.message import Turn
from msilo_lite.silo import Places
from tests.conftest import OpenRig

from .kit import BOB, CARL, NOW, Rig, message, request


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
        ({"from": '"a\rX-Evil: 1" <sip:a@b>'}, 400),
        ({"from": '"a\x00" <sip:a@b>'}, 400),
        ({"from": '"\x1b[31m" <sip:a@b>'}, 400),
        ({"from": 'sip:a@b;x="<"'}, None),
        ({"to": '"a\rX-Evil: 1" <sip:bob@home.lan>'}, 400),
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
    assert stored.kept == ""


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
