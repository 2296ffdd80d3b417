"""One line for each way a message can wait."""

from __future__ import annotations

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Contact, Recipient, Waiting
from msilo_lite.cli.reasons import Surroundings, span, why

from .kit import BOB, CARL, NOW, contact, message, waiting

BUSY = Recipient(BOB, NOW + 600, 2, 486, "486 Busy Here")


def around(
    trouble: Recipient | None = None, at: Contact | None = None, *, up: bool = True, by_proxy: bool = False
) -> Surroundings:
    recipients = {trouble.owner: trouble} if trouble else {}
    return Surroundings(recipients, {at.aor: at} if at else {}, up, by_proxy)


PARKED = waiting(state=State.PARKED, code=415, reason="415 Unsupported Media Type")
GOING = waiting(state=State.SENDING, attempts=1)
WAKE = "waits until bob@home.lan registers"


@pytest.mark.parametrize(
    ("item", "place", "line"),
    [
        (waiting(), around(), WAKE),
        (waiting(), around(up=False), "no daemon is running; start `msilo-lite serve`"),
        (GOING, around(), "on its way, attempt 2"),
        (GOING, around(up=False), "no daemon is running; start `msilo-lite serve`"),
        (PARKED, around(), "parked: its content was refused (415 Unsupported Media Type); `purge` takes it away"),
        (
            PARKED,
            around(up=False),
            "parked: its content was refused (415 Unsupported Media Type); `purge` takes it away",
        ),
        (waiting(), around(BUSY), "486 Busy Here; next attempt in 10 min, or when bob@home.lan registers"),
        (
            waiting(),
            around(Recipient(BOB, NOW, 1, None, "no answer")),
            "no answer; next attempt now, or when bob@home.lan registers",
        ),
        (waiting(), around(Recipient(BOB, None, 1, 405, "405 Not Allowed")), f"405 Not Allowed; {WAKE}"),
        (
            waiting(),
            around(Recipient(BOB, None, 1, 405, "405 Not Allowed"), contact()),
            f"405 Not Allowed; {WAKE} again",
        ),
        (
            waiting(),
            around(None, contact()),
            "bob@home.lan is registered for 60 min more; goes at the next REGISTER, or with `dump`",
        ),
        (waiting(), around(Recipient(CARL, NOW, 1, 486, "486 Busy Here")), WAKE),
    ],
)
def test_why(item: Waiting, place: Surroundings, line: str) -> None:
    assert why(item, place, NOW) == line


@pytest.mark.parametrize("state", [State.PENDING, State.SENDING, State.PARKED])
@pytest.mark.parametrize("up", [True, False])
def test_a_message_whose_time_is_over_says_so_first(state: State, up: bool) -> None:
    item = waiting(message(expires=NOW), state=state)
    assert why(item, around(BUSY, up=up), NOW) == "its time ran out; the cleaner will take it away"
    assert "ran out" not in why(item, around(BUSY, up=up), NOW - 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (86399, "23 h"),
        (86400, "1 d"),
        (259200, "3 d"),
    ],
)
def test_span(seconds: int, text: str) -> None:
    assert span(seconds) == text
