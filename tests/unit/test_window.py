"""Room for what is under way: shares, turns, and that nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.sip.window import Window


def test_room_is_taken_and_given_back() -> None:
    window: Window[str] = Window(10, 10)
    assert [window.ask("a", 6, "1"), window.ask("a", 6, "2"), window.ask("a", 1, "3")] == [True, False, False]
    assert window.give_back("a", 6) == ["2", "3"]
    assert window.used == 7


def test_one_peer_has_its_share() -> None:
    window: Window[str] = Window(10, 6)
    assert [window.ask("a", 3, "1"), window.ask("a", 3, "2"), window.ask("a", 3, "3")] == [True, True, False]
    assert window.ask("b", 4, "4")


def test_who_waits_is_served_in_turns() -> None:
    window: Window[str] = Window(2, 2)
    assert window.ask("a", 1, "a1")
    assert window.ask("a", 1, "a2")
    for name in ("a3", "a4", "a5", "b1", "b2", "c1"):
        assert not window.ask(name[0], 1, name)
    order = [window.give_back("a", 1), window.give_back("a", 1)]
    order += [window.give_back(one[0][0], 1) for one in list(order)]
    assert [one for (one,) in order] == ["a3", "b1", "c1", "a4"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=60), st.data())
def test_everybody_is_served_once_and_the_limits_hold(wants: list[tuple[str, int]], data: st.DataObject) -> None:
    window: Window[int] = Window(8, 6)
    draw: Callable[[st.SearchStrategy[bool]], bool] = data.draw
    holding: list[int] = []
    served: list[int] = []
    for number, (peer, cost) in enumerate(wants):
        if window.ask(peer, cost, number):
            holding.append(number)
        while holding and draw(st.booleans()):
            done = holding.pop(0)
            served.append(done)
            holding += window.give_back(*wants[done])
        assert window.used == sum(wants[one][1] for one in holding) <= 8
        for name in "abc":
            assert sum(wants[one][1] for one in holding if wants[one][0] == name) <= 6
    while holding:
        done = holding.pop(0)
        served.append(done)
        holding += window.give_back(*wants[done])
    assert sorted(served) == list(range(len(wants)))
    assert window.used == 0
