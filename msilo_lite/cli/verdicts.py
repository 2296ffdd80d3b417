"""What answers of a PBX mean for us, each with what to do about it. Pure: `enquiry` asks, this judges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..box.delivery import Hop, Trust
from ..sip.response import response_headers
from ..sip.wire import Answer

FINE, WARNING, WRONG = "ok", "warning", "wrong"
SKEW = 60
"Seconds by which two clocks may differ."
ASTERISK_BODY = 1023
"Bytes of a body that an Asterisk passes on; it empties longer ones after its 202."
EARLY = re.compile(r"(?i)asterisk|fpbx|freepbx|freeswitch")
"Products that answer 202 before they have tried."
NOBODY = frozenset({404, 408, 410, 430, 480, 486, 487, 604})
"Answers that say nothing but that a user is not there, or unknown."


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: str
    about: str
    words: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the PBX, and what came of it."""

    pbx: str
    "Host and port, for a person."
    source: str
    "Where it was asked from, for a person."
    as_daemon: bool
    "Whether the daemon would ask from the same address and port."
    has_password: bool
    answer: Answer | None
    "None: nothing came in time."
    at: float = 0.0
    "UTC second at which the answer came."

    @property
    def code(self) -> int:
        """The status; 0 where nobody answered."""
        return 0 if self.answer is None or self.answer.local else self.answer.code

    @property
    def said(self) -> str:
        """The answer in words."""
        return f"{self.answer.code} {self.answer.reason}" if self.code and self.answer else "nothing"

    @property
    def product(self) -> str:
        """What the PBX calls itself; empty where it does not."""
        if self.answer is None:
            return ""
        named = (*response_headers(self.answer, "server"), *response_headers(self.answer, "user-agent"))
        return next(iter(named), "")


def about_options(asked: Asked, seconds: float) -> Finding:
    """Does anybody live there?"""
    if asked.code:
        product = f", {asked.product}" if asked.product else ""
        return Finding(FINE, "pbx", f"{asked.pbx} answers OPTIONS with {asked.code}{product}")
    words = (
        f"{asked.pbx} does not answer OPTIONS within {seconds:.0f} s: is it up, is a firewall between, does it drop "
    )
    return Finding(WRONG, "pbx", words + f"what comes from {asked.source}? Nothing else was asked")


def about_message(asked: Asked) -> Finding:
    """Would it take a message of ours, to a user that does not exist?"""
    if asked.code in (401, 407, 403):
        return _distrusted(asked)
    if not asked.code:
        words = (
            f"{asked.pbx} does not answer our MESSAGE, though it answers OPTIONS; its log may say what it makes of it"
        )
        return Finding(WRONG, "message", words)
    if asked.code in (405, 501):
        return Finding(WRONG, "message", f"{asked.pbx} takes no MESSAGE ({asked.said}): it has to be allowed there")
    if asked.code in (482, 483):
        return Finding(WRONG, "message", f"{asked.said}: a route of {asked.pbx} goes in a circle")
    if asked.code < 300 or asked.code in NOBODY:
        return Finding(FINE, "message", f"{asked.pbx} takes what we send (to nobody: {asked.said})")
    return Finding(WARNING, "message", f"{asked.pbx} answers our MESSAGE with {asked.said}; look into its log")


def _distrusted(asked: Asked) -> Finding:
    if asked.has_password:
        words = f"{asked.pbx} refuses our password ({asked.said}): are user and password those of the PBX?"
        return Finding(WRONG, "message", words)
    asks = "asks us for a password" if asked.code in (401, 407) else "refuses us"
    words = f"{asked.pbx} {asks} ({asked.said}) at a MESSAGE in a user's name"
    mend = f"let it trust {asked.source}, as `msilo-lite init --pbx KIND` shows, or set user and password"
    if asked.as_daemon:
        return Finding(WRONG, "message", f"{words}: {mend}")
    words += f". The daemon has its own port, so we asked from {asked.source}: a PBX that looks at the port may answer "
    words += f"the daemon otherwise. `msilo-lite status` tells whether it was refused; if so, {mend}"
    return Finding(WARNING, "message", words)


def about_subscribe(asked: Asked, event: str, user: str, *, real: bool) -> Finding:
    """Can we be woken? `real`: the user is one of the PBX's, as far as we know."""
    if 200 <= asked.code < 300:
        return Finding(FINE, "wake-up", f"{asked.pbx} tells about {user} (Event: {event})")
    if asked.code == 489:
        other = "reg" if event == "presence" else "presence"
        words = f'{asked.pbx} knows no Event {event} ({asked.said}): nothing wakes anybody. Try watch = "{other}", or '
        return Finding(WRONG, "wake-up", words + 'watch = "off" and a copy of each REGISTER')
    if asked.code in (404, 480, 604) and not real:
        words = f"{asked.pbx} knows nobody called {user}, of course; name a user of yours with --loop to be sure"
        return Finding(FINE, "wake-up", words)
    if asked.code in (404, 480, 604):
        words = f"{asked.pbx} tells nothing about {user} ({asked.said}): on an Asterisk the user needs a hint in the "
        return Finding(WRONG, "wake-up", words + "subscribe_context of our endpoint")
    if asked.code in (401, 407, 403):
        level = WRONG if asked.as_daemon or asked.has_password else WARNING
        words = f"{asked.pbx} refuses our SUBSCRIBE ({asked.said}): it needs to trust {asked.source}, or our password"
        return Finding(level, "wake-up", words)
    if not asked.code:
        return Finding(WRONG, "wake-up", f"{asked.pbx} does not answer our SUBSCRIBE: nothing wakes anybody")
    return Finding(WRONG, "wake-up", f"{asked.pbx} refuses our SUBSCRIBE ({asked.said}): nothing wakes anybody")


def about_register(asked: Asked, user: str) -> Finding:
    """Are we the extension that we say? A REGISTER without Contact asks it and changes nothing (RFC 3261 10.2.3)."""
    if 200 <= asked.code < 300:
        return Finding(FINE, "extension", f"{asked.pbx} knows {user} and its password")
    if asked.code in (401, 403, 407):
        return Finding(WRONG, "extension", f"{asked.pbx} refuses {user} ({asked.said}): is the password right?")
    if asked.code == 404:
        return Finding(WRONG, "extension", f"{asked.pbx} has no extension {user} ({asked.said})")
    return Finding(WRONG, "extension", f"{asked.pbx} does not register {user} ({asked.said})")


def about_product(asked: Iterable[Asked], hop: Hop) -> Iterator[Finding]:
    """Settings that do not fit what the PBX says it is."""
    product = next((one.product for one in asked if one.product), "")
    if re.search(r"(?i)asterisk|fpbx|freepbx", product) and not 0 < hop.max_body <= ASTERISK_BODY:
        words = f"{product} empties bodies of {ASTERISK_BODY + 1:,} bytes and more after its 202: "
        yield Finding(WRONG, "max_body", words + f"set max_body = {ASTERISK_BODY}, and longer ones wait")
    if EARLY.search(product) and hop.trust is Trust.ANY:
        words = f'{product} answers 202 before it has tried: set trust_2xx = "confirm", and what comes back is kept'
        yield Finding(WRONG, "trust_2xx", words)
    if EARLY.search(product) and hop.trust is Trust.CONFIRM:
        words = f"{product} answers 202 before it has tried: a phone's own refusal or silence is not heard. Such a "
        yield Finding(
            FINE, "trust_2xx", words + "message is listed as handed over, unconfirmed; `retry` sends it again"
        )


def about_silence(asked: Iterable[Asked], heard: bool | None) -> Iterator[Finding]:
    """Without watch, a copy of each REGISTER has to wake us. `heard`: whether one ever came; None: nobody can know."""
    product = next((one.product for one in asked if one.product), "")
    if EARLY.search(product):
        words = f'{product} forwards no REGISTER, and watch = "off": nothing wakes anybody. Set watch = "presence"'
        yield Finding(WRONG, "wake-up", words)
    elif heard is False:
        words = "no REGISTER has come yet: the PBX has to send a copy of each, or what waits is tried by time alone. "
        yield Finding(WARNING, "wake-up", words + "Let a phone register, and check again")
    elif heard:
        yield Finding(FINE, "wake-up", "REGISTERs come")


def about_clocks(asked: Iterable[Asked]) -> Finding | None:
    """Whose clock is wrong, where the PBX tells its time; None where it does not."""
    for one in asked:
        dates = response_headers(one.answer, "date") if one.answer else []
        try:
            ahead = parsedate_to_datetime(dates[0]).timestamp() - one.at
        except (IndexError, ValueError, TypeError):
            continue
        if abs(ahead) <= SKEW:
            return Finding(FINE, "clock", f"{one.pbx} and this machine agree about the time")
        which = "ahead of" if ahead > 0 else "behind"
        words = f"{one.pbx} is {_span(abs(ahead))} {which} this machine: messages would tell a wrong time and end too "
        return Finding(WARNING, "clock", words + "early or too late. Let both follow a time server (timedatectl)")
    return None


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def about_body(sent: int, came: int | None, allowed: int) -> Finding | None:
    """A long text that went round. `came`: bytes that came back, None for nothing; `allowed`: `max_body`, 0 for any."""
    if came == sent:
        return Finding(FINE, "max_body", f"{sent:,} bytes came back whole")
    lost = "came back empty" if came == 0 else "did not come back" if came is None else f"came back with {came:,}"
    if allowed and sent > allowed:
        return None  # never sent so
    words = f"a text of {sent:,} bytes {lost}: set max_body to what the PBX carries (an Asterisk: {ASTERISK_BODY})"
    return Finding(WRONG, "max_body", words)
