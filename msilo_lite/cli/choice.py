"""Which messages a command is about: one set of filters for all of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..box.inbox import History
from ..box.message import Waiting
from ..errors import BadRequest, ConfigError
from ..sip.address import Aor, aor_of, parse_address, parse_uri
from .reasons import Surroundings, state_name, state_of

PRESENT = ("pending", "scheduled", "held", "sending", "parked", "handed over")
"States of messages in the box."
PAST = ("delivered", "failed", "expired", "purged")
"States of those that left it."


@dataclass(frozen=True, slots=True)
class Choice:
    """Filters; each that is there must agree."""

    owner: Aor | None = None
    sender: str = ""
    "AoR or host of From, or a whole tel: URI."
    states: frozenset[str] = frozenset()
    before: int | None = None
    "UTC second by which it had arrived."

    @property
    def empty(self) -> bool:
        """Whether everything is meant."""
        return self == Choice()

    @property
    def coarse(self) -> bool:
        """Whether the file alone can tell, without a look at each message."""
        return not (self.sender or self.states)

    def takes(self, item: Waiting, around: Surroundings, now: int) -> bool:
        """Whether a message in the box is meant; owner and arrival were asked of the file."""
        return self._has(state_of(item, around, now)) and (not self.sender or is_from(item.message.src, self.sender))

    def took(self, old: History) -> bool:
        """Whether one that left the box is."""
        return self._has(state_name(old.state)) and (not self.sender or is_from(_uri(old.from_), self.sender))

    def _has(self, state: str) -> bool:
        return not self.states or state in self.states


def is_from(uri: str, wanted: str) -> bool:
    """Whether a From URI is that of a user (alice@home.lan), of a host (home.lan), or of a number (tel:+39...)."""
    if uri.lower().startswith("tel:") or wanted.lower().startswith("tel:"):
        return uri.partition(";")[0].lower() == wanted.partition(";")[0].lower()
    try:
        found = aor_of(parse_uri(uri))
        if found is None:
            return False
        return found == Aor.parse(wanted) if "@" in wanted else found.host == wanted.lower()
    except BadRequest:
        return False


def _uri(from_: str) -> str:
    try:
        return parse_address(from_, tel=True).uri
    except BadRequest:
        return ""


def states_named(words: list[str]) -> frozenset[str]:
    """The states that a person named. Raises ConfigError."""
    known = {name.replace(" ", "-"): name for name in (*PRESENT, *PAST)} | {"handed": "handed over"}
    wanted = [word.strip().lower().replace(" ", "-") for text in words for word in text.split(",")]
    wrong = [word for word in wanted if word not in known]
    if wrong:
        names = ", ".join(name.replace(" ", "-") for name in (*PRESENT, *PAST))
        raise ConfigError(f"--state: there is no state {wrong[0]!r}; {names} are those")
    return frozenset(known[word] for word in wanted)
