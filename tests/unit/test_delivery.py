"""The life of a message: every state with every event, every final status code."""

from __future__ import annotations

import pytest

from msilo_lite.box.delivery import MOVES, WAITING, Event, Lane, State, Trust, Verdict, judge, move
from msilo_lite.errors import MsiloError

# the events stand in the order of EVENTS
TABLE = """
PENDING       SENDING   -         -         -         -         -         EXPIRED   CANCELLED -        - - - - -
SENDING - PENDING DELIVERED PENDING PARKED FAILED EXPIRED   CANCELLED PENDING HANDED - - - PARKED
PARKED        -         -         -         -         -         -         EXPIRED   CANCELLED -        - - - PENDING -
HANDED        - - - - - -                                         DELIVERED CANCELLED - - PENDING DELIVERED PENDING -
DELIVERED     -         -         -         -         -         -         -         -         -         - - - - -
FAILED        -         -         -         -         -         -         -         -         -         - - - - -
EXPIRED       -         -         -         -         -         -         -         -         -         - - - - -
CANCELLED     -         -         -         -         -         -         -         -         -         - - - - -
"""
EVENTS = (
    "BEGIN", "RELEASE", "ACCEPTED", "MISSED", "UNFIT", "REFUSED", "LAPSE", "CANCEL", "RESTART", "HANDED_OVER",
    "RETURNED", "BELIEVED", "RETRY", "FATAL",
)  # fmt: skip
EXPECTED = {
    (row.split()[0], event): cell
    for row in TABLE.strip().splitlines()
    for event, cell in zip(EVENTS, row.split()[1:], strict=True)
}


def test_the_table_names_every_state_and_every_event() -> None:
    assert set(EXPECTED) == {(state.name, event.name) for state in State for event in Event}


@pytest.mark.parametrize(("state", "event"), EXPECTED)
def test_move(state: str, event: str) -> None:
    cell = EXPECTED[state, event]
    if cell != "-":
        assert move(State[state], Event[event]).name == cell
        return
    with pytest.raises(MsiloError, match=f"that is {state.lower()} cannot take {Event[event].value}"):
        move(State[state], Event[event])


def test_numbers_are_what_released_files_hold() -> None:
    assert {state.name: state.value for state in State} == {
        "PENDING": 0, "SENDING": 1, "PARKED": 2, "DELIVERED": 3, "FAILED": 4, "EXPIRED": 5, "CANCELLED": 6,
        "HANDED": 7,
    }  # fmt: skip


def test_only_waiting_states_have_a_way_out() -> None:
    assert {state for state, _ in MOVES} == WAITING
    assert {state for state in MOVES.values() if state not in WAITING} == set(State) - WAITING


DELIVERED = Verdict(Event.ACCEPTED, Lane.NEXT)
AWAY = Verdict(Event.MISSED, Lane.STOP)
DOUBTFUL = Verdict(Event.MISSED, Lane.ASIDE)
UNFIT = Verdict(Event.UNFIT, Lane.NEXT)
OTHER_DEVICE = Verdict(Event.MISSED, Lane.STOP, timer=False)
LOOP = Verdict(Event.MISSED, Lane.STOP, alarm=True)
REFUSED = Verdict(Event.REFUSED, Lane.NEXT, timer=False)
HELD = Verdict(Event.RELEASE, Lane.HOLD, alarm=True)
SUSPECT = Verdict(Event.MISSED, Lane.ASIDE, alarm=True, suspect=True)
SINGLE = {
    AWAY: (404, 410, 430, 480, 486, 491, 503, 504, 604),
    UNFIT: (413, 415, 420, 488, 493, 513),
    OTHER_DEVICE: (405, 501),
    LOOP: (482, 483),
}


def expected(code: int) -> Verdict:
    for verdict, codes in SINGLE.items():
        if code in codes:
            return verdict
    by_class = {2: DELIVERED, 3: AWAY, 4: DOUBTFUL, 5: DOUBTFUL, 6: REFUSED}
    return by_class[code // 100]


@pytest.mark.parametrize("hundred", [2, 3, 4, 5, 6])
def test_every_final_code_of_a_phone(hundred: int) -> None:
    codes = range(100 * hundred, 100 * hundred + 100)
    assert {code: judge(code, by_proxy=False) for code in codes} == {code: expected(code) for code in codes}


@pytest.mark.parametrize("hundred", [2, 3, 4, 5, 6])
def test_every_final_code_of_the_proxy(hundred: int) -> None:
    codes = range(100 * hundred, 100 * hundred + 100)
    refuses_us = {401: HELD, 403: SUSPECT, 407: HELD}
    wanted = {code: refuses_us.get(code) or expected(code) for code in codes}
    assert {code: judge(code, by_proxy=True) for code in codes} == wanted


@pytest.mark.parametrize("code", [-1, 0, 100, 180, 199, 700, 1000])
@pytest.mark.parametrize("by_proxy", [True, False])
def test_a_code_that_is_not_final_is_an_error(code: int, by_proxy: bool) -> None:
    with pytest.raises(MsiloError, match=f"{code} is not a final status code"):
        judge(code, by_proxy=by_proxy)


@pytest.mark.parametrize("code", range(200, 700))
def test_what_a_verdict_asks_for_is_a_move_of_the_table(code: int) -> None:
    for by_proxy in (True, False):
        move(State.SENDING, judge(code, by_proxy=by_proxy).event)


@pytest.mark.parametrize(
    ("trust", "code", "event"),
    [
        (Trust.ANY, 202, Event.ACCEPTED), (Trust.CONFIRM, 200, Event.HANDED_OVER),
        (Trust.CONFIRM, 202, Event.HANDED_OVER), (Trust.ONLY_200, 200, Event.ACCEPTED),
        (Trust.ONLY_200, 202, Event.MISSED),
    ],
)  # fmt: skip
def test_how_far_a_2xx_is_believed(trust: Trust, code: int, event: Event) -> None:
    assert judge(code, by_proxy=True, trust=trust).event is event
