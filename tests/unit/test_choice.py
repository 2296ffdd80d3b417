"""The filters that every command shares."""

from __future__ import annotations

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.holds import Hold, Holds, Kind
from msilo_lite.cli.choice import PAST, PRESENT, Choice, is_from, states_named
from msilo_lite.cli.reasons import Surroundings, state_name
from msilo_lite.cli.words import seconds_in
from msilo_lite.errors import ConfigError

from .kit import NOW, message, waiting


@pytest.mark.parametrize(
    ("uri", "wanted", "found"),
    [
        ("sip:alice@home.lan", "alice@home.lan", True),
        ("sip:alice@HOME.lan:5070;transport=udp", "alice@home.lan", True),
        ("sip:Alice@home.lan", "alice@home.lan", False),
        ("sip:malice@home.lan", "alice@home.lan", False),
        ("sip:alice@home.lan", "home.lan", True),
        ("sip:alice@home.lan", "lan", False),
        ("tel:+391234", "tel:+391234", True),
        ("tel:+391234;phone-context=x", "tel:+391234", True),
        ("sip:+391234@home.lan", "tel:+391234", False),
        ("nonsense", "alice@home.lan", False),
    ],
)
def test_who_it_is_from(uri: str, wanted: str, found: bool) -> None:
    assert is_from(uri, wanted) is found


def test_every_state_can_be_named() -> None:
    assert {state_name(state) for state in State} | {"scheduled", "held"} == {*PRESENT, *PAST}
    assert states_named(["Pending,handed-over", "handed over"]) == {"pending", "handed over"}
    with pytest.raises(ConfigError, match="there is no state 'gone'"):
        states_named(["gone"])


def test_a_choice_knows_derived_states() -> None:
    around = Surroundings({}, {}, daemon_up=True, by_proxy=False, holds=Holds([Hold(Kind.ALL, "", NOW)]))
    later = waiting(message(due=NOW + 60))
    held, scheduled = Choice(states=frozenset({"held"})), Choice(states=frozenset({"scheduled"}))
    assert held.takes(waiting(), around, NOW)
    assert not held.takes(waiting(state=State.PARKED), around, NOW)
    assert not held.takes(waiting(state=State.SENDING), around, NOW)
    assert (held.takes(later, around, NOW), scheduled.takes(later, around, NOW)) == (False, True)
    assert Choice(sender="eve@home.lan").takes(waiting(), around, NOW) is False


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1d12h", 129600), ("+1w", 604800)])
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert seconds_in(text, "--since") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "20260101", "1h30", "h"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--since: .* is no length of time; write for example"):
        seconds_in(text, "--since")
