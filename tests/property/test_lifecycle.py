"""The life of messages over a real file: anything may happen in any order, and a small model knows what must hold.

Accept, retransmit, remind, wake, with a limit and without, answer, time, purge, a disk that fails, a crash. What the
model knows of a message is what the senders, the phones and the operator saw of it.
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

from msilo_lite.box.delivery import STEP_ASIDE_AFTER
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.policy import Policy
from msilo_lite.box.repeats import KNOWN_FOR
from msilo_lite.box.silo import Reading
from msilo_lite.box.store import Store
from msilo_lite.errors import Rejected, SipError
from msilo_lite.outbound.lanes import Send
from msilo_lite.settings.pseudo import Template
from msilo_lite.sip.address import Aor
from msilo_lite.sip.wire import Answer, Request
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
MOST = 8
"Messages that fit into a box."
LONGEST = 600
"Seconds until the latest reminder."
owners = st.sampled_from([BOB, CARL])


def opened(file: Path, now: int) -> Rig:
    """The parts as they are after a start."""
    reading = Reading(snd_time=Template.parse("$hdr(X-Send-At)"))
    return Rig(file, proxy=PROXY, now=now, policy=Policy(max_messages=MOST, reminders=True), reading=reading)


class Lifecycle(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.file = Path(self.folder.name) / "silo.sqlite"
        self.rig = opened(self.file, NOW)
        self.now = NOW
        self.broken = False
        self.requests: dict[int, tuple[Aor, Request]] = {}
        self.first_sent: dict[int, int] = {}
        self.after: dict[int, int] = {}
        "Seconds after which a reminder asks to be sent; 0 for other messages."
        self.due: dict[int, int] = {}
        self.reminded = (0, 0)
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
        self.budget: dict[Aor, int] = {}
        "Messages that may still leave the box of an owner who was called for so many."
        self.limited: set[Aor] = set()
        "Owners whose last call had a limit: what it leaves waits for the next one."
        self.delivered: Counter[int] = Counter()
        self.unsettled: set[int] = set()
        self.failures: Counter[int] = Counter()
        self.doubtful: set[int] = set()

    # -- the model -------------------------------------------------------------------------------------------------
    def owner(self, number: int) -> Aor:
        return self.requests[number][0]

    def waiting(self, owner: Aor) -> list[int]:
        """What should be delivered to an owner by now, in the order it was taken."""
        gone = self.ended | self.ending | self.parked | self.parking
        mine = [number for number in self.order if self.owner(number) == owner and number not in gone]
        return [number for number in mine if self.due[number] <= self.now]

    def is_open(self, owner: Aor) -> bool:
        return owner in {flying for flying, _, _ in self.flights.values()}

    def is_full(self, owner: Aor) -> bool:
        on_disk = {number for number in self.order if number not in self.ended}
        return sum(self.owner(number) == owner for number in on_disk | (set(self.new) - set(self.order))) >= MOST

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
            assert not self.is_open(owner), "two in flight for one owner"
            assert self.due[number] <= self.now, "a reminder left before its time"
            assert number in self.waiting(owner), "sent though it is not waiting"
            # a reminder has its own time: what was stored after it may pass it
            earlier = [n for n in self.waiting(owner)[: self.waiting(owner).index(number)] if not self.after[n]]
            assert set(earlier) <= {n for n in self.doubtful if self.failures[n] >= STEP_ASIDE_AFTER}, "out of order"
            self.doubtful.discard(number)
            self.flights[send.token] = (owner, number, send)

    # -- what may happen -------------------------------------------------------------------------------------------
    @rule(owner=owners, many=st.integers(1, 3))
    def accept(self, owner: Aor, many: int) -> None:
        for _ in range(many):
            self.write(owner, 0)

    @rule(owner=owners, after=st.sampled_from([1, 60, LONGEST]))
    def accept_reminder(self, owner: Aor, after: int) -> None:
        self.write(owner, after)

    def write(self, owner: Aor, after: int) -> None:
        number = len(self.requests)
        lines = [f"X-Send-At: +{after}s"] if after else []
        how = {"to": f"<{owner.uri}>", "call_id": f"n{number}"}
        self.requests[number] = owner, request("MESSAGE", owner.uri, *lines, body=str(number).encode(), **how)
        self.after[number], self.first_sent[number] = after, self.now
        self.take(number)

    def still_sent(self) -> list[int]:
        """Requests whose sender may still repeat them."""
        return [number for number, at in self.first_sent.items() if self.now - at < KNOWN_FOR]

    @precondition(lambda self: self.still_sent())
    @rule(data=st.data())
    def retransmit(self, data: st.DataObject) -> None:
        self.take(data.draw(st.sampled_from(self.still_sent())))

    def take(self, number: int) -> None:
        owner, text = self.requests[number]
        known = number in self.order or number in self.new
        try:
            assert self.rig.silo.accept(text, self.now) is not None
        except Rejected:
            full = self.is_full(owner) and not known
            assert full, "refused though there is room, or though it is known"
            return
        assert known or not self.is_full(owner), "taken though the box is full"
        if not known:
            self.due[number] = self.now + self.after[number] if self.after[number] else 0
        self.new.append(number)

    @rule(lazy=st.booleans())
    def loop(self, lazy: bool) -> None:
        self.turn(lazy=lazy)

    @rule(owner=owners)
    def wake(self, owner: Aor) -> None:
        """A REGISTER that settled: what waits for this owner goes now, or after the message that is under way."""
        self.turn()
        if self.is_open(owner):
            self.again.add(owner)
        self.rig.replay.wake(owner)
        self.unlimited(owner)
        self.goes(owner)

    @precondition(lambda self: not self.broken)
    @rule(owner=owners, most=st.integers(1, 3))
    def wake_for(self, owner: Aor, most: int) -> None:
        """The same for so many messages: never do more leave than all who called together asked for."""
        self.turn()
        if not self.is_open(owner):
            self.budget[owner] = most
        elif owner in self.budget:
            self.budget[owner] += most
        self.limited.add(owner)
        self.rig.replay.wake(owner, most=most)
        self.goes(owner)
        if not self.is_open(owner):
            self.budget.pop(owner)

    def unlimited(self, owner: Aor) -> None:
        self.budget.pop(owner, None)
        self.limited.discard(owner)

    def goes(self, owner: Aor) -> None:
        self.turn()
        self.turn()
        assert self.broken or self.is_open(owner) or not self.waiting(owner), "a wake-up was lost"

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
        kind = "reminders" if self.after[number] else "messages"
        if answer in ACCEPTED or answer in REFUSED or answer in UNFIT:
            self.spend(self.owner(number))
        if answer in ACCEPTED:
            self.counting[f"dumped_{kind}"] += 1
            self.delivered[number] += 1
            assert self.delivered[number] == 1, "delivered twice"
            self.unsettled.add(number)
            self.ending.add(number)
            return
        self.counting[f"failed_{kind}"] += 1
        self.failures[number] += 1
        if answer in REFUSED:
            self.ending.add(number)
        elif answer in UNFIT and not purged:
            self.parking.add(number)
        elif answer in DOUBTFUL:
            self.doubtful.add(number)

    def spend(self, owner: Aor) -> None:
        if owner in self.budget:
            self.budget[owner] -= 1
            assert self.budget[owner] >= 0, "more left than was asked for"

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), permanent=st.booleans())
    def cannot_be_sent(self, data: st.DataObject, permanent: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.flights)))
        owner, number, send = self.flights.pop(token)
        self.counting["failed_reminders" if self.after[number] else "failed_messages"] += 1
        self.failures[number] += STEP_ASIDE_AFTER if permanent else 1
        if permanent:
            self.doubtful.add(number)
        self.check(self.rig.replay.failed(send.token, SipError("x", permanent=permanent), self.now))
        self.turn()
        self.restarted(owner, stopped=not permanent)

    def restarted(self, owner: Aor, *, stopped: bool) -> None:
        """A lane that was woken while it was open starts over when it stops; one that runs dry has left nothing."""
        if not self.is_open(owner) and (not stopped or owner in self.again):
            self.turn()
            self.turn()
        if not self.is_open(owner) and not self.broken and owner not in self.limited:
            left = set(self.waiting(owner))
            if stopped:
                assert owner not in self.again or left <= self.doubtful, "a wake-up while open was lost"
            else:
                assert left <= self.doubtful, "what fell due while the lane was open was forgotten"
        if not self.is_open(owner) or stopped:
            self.again.discard(owner)
        if not self.is_open(owner):
            self.budget.pop(owner, None)

    @rule(seconds=st.sampled_from([1, 60, LONGEST, 3600]))
    def time_passes(self, seconds: int) -> None:
        """What is due by the clock: tries after a back-off, and reminders."""
        self.turn()  # what came is on disk in the turn it came in
        self.now += seconds
        ripe = self.rig.store.ripened(self.reminded, self.now, 100)
        for owner in (*self.rig.store.due(self.now, 100), *(owner for owner, _ in ripe)):
            self.rig.replay.retry(owner)
            if not self.is_open(owner):
                self.unlimited(owner)
        self.reminded = ripe[-1][1] if ripe else self.reminded
        self.turn()
        self.turn()
        later = {one.owner for one in self.rig.store.recipients()} | self.limited
        for owner in {BOB, CARL} - later:
            forgotten = {number for number in self.waiting(owner) if self.after[number]}
            assert self.broken or self.is_open(owner) or not forgotten, "a reminder was forgotten"

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
        self.rig.crash()
        for number in self.unsettled:
            self.delivered[number] = 0
        self.forget_staged()
        self.flights.clear()
        self.again.clear()
        self.budget.clear()
        self.reminded = (0, 0)
        self.rig = opened(self.file, self.now)
        for owner in self.rig.interrupted:
            self.rig.replay.wake(owner)

    @precondition(lambda self: not self.broken)
    @rule()
    def command_comes_by(self) -> None:
        """One that opens the file as the daemon does, and puts its youngest rows into the indexes."""
        Store(self.file).close()

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
            self.time_passes(LONGEST)
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
