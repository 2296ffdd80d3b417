"""How much may be under way inside, and who is next: a fair share for each peer; pure.

Whoever waits is served in turns, peer after peer, so that one that sends a thousand requests delays another's by the
answer to one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Window(Generic[T]):
    """Room that peers take and give back. `T`: what waits for it."""

    total: int
    share: int
    "What one peer may hold at the most."
    _held: dict[str, int] = field(default_factory=dict)
    _waiting: OrderedDict[str, deque[tuple[int, T]]] = field(default_factory=OrderedDict)

    @property
    def used(self) -> int:
        """What all hold together."""
        return sum(self._held.values())

    def ask(self, peer: str, cost: int, what: T) -> bool:
        """Take room, or wait for it: then `give_back` returns `what` one day."""
        if peer not in self._waiting and self._fits(peer, cost):
            self._held[peer] = self._held.get(peer, 0) + cost
            return True
        self._waiting.setdefault(peer, deque()).append((cost, what))
        return False

    def _fits(self, peer: str, cost: int) -> bool:
        held = self._held.get(peer, 0)
        return self.used + cost <= self.total and (not held or held + cost <= self.share)

    def give_back(self, peer: str, cost: int) -> list[T]:
        """Room is free again: those whose turn has come, who hold theirs now."""
        left = self._held.pop(peer) - cost
        if left:
            self._held[peer] = left
        granted: list[T] = []
        refused = 0
        while self._waiting and refused < len(self._waiting):
            name, queue = next(iter(self._waiting.items()))
            self._waiting.move_to_end(name)
            if not self._fits(name, queue[0][0]):
                refused += 1
                continue
            refused = 0
            price, what = queue.popleft()
            self._held[name] = self._held.get(name, 0) + price
            granted.append(what)
            if not queue:
                del self._waiting[name]
        return granted
