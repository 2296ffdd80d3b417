"""The subscription to one user, from one dialog to the next: what answers and NOTIFYs make of it (RFC 6665 4.1). Pure.

`at` is seconds of a clock that never goes back; `watch` decides who is subscribed to, and sends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..box.policy import MINUTE, PBX_BACKOFF, delta_seconds
from ..sip.address import Aor
from ..sip.response import response_headers, retry_after
from ..sip.wire import Answer
from .dialog import Dialog, Heard
from .presence import RegInfo, RegTable

NOTIFY_WITHIN = 32
"Seconds from a 2xx to the first NOTIFY (RFC 6665 4.1.2.4, Timer N)."
SOONEST = 5
"Seconds to a refresh at least, however little the PBX grants."
ANEW = 30
"Seconds between two new dialogs at once, and between two requests for full state; what comes sooner is backed off."
REST = 60 * MINUTE
"Seconds for which a user whom the PBX refuses is left alone."
LONGEST = 24 * REST
"Seconds of a Retry-After, a Min-Expires or an expires that are believed."
PASSING = frozenset({408, 430, 480, 486, 487, 491})
"Refusals that may pass, beside 5xx."
AT_ONCE = frozenset({"deactivated", "timeout"})
LATER = frozenset({"probation", "giveup"})
NEVER = frozenset({"rejected", "noresource", "invariant"})
"Reasons of a terminated subscription, by when to ask again (RFC 6665 4.1.3); any other one is as good as none."


@dataclass(slots=True, eq=False)
class Subscription:
    """What we know of one user, and of the dialog in which we learn it."""

    owner: Aor
    dialog: Dialog | None = None
    "None: not subscribed, asked again from `due` on."
    token: int = 0
    "The SUBSCRIBE under way; 0: none."
    ending: bool = False
    "Whether it ends the subscription."
    due: float = 0.0
    "When the next SUBSCRIBE goes."
    lapses: float = math.inf
    "When the PBX forgets the subscription, or its first NOTIFY is too late."
    since: float = 0.0
    "When the dialog began."
    until: float = -math.inf
    "When the last one ended."
    words: str = ""
    "The state, or why there is none."
    open: bool | None = None
    "What the last NOTIFY said; None: nothing."
    stale: bool = False
    "Whether that may be wrong, so that the next SUBSCRIBE goes at once and brings it anew."
    raised: bool = False
    "Whether a 423 made us ask for more time."
    _granted: int = 0
    "Seconds by the last 2xx."
    _failures: int = 0
    "In a row; the step of the back-off."
    _renewed: float = -math.inf
    "When a new dialog was allowed at once for the last time."
    _completed: float = -math.inf
    "When full state was asked for at once for the last time."
    _table: RegTable = field(default_factory=RegTable)

    def begin(self, dialog: Dialog, at: float) -> None:
        """A new dialog: nothing is known yet."""
        self.dialog, self.since, self.lapses, self.words = dialog, at, math.inf, "asked"
        self.open, self._granted, self._table = None, 0, RegTable()

    def sent(self, token: int, *, ending: bool) -> None:
        """A SUBSCRIBE goes out."""
        self.token, self.ending, self.stale = token, ending, False

    def ask_again(self, at: float) -> None:
        """Forget what was said: the next NOTIFY counts as the first."""
        self.open, self.stale, self.due = None, True, at

    def review(self, at: float) -> None:
        """Give up a dialog that came to nothing."""
        if self.dialog is None or self.token or at < self.lapses:
            return
        if not self.dialog.confirmed:
            self._back_off(at, "no NOTIFY came" if self.words == "asked" else self.words)
        elif self._failures:  # without a failure the refresh is only late, and its answer will tell
            self._anew(at, self.words)

    # -- answers -----------------------------------------------------------------------------------------------------
    def accepted(self, dialog: Dialog, answer: Answer, expires: int, at: float) -> None:
        """A 2xx to a SUBSCRIBE for `expires` seconds."""
        dialog.learn(answer)
        seconds = delta_seconds(next(iter(response_headers(answer, "expires")), None))
        self._granted, self.raised = expires if seconds is None else min(seconds, expires), False
        if dialog.confirmed:
            self._failures = 0
            self._plan(at, self._granted)
        else:
            self.lapses = self.due = at + NOTIFY_WITHIN

    def refused(self, dialog: Dialog, answer: Answer, at: float, least: int = REST) -> None:
        """A final answer that is no 2xx, or none; `least`: seconds of rest where it is for good."""
        code, wait = answer.code, retry_after(answer) or 0
        words = said_by(answer)
        if code == 481:
            self._anew(at, words)
        elif not (code in PASSING or 500 <= code < 600) or least > REST:
            self.rest(at, words, max(least, min(wait, LONGEST)))
        elif dialog.confirmed and code != 480:  # RFC 6665 4.1.2.2: it stays valid until it lapses
            self.due = at + self._pause(wait)
        else:
            self._back_off(at, words, wait)

    # -- NOTIFYs -----------------------------------------------------------------------------------------------------
    def told(self, dialog: Dialog, heard: Heard, said: bool | RegInfo | None, state: dict[str, str], at: float) -> bool:
        """A NOTIFY, read; whether the user can be reached as far as we knew not before."""
        now_open = self._note(said, at) if isinstance(said, RegInfo) else said
        news = now_open is True and (self.open is not True or (isinstance(said, RegInfo) and self._table.news))
        first = not dialog.confirmed
        dialog.take(heard)
        self._failures, self.open = 0, now_open
        self.words = "pending" if state[""] == "pending" else _WORDS[now_open]
        seconds = delta_seconds(state.get("expires"))  # holds, whatever a 2xx says (RFC 6665 4.1.3)
        if first or seconds is not None:
            self._plan(at, self._granted if seconds is None else min(seconds, LONGEST))
        return news

    def _note(self, info: RegInfo, at: float) -> bool:
        if self._table.take(info):
            self.doubt(at)
        return self._table.open

    def doubt(self, at: float) -> None:
        """Something was missed: ask for full state at once, but not in a circle."""
        if at - self._completed >= ANEW:
            self._completed, self.stale, self.due = at, True, at

    def terminated(self, state: dict[str, str], at: float) -> None:
        """The PBX ended it: whether and when to ask again is in the reason (RFC 6665 4.1.3)."""
        reason, after = state.get("reason", ""), delta_seconds(state.get("retry-after")) or 0
        words = f"ended by the PBX, {reason or 'no reason given'}"
        if reason in NEVER:
            self.rest(at, words)
        elif reason in LATER or (after and reason not in AT_ONCE):
            self._back_off(at, words, after)
        else:
            self._anew(at, words)

    # -- what follows ------------------------------------------------------------------------------------------------
    def _plan(self, at: float, seconds: float) -> None:
        """The next refresh: after two thirds of what was granted, at once where state is missing."""
        self.lapses = at + seconds
        self.due = at if self.stale else at + max(SOONEST, seconds * 2 / 3)

    def close(self, at: float, due: float, words: str = "") -> None:
        """Forget the dialog; the user may be asked about again from `due` on."""
        self.dialog, self.token, self.ending = None, 0, False
        self.until, self.due, self.words = at, due, words

    def rest(self, at: float, words: str, seconds: int = REST) -> None:
        """Leave the user alone for a long time."""
        self.close(at, at + seconds, words)

    def _anew(self, at: float, words: str) -> None:
        """The PBX knows the dialog no more: a new one, at once unless the last one went the same way just now."""
        if at - self._renewed < ANEW:
            self._back_off(at, words)
            return
        self._renewed = at
        self.close(at, at)

    def _back_off(self, at: float, words: str, wait: int = 0) -> None:
        """A new dialog later."""
        self.close(at, at + self._pause(wait), words)

    def _pause(self, wait: int) -> float:
        """Seconds to the next try after one more failure, never before a Retry-After ends."""
        step = PBX_BACKOFF[min(self._failures, len(PBX_BACKOFF) - 1)]
        self._failures += 1
        return max(step, min(wait, LONGEST))


_WORDS = {True: "open", False: "closed", None: "nothing known"}


def said_by(answer: Answer) -> str:
    """A refusal in words."""
    return f"{'no answer' if answer.local else 'refused'}: {answer.code} {answer.reason}"
