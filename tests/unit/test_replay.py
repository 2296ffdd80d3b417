"""Lanes over a real file, without SIP: what leaves, in which order, and what each answer does."""

from __future__ import annotations

from contextlib import closing

import pytest

from msilo_lite.box.inbox import Inbox
from msilo_lite.box.policy import Policy
from msilo_lite.box.silo import Reading, Source
from msilo_lite.outbound.lanes import Send
from msilo_lite.outbound.replay import CLAIM, HOLD_SECONDS, Replay
from msilo_lite.outbound.ways import Way, Ways
from msilo_lite.pbx.registration import Registration
from msilo_lite.settings.pseudo import Template
from msilo_lite.sip.address import Aor
from msilo_lite.sip.wire import Answer
from tests.conftest import OpenRig

from .kit import BOB, CARL, NO_ANSWER, NOW, PROXY, Rig, contact, heard, request, texts

DAN = Aor("dan", "home.lan")


def deliver(rig: Rig, sends: list[Send], most: int = 1000) -> list[str]:
    """Answer 200 to everything that leaves until nothing does; the texts in the order they left."""
    went: list[str] = []
    waiting = list(sends)
    while waiting and len(went) < most:
        send = waiting.pop(0)
        went += texts([send])
        waiting += rig.answer(send, 200)
    return went


def refuse(rig: Rig, times: int, answer: Answer | int) -> None:
    """Let so many runs fail at the first message, each at the time of its own retry."""
    for _ in range(times):
        (send,) = rig.due() or rig.wake(BOB)
        assert rig.answer(send, answer) == []
        rig.now += 7200
        rig.register("bob")


def trouble(rig: Rig, owner: Aor = BOB) -> tuple[int | None, int, str] | None:
    """What the file says stands in an owner's way: seconds to the next try, tries, words."""
    with closing(Inbox(rig.file)) as inbox:
        found = inbox.recipients().get(owner)
    if found is None:
        return None
    return None if found.next_try is None else found.next_try - rig.now, found.tries, found.reason


# -- order ---------------------------------------------------------------------------------------------------------
def test_messages_leave_in_order_each_after_the_answer_to_the_one_before(rig: Rig) -> None:
    rig.write("a", "b", "c")
    first = rig.wake(BOB)
    assert texts(first) == ["a"]
    assert rig.turn() == []
    second = rig.answer(first[0], 200)
    assert texts(second) == ["b"]
    third = rig.answer(second[0], 202)
    assert texts(third) == ["c"]
    assert rig.answer(third[0], 200) == []
    rig.turn()
    assert rig.replay.idle
    assert rig.box() == []
    assert rig.counters() == {"stored_messages": 3, "dumped_messages": 3}


def test_a_box_larger_than_one_claim_keeps_its_order(rig: Rig) -> None:
    numbers = [f"{number:03}" for number in range(CLAIM * 2 + 3)]
    rig.write(*numbers)
    assert deliver(rig, rig.wake(BOB)) == numbers
    assert rig.box() == []


def test_the_attempt_is_on_disk_before_the_message_leaves(rig: Rig) -> None:
    rig.write("a", "b")
    rig.replay.wake(BOB)
    rig.replay.claim(NOW)
    assert rig.states() == ["a pending", "b pending"]
    rig.silo.commit(NOW)
    assert rig.states() == ["a sending", "b sending"]
    assert texts(rig.replay.claimed(NOW)) == ["a"]


def test_a_message_that_comes_while_the_lane_is_open_goes_with_it(rig: Rig) -> None:
    rig.write("a")
    (send,) = rig.wake(BOB)
    rig.write("b")
    assert deliver(rig, rig.answer(send, 200)) == ["b"]


def test_owners_do_not_wait_for_each_other(rig: Rig) -> None:
    rig.register("carl")
    rig.write("a", "b")
    rig.write("c", "d", to="carl")
    sends = rig.wake(BOB, CARL)
    assert texts(sends) == ["a", "c"]
    assert texts(rig.answer(sends[1], 200)) == ["d"]


def test_a_cap_over_owners(open_rig: OpenRig) -> None:
    rig = open_rig(most=2)
    for user in ("bob", "carl", "dan"):
        rig.register(user)
        rig.write(f"{user} 1", f"{user} 2", to=user)
    sends = rig.wake(BOB, CARL, DAN)
    assert texts(sends) == ["bob 1", "carl 1"]
    assert rig.replay.in_flight == 2
    assert texts(rig.answer(sends[0], 200)) == ["bob 2"]
    assert texts(rig.answer(sends[1], 486)) == ["dan 1"]
    assert rig.replay.in_flight == 2


def test_an_owner_without_mail_takes_no_lane_for_long(rig: Rig) -> None:
    assert rig.wake(BOB) == []
    assert rig.replay.idle
    assert trouble(rig) is None


# -- the way -------------------------------------------------------------------------------------------------------
def test_straight_to_the_newest_contact(rig: Rig) -> None:
    rig.write("a")
    rig.now += 1
    rig.register("bob", "sip:bob@127.0.0.1:5099")
    (send,) = rig.wake(BOB)
    assert send.way == Way("sip:bob@127.0.0.1:5099", (), by_proxy=False)


def test_a_contact_that_changes_in_between_is_followed(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    rig.now += 1
    rig.register("bob", "sip:bob@127.0.0.1:5099")
    (second,) = rig.answer(send, 200)
    assert second.way.target == "sip:bob@127.0.0.1:5099"


def test_through_the_proxy_to_the_aor(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a")
    (send,) = rig.wake(BOB)
    assert send.way == Way("sip:bob@home.lan", ("<sip:127.0.0.1:5060;lr;hide>",), by_proxy=True)


def test_nobody_registered_and_no_proxy(open_rig: OpenRig) -> None:
    rig = open_rig()
    rig.write("a")
    assert rig.wake(BOB) == []
    rig.turn()
    assert rig.replay.idle
    assert rig.states() == ["a pending"]
    assert trouble(rig) == (None, 1, "not registered, and no outbound_proxy is set")
    rig.register("bob")
    assert deliver(rig, rig.wake(BOB)) == ["a"]
    assert trouble(rig) is None


def test_a_contact_with_a_host_name_is_not_looked_up(open_rig: OpenRig) -> None:
    rig = open_rig()
    rig.register("bob", "sip:bob@phone.home.lan")
    rig.write("a")
    assert rig.wake(BOB) == []
    left = trouble(rig)
    assert left is not None
    assert "phone.home.lan" in left[2]


def test_a_contact_that_ends_between_two_messages(open_rig: OpenRig) -> None:
    rig = open_rig()
    rig.register("bob", expires=10)
    rig.write("a", "b", "c")
    (send,) = rig.wake(BOB)
    assert rig.answer(send, 200, after=10) == []
    rig.turn()
    assert rig.states() == ["b pending", "c pending"]
    assert [item.attempts for item in rig.box()] == [0, 0]


# -- answers that stop ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [404, 480, 486, 503, 408, 500, 604])
def test_a_refusal_stops_the_lane_and_gives_the_rest_back(rig: Rig, code: int) -> None:
    rig.write("a", "b", "c")
    (send,) = rig.wake(BOB)
    assert rig.answer(send, code) == []
    rig.turn()
    assert rig.replay.idle
    assert rig.states() == ["a pending", "b pending", "c pending"]
    assert [(item.attempts, item.code) for item in rig.box()] == [(1, code), (0, None), (0, None)]
    assert trouble(rig) == (60, 1, f"{code} Because")


def test_no_answer_at_all(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert rig.answer(send, NO_ANSWER) == []
    rig.turn()
    assert [(item.attempts, item.code, item.reason) for item in rig.box()] == [(1, None, "no answer"), (0, None, None)]
    assert trouble(rig) == (60, 1, "no answer")


def test_back_off_grows_and_a_delivery_ends_it(rig: Rig) -> None:
    rig.write("a")
    waits = []
    (send,) = rig.wake(BOB)
    for _ in range(7):
        rig.answer(send, 486)
        left = trouble(rig)
        assert left is not None
        assert left[0] is not None
        waits.append(left[0])
        rig.now += left[0] - 1
        assert rig.due() == []
        rig.now += 1
        rig.register("bob")
        (send,) = rig.due()
    assert waits == [60, 120, 300, 600, 1800, 3600, 3600]
    assert rig.answer(send, 200) == []
    assert trouble(rig) is None


def test_a_wake_up_starts_the_back_off_over(rig: Rig) -> None:
    rig.write("a")
    for _ in range(4):
        rig.answer(rig.wake(BOB)[0], 486)
    assert trouble(rig) == (60, 1, "486 Because")


def test_retry_after_is_kept_to(rig: Rig) -> None:
    rig.write("a")
    (send,) = rig.wake(BOB)
    rig.answer(send, heard(503, "Busy", "Retry-After: 900"))
    assert trouble(rig) == (901, 1, "503 Busy")


@pytest.mark.parametrize("code", [405, 501])
def test_another_device_is_needed_so_no_timer(rig: Rig, code: int) -> None:
    rig.write("a")
    rig.answer(rig.wake(BOB)[0], code)
    assert trouble(rig) == (None, 1, f"{code} Because")


def test_a_retry_is_made_once(rig: Rig) -> None:
    rig.write("a")
    rig.answer(rig.wake(BOB)[0], 486)
    rig.now += 60
    assert len(rig.due()) == 1
    assert rig.due() == []


# -- answers that do not -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [413, 415, 420, 488, 493, 513])
def test_refused_content_is_parked_and_the_next_goes(rig: Rig, code: int) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert deliver(rig, rig.answer(send, code)) == ["b"]
    assert rig.states() == ["a parked"]
    assert deliver(rig, rig.wake(BOB)) == []
    assert trouble(rig) is None


def test_a_refusal_for_good_ends_the_message_and_the_next_goes(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert deliver(rig, rig.answer(send, 603)) == ["b"]
    assert rig.box() == []
    assert rig.counters() == {"stored_messages": 2, "failed_messages": 1, "dumped_messages": 1}


@pytest.mark.parametrize("answer", [heard(500), heard(400), NO_ANSWER])
def test_after_three_failures_a_message_lets_the_others_pass(rig: Rig, answer: Answer) -> None:
    rig.write("a", "b", "c")
    refuse(rig, 2, answer)
    (send,) = rig.due()
    assert texts([send]) == ["a"]
    assert deliver(rig, rig.answer(send, answer)) == ["b", "c"]
    assert rig.states() == ["a pending"]


@pytest.mark.parametrize("code", [480, 486, 503, 404])
def test_refusals_that_say_nothing_of_the_message_are_no_reason_to_let_others_pass(rig: Rig, code: int) -> None:
    """A phone that was away, busy, away and then silent once: the order holds."""
    rig.write("1", "2")
    for answer in (code, code, code, NO_ANSWER, code, NO_ANSWER, NO_ANSWER):
        (send,) = rig.wake(BOB)
        assert texts([send]) == ["1"]
        assert rig.answer(send, answer) == []
    (send,) = rig.wake(BOB)
    assert texts(rig.answer(send, NO_ANSWER)) == ["2"], "the third silence in a row"


def test_what_stepped_aside_is_tried_again_by_time(rig: Rig) -> None:
    rig.write("a", "b")
    refuse(rig, 2, 500)
    (send,) = rig.due()
    assert deliver(rig, rig.answer(send, 500)) == ["b"]
    left = trouble(rig)
    assert left is not None
    assert left[0] is not None
    rig.now += left[0]
    assert deliver(rig, rig.due()) == ["a"]


def test_only_one_message_steps_aside_when_the_next_fails_as_well(rig: Rig) -> None:
    rig.write("a", "b", "c")
    refuse(rig, 2, 500)
    (send,) = rig.due()
    (second,) = rig.answer(send, 500)
    assert texts([second]) == ["b"]
    assert rig.answer(second, 500) == []
    rig.turn()
    assert [(text, item.attempts) for text, item in zip("abc", rig.box(), strict=True)] == [
        ("a", 3),
        ("b", 1),
        ("c", 0),
    ]


def test_two_that_failed_often_do_not_open_the_way_for_a_third(rig: Rig) -> None:
    rig.write("a", "b", "c")
    refuse(rig, 2, 500)
    for _ in range(4):
        (send,) = rig.due()
        (second,) = rig.answer(send, 500)
        assert texts([send, second]) == ["a", "b"]
        assert rig.answer(second, 500) == []
        rig.now += 7200
        rig.register("bob")
    assert [item.attempts for item in rig.box()] == [6, 4, 0]


def test_a_busy_phone_is_never_passed_by(rig: Rig) -> None:
    rig.write("a", "b")
    refuse(rig, 5, 486)
    (send,) = rig.due()
    assert texts([send]) == ["a"]
    assert rig.answer(send, 486) == []


# -- redirections --------------------------------------------------------------------------------------------------
MOVED = heard(302, "Moved", "Contact: <sip:bob@127.0.0.1:5095>")


def test_a_redirection_is_followed_once(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    (followed,) = rig.answer(send, MOVED)
    assert texts([followed]) == ["a"]
    assert followed.way == Way("sip:bob@127.0.0.1:5095", (), by_proxy=False)
    assert followed.token != send.token
    (second,) = rig.answer(followed, 200)
    assert second.way.target == "sip:bob@127.0.0.1:5090"


def test_a_second_redirection_counts_as_away(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    (followed,) = rig.answer(send, MOVED)
    assert rig.answer(followed, MOVED) == []
    rig.turn()
    assert [item.attempts for item in rig.box()] == [1, 0]
    assert trouble(rig) == (60, 1, "302 Moved")


@pytest.mark.parametrize("line", ["Contact: <sip:bob@phone.lan>", "Contact: <tel:+1>", "X: y"])
def test_a_redirection_that_cannot_be_followed_counts_as_away(rig: Rig, line: str) -> None:
    rig.write("a")
    (send,) = rig.wake(BOB)
    assert rig.answer(send, heard(302, "Moved", line)) == []
    assert trouble(rig) == (60, 1, "302 Moved")


# -- the proxy refuses us ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [401, 407])
def test_a_proxy_that_refuses_us_holds_everything(open_rig: OpenRig, code: int) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a", "b")
    rig.write("c", to="carl")
    (send,) = rig.wake(BOB)
    assert rig.answer(send, code) == []
    assert str(code) in rig.replay.alarm
    assert rig.wake(CARL) == []
    assert rig.wake(BOB) == []
    rig.turn()
    assert rig.states() == ["a pending", "b pending"]
    assert [item.attempts for item in rig.box()] == [0, 0, 0]
    for owner in (BOB, CARL):
        left = trouble(rig, owner)
        assert left is not None
        assert left[0] == HOLD_SECONDS
        assert str(code) in left[2]
    rig.now += HOLD_SECONDS
    sends = rig.due()
    assert sorted(texts(sends)) == ["a", "c"]
    rig.answer(sends[0], 200)
    assert rig.replay.alarm == ""


def test_while_the_proxy_refuses_us_open_lanes_rest_as_well(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a")
    rig.write("c", "d", to="carl")
    bob, carl = rig.wake(BOB, CARL)
    rig.answer(bob, 407)
    left = rig.answer(carl, 200)
    # either the 200 shows that the proxy takes us again, or carl's lane rests as well
    assert left == [] or rig.replay.held_until <= rig.now


def test_a_403_for_one_recipient_may_be_that_phones_own_word(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a")
    rig.write("c", to="carl")
    (bob,) = rig.wake(BOB)
    assert rig.answer(bob, 403) == []
    assert "403" in rig.replay.alarm
    assert trouble(rig) == (60, 1, "403 Because")
    (carl,) = rig.wake(CARL)
    assert rig.answer(carl, 200) == []
    assert rig.replay.alarm == ""
    assert rig.replay.held_until <= rig.now


def test_a_403_for_two_recipients_in_a_row_is_the_proxys_and_holds_everything(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    for user in ("bob", "carl", "dan"):
        rig.write(user, to=user)
    rig.answer(rig.wake(BOB)[0], 403)
    rig.answer(rig.wake(BOB)[0], 403)
    assert rig.replay.held_until <= rig.now
    rig.answer(rig.wake(CARL)[0], 403)
    assert rig.replay.held_until == rig.now + HOLD_SECONDS
    assert rig.wake(DAN) == []
    rig.turn()
    assert [item.attempts for item in rig.box(CARL)] == [0]
    assert [item.attempts for item in rig.box(DAN)] == [0]


def test_a_403_of_the_phone_itself_is_no_alarm(rig: Rig) -> None:
    rig.write("a")
    (send,) = rig.wake(BOB)
    rig.answer(send, 403)
    assert rig.replay.alarm == ""
    assert trouble(rig) == (60, 1, "403 Because")


@pytest.mark.parametrize("code", [482, 483])
def test_a_loop_raises_the_alarm_and_holds_nobody_else(open_rig: OpenRig, code: int) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a")
    rig.write("c", to="carl")
    rig.answer(rig.wake(BOB)[0], code)
    assert str(code) in rig.replay.alarm
    assert texts(rig.wake(CARL)) == ["c"]


# -- what cannot even start ----------------------------------------------------------------------------------------
def test_a_message_that_can_never_be_sent_does_not_block(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert deliver(rig, rig.cannot(send, permanent=True)) == ["b"]
    (left,) = rig.box()
    assert (left.message.body, left.attempts, left.reason) == (b"a", 1, "could not be sent: too long")


def test_a_passing_failure_stops_the_lane(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert rig.cannot(send, permanent=False) == []
    assert rig.states() == ["a pending", "b pending"]
    assert trouble(rig) == (60, 1, "could not be sent: too long")


def test_an_answer_nobody_waits_for_is_ignored(rig: Rig) -> None:
    rig.write("a")
    (send,) = rig.wake(BOB)
    rig.answer(send, 200)
    assert rig.answer(send, 486) == []
    assert rig.box() == []
    assert rig.counters()["dumped_messages"] == 1


# -- expiry --------------------------------------------------------------------------------------------------------
def test_an_expired_message_is_never_sent(rig: Rig) -> None:
    rig.write("a", expires="10")
    rig.write("b", expires="11")
    rig.write("c", expires="10")
    rig.now += 10
    assert deliver(rig, rig.wake(BOB)) == ["b"]
    assert rig.box() == []
    assert rig.counters()["expired_messages"] == 2


def test_a_message_that_expires_in_the_queue_is_not_sent_and_no_attempt_is_counted(rig: Rig) -> None:
    rig.write("a", "x")
    rig.write("b", expires="10")
    (send,) = rig.wake(BOB)
    (second,) = rig.answer(send, 200, after=10)
    assert texts([second]) == ["x"]
    assert rig.answer(second, 200) == []
    rig.turn()
    with closing(Inbox(rig.file)) as inbox:
        ended = [(one.state.name, one.attempts) for one in inbox.history()]
    assert ended == [("DELIVERED", 1), ("DELIVERED", 1), ("EXPIRED", 0)]


# -- woken while open ----------------------------------------------------------------------------------------------
def test_a_wake_up_while_the_lane_is_open_starts_it_over_when_it_fails(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert rig.wake(BOB) == []
    sends = rig.answer(send, 486) + rig.turn()
    assert texts(sends) == ["a"]
    assert deliver(rig, sends) == ["a", "b"]


def test_starting_over_keeps_the_order_of_a_large_box(rig: Rig) -> None:
    numbers = [f"{number:03}" for number in range(CLAIM + 5)]
    rig.write(*numbers)
    (send,) = rig.wake(BOB)
    rig.wake(BOB)
    assert deliver(rig, rig.answer(send, 480) + rig.turn()) == numbers


def test_a_wake_up_before_the_refusal_is_on_disk_is_not_lost(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    assert rig.turn((send.token, heard(486)), lazy=True) == []
    rig.replay.wake(BOB)
    sends = rig.turn(lazy=True) + rig.turn(lazy=True)
    assert texts(sends) == ["a"]


def test_a_wake_up_in_the_turn_of_the_message_is_not_lost(rig: Rig) -> None:
    """With `settle = 0` a MESSAGE and a REGISTER may share a turn."""
    rig.silo.accept(request(), NOW)
    sends = rig.wake(BOB) + rig.turn()
    assert texts(sends) == ["hello"]


def test_a_wake_up_while_open_is_not_needed_when_all_went_well(rig: Rig) -> None:
    rig.write("a")
    (send,) = rig.wake(BOB)
    rig.wake(BOB)
    assert rig.answer(send, 200) == []
    rig.turn()
    assert rig.replay.idle


# -- a limit -------------------------------------------------------------------------------------------------------
def wake_for(rig: Rig, most: int) -> list[Send]:
    rig.replay.wake(BOB, most=most)
    return rig.turn()


def test_a_limit_is_kept_to_and_the_next_call_goes_on(rig: Rig) -> None:
    rig.write("a", "b", "c", "d", "e")
    assert deliver(rig, wake_for(rig, 2)) == ["a", "b"]
    rig.turn()
    assert rig.replay.idle
    assert rig.states() == ["c pending", "d pending", "e pending"]
    assert deliver(rig, wake_for(rig, 2)) == ["c", "d"]
    assert deliver(rig, wake_for(rig, 2)) == ["e"]
    assert rig.box() == []


def test_what_a_limit_leaves_is_not_tried_by_time(rig: Rig) -> None:
    rig.write("a", "b", "c")
    assert deliver(rig, wake_for(rig, 1)) == ["a"]
    rig.now += 3000
    assert rig.due() == []
    assert trouble(rig) is None


@pytest.mark.parametrize("most", [3, 4, 1000])
def test_a_limit_that_is_not_reached(rig: Rig, most: int) -> None:
    rig.write("a", "b", "c")
    assert deliver(rig, wake_for(rig, most)) == ["a", "b", "c"]
    rig.turn()
    assert rig.replay.idle


def test_a_limit_larger_than_one_claim(rig: Rig) -> None:
    numbers = [f"{number:03}" for number in range(CLAIM + 9)]
    rig.write(*numbers)
    assert deliver(rig, wake_for(rig, CLAIM + 5)) == numbers[: CLAIM + 5]
    assert len(rig.box()) == 4


def test_no_more_is_claimed_than_may_be_sent(rig: Rig) -> None:
    rig.write("a", "b", "c")
    wake_for(rig, 2)
    assert rig.states() == ["a sending", "b sending", "c pending"]


def test_a_wake_up_without_limit_while_open_lifts_it(rig: Rig) -> None:
    rig.write("a", "b", "c", "d")
    (send,) = wake_for(rig, 2)
    rig.wake(BOB)
    assert deliver(rig, rig.answer(send, 200)) == ["b", "c", "d"]


def test_a_limit_while_open_without_one_changes_nothing(rig: Rig) -> None:
    rig.write("a", "b", "c")
    (send,) = rig.wake(BOB)
    wake_for(rig, 1)
    assert deliver(rig, rig.answer(send, 200)) == ["b", "c"]


def test_two_limits_one_after_the_other_add_up(rig: Rig) -> None:
    rig.write("a", "b", "c", "d", "e")
    (send,) = wake_for(rig, 2)
    wake_for(rig, 1)
    assert deliver(rig, rig.answer(send, 200)) == ["b", "c"]
    rig.turn()
    assert rig.replay.idle


def test_of_two_limits_before_the_lane_opens_the_larger_holds(rig: Rig) -> None:
    rig.write("a", "b", "c", "d", "e")
    rig.replay.wake(BOB, most=3)
    assert deliver(rig, wake_for(rig, 2)) == ["a", "b", "c"]
    rig.replay.wake(BOB, most=1)
    assert deliver(rig, rig.wake(BOB)) == ["d", "e"]


def test_what_is_parked_or_refused_counts_as_sent(rig: Rig) -> None:
    rig.write("a", "b", "c")
    (send,) = wake_for(rig, 2)
    assert deliver(rig, rig.answer(send, 415)) == ["b"]
    assert rig.states() == ["a parked", "c pending"]


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1)])
def test_a_run_that_starts_over_keeps_its_limit(rig: Rig, first: int, second: int) -> None:
    """Called twice for so many, and the phone is busy for the last of them: never more than both asked for."""
    rig.write(*"abcdefgh")
    sends = wake_for(rig, first)
    wake_for(rig, second)
    for _ in range(first + second - 1):
        sends = rig.answer(sends[0], 200)
    assert len(sends) == 1
    went = deliver(rig, rig.answer(sends[0], 486) + rig.turn())
    assert len(went) <= second
    assert len(rig.box()) >= 8 - first - second


def test_a_run_without_limit_that_starts_over_has_none(rig: Rig) -> None:
    rig.write("a", "b", "c")
    (send,) = wake_for(rig, 1)
    rig.wake(BOB)
    assert deliver(rig, rig.answer(send, 486) + rig.turn()) == ["a", "b", "c"]


def test_a_command_with_a_limit_hears_what_it_delivered(rig: Rig) -> None:
    rig.write("a", "b", "c")
    with closing(Inbox(rig.file)) as inbox:
        number = inbox.ask("dump", BOB, NOW)
        rig.replay.wake(BOB, number, 2)
        deliver(rig, rig.turn())
        rig.turn()
        assert inbox.granted(number) == {"delivered": 2, "reason": ""}


# -- what the way carries ------------------------------------------------------------------------------------------
def reach(rig: Rig, *contacts_: tuple[str, float, str]) -> None:
    """Remember bindings of bob: URI, when it was set, what `extra_hdrs` said then."""
    for uri, at, extra in contacts_:
        one = contact(uri, updated=at, extra=extra)
        change = Registration(BOB, (one,), ("reg", 1), clear=False, wakes=True, headers=())
        rig.bindings.apply(change, NOW, rig.silo.turn)


def test_the_extra_lines_are_those_of_the_newest_contact(open_rig: OpenRig) -> None:
    rig = open_rig()
    reach(rig, ("sip:bob@127.0.0.1:1", NOW, "X: old\r\n"), ("sip:bob@127.0.0.1:2", NOW + 1, "X: new\r\n"))
    rig.write("a")
    (send,) = rig.wake(BOB)
    assert send.way == Way("sip:bob@127.0.0.1:2", (), by_proxy=False, extra="X: new\r\n")


def test_the_extra_lines_of_the_newest_contact_go_through_the_proxy_too(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    reach(rig, ("sip:bob@phone.home.lan", NOW, "X: new\r\n"))
    rig.write("a")
    (send,) = rig.wake(BOB)
    assert (send.way.target, send.way.extra) == ("sip:bob@home.lan", "X: new\r\n")


def test_extra_lines_for_somebody_of_whom_no_register_is_known(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    rig.replay = Replay(rig.silo, Ways(rig.bindings, PROXY, "X: fixed\r\n"), 64, {})
    rig.write("a")
    (send,) = rig.wake(BOB)
    assert send.way.extra == "X: fixed\r\n"


def test_a_redirection_keeps_the_extra_lines(open_rig: OpenRig) -> None:
    rig = open_rig()
    reach(rig, ("sip:bob@127.0.0.1:1", NOW, "X: new\r\n"))
    rig.write("a")
    (send,) = rig.wake(BOB)
    (followed,) = rig.answer(send, MOVED)
    assert followed.way.extra == "X: new\r\n"


def send_to_group(rig: Rig) -> None:
    """m_store_addrs: in bob's box, for somebody else."""
    lines = ("X-MSilo-Dst: <sip:group@elsewhere.lan>",)
    rig.silo.accept(request("MESSAGE", BOB.uri, *lines, body=b"g"), rig.now, Source(control=True))
    rig.silo.commit(rig.now)


def test_an_address_by_order_is_the_target_through_the_proxy(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a")
    send_to_group(rig)
    (send,) = rig.wake(BOB)
    assert send.way.target == "sip:bob@home.lan"
    (send,) = rig.answer(send, 200)
    assert texts([send]) == ["g"]
    assert send.way == Way("sip:group@elsewhere.lan", ("<sip:127.0.0.1:5060;lr;hide>",), by_proxy=True)


def test_an_address_by_order_changes_nothing_straight_to_the_phone(rig: Rig) -> None:
    send_to_group(rig)
    (send,) = rig.wake(BOB)
    assert send.way.target == "sip:bob@127.0.0.1:5090"


# -- reminders -----------------------------------------------------------------------------------------------------
@pytest.fixture
def timed(open_rig: OpenRig) -> Rig:
    """Parts that take the time to send at from a header, behind a proxy."""
    reading = Reading(snd_time=Template.parse("$hdr(X-Send-At)"))
    return open_rig(proxy=PROXY, policy=Policy(reminders=True), reading=reading)


def remind(rig: Rig, text: str, seconds: int) -> None:
    line = f"X-Send-At: +{seconds}s"
    rig.silo.accept(request("MESSAGE", BOB.uri, line, body=text.encode()), rig.now)
    rig.silo.commit(rig.now)


def ripe(rig: Rig, since: int) -> list[Send]:
    """The daemon's look for reminders that fell due since `since`, and the turn after it."""
    for owner, _ in rig.store.ripened((since, 0), rig.now, 100):
        rig.replay.retry(owner)
    return rig.turn()


def test_a_reminder_leaves_when_it_is_due_and_not_before(timed: Rig) -> None:
    remind(timed, "r", 60)
    assert timed.wake(BOB) == []
    timed.now += 59
    assert ripe(timed, NOW) == []
    timed.now += 1
    assert deliver(timed, ripe(timed, NOW)) == ["r"]
    assert timed.box() == []


def test_a_reminder_that_is_not_due_keeps_nobody_waiting(timed: Rig) -> None:
    remind(timed, "r", 60)
    timed.write("a", "b")
    assert deliver(timed, timed.wake(BOB)) == ["a", "b"]
    timed.turn()
    assert timed.replay.idle


@pytest.mark.parametrize("answer", [200, 486])
def test_a_reminder_that_falls_due_while_the_lane_is_open_goes_as_well(timed: Rig, answer: int) -> None:
    """It was stored before what is under way, so the lane has passed its number."""
    remind(timed, "r", 10)
    timed.write("a", "b")
    (send,) = timed.wake(BOB)
    timed.now += 10
    assert ripe(timed, NOW) == []  # bob's phone has not answered yet
    went = deliver(timed, timed.answer(send, answer))
    went += deliver(timed, timed.turn() + timed.turn())
    if answer == 486:  # the lane stopped: what is due goes with the next try by time
        assert went == []
        timed.now += 60
        went = deliver(timed, timed.due())
    assert "r" in went
    assert timed.box() == []


@pytest.mark.parametrize("answer", [heard(500), NO_ANSWER])
def test_a_look_for_what_is_due_while_the_lane_is_open_makes_no_storm(rig: Rig, answer: Answer) -> None:
    """A slow phone that refuses one message: the daemon looks every second, and its back-off still holds."""
    rig.write("a")
    refuse(rig, 2, answer)
    (send,) = rig.due()
    for _ in range(3):
        assert rig.due() == []
    assert rig.answer(send, answer, after=2) == []
    assert rig.turn() == []
    left = trouble(rig)
    assert left is not None
    assert left[0] is not None
    assert left[0] >= 60
    assert [item.attempts for item in rig.box()] == [3]


def test_a_reminder_that_falls_due_while_its_owner_waits_for_a_limited_run_goes_as_well(open_rig: OpenRig) -> None:
    """Somebody else has the only lane; bob was called for one message, and his reminder is the second."""
    reading = Reading(snd_time=Template.parse("$hdr(X-Send-At)"))
    rig = open_rig(proxy=PROXY, most=1, policy=Policy(reminders=True), reading=reading)
    rig.write("c", to="carl")
    rig.write("a")
    remind(rig, "r", 10)
    (send,) = rig.wake(CARL)
    assert wake_for(rig, 1) == []
    rig.now += 10
    assert ripe(rig, NOW) == []
    went = deliver(rig, rig.answer(send, 200))
    for _ in range(3):
        went += deliver(rig, rig.turn() + rig.due())
    assert went == ["a", "r"]


def test_a_reminder_that_falls_due_while_a_limited_run_fails_goes_as_well(timed: Rig) -> None:
    """The phone is busy and was called for one message meanwhile: that one goes first, and then the reminder."""
    timed.write("a", "b")
    remind(timed, "r", 10)
    (send,) = wake_for(timed, 1)
    wake_for(timed, 1)
    timed.now += 10
    assert ripe(timed, NOW) == []
    went = deliver(timed, timed.answer(send, 486))
    for _ in range(3):
        went += deliver(timed, timed.turn() + timed.due())
    assert "r" in went


def test_a_failed_reminder_is_tried_again_by_time(timed: Rig) -> None:
    remind(timed, "r", 10)
    timed.now += 10
    (send,) = ripe(timed, NOW)
    assert timed.answer(send, 486) == []
    assert trouble(timed) == (60, 1, "486 Because")
    timed.now += 60
    assert deliver(timed, timed.due()) == ["r"]


def test_a_reminder_for_somebody_who_is_away_waits_for_him(open_rig: OpenRig) -> None:
    reading = Reading(snd_time=Template.parse("$hdr(X-Send-At)"))
    rig = open_rig(policy=Policy(reminders=True), reading=reading)
    remind(rig, "r", 10)
    rig.now += 10
    assert ripe(rig, NOW) == []
    assert trouble(rig) == (None, 1, "not registered, and no outbound_proxy is set")
    rig.register("bob")
    assert deliver(rig, rig.wake(BOB)) == ["r"]


def test_a_reminder_while_the_proxy_refuses_us_rests_with_the_others(timed: Rig) -> None:
    remind(timed, "r", 10)
    timed.write("c", to="carl")
    (send,) = timed.wake(CARL)
    timed.answer(send, 407)
    timed.now += 10
    assert ripe(timed, NOW) == []
    timed.now += HOLD_SECONDS
    assert "r" in texts(timed.due())


# -- commands ------------------------------------------------------------------------------------------------------
def test_a_purge_takes_what_has_not_left(rig: Rig) -> None:
    rig.write("a", "b", "c", "d")
    (send,) = rig.wake(BOB)
    with closing(Inbox(rig.file)) as inbox:
        assert inbox.purge([item.silo_id for item in rig.box()][1:3], NOW) == (2, 2)
    rig.replay.reload()
    assert deliver(rig, rig.answer(send, 200)) == ["d"]
    with closing(Inbox(rig.file)) as inbox:
        ended = [one.state.name for one in inbox.history()]
    assert sorted(ended) == ["CANCELLED", "CANCELLED", "DELIVERED", "DELIVERED"]


def test_a_purge_of_everything_ends_the_lane(rig: Rig) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    with closing(Inbox(rig.file)) as inbox:
        inbox.purge([item.silo_id for item in rig.box()], NOW)
    rig.replay.reload()
    assert rig.answer(send, 486) == []
    rig.turn()
    assert rig.replay.idle
    assert rig.box() == []


def test_a_command_hears_how_its_run_ended(rig: Rig) -> None:
    rig.write("a", "b")
    with closing(Inbox(rig.file)) as inbox:
        first = inbox.ask("dump", BOB, NOW)
        rig.replay.wake(BOB, first)
        (send,) = rig.turn()
        assert inbox.granted(first) is None
        second = inbox.ask("dump", BOB, NOW)
        rig.replay.wake(BOB, second)
        deliver(rig, rig.answer(send, 200))
        rig.turn()
        assert inbox.granted(first) == {"delivered": 2, "reason": ""}
        assert inbox.granted(second) == {"delivered": 2, "reason": ""}


def test_a_command_hears_why_its_run_failed(rig: Rig) -> None:
    rig.write("a")
    with closing(Inbox(rig.file)) as inbox:
        number = inbox.ask("dump", BOB, NOW)
        rig.replay.wake(BOB, number)
        (send,) = rig.turn()
        rig.answer(send, 486)
        rig.turn()
        assert inbox.granted(number) == {"delivered": 0, "reason": "486 Because"}


# -- the disk ------------------------------------------------------------------------------------------------------
def test_a_claim_that_could_not_be_written_is_tried_again_in_a_minute(rig: Rig) -> None:
    rig.write("a")
    rig.silo.commit(NOW)
    rig.replay.wake(BOB)
    rig.replay.claim(NOW)
    rig.silo.turn.claimed = []
    rig.replay.unclaim(NOW)
    assert rig.replay.idle
    rig.turn()
    assert trouble(rig) == (60, 1, "the database could not be written")
    rig.now += 60
    assert texts(rig.due()) == ["a"]


# -- the end -------------------------------------------------------------------------------------------------------
def test_stop_lets_what_is_under_way_end_and_begins_nothing(rig: Rig) -> None:
    rig.write("a", "b", "c")
    (send,) = rig.wake(BOB)
    rig.replay.stop(NOW)
    assert rig.answer(send, 200) == []
    rig.turn()
    assert rig.wake(BOB) == []
    assert rig.states() == ["b pending", "c pending"]
    assert [item.attempts for item in rig.box()] == [0, 0]


@pytest.mark.parametrize("code", [200, 486])
def test_stop_leaves_nothing_claimed_even_where_a_phone_came_back(rig: Rig, code: int) -> None:
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    rig.wake(BOB)
    rig.replay.stop(NOW)
    assert rig.answer(send, code) == []
    assert rig.turn() == []
    assert [state.split()[1] for state in rig.states()] == ["pending"] * (1 if code == 200 else 2)


def test_stop_leaves_nothing_claimed_where_a_lane_was_about_to_claim_more(rig: Rig) -> None:
    numbers = [f"{number:03}" for number in range(CLAIM + 5)]
    rig.write(*numbers)
    waiting = rig.wake(BOB)
    for _ in range(CLAIM - 1):
        waiting = rig.answer(waiting[0], 200)
    rig.replay.answered(waiting[0].token, heard(200), NOW)
    rig.replay.stop(NOW)
    assert rig.turn() == []
    assert rig.turn() == []
    assert [state.split()[1] for state in rig.states()] == ["pending"] * 5


def test_after_a_stop_in_the_middle_the_rest_goes_without_a_new_register(open_rig: OpenRig) -> None:
    rig = open_rig(proxy=PROXY)
    rig.write("a", "b")
    (send,) = rig.wake(BOB)
    rig.replay.stop(NOW)
    rig.answer(send, 200)
    rig.turn()
    rig.close()
    again = open_rig(proxy=PROXY, now=NOW + 3600)
    sends = again.wake(*again.interrupted) or again.due()
    assert texts(sends) == ["b"]


# -- giving up -----------------------------------------------------------------------------------------------------
def test_a_message_is_given_up_after_so_many_attempts(rig: Rig) -> None:
    rig.replay = Replay(rig.silo, Ways(rig.bindings, None), 64, {}, max_attempts=2)
    rig.write("a", "b")
    assert rig.answer(rig.wake(BOB)[0], 486) == []
    (again,) = rig.wake(BOB)
    assert texts([again]) == ["a"]
    rig.answer(again, 486)
    assert rig.states() == ["b pending"]
    with closing(Inbox(rig.file)) as inbox:
        (past,) = inbox.history(BOB)
    assert (past.state.name, past.attempts) == ("FAILED", 2)
    assert past.reason == "given up after 2 attempts, the last: 486 Because"


def test_what_nobody_heard_of_is_no_reason_to_give_up(rig: Rig) -> None:
    rig.replay = Replay(rig.silo, Ways(rig.bindings, None), 64, {}, max_attempts=1)
    rig.write("a")
    rig.cannot(rig.wake(BOB)[0], permanent=False)
    assert rig.states() == ["a pending"]
