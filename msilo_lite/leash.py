"""The silo's end of the leash: what a process under a supervisor owes it, and dies with it."""

from __future__ import annotations

import os
import signal
import threading

from .supervise import VARIABLE


class Leash:
    """What the supervisor gave us; without one, every method does nothing."""

    def __init__(self) -> None:
        word, leash, *addresses = os.environ.pop(VARIABLE, "").split() or ["-1", "-1"]
        self._word = int(word)
        self.addresses = tuple(addresses)
        "Where the silo listened that we take the place of."
        if int(leash) >= 0:
            os.set_inheritable(self._word, False)
            os.set_inheritable(int(leash), False)
            threading.Thread(target=_follow, args=(int(leash),), name="leash", daemon=True).start()

    def ready(self, addresses: list[str]) -> None:
        """Tell the supervisor that we serve."""
        if self._word >= 0:
            os.write(self._word, " ".join(addresses).encode())
            os.close(self._word)
            self._word = -1

    def again(self, binds: tuple[str, ...]) -> tuple[str, ...]:
        """The addresses to listen on: where any free port will do, the one that the silo before us had."""
        if len(self.addresses) != len(binds):
            return binds
        pairs = zip(binds, self.addresses, strict=True)
        return tuple(old if new == f"{old.rpartition(':')[0]}:0" else new for new, old in pairs)


def _follow(leash: int) -> None:
    """The supervisor never writes: its end is the end of the pipe, and ours. Asleep until then; shares no state."""
    os.read(leash, 1)
    os.kill(os.getpid(), signal.SIGKILL)
