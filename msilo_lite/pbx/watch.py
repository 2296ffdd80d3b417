"""Who is watched when: subscriptions to users who have mail waiting (RFC 6665), and what a NOTIFY wakes. Pure.

Only they are watched: a PBX with 500 users has a handful of our dialogs, and more users than there are places take
turns. Times inside only grow: a clock that is set back stops nothing, one that is set forward is time that passed,
and no tick sends more than PACE requests, whatever fell due.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Literal

from ..box.policy import MINUTE, delta_seconds
from ..errors import BadRequest
from ..sip.address import Aor
from ..sip.response import response_headers, retry_after
from ..sip.wire import Answer, Outgoing, Request, check, media_type
from .dialog import Dialog, Form
from .presence import RegInfo, read_pidf, read_reginfo
from .subscription import LONGEST, REST, Subscription, said_by

PACKAGES = {"presence": ("application/pidf+xml", 2**41), "reg": ("application/reginfo+xml", 2**41 + 2**40)}
"By event (RFC 3856, RFC 3680): what its NOTIFYs carry, and the number below its tokens."
LOOK = 0.5
"Seconds between two looks at what is due."
PACE = 20
"Requests a look sends at the most: a PBX that comes back is not to be asked for everybody at once."
TURN = MINUTE
"Seconds a user is watched at least before another one takes the place."
LISTED = 5000
"Users with mail that are looked at; further ones are not watched."
REMEMBERED = 1000
"Dialogs that ended and whose last NOTIFY is still answered 200."
NO_SUCH_EVENT = frozenset({405, 489, 501})
EVENT_REST = 6 * REST
"Seconds for which nobody is asked about, where the PBX does not know the event."


class Watches:
    """The subscriptions to one event of one PBX."""

    def __init__(
        self, event: Literal["presence", "reg"], me: str, contact: str, routes: tuple[str, ...], most: int = 250,
        expires: int = 600, *, fresh: Callable[[], str],
    ) -> None:  # fmt: skip
        """`me`: our SIP URI, for From; `contact`: the one where NOTIFYs reach us; `routes`: the way to the PBX.

        `most`: dialogs at the same time; `expires`: seconds asked for; `fresh`: random text for tags and Call-IDs.
        """
        accept, self._first = PACKAGES[event]
        self._form = Form(event, accept, me, contact, routes)
        self._most, self._expires, self._fresh = most, expires, fresh
        self._token = self._first
        self._wanted: dict[Aor, int] = {}
        "Who has mail, by need."
        self._of: dict[Aor, Subscription] = {}
        self._calls: dict[str, Subscription] = {}
        "By Call-ID of their dialogs, the last ones that ended among them."
        self._under_way: dict[int, tuple[Subscription, Dialog, int]] = {}
        "By token: what was asked, in which dialog, for how many seconds."
        self._parting: set[str] = set()
        "Call-IDs of dialogs that were left, until the PBX has said its last word."
        self._off: tuple[float, str] = -math.inf, ""
        "Until when the whole event rests, and why."
        self._heard_at, self._time, self._next = math.inf, 0.0, 0.0

    @property
    def dialogs(self) -> int:
        """Subscriptions that are open, or being opened or ended."""
        return sum(one.dialog is not None for one in self._of.values())

    def _passed(self, now: float) -> float:
        """Seconds that have passed, on a clock of our own that never goes back."""
        self._time += max(0.0, now - self._heard_at)
        self._heard_at = now
        return self._time

    # -- who ---------------------------------------------------------------------------------------------------------
    def want(self, owners: Sequence[Aor], now: float) -> None:
        """These users have mail, the most needed first; nobody else is watched any more."""
        at = self._passed(now)
        before, self._wanted = self._wanted, {owner: place for place, owner in enumerate(owners[:LISTED])}
        for one in self._of.values():
            if one.dialog and one.owner in self._wanted and one.owner not in before:
                one.ask_again(at)  # it was open for other mail: this one needs a wake-up of its own

    def states(self) -> dict[str, str]:
        """For `status`: each user with mail, and what is known of them in words."""
        return {str(owner): self._words(self._of.get(owner)) for owner in self._wanted}

    def _words(self, one: Subscription | None) -> str:
        if one and one.dialog:
            return one.words
        until, why = self._off
        if until <= self._time:
            until, why = (one.due, one.words) if one else (0.0, "")
        if until <= self._time:
            return "waits for its turn"
        minutes = math.ceil((until - self._time) / 60)
        return f"{why}, next try in {f'{minutes} min' if minutes < 120 else f'{minutes // 60} h'}"

    # -- out ---------------------------------------------------------------------------------------------------------
    def tick(self, now: float) -> list[tuple[int, Outgoing]]:
        """The SUBSCRIBEs to send now, each with its token.

        `answered` is to be told the end of each exactly once, also where it could not be sent: with a local Answer.
        """
        at = self._passed(now)
        if at < self._next:
            return []
        self._next = at + LOOK
        self._review(at)
        return [self._ask(one, expires, at) for one, expires in self._chosen(at)[:PACE]]

    def _review(self, at: float) -> None:
        """Give up dialogs that came to nothing, forget users nobody asks for."""
        for one in list(self._of.values()):
            one.review(at)
            if one.owner not in self._wanted:
                if one.dialog and not one.token and not one.dialog.peer_tag:
                    one.close(at, at)  # nothing is there to be ended
                if one.dialog is None and (one.due <= at or len(self._of) > 2 * LISTED):
                    del self._of[one.owner]
        if len(self._calls) > self._most + 2 * REMEMBERED:
            ended = [call_id for call_id, one in self._calls.items() if not _is_in(one, call_id)]
            for call_id in ended[:-REMEMBERED]:
                del self._calls[call_id]

    def _chosen(self, at: float) -> list[tuple[Subscription, int]]:
        """Whom to ask, and for how many seconds; ends go first, since they make room."""
        free = [one for one in self._of.values() if one.dialog and not one.token]
        ends = [one for one in free if one.owner not in self._wanted]
        new, room = self._waiting(at), self._most - self.dialogs
        leaving = len(ends) + sum(one.ending for one in self._of.values())
        over = self._served(free, at, len(new) - room - leaving)
        due = [one for one in free if one.due <= at and one not in over and one not in ends]
        asked = sorted(due, key=lambda one: one.due) + new[: max(0, room)]
        return [(one, 0) for one in ends + over] + [(one, self._expires) for one in asked]

    def _waiting(self, at: float) -> list[Subscription]:
        """Who is wanted, not watched, and not resting: least recently watched first, then most needed first."""
        if at < self._off[0]:
            return []
        ready = []
        for owner, place in self._wanted.items():
            one = self._of.get(owner)
            if one is None or (one.dialog is None and one.due <= at):
                ready.append((one.until if one else -math.inf, place, owner))
        return [self._of.get(owner) or Subscription(owner) for _, _, owner in heapq.nsmallest(PACE, ready)]

    def _served(self, free: list[Subscription], at: float, most: int) -> list[Subscription]:
        """Whose turn is over, because others wait for a place; the longest watched first."""
        long = (one for one in free if one.dialog and one.dialog.peer_tag and at - one.since >= TURN)
        return heapq.nsmallest(most, (one for one in long if one.owner in self._wanted), key=lambda one: one.since)

    def _ask(self, one: Subscription, expires: int, at: float) -> tuple[int, Outgoing]:
        dialog = one.dialog
        if dialog is None:
            dialog = Dialog(self._form, one.owner, self._fresh)
            one.begin(dialog, at)
            self._of[one.owner] = self._calls[dialog.call_id] = one
        self._token += 1
        one.sent(self._token, ending=expires == 0)
        self._under_way[self._token] = one, dialog, expires
        return self._token, dialog.subscribe(expires)

    def leave(self, now: float) -> list[tuple[int, Outgoing]]:
        """The SUBSCRIBEs that end what is open (RFC 6665 4.1.2.3), a few at a time: called again, those that follow.

        Nobody is wanted any more. A dialog whose SUBSCRIBE is under way is ended when that was answered.
        """
        at = self._passed(now)
        self._wanted = {}
        found = [one for one in self._of.values() if one.dialog and one.dialog.peer_tag and not one.token]
        asked = [self._ask(one, 0, at) for one in found[: max(0, PACE - len(self._parting))]]
        self._parting.update(request.call_id for _, request in asked)
        return asked

    @property
    def leaving(self) -> bool:
        """Whether the last NOTIFY of a dialog that was left has not come yet, or a SUBSCRIBE is not answered."""
        return bool(self._parting) or any(one.dialog and one.token for one in self._of.values())

    # -- answers -----------------------------------------------------------------------------------------------------
    def answered(self, token: int, answer: Answer, now: float) -> bool:
        """The final answer to a SUBSCRIBE; whether the token was one of ours."""
        if not self._first < token <= self._token:
            return False
        at = self._passed(now)
        one, dialog, expires = self._under_way.pop(token, (None, None, 0))
        if one is None or dialog is None or one.dialog is not dialog:  # a NOTIFY ended it meanwhile
            return True
        one.token = 0
        if expires == 0:
            if not 200 <= answer.code < 300:
                self._parting.discard(dialog.call_id)
            one.close(at, at)  # whatever the answer: a NOTIFY that still comes gets 481, which ends it
        elif 200 <= answer.code < 300:
            one.accepted(dialog, answer, expires, at)
        else:
            self._refused(one, dialog, answer, expires, at)
        return True

    def _refused(self, one: Subscription, dialog: Dialog, answer: Answer, expires: int, at: float) -> None:
        least = delta_seconds(next(iter(response_headers(answer, "min-expires")), None)) or 0
        if answer.code == 423 and not one.raised and expires < least <= LONGEST:  # RFC 6665 4.1.2.1
            one.raised, one.due, self._expires = True, at, max(self._expires, least)
        elif answer.code not in NO_SUCH_EVENT:
            one.refused(dialog, answer, at)
        elif any(other.dialog and other.dialog.confirmed and other is not one for other in self._of.values()):
            one.refused(dialog, answer, at, EVENT_REST)  # the PBX has the event: this user's way leads elsewhere
        else:
            words = f"{said_by(answer)}, the PBX has no event {self._form.event}"
            self._off = at + max(EVENT_REST, min(retry_after(answer) or 0, LONGEST)), words
            one.close(at, at)

    # -- in ----------------------------------------------------------------------------------------------------------
    def notified(self, request: Request, now: float) -> tuple[int, Aor | None]:
        """A NOTIFY: the status it is answered with, and who is to be woken."""
        at = self._passed(now)
        try:
            return 200, self._notified(request, at)
        except BadRequest as refusal:
            return refusal.status, None

    def _notified(self, request: Request, at: float) -> Aor | None:
        body = check(request).strip()
        state = _parameters(request.get("subscription-state"))
        call_id = request.get("call-id") or ""
        if state[""] == "terminated":
            self._parting.discard(call_id)
        one = self._calls.get(call_id)
        if one and not _is_in(one, call_id) and state[""] == "terminated":
            return None  # the last word of a dialog that ended
        if one is None or one.dialog is None or not _is_in(one, call_id):
            raise BadRequest(481, "no such subscription")
        dialog = one.dialog
        try:
            heard = dialog.read(request)
        except BadRequest as refusal:
            if refusal.status == 500:
                one.doubt(at)  # out of order, or a PBX that lost count
            raise
        if _parameters(request.get("event"))[""] != self._form.event:
            raise BadRequest(489, "another event")
        if not state[""]:
            raise BadRequest(400, "Subscription-State is missing")  # RFC 6665 8.2.3
        said = self._read(one, request, body) if body and state[""] != "pending" else None
        wake = one.told(dialog, heard, said, state, at) and one.owner in self._wanted
        if state[""] == "terminated" and (one.ending or one.owner not in self._wanted):
            one.close(at, at)
        elif state[""] == "terminated":
            one.terminated(state, at)
        return one.owner if wake else None

    def _read(self, one: Subscription, request: Request, body: bytes) -> bool | RegInfo:
        """What a body says. Raises BadRequest (400, or 415 for another media type), and says so in the state."""
        accept = self._form.accept
        try:
            if media_type(request.get("content-type") or accept) != accept:
                raise BadRequest(415, f"it is not {accept}")
            return read_pidf(body) if self._form.event == "presence" else read_reginfo(body)
        except BadRequest as refusal:
            one.words = f"a NOTIFY cannot be read: {refusal}"
            raise


def _is_in(one: Subscription, call_id: str) -> bool:
    """Whether this is still the dialog of a subscription."""
    return one.dialog is not None and one.dialog.call_id == call_id


def _parameters(value: str | None) -> dict[str, str]:
    """A header value of the form `token;name=value;...` in lower case; the token under the empty name."""
    main, *rest = (value or "").lower().split(";")
    pairs = (item.partition("=") for item in rest)
    return {name.strip(): text.strip().strip('"') for name, _, text in pairs} | {"": main.strip()}
