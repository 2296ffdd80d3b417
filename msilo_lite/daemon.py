"""The loop: requests in, one commit, answers out, replays on. The only place where the parts meet.

One thread owns everything; signal handlers set a flag. A turn is: take what has arrived, decide, commit once, then
answer and send. The order is the promise: no 202 and no replay leaves before what it stands for is on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from socket import AF_INET, AF_INET6

from . import __version__
from .allowance import Allowance
from .box.delivery import Hop
from .box.ground import refuse_damaged
from .box.holds import Holds
from .box.message import Turn
from .box.recorder import LastRun, Recorder
from .box.silo import Places, Silo
from .box.store import Store
from .drift import Drift, running
from .errors import Refused, StoreError
from .gatekeeper import CHALLENGED, Gatekeeper
from .governed import Governed
from .outbound.bindings import USUAL_CONTACT, Bindings
from .outbound.carrier import Carrier
from .outbound.courier import Courier
from .outbound.hook import Hook
from .outbound.replay import Replay
from .outbound.scheduler import Scheduler
from .outbound.ways import NO_WAY, Ways
from .pbx.liaison import Liaison
from .points import reach
from .reception import Headers, Reception
from .rules import Certificates, Rules
from .seeing.logs import logger
from .seeing.monitor import Monitor
from .settings.config import Config
from .settings.terms import dress_of, extra_lines, extra_of, policy_of, reading_of
from .sip import wire
from .sip.address import next_host
from .sip.agent import Agent
from .sip.asker import Asker
from .sip.digest import Credentials
from .sip.lookup import Lookup
from .sip.wire import Answer, Incoming, Request
from .upkeep import Upkeep, recovered

log = logger(__name__)

USER_AGENT = f"msilo-lite/{__version__}"
REQUESTS_A_TURN = 200
"Requests that share one commit."
LAZY = 0.02
"Seconds a settled delivery may wait for a commit that somebody else needs; a crash in them repeats a message."
BROKEN_PAUSE = 1.0
"Seconds until the next try to write what nobody waits for, after the disk refused."
SLOW_DISK, GATHER_SHARE, GATHER_MOST = 0.01, 20, 0.005
"Seconds of a commit from which on the loop gathers first; its share of the commit's time, and the most in seconds."
LAZY_MOST = 64
"Settled deliveries that are committed without waiting."
IDLE_MS = 100
"Milliseconds the loop sleeps at the most."
GRACE_SECONDS = 34
"How long a stop waits for answers: PJSIP gives up after 32 s (RFC 3261 17.1.2.2, Timer F)."
RETRY_AFTER = (("Retry-After", "5"),)
REMIND_TICK = 1
"Seconds between two looks for due reminders where send_time is 0: those of the commands are sent all the same."


class Daemon(Governed):
    """All parts on one file. Raises SipError and StoreError from the constructor."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.time,
        *,
        serving: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        """`serving`: deliver to everybody who can be reached; otherwise only to whom a command names."""
        refuse_damaged(config.db_file)
        self._config = config
        self._clock = clock
        self._store = Store(config.db_file, config.names, counted=config.caps.counted, served=serving)
        self._recorder = recorder
        self._drift = Drift(clock() - running())
        interrupted = recovered(self._store, recorder.last if recorder else LastRun(), int(clock()))
        self.agent = Agent(config.endpoints, self, USER_AGENT, config.door)
        dress = dress_of(config, USER_AGENT)
        places, proxy = Places(config.domain, self.agent.own_hosts()), config.outbound_proxy
        self._lookup = Lookup(frozenset(AF_INET6 if ":" in one.host else AF_INET for one in self.listening))
        pbx = frozenset(uri for uri in (proxy, config.registrar) if uri)
        for uri in pbx:
            self._lookup.first(next_host(uri))
        room = 0 if proxy else USUAL_CONTACT
        self._gate = Gatekeeper(config, lambda uri: self._silo.places.aor(uri))
        self._allowance = Allowance(config, self._store)
        self._silo = Silo(
            self._store, policy_of(config), places, dress, room, reading_of(config), self._allowance.quota
        )
        self._bindings = Bindings(replace(one, updated=min(one.updated, clock())) for one in self._store.contacts())
        troubled = {one.owner: one for one in self._store.recipients()}
        extra = extra_of(config)
        holds = Holds(self._store.holds())
        ways = Ways(
            self._bindings, proxy, extra_lines(extra, None), self._hop, asks=extra is not None, holds=holds
        )  # fmt: skip
        self._replay = Replay(self._silo, ways, config.max_in_flight, troubled, config.max_attempts)
        self._scheduler = Scheduler(
            config.settle, config.check_time, config.clean_period, config.send_time or REMIND_TICK,
            config.retry_rate, config.wake_rate,
        )  # fmt: skip
        credentials = Credentials(config.user, config.secret or "") if config.user else None
        self._asker = Asker(self.agent, credentials, pbx, self._lookup)
        self._carrier = Carrier(self._asker, self._replay, dress, self._is_trusted, clock, recorder)
        self._liaison = Liaison(config, self._asker, self._store, self.listening)
        self._reception = Reception(
            config, self._silo, self._bindings, self._replay, self._scheduler, self._liaison.notified, self._gate
        )
        self._hook = Hook(config.store_hook)
        self._courier = Courier(self._asker, self._hook, lambda name: self._silo.turn.count(name))
        self._upkeep = Upkeep(
            config, self._store, self._silo, self._replay, self._bindings, self._reception, holds, troubled
        )
        rules = Rules(self._silo, self._replay, ways, self._scheduler, self._hook)
        certificates = Certificates(self.agent)
        self.parts = [self, certificates, rules, self._gate, self._allowance, self._reception, self._upkeep]
        self._serving = serving
        parts = self._replay, self._bindings, holds
        listening, earlier = tuple(map(str, self.listening)), self._store.recent()
        self.monitor = Monitor(config, self._silo, parts, listening, __version__, earlier, listens=serving)
        stranded = [one.owner for one in troubled.values() if one.reason == NO_WAY] if proxy else []
        for owner in stranded:  # a proxy was set meanwhile
            self._replay.expect(owner, int(clock()))
        for owner, at in interrupted:
            self._replay.expect(owner, at)
        self._inbox: list[tuple[Incoming, Request]] = []
        self._ended: list[tuple[int, Answer]] = []
        self._to_answer: list[tuple[int, int, Headers]] = []
        self._last_commit = time.monotonic()
        self._took = 0.0
        "Seconds of the last commit."
        self._broken_until = 0.0
        self.stopping = False
        self._started = int(clock())
        self._tell()

    # -- the edge calls ----------------------------------------------------------------------------------------------
    def hears(self, host: str) -> bool:
        """Whether requests from this IP address are worth a look."""
        heard = self._gate.hears(host)
        if not heard:
            self.monitor.journal.refused(host, 403, "not a trusted peer", self._clock())
        return heard

    def received(self, request: Incoming) -> None:
        """A request arrived: it is answered in this turn."""
        if self._recorder:
            self._recorder.heard(request.host, request.port)
        try:
            parsed = wire.read(request.text)
        except Refused as refusal:
            self._refuse(request, refusal)
        else:
            self._inbox.append((request, parsed))
            reach("received")

    def answered(self, token: int, answer: Answer) -> None:
        """A request of ours ended: settled in this turn."""
        final = self._asker.answered(token, answer)
        if final is not None:
            self._ended.append((token, final))

    def dropped(self, reason: str) -> None:
        """A request that got no further."""
        self._silo.turn.count(reason)

    def counted(self, name: str, number: int) -> None:
        """What happened at the door so many times."""
        self._silo.turn.count(name, number)

    # -- the loop ----------------------------------------------------------------------------------------------------
    def run(self, between: Callable[[], None] = lambda: None) -> None:
        """Serve until `stopping` is set, then wait for the answers that are due; `between` follows each turn."""
        while not self.stopping:
            self.turn()
            between()
        deadline = time.monotonic() + GRACE_SECONDS
        if self._replay.in_flight:
            words = "a second signal ends it now, nothing is lost"
            log.warning("daemon.stopping", seconds=GRACE_SECONDS, in_flight=self._replay.in_flight, words=words)
        self._replay.stop(int(self._clock()), self._scheduler.settling())
        reach("stopping")
        while (self._liaison.parting(self._clock()) or self._replay.in_flight) and time.monotonic() < deadline:
            self.turn()
            between()
        self.turn(0)
        self._commit(int(self._clock()), force=True)

    def turn(self, wait: int = IDLE_MS) -> None:
        """One turn of the loop; waits up to `wait` milliseconds for something to do."""
        self.agent.poll(self._patience(wait), REQUESTS_A_TURN)
        self._gather()
        now = self._clock()
        if moved := self._drift.look(now, running()):
            self._upkeep.clock_moved(moved, int(now))
        self._take_requests(now)
        for token, answer in self._drain_ended():
            reach("heard")
            if not (self._liaison.answered(token, answer, now) or self._courier.ended(token, answer)):
                self._carrier.perform(self._replay.answered(token, answer, int(now)))
        self._tick(now)
        try:
            self._replay.claim(int(now))
        except StoreError as error:
            self._give_up(error, int(now))
        self._commit(int(now))
        self._hook.work()
        self.monitor.turned()

    def _gather(self) -> None:
        """Where a commit takes long, wait a moment for those about to come: they would wait for all of the next one."""
        end = time.monotonic() + min(self._took / GATHER_SHARE, GATHER_MOST)
        seen = 0
        while seen < len(self._inbox) < REQUESTS_A_TURN and self._took > SLOW_DISK and time.monotonic() < end:
            seen = len(self._inbox)
            self.agent.poll(1, REQUESTS_A_TURN)

    def _patience(self, wait: int) -> int:
        """Milliseconds until there is surely something to do."""
        if self._resting:
            return min(wait, IDLE_MS // 2)
        if not self._replay.ready_to_claim and self._silo.turn.empty:
            return min(wait, int(1000 * self._scheduler.wait(self._clock())) + 1)
        return 0 if self._replay.ready_to_claim else min(wait, 5)

    def _drain_ended(self) -> list[tuple[int, Answer]]:
        ended, self._ended = self._ended, []
        return ended

    def _take_requests(self, now: float) -> None:
        inbox, self._inbox = self._inbox, []
        for incoming, request in inbox:
            try:
                reply = self._reception.take(incoming, request, now)
                if reply.durable:
                    self._to_answer.append((incoming.handle, reply.status, reply.headers))
                else:
                    self.agent.answer(incoming.handle, reply.status, reply.headers)
            except Refused as refusal:
                self._refuse(incoming, refusal)
            except StoreError as error:
                log.error("store.failed", error=str(error))
                self.agent.answer(incoming.handle, 503, RETRY_AFTER)
            except Exception:  # our fault: one request must not take the others of this turn along
                log.exception("request.broken", where="silo")
                self._silo.turn.count("internal_errors")
                self.agent.answer(incoming.handle, 500)
            reach("staged")

    def _refuse(self, incoming: Incoming, refusal: Refused) -> None:
        now = self._clock()
        self._silo.turn.count(refusal.counter)
        self._gate.note(incoming, refusal, now)
        if refusal.counter != CHALLENGED:
            peer = f"{incoming.host}:{incoming.port}"
            self.monitor.journal.refused(peer, refusal.status, refusal.reason, now)
        self.agent.answer(incoming.handle, refusal.status, refusal.headers)

    # -- time --------------------------------------------------------------------------------------------------------
    def _tick(self, now: float) -> None:
        due = self._scheduler.tick(now, self._replay.retry_lanes if self._scheduler.in_line else 0)
        for owner, most in due.wake:
            self._replay.wake(owner, most=most)
        for owner in () if self.stopping else due.retry:
            self._silo.turn.woke(owner, "timer")
            self._replay.retry(owner)
        try:
            if due.retries:
                self._tell()
                self.monitor.tick(now, refused=self._resting, registered=self._liaison.registered)
            if due.retries and self._serving and not self.stopping:
                self._look_for_retries(int(now))
            if not self.stopping:
                self._liaison.tick(now)
            self._upkeep.tick(due, now, calling=self._serving and not self.stopping)
        except StoreError as error:
            log.error("store.failed", error=str(error))

    def _look_for_retries(self, now: int) -> None:
        """Whose back-off is over stands in line; who has a lane already has it look again."""
        here = self._replay.open
        for owner in self._store.due(now, REQUESTS_A_TURN + self._scheduler.in_line + len(here)):
            if owner in here:
                self._replay.retry(owner)
            else:
                self._scheduler.line_up(owner)

    # -- disk, then wire ---------------------------------------------------------------------------------------------
    def _commit(self, now: int, *, force: bool = False) -> None:
        """Write the turn, then answer and send what waited for it; settled deliveries alone may wait a moment."""
        turn = self._silo.turn
        waited_for = bool(force or self._to_answer or turn.claimed)
        if not waited_for and (self._resting or not (turn.urgent or self._overdue(turn))):
            return
        begun = time.monotonic()
        try:
            fresh = self._silo.commit(now)
        except StoreError as error:
            self._give_up(error, now)
            return
        finally:
            self._last_commit = time.monotonic()
            self._took = self._last_commit - begun
        reach("committed")
        answers, self._to_answer = self._to_answer, []
        for handle, status, headers in answers:
            self.agent.answer(handle, status, headers)
            reach("answered")
        self.monitor.committed(turn, fresh, now)
        self._courier.stored(self._reception.stored(fresh))
        self._carrier.perform(self._replay.claimed(now))

    @property
    def _resting(self) -> bool:
        """Whether the disk refused a moment ago."""
        return time.monotonic() < self._broken_until

    def _overdue(self, turn: Turn) -> bool:
        waited = time.monotonic() - self._last_commit > LAZY
        return not turn.empty and (waited or len(turn.settled) >= LAZY_MOST)

    def _give_up(self, error: StoreError, now: int) -> None:
        """The disk failed: senders get 503 and will come again, lanes rest, settled deliveries are tried again."""
        if not self._resting:  # one line a second, however many senders come again
            log.error("store.failed", error=str(error))
        self._broken_until = time.monotonic() + BROKEN_PAUSE
        answers, self._to_answer = self._to_answer, []
        for handle, _, _ in answers:
            self.agent.answer(handle, 503, RETRY_AFTER)
        self._silo.give_up()
        self._reception.stored(frozenset())
        self._silo.turn.count("store_errors")
        self._replay.unclaim(now)

    def _is_trusted(self, host: str) -> bool:
        """Whether a host that a message is handed to, under its name or its address, is a trusted one."""
        address = self._lookup.address(host)
        return address is not None and self._gate.trusts(address)

    def _hop(self, host: str) -> Hop:
        """What is known of a host that a message is handed to, under its name or its address."""
        return self._config.hop(self._lookup.address(host) or host)

    def work_until(self, done: Callable[[], bool]) -> None:
        """Serve until `done`: what `dump` does while no other daemon serves the file."""
        while not done():
            self.turn()
        self._commit(int(self._clock()), force=True)

    def close(self) -> None:
        """Give up the sockets and the file."""
        self.monitor.close()
        self._hook.close()
        self.agent.close()
        self._store.close()
