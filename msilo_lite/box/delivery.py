"""The life of a message: its states, the moves between them, and what each answer of a phone means.

Both tables below are the whole truth; an illegal move raises and changes nothing. Nothing here does I/O.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..errors import MsiloError


class State(enum.IntEnum):
    """Where a message is in its life; the number is what the ledger stores."""

    PENDING = 0
    "Waits in the box."
    SENDING = 1
    "Claimed by a lane: sent, or about to be."
    PARKED = 2
    "Waits in the box, but is not tried: its content was refused."
    DELIVERED = 3
    "The phone, or the proxy in front of it, answered 2xx."
    FAILED = 4
    "The recipient refused it for good (6xx, RFC 3428 7)."
    EXPIRED = 5
    "Its time ran out before it could be delivered."
    CANCELLED = 6
    "The operator purged it."
    HANDED = 7
    "Handed over, unconfirmed: a PBX that answers 202 before it tries has it, and may still bring it back."


WAITING = frozenset({State.PENDING, State.SENDING, State.PARKED, State.HANDED})
"States of messages that are still in the box."


class Event(enum.Enum):
    """What can happen to a message."""

    BEGIN = "begin"
    RELEASE = "release"
    "Claimed, but not sent after all."
    ACCEPTED = "accepted"
    MISSED = "missed"
    "Nobody took it this time."
    UNFIT = "unfit"
    "Its content, size or type was refused."
    REFUSED = "refused"
    LAPSE = "lapse"
    CANCEL = "cancel"
    HANDED_OVER = "handed over"
    "A PBX took it that says so before it tries."
    RETURNED = "returned"
    "That PBX brought it back: its phone was away."
    BELIEVED = "believed"
    "Nobody brought it back for so long that it counts as delivered."
    RETRY = "retry"
    "The operator wants it sent again."
    RESTART = "restart"
    "The daemon starts and does not know how an attempt ended."
    FATAL = "fatal"
    "The daemon starts, and this is what it crashed of, twice."

    __hash__ = object.__hash__  # each is there once; Enum's own goes through the name


MOVES: dict[tuple[State, Event], State] = {
    (State.PENDING, Event.BEGIN): State.SENDING,
    (State.PENDING, Event.LAPSE): State.EXPIRED,
    (State.PENDING, Event.CANCEL): State.CANCELLED,
    (State.SENDING, Event.RELEASE): State.PENDING,
    (State.SENDING, Event.ACCEPTED): State.DELIVERED,
    (State.SENDING, Event.MISSED): State.PENDING,
    (State.SENDING, Event.UNFIT): State.PARKED,
    (State.SENDING, Event.REFUSED): State.FAILED,
    (State.SENDING, Event.LAPSE): State.EXPIRED,
    (State.SENDING, Event.CANCEL): State.CANCELLED,
    (State.SENDING, Event.RESTART): State.PENDING,
    (State.SENDING, Event.FATAL): State.PARKED,
    (State.SENDING, Event.HANDED_OVER): State.HANDED,
    (State.HANDED, Event.RETURNED): State.PENDING,
    (State.HANDED, Event.BELIEVED): State.DELIVERED,
    (State.HANDED, Event.LAPSE): State.DELIVERED,
    (State.HANDED, Event.RETRY): State.PENDING,
    (State.HANDED, Event.CANCEL): State.CANCELLED,
    (State.PARKED, Event.RETRY): State.PENDING,
    (State.PARKED, Event.LAPSE): State.EXPIRED,
    (State.PARKED, Event.CANCEL): State.CANCELLED,
}


def move(state: State, event: Event) -> State:
    """The next state; raises MsiloError for a move the table does not have."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise MsiloError(f"a message that is {state.name.lower()} cannot take {event.value}") from None


class Trust(enum.StrEnum):
    """How far a 2xx of a peer is believed."""

    ANY = "any"
    "It means delivered, as in msilo."
    CONFIRM = "confirm"
    "It means taken: the peer brings back what it could not deliver (Asterisk, FreeSWITCH)."
    ONLY_200 = "200-only"
    "200 means delivered, and 202 that the message has to wait for the next wake-up."


@dataclass(frozen=True, slots=True)
class Hop:
    """What is known of the host that a replay is handed to."""

    trust: Trust = Trust.ANY
    max_body: int = 0
    "Bytes of a body that it carries whole; 0: any number."


class Lane(enum.Enum):
    """What an answer means for the messages behind this one."""

    NEXT = "next"
    "Send the next one now."
    STOP = "stop"
    "The recipient cannot be reached: keep the order and wait."
    ASIDE = "aside"
    "It may be this message alone: after three failures let one pass it."
    HOLD = "hold"
    "Our own proxy refuses us: stop everything that goes through it."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a final answer means."""

    event: Event
    lane: Lane
    timer: bool = True
    "Whether trying again by time makes sense; otherwise only a wake-up does."
    alarm: bool = False
    "Whether the operator has to mend something."
    suspect: bool = False
    "Whether the same answer for another recipient would show that it is us who are refused."


STEP_ASIDE_AFTER = 3
"Doubtful answers in a row after which a message no longer keeps the ones behind it waiting."
REFUSED_BY_PROXY = Verdict(Event.RELEASE, Lane.HOLD, alarm=True)
"Our credentials or our trust are broken, not the message: no attempt is counted."
_MISSED = Verdict(Event.MISSED, Lane.STOP)
_DOUBTFUL = Verdict(Event.MISSED, Lane.ASIDE)
_UNFIT = Verdict(Event.UNFIT, Lane.NEXT)
_OTHER_DEVICE = Verdict(Event.MISSED, Lane.STOP, timer=False)
_LOOP = Verdict(Event.MISSED, Lane.STOP, alarm=True)
_CODES: dict[int, Verdict] = {
    404: _MISSED,
    405: _OTHER_DEVICE,
    408: _DOUBTFUL,
    410: _MISSED,
    413: _UNFIT,
    415: _UNFIT,
    420: _UNFIT,
    430: _MISSED,
    480: _MISSED,
    482: _LOOP,
    483: _LOOP,
    486: _MISSED,
    488: _UNFIT,
    491: _MISSED,
    493: _UNFIT,
    501: _OTHER_DEVICE,
    503: _MISSED,
    504: _MISSED,
    513: _UNFIT,
    604: _MISSED,
}


def judge(code: int, *, by_proxy: bool, trust: Trust = Trust.ANY) -> Verdict:
    """What the final answer `code` to a replay means; `by_proxy`: it came from our own PBX, not from a phone.

    `trust`: how far a 2xx of that peer is believed. A 3xx that was not followed counts as not reached. Raises
    MsiloError for a code that is not final.
    """
    if not 200 <= code <= 699:
        raise MsiloError(f"{code} is not a final status code")
    if code < 300:
        return _success(code, trust)
    if code in (401, 407) and by_proxy:
        return REFUSED_BY_PROXY
    if code == 403 and by_proxy:  # the proxy does not trust us, or it passes on what one phone thinks of one sender
        return Verdict(Event.MISSED, Lane.ASIDE, alarm=True, suspect=True)
    if code < 400:
        return _MISSED
    if code >= 600 and code not in _CODES:
        return Verdict(Event.REFUSED, Lane.NEXT, timer=False)
    return _CODES.get(code, _DOUBTFUL)


def _success(code: int, trust: Trust) -> Verdict:
    if trust is Trust.CONFIRM:
        return Verdict(Event.HANDED_OVER, Lane.NEXT)
    if trust is Trust.ONLY_200 and code != 200:
        return _OTHER_DEVICE
    return Verdict(Event.ACCEPTED, Lane.NEXT)
