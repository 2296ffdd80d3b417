"""The life of messages over a real file: anything may happen in any order, and a small model knows what must hold.

Accept, retransmit, wake, answer, time, purge, a disk that fails, a crash. What the model knows of a message is what the
senders, the phones and the operator saw of it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from msilo_lite.address import Aor
from msilo_lite.delivery import STEP_ASIDE_AFTER
from msilo_lite.errors import SipError
from msilo_lite.inbox import Inbox
from msilo_lite.replay import Send
from msilo_lite.wire import Answer, Request
from tests.unit.kit import BOB, CARL, NO_ANSWER, NOW, PROXY, Rig, heard, request

ACCEPTED = (heard(200), heard(202))
AWAY = tuple(heard(code) for code in (480, 486, 503, 604, 405, 483, 302))
DOUBTFUL = (heard(500), heard(400), NO_ANSWER)
UNFIT = (heard(415), heard(513))
REFUSED = (heard(603), heard(600))
BREAKS = {
    "counters": "CREATE TRIGGER broken BEFORE INSERT ON msilo_counter BEGIN SELECT RAISE(ABORT, 'full'); END",
    "ledger": "CREATE TRIGGER broken BEFORE UPDATE ON msilo_ledger BEGIN SELECT RAISE(ABORT, 'full'); END",
}
owners = st.sampled_from([BOB, CARL])


class Lifecycle(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.file = Path(self.folder.name) / "silo.sqlite"
        self.rig = Rig(self.file, proxy=PROXY)
        self.now = NOW
        self.broken = False
        self.requests: dict[int, tuple[Aor, Request]] = {}
        # on disk
        self.order: list[int] = []
        self.ended: set[int] = set()
        self.parked: set[int] = set()
        self.counters: Counter[str] = Counter()
        # decided, not on disk yet
        self.new: list[int] = []
        self.ending: set[int] = set()
        self.parking: set[int] = set()
        self.counting: Counter[str] = Counter()
        # what phones saw
        self.flights: dict[int, tuple[Aor, int, Send]] = {}
        self.again: set[Aor] = set()
        self.delivered: Counter[int] = Counter()
        self.unsettled: set[int] = set()
        self.failures: Counter[int] = Counter()
        self.doubtful: set[int] = set()

    # -- the model -------------------------------------------------------------------------------------------------
    def owner(self, number: int) -> Aor:
        return self.requests[number][0]

    def waiting(self, owner: Aor) -> list[int]:
        """What should be delivered to an owner, in the order it was taken."""
        gone = self.ended | self.ending | self.parked | self.parking
        return [number for number in self.order if self.owner(number) == owner and number not in gone]

    def committed(self) -> None:
        for number in self.new:
            self.counters["stored_messages" if number not in self.order else "duplicate_messages"] += 1
            if number not in self.order:
                self.order.append(number)
        self.ended |= self.ending
        self.parked |= self.parking
        self.counters += self.counting
        self.forget_staged()

    def forget_staged(self) -> None:
        self.new, self.ending, self.parking, self.counting = [], set(), set(), Counter()
        self.unsettled = set()

    def turn(self, *ended: tuple[int, Answer], lazy: bool = False) -> list[Send]:
        """A turn of the loop; checks everything that leaves in it."""
        self.rig.now = self.now
        before = self.rig.silo.turn
        sends = self.rig.turn(*ended, lazy=lazy)
        if self.rig.silo.turn is not before:
            self.committed()
        elif not before.new:  # the commit failed: the senders were told so
            self.new = []
        self.check(sends)
        return sends

    def check(self, sends: list[Send]) -> None:
        for send in sends:
            number = int(send.item.message.body)
            owner = self.owner(number)
            assert owner not in {flying for flying, _, _ in self.flights.values()}, "two in flight for one owner"
            assert number in self.waiting(owner), "sent though it is not waiting"
            earlier = self.waiting(owner)[: self.waiting(owner).index(number)]
            assert set(earlier) <= {n for n in self.doubtful if self.failures[n] >= STEP_ASIDE_AFTER}, "out of order"
            self.doubtful.discard(number)
            self.flights[send.token] = (owner, number, send)

    # -- what may happen -------------------------------------------------------------------------------------------
    @rule(owner=owners, many=st.integers(1, 3))
    def accept(self, owner: Aor, many: int) -> None:
        for _ in range(many):
            number = len(self.requests)
            text = request("MESSAGE", owner.uri, body=str(number).encode(), to=f"<{owner.uri}>", call_id=f"n{number}")
            self.requests[number] = owner, text
            self.take(number)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def retransmit(self, data: st.DataObject) -> None:
        self.take(data.draw(st.sampled_from(sorted(self.requests))))

    def take(self, number: int) -> None:
        assert self.rig.silo.accept(self.requests[number][1], self.now) is not None
        self.new.append(number)

    @rule(lazy=st.booleans())
    def loop(self, lazy: bool) -> None:
        self.turn(lazy=lazy)

    @rule(owner=owners)
    def wake(self, owner: Aor) -> None:
        """A REGISTER that settled: what waits for this owner goes now, or after the message that is under way."""
        self.turn()
        open_lane = owner in {flying for flying, _, _ in self.flights.values()}
        self.rig.replay.wake(owner)
        if open_lane:
            self.again.add(owner)
        self.turn()
        self.turn()
        if not self.broken and self.waiting(owner):
            assert owner in {flying for flying, _, _ in self.flights.values()}, "a wake-up was lost"

    @precondition(lambda self: self.flights)
    @rule(
        data=st.data(), answer=st.sampled_from(ACCEPTED * 3 + AWAY + DOUBTFUL * 2 + UNFIT + REFUSED), lazy=st.booleans()
    )
    def answer(self, data: st.DataObject, answer: Answer, lazy: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.flights)))
        owner, number, _ = self.flights.pop(token)
        self.heard_from_phone(number, answer)
        self.turn((token, answer), lazy=lazy)
        self.restarted(owner, stopped=answer in AWAY or answer in DOUBTFUL)

    def heard_from_phone(self, number: int, answer: Answer) -> None:
        purged = number in self.ended
        if answer in ACCEPTED:
            self.counting["dumped_messages"] += 1
            self.delivered[number] += 1
            assert self.delivered[number] == 1, "delivered twice"
            self.unsettled.add(number)
            self.ending.add(number)
            return
        self.counting["failed_messages"] += 1
        self.failures[number] += 1
        if answer in REFUSED:
            self.ending.add(number)
        elif answer in UNFIT and not purged:
            self.parking.add(number)
        elif answer in DOUBTFUL:
            self.doubtful.add(number)

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), permanent=st.booleans())
    def cannot_be_sent(self, data: st.DataObject, permanent: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.flights)))
        owner, number, send = self.flights.pop(token)
        self.counting["failed_messages"] += 1
        self.failures[number] += STEP_ASIDE_AFTER if permanent else 1
        if permanent:
            self.doubtful.add(number)
        self.check(self.rig.replay.failed(send.token, SipError("x", permanent=permanent), self.now))
        self.turn()
        self.restarted(owner, stopped=not permanent)

    def restarted(self, owner: Aor, *, stopped: bool) -> None:
        """A lane that was woken while it was open starts over when it stops."""
        flying = {one for one, _, _ in self.flights.values()}
        if stopped and owner in self.again and owner not in flying:
            self.turn()
            flying = {one for one, _, _ in self.flights.values()}
            assert self.broken or owner in flying or not self.waiting(owner), "a wake-up while open was lost"
        if owner not in flying or stopped:
            self.again.discard(owner)

    @rule(seconds=st.sampled_from([1, 60, 600, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        for owner in self.rig.store.due(self.now, 100):
            self.rig.replay.retry(owner)
        self.turn()

    @precondition(lambda self: not self.broken and self.order)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.order))
        with closing(Inbox(self.file)) as inbox:
            ids = [one.silo_id for one in inbox.waiting() if int(one.message.body) == number]
            assert inbox.purge(ids, self.now)[0] == len(ids)
        self.rig.replay.reload()
        self.ended.add(number)
        self.parked.discard(number)

    @precondition(lambda self: not self.broken)
    @rule(how=st.sampled_from(sorted(BREAKS)))
    def disk_breaks(self, how: str) -> None:
        self.sql(BREAKS[how])
        self.broken = True
        self.again.clear()

    @precondition(lambda self: self.broken)
    @rule()
    def disk_mends(self) -> None:
        self.sql("DROP TRIGGER broken")
        self.broken = False

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as other:
            other.execute(statement)

    @rule()
    def crash(self) -> None:
        """Everything in memory is gone; what a phone had taken and the file did not know may come again."""
        if self.broken:
            self.disk_mends()
        self.rig.close()
        for number in self.unsettled:
            self.delivered[number] = 0
        self.forget_staged()
        self.flights.clear()
        self.again.clear()
        self.rig = Rig(self.file, proxy=PROXY, now=self.now)
        for owner in self.rig.interrupted:
            self.rig.replay.wake(owner)

    # -- what must hold --------------------------------------------------------------------------------------------
    @invariant()
    def nothing_is_lost_and_nothing_comes_back(self) -> None:
        with closing(Inbox(self.file)) as inbox:
            box = [int(one.message.body) for one in inbox.waiting()]
        assert box == [number for number in self.order if number not in self.ended]

    @invariant()
    def counters_agree(self) -> None:
        assert self.rig.counters() == {name: number for name, number in self.counters.items() if number}

    @invariant()
    def flights_agree(self) -> None:
        assert self.rig.replay.in_flight == len(self.flights)

    def teardown(self) -> None:
        """When every phone comes back and takes everything, all that is left is what was parked."""
        try:
            if self.broken:
                self.disk_mends()
            for owner in (BOB, CARL):
                self.wake(owner)
            for _ in range(3 * len(self.requests) + 3):
                for token, (owner, number, _) in list(self.flights.items()):
                    del self.flights[token]
                    self.heard_from_phone(number, heard(200))
                    self.turn((token, heard(200)))
                    self.restarted(owner, stopped=False)
                self.turn()
            for owner in (BOB, CARL):
                self.wake(owner)
                left = self.waiting(owner)
                assert len(left) <= 1 + len(self.doubtful), "the box does not empty"
            self.nothing_is_lost_and_nothing_comes_back()
        finally:
            self.rig.close()
            self.folder.cleanup()


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(settings(), max_examples=settings().max_examples // 2, stateful_step_count=40)
