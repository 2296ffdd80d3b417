"""What the loop does by the clock: reminders that are due, what other programs wrote, and the cleaner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar

from .box.blame import spread
from .box.ground import Ground
from .box.holds import HELD, LET_GO, Holds
from .box.message import Recipient, Wish
from .box.recorder import LastRun
from .box.silo import Silo
from .box.store import Store
from .errors import StoreError, Uprooted
from .outbound.bindings import Bindings
from .outbound.compose import LATE
from .outbound.replay import Replay
from .outbound.scheduler import Due
from .pbx.echoes import Echo
from .points import reach
from .reception import Reception
from .seeing.logs import logger
from .settings.config import Config
from .sip.address import Aor

log = logger(__name__)

PURGE_BATCH = 500
"Rows the cleaner takes in one commit."
PRUNE_MOST = 20
"Such batches of history in one run."
FOREIGN_PAUSE = 5
"Seconds after another program's write until its mail is looked for; many writes are one look."
ECHOES_MOST = 10
"Messages of `check` that one look tells of."
FOREIGN_MOST = 2000
"Due reminders that such a look takes in."
LONGEST_WAIT = 86402
"Seconds to a next try at the most, after the longest Retry-After that is honoured."


def recovered(store: Store, last: LastRun, now: int) -> list[tuple[Aor, int]]:
    """Make what was under way wait again; returns its owners, and when to try each. Raises StoreError.

    After a crash they take turns, and a message that was under way twice is parked.
    """
    reach("recovering")
    owners: dict[Aor, None] = {}
    if last.pid:
        log.warning("run.interrupted", words=str(last))
    if last.crashed:
        parked = store.repair.blame(last.sending)
        owners.update(dict.fromkeys(parked))  # what waits behind it may go now
        if parked:
            log.error("messages.parked", count=len(parked), words="`msilo-lite list` shows them")
    owners.update(dict.fromkeys(store.recover()))
    late = [one.owner for one in store.recipients() if (one.next_try or 0) > now + LONGEST_WAIT]  # by another clock
    times = spread(owners, now) if last.crashed else [now] * len(owners)
    return [*zip(owners, times, strict=True), *((owner, now) for owner in late)]


class Upkeep:
    """Called once a turn. Methods may raise StoreError; what was not done is done at the next call."""

    live: ClassVar[frozenset[str]] = frozenset({"handed_time", "history_rows", "history_time"})
    "Settings that can change while we serve."

    def __init__(
        self,
        config: Config,
        store: Store,
        silo: Silo,
        replay: Replay,
        bindings: Bindings,
        reception: Reception,
        holds: Holds,
        troubled: Mapping[Aor, Recipient],
    ) -> None:
        """`troubled`: the lanes' own view of who could not be reached, as it changes."""
        self._troubled = troubled
        self._config = config
        self._holds = holds
        self._store = store
        self._silo = silo
        self._replay = replay
        self._bindings = bindings
        self._reception = reception
        self._seen = -1
        self._unclean = False
        self._reminded = (0, 0)
        "Up to which reminder, by due time and id, their owners were called."
        self._look_again = 0.0
        "When to look at what another program may have put into the box; 0: nobody wrote."
        self._others_wrote = False
        "Whether another program has written since the last purge of history."
        self._told: list[Echo] = []
        "The messages of `check` that the file knows of."
        self._taken: set[int] = set()
        "Wishes that are being granted."
        self._lost = False
        "Whether the file is not at its path, and that was said."

    def apply(self, config: Config) -> None:
        """Work by this configuration from the next look on."""
        self._config = config

    def tick(self, due: Due, now: float, *, calling: bool) -> None:
        """Do what is due; `calling`: whether owners are tried whom no command names. Raises Uprooted as well."""
        if due.retries:
            self._look_at_the_file()
        if due.reminders and calling:
            self._remind(int(now))
        if due.wishes:
            self._look_for_wishes(int(now))
        if due.wishes and calling:
            self._look_for_mail(int(now))
        if self._reception.heard != self._told:
            self._told = self._reception.heard[-ECHOES_MOST:]
            self._reception.heard[:] = self._told
            self._store.tell("echoes", json.dumps([asdict(one) for one in self._told]))
        self._clean(now, start=due.clean)
        if due.purge:
            self._prune(int(now))

    def clock_moved(self, by: int, now: int) -> None:
        """Somebody set the clock: what waits keeps its life, and what is to come in a minute comes in a minute."""
        log.warning("clock.set", seconds=by, words=f"{'forward' if by > 0 else 'back'} by {abs(by)} s")
        self._replay.clock_moved(by)
        self._bindings.clock_moved(by, self._silo.turn)
        try:
            if by > 0:
                self._store.repair.live_on(by, now - by)
        except StoreError as error:
            log.error("store.failed", error=str(error))

    def _look_at_the_file(self) -> None:
        """Whether the file is still the one at its path; what is in one that is lost is copied, once."""
        found = self._store.repair.look()
        if found is Ground.FIRM:
            if self._lost:
                log.warning("file.back", file=str(self._store.file))
            self._lost = False
            return
        if not self._lost:
            self._lost = True
            log.critical(
                "file.lost", file=str(self._store.file), error=found.value, copy=str(self._store.repair.rescue()),
                words="senders get 503 until it is back",
            )  # fmt: skip
        if found is Ground.OTHER:
            self._store.repair.let_go()
            raise Uprooted(f"{self._store.file}: {found.value}; a new start uses that one")

    def _remind(self, now: int) -> None:
        """Call the owners of reminders that fell due since the last look; at the start, of all that did meanwhile."""
        if self._reminded[0] > now:  # the clock was set back
            self._reminded = (now, 0)
        late = 0
        for _ in range(PRUNE_MOST):
            found = self._store.ripened(self._reminded, now, PURGE_BATCH)
            late += sum(now - place[0] > LATE for _, place in found)
            self._call_for(found)
            if found:
                self._reminded = found[-1][1]
            if len(found) < PURGE_BATCH:
                break
        if late:
            log.warning("reminders.late", count=late)
            self._silo.turn.count("late_reminders", late)

    def _call_for(self, found: list[tuple[Aor, tuple[int, int]]], *, again: bool = False) -> None:
        """Have these owners tried; `again`: but for those whose next try is set already."""
        here = self._replay.open
        for owner, _ in found:
            if again and self._replay.is_expected(owner):
                continue
            if owner not in here:
                self._silo.turn.woke(owner, "reminder")
            self._replay.retry(owner)

    def _look_for_wishes(self, now: int) -> None:
        """What others wrote into the file since the last look; SQLite's data_version says whether to look at all."""
        seen = self._store.data_version()
        if seen == self._seen:
            return
        self._look_again = self._look_again or now + FOREIGN_PAUSE
        self._others_wrote = True
        changed = self._holds.load(self._store.holds())
        if changed:
            log.info("holds.changed", holds=[one.option for one in self._holds.all])
        if changed or self._seen == -1:
            self._let_go(now)
        wishes = self._store.wishes()
        self._taken &= {wish.number for wish in wishes}
        for wish in wishes:
            if wish.number not in self._taken:
                self._taken.add(wish.number)
                self._grant(wish, now)
        self._seen = seen  # only now: a failed look is repeated

    def _let_go(self, now: int) -> None:
        """The holds are others now: who was held back is tried, and held back again where that is still so."""
        for owner in [one.owner for one in self._troubled.values() if one.reason == HELD]:
            self._replay.expect(owner, now, LET_GO)

    def _grant(self, wish: Wish, now: int) -> None:
        if wish.verb == "dump":
            self._silo.turn.woke(wish.owner, "command")
            self._replay.wake(wish.owner, wish.number, wish.most)
            return
        if wish.verb == "try":
            self._replay.expect(wish.owner, now, "a command put a message into the box")
        elif wish.verb == "listen":
            self._reception.echoes.expect(wish.most, now)
        elif wish.verb == "look":
            self._reception.may_be_reached(wish.owner, now)
        elif wish.verb != "ping":
            self._replay.reload()
        self._silo.turn.wishes[wish.number] = {}

    def _look_for_mail(self, now: int) -> None:
        """Another program wrote: it may have put mail of registered users into the box, or reminders that are due."""
        if not self._look_again or 0 < self._look_again - now <= FOREIGN_PAUSE:
            return
        self._look_again = 0.0
        for owner in self._bindings.owners():
            if self._silo.has_mail(owner, now):
                self._reception.may_be_reached(owner, now)
        self._call_for(self._store.ripened((0, 0), now, FOREIGN_MOST), again=True)

    def _clean(self, now: float, *, start: bool) -> None:
        """Expired bindings and messages go, a batch a turn, so that nobody waits for a large clean-up."""
        if start:
            self._bindings.prune(now, self._silo.turn)
        self._unclean |= start
        if self._unclean and not self._silo.turn.settled:  # what is staged would be found again
            handed = int(now) - self._config.handed_time
            ended = self._silo.lapse(int(now), PURGE_BATCH) or self._silo.believe(handed, int(now), PURGE_BATCH)
            self._unclean = ended > 0
            if ended:
                reach("cleaning")
        if start:
            self._store.scrub()

    def _prune(self, now: int) -> None:
        """History that is old enough, or more than is to be kept, goes in short commits."""
        gone = self._store.archive.close_vanished(now) if self._others_wrote else 0
        self._others_wrote = False
        if gone:
            self._silo.turn.count("vanished_messages", gone)
        before = now - self._config.history_time
        if self._config.history_rows:
            before = max(before, self._store.archive.history_since(self._config.history_rows))
        for _ in range(PRUNE_MOST):
            if self._store.archive.prune(before, PURGE_BATCH) < PURGE_BATCH:
                return
            reach("pruning")
