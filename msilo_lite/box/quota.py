"""Whether there is room for one more message: in the box of its owner, in the store, on the disk.

What waits is counted by the file itself (`usage`), so that each look costs the same however much that is; what the
turn has taken and not yet written is counted here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Rejected
from ..sip.address import Aor
from .message import Message, size_of
from .policy import FULL_RETRY, SPACE_RETRY, Policy
from .store import Store

EVERYBODY = Aor("", "")
"Whose count is that of the whole store."


@dataclass(slots=True)
class _Taken:
    """What a turn has taken for somebody."""

    messages: int = 0
    size: int = 0


class Quota:
    """Looks before a message is taken."""

    def __init__(self, policy: Policy, store: Store, is_short: Callable[[], bool] = lambda: False) -> None:
        """`is_short`: whether the disk has too little room now: asked each time, for a storm fills it in no time."""
        self._store = store
        self._is_short = is_short
        self.obey(policy)
        self._turn: list[Message] = []
        self._done = 0
        self._keys: set[bytes] = set()
        self._taken: dict[Aor, _Taken] = {}

    def obey(self, policy: Policy) -> None:
        """Go by these limits from now on."""
        self._policy, self._caps = policy, policy.caps

    def check(self, message: Message, turn: list[Message], now: int) -> None:
        """Raises Rejected for a message that there is no room for; `turn`: what was taken and is not written yet.

        A repeat of what was taken before needs no room.
        """
        refusal = self._refusal(message, turn, now)
        if refusal and not (self._store.knows(message.key, now) or any(one.key == message.key for one in turn)):
            raise refusal

    def _refusal(self, message: Message, turn: list[Message], now: int) -> Rejected | None:
        if self._is_short():
            return _full(503, "the disk is almost full (min_free)", SPACE_RETRY, "refused_disk")
        caps, most = self._caps, self._policy.max_messages
        if not (most or caps.counted):
            return None
        self._follow(turn)
        owner, size = message.owner, size_of(message)
        if most and self._waiting(owner, turn, now, most) >= most:
            return _full_box(owner, f"max_messages = {most}")
        if caps.each_bytes and self._count(owner).size + size > caps.each_bytes:
            return _full_box(owner, f"max_bytes = {caps.each_bytes}")
        if caps.all_messages or caps.all_bytes:
            whole = self._count(EVERYBODY)
            if 0 < caps.all_messages <= whole.messages:
                return _full(503, "the store is full (max_total_messages)", SPACE_RETRY, "refused_full_store")
            if 0 < caps.all_bytes < whole.size + size:
                return _full(503, "the store is full (max_total_bytes)", SPACE_RETRY, "refused_full_store")
        return None

    def _waiting(self, owner: Aor, turn: list[Message], now: int, most: int) -> int:
        """Messages of an owner that are not over, each once."""
        found = self._store.waiting(owner, now, most)
        mine = self._taken.get(owner)
        if mine and found + mine.messages >= most:  # exactly, since a turn may hold repeats
            return found + len({one.key for one in turn if one.owner == owner and not self._store.knows(one.key, now)})
        return found + (mine.messages if mine else 0)

    def _count(self, owner: Aor) -> _Taken:
        """What waits for an owner, and what this turn adds."""
        messages, size = self._store.usage(owner)
        mine = self._taken.get(owner)
        return _Taken(messages + mine.messages, size + mine.size) if mine else _Taken(messages, size)

    def _follow(self, turn: list[Message]) -> None:
        """Add what came since the last look."""
        if turn is not self._turn or len(turn) < self._done:
            self._turn, self._done = turn, 0
            self._taken.clear()
            self._keys.clear()
        for message in turn[self._done :]:
            if message.key in self._keys:
                continue
            self._keys.add(message.key)
            for owner in (message.owner, EVERYBODY):
                one = self._taken.setdefault(owner, _Taken())
                one.messages += 1
                one.size += size_of(message)
        self._done = len(turn)


def _full(status: int, reason: str, again: int, counter: str) -> Rejected:
    return Rejected(status, reason, headers=(("Retry-After", str(again)),), counter=counter)


def _full_box(owner: Aor, limit: str) -> Rejected:
    return _full(480, f"the box of {owner} is full ({limit})", FULL_RETRY, "refused_full_box")
