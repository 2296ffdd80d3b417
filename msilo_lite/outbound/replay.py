"""Lanes: who is being delivered to, what goes next, and what an answer means for the messages behind it.

One lane a recipient, one message in flight in each (RFC 3428 8), many lanes at once under a cap. A lane claims its next
messages in one commit and then sends them one by one; each answer is staged and the next message leaves without waiting
for the disk. Returns `Send` values and sends nothing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from dataclasses import replace

from ..box.delivery import REFUSED_BY_PROXY, STEP_ASIDE_AFTER, Event, Verdict, judge
from ..box.delivery import Lane as Then
from ..box.message import Recipient, Waiting
from ..box.policy import MINUTE, retry_at
from ..box.silo import Silo
from ..errors import SipError
from ..sip.address import Aor
from ..sip.response import redirect, retry_after
from ..sip.wire import Answer
from .lanes import Call, Doubts, Flight, Line, OpenLane, Send, by_timer, told
from .ways import Way, Ways

CLAIM = 64
"Messages a lane claims in one commit."
SHORT_CLAIM = 16
"The same where others wait for a place."
STOPPED, SEEN = "the daemon was stopped", "seen again, about to be tried"
BACK = "it came back, its phone was away"
CAME_BACK = Verdict(Event.MISSED, Then.STOP)
WINDOW = 5
"Seconds in which a PBX that answers before it tries brings back what it could not deliver."
GUARD = 65
"Seconds within which a next try was set only in case we die."
HOLD_SECONDS = 300
"How long everything through the proxy rests after it refused us (401, 403, 407)."


class Replay:
    """All lanes. Every method is called by the daemon's one thread."""

    def __init__(
        self, silo: Silo, ways: Ways, most: int, troubled: dict[Aor, Recipient], max_attempts: int = 0
    ) -> None:
        """`most`: lanes open at once. `max_attempts`: failed attempts after which a message is given up; 0: never."""
        self._silo = silo
        self._ways = ways
        self.max_attempts = max_attempts
        self._troubled = troubled
        self._flights: dict[int, Flight] = {}
        self.line = line = Line(most)
        "Who has a place."
        self._lanes, self._hungry, self._queue = line.open, line.hungry, line.called
        self._token = 0
        self._stopped = 0
        "UTC second of the stop; 0 before."
        self._resting: dict[Aor, int] = {}
        "Owners whose messages came back, and until when more of them may: order is kept by waiting."
        self._doubts = Doubts()
        self._suspects: set[Aor] = set()
        "Owners for whom the proxy passed on a 403 since the last 2xx."
        self.held_until = 0
        "UTC second until which nothing goes through the proxy."
        self.alarm = ""
        "What the operator has to mend, in words."

    @property
    def in_flight(self) -> int:
        """How many messages are under way."""
        return len(self._flights)

    @property
    def idle(self) -> bool:
        """Whether no lane is open or waits to be."""
        return not (self._lanes or self._queue)

    @property
    def ready_to_claim(self) -> bool:
        """Whether `claim` would find something to do."""
        return self.line.ready

    def expect(self, owner: Aor, at: int, words: str = SEEN) -> None:
        """An owner is to be tried at `at`, UTC seconds, also if the daemon dies before: it is on disk."""
        old = self._troubled.get(owner)
        if old is None or old.next_try is None or old.next_try > at:
            self._note(replace(old, next_try=at) if old else Recipient(owner, at, 0, None, words))

    def retry(self, owner: Aor) -> None:
        """The back-off of an owner is over, or a reminder is due; what follows is set by how this run ends."""
        if owner in self._lanes:
            self._lanes[owner].recheck = True
        elif owner in self._queue:  # who waits there may have a limit
            self._queue[owner].recheck = True
        else:
            self._enqueue(owner, None, timer=True)

    @property
    def open(self) -> Set[Aor]:
        """Who has a lane, or waits for one."""
        return self._lanes.keys() | self._queue.keys()

    @property
    def retry_lanes(self) -> int:
        """How many more lanes the timer may open: half of them are for whoever comes back."""
        return max(1, self.line.most // 2) - by_timer(self._lanes.values()) - by_timer(self._queue.values())

    def is_expected(self, owner: Aor) -> bool:
        """Whether the next try of an owner is set already."""
        known = self._troubled.get(owner)
        return owner in self._lanes or owner in self._queue or (known is not None and known.next_try is not None)

    def wake(self, owner: Aor, wish: int | None = None, most: int = 0) -> None:
        """Something says that the phone is back, or the operator does: deliver; back-off starts over.

        `most`: messages to send at the most, 0 for all.
        """
        if owner in self._troubled:
            self._note(replace(self._troubled[owner], tries=0))
        self._enqueue(owner, wish, most)

    def _enqueue(self, owner: Aor, wish: int | None, most: int = 0, *, timer: bool = False) -> None:
        if self._stopped:
            self._note(Recipient(owner, self._stopped, 0, None, STOPPED))
            return
        lane = self._lanes.get(owner)
        if lane:
            lane.again = lane.again or Call()
            lane.again.join(wish, most)
        else:
            self._queue.setdefault(owner, Call()).join(wish, most, timer=timer)

    # -- before the commit -------------------------------------------------------------------------------------------
    def claim(self, now: int) -> None:
        """Open lanes while the cap allows and let hungry ones claim more; what they claim leaves after the commit."""
        if self._stopped:
            return
        for owner, until in list(self._resting.items()):
            if not now < until <= now + WINDOW:
                del self._resting[owner]
            elif owner in self._queue:
                self._put_off(owner, self._queue.pop(owner).wishes, BACK, until)
        if now < self.held_until:
            for owner in list(self._queue):
                words = f"the proxy refuses us ({self.alarm})"
                self._put_off(owner, self._queue.pop(owner).wishes, words, self.held_until)
        self.line.move_up()
        for lane in list(self._hungry.values()):
            if self._silo.unwritten(lane.owner):
                continue
            self._claim_for(lane, now)

    def _claim_for(self, lane: OpenLane, now: int) -> None:
        """The next messages of a lane that has none left, or its end."""
        way = self._ways.to(lane.owner, now)
        if isinstance(way, str):  # only a wake-up helps
            self._close(lane, way, None, None, now)
            return
        if lane.room == 0 and lane.again:  # its limit is used up, and somebody else has called meanwhile
            self._grant(lane.wishes, {"delivered": lane.delivered, "reason": ""})
            lane.wishes, lane.room, lane.delivered, lane.again = lane.again.wishes, lane.again.room, 0, None
        turn = SHORT_CLAIM if self.line.waits else CLAIM
        most = turn if lane.room is None else min(turn, lane.room)
        found = self._silo.begin(lane.owner, lane.cursor, most, now) if most else []
        if not found and lane.recheck and most:
            lane.recheck = False
            found = self._silo.begin(lane.owner, 0, most, now, lane.seen)
        if not found:
            del self._hungry[lane.owner]
            self._finish(lane, now)
            return
        lane.cursor = max(lane.cursor, found[-1].silo_id)
        lane.fed = len(found) == most  # else it is about to end
        lane.seen.update(item.silo_id for item in found)
        lane.queue.extend(found)
        if lane.room is not None:
            lane.room -= len(found)

    def unclaim(self, now: int) -> None:
        """The commit failed: lanes that were about to claim give up for now."""
        for lane in list(self._hungry.values()):
            lane.queue.clear()
            self._close(lane, "the database could not be written", None, now + MINUTE, now)

    # -- after the commit --------------------------------------------------------------------------------------------
    def claimed(self, now: int) -> list[Send]:
        """The claims are on disk: the first message of each lane that had none may leave."""
        lanes = list(self._hungry.values())
        self._hungry.clear()
        return [send for lane in lanes for send in self._next(lane, now)]

    def clock_moved(self, by: int) -> None:
        """The clock was set: what was to come in a while still is, and nothing under way runs out by it."""
        self.held_until += by if self.held_until else 0
        for one in [one.moved(by) for one in self._troubled.values()]:
            self._note(one)
        for lane in self._lanes.values():
            lane.live_on(max(by, 0))

    def stop(self, now: int, settling: tuple[Aor, ...] = ()) -> None:
        """Begin nothing more; who was woken for nothing is tried at the next start."""
        self._stopped = now
        for owner in (*self._queue, *self.line.paused, *self._hungry, *settling):
            self._note(Recipient(owner, now, 0, None, STOPPED))
        for lane in self._lanes.values():
            self._silo.release(lane.queue, now)
            lane.queue.clear()
        self.line.stop()

    def _next(self, lane: OpenLane, now: int) -> list[Send]:
        """The next message of a lane, or its end."""
        if self._stopped:
            self._lanes.pop(lane.owner, None)
            self._note(Recipient(lane.owner, now, 0, None, STOPPED))
            return []
        while lane.queue:
            item = lane.queue.popleft()
            if item.message.expires <= now:
                self._silo.settle(item, Event.LAPSE, now, item.code, "its time ran out")
                continue
            way = self._ways.to(lane.owner, now, item.message.target)
            if isinstance(way, str):
                self._silo.release([item], now)
                self._close(lane, way, None, None, now)  # only a wake-up helps
                return []
            if 0 < way.hop.max_body < (size := self._silo.body_size(item)):
                words = f"its {size} bytes are more than the {way.hop.max_body} that the way carries"
                self._silo.settle(item, Event.UNFIT, now, None, words)
                continue
            return [self._send(lane, item, way)]
        self._hungry[lane.owner] = lane
        return []

    def _send(self, lane: OpenLane, item: Waiting, way: Way, *, followed: bool = False) -> Send:
        self._token += 1
        self._flights[self._token] = Flight(lane, item, way, followed)
        lane.in_flight = self._token
        return Send(self._token, item, way)

    def reload(self) -> None:
        """Somebody took messages out of the box: forget those that were claimed and have not left."""
        for lane in self._lanes.values():
            here = self._silo.still_there(lane.queue)
            lane.queue = deque(item for item in lane.queue if item.silo_id in here)

    # -- outcomes ----------------------------------------------------------------------------------------------------
    def answered(self, token: int, answer: Answer, now: int) -> list[Send]:
        """An attempt ended; returns what leaves next."""
        flight = self._flights.pop(token, None)
        if flight is None:
            return []
        if 300 <= answer.code < 400 and not flight.followed:
            target = redirect(answer)
            way = self._ways.by_redirect(target, flight.way) if target else None
            if way:
                return [self._send(flight.lane, flight.item, way, followed=True)]
        verdict = self._judge(flight, answer)
        code, words = (None, BACK) if verdict is CAME_BACK else told(answer)  # a 202 before it came back says nothing
        wait = retry_after(answer) if verdict.lane is not Then.NEXT else None
        return self._ended(flight, verdict, code, words, wait, now)

    def _judge(self, flight: Flight, answer: Answer) -> Verdict:
        """What an answer means; a 403 for a second recipient in a row is our proxy's own word."""
        verdict = judge(answer.code, by_proxy=flight.way.by_proxy and not answer.local, trust=flight.way.hop.trust)
        if flight.back and answer.code < 300:  # it came back sooner than its own 202
            return CAME_BACK
        if verdict.suspect:
            self._suspects.add(flight.lane.owner)
        return REFUSED_BY_PROXY if verdict.suspect and len(self._suspects) > 1 else verdict

    def returned(self, own_id: str, owner: Aor, now: int) -> None:
        """A PBX brought a message back that it had taken: the attempt failed, and more may follow.

        `owner`: whose it is by the request that brought it; somebody else's is not believed.
        """
        flight = next((one for one in self._flights.values() if one.item.msilo_id == own_id), None)
        if flight:
            flight.back = flight.lane.owner == owner
            return
        if not self._silo.came_back(own_id, owner, now):
            return
        self._resting[owner] = now + WINDOW
        lane = self._lanes.get(owner)
        if lane and lane.in_flight:
            lane.stopped = BACK
        elif lane:
            self._close(lane, BACK, None, retry_at(now, self._tries(owner) + 1), now)
        else:
            tries = self._tries(owner) + 1
            self._note(Recipient(owner, retry_at(now, tries), tries, None, BACK))

    def failed(self, token: int, error: SipError, now: int) -> list[Send]:
        """An attempt could not even start; nobody heard of it."""
        flight = self._flights.pop(token, None)
        if flight is None:
            return []
        verdict = Verdict(Event.MISSED, Then.NEXT if error.permanent else Then.STOP)
        return self._ended(flight, verdict, None, f"could not be sent: {error}", None, now, heard=False)

    def _ended(
        self,
        flight: Flight,
        verdict: Verdict,
        code: int | None,
        words: str,
        wait: int | None,
        now: int,
        *,
        heard: bool = True,
    ) -> list[Send]:
        """`heard`: whether anybody heard of the attempt; others are no reason to give a message up."""
        lane, item = flight.lane, flight.item
        lane.in_flight = 0
        event = verdict.event
        if heard and event is Event.MISSED and 0 < self.max_attempts <= item.attempts + 1:
            event, words = Event.REFUSED, f"given up after {item.attempts + 1} attempts, the last: {words}"
        self._silo.settle(item, event, now, code, words)
        if verdict.alarm:
            self.alarm = f"{flight.way.target}: {words}"
        if verdict.event in (Event.ACCEPTED, Event.HANDED_OVER):
            lane.has_delivered(item)
            self.alarm, self.held_until = "", 0
            self._suspects.clear()
            self._note_reached(lane.owner)
        if verdict.lane is Then.HOLD:
            self.held_until = now + HOLD_SECONDS
        if lane.stopped:
            self._close(lane, lane.stopped, None, retry_at(now, self._tries(lane.owner) + 1), now)
            return []
        if self._goes_on(lane, item, verdict):
            if event is Event.MISSED:
                lane.aside = words, code
            return self._next(lane, now)
        soon = retry_at(now, self._tries(lane.owner) + 1, wait) if verdict.timer else None
        self._close(lane, words, code, soon, now)
        return []

    def _tries(self, owner: Aor) -> int:
        """Failed runs in a row."""
        return self._troubled[owner].tries if owner in self._troubled else 0

    def _goes_on(self, lane: OpenLane, item: Waiting, verdict: Verdict) -> bool:
        """Whether the messages behind this one may leave now."""
        if verdict.lane is Then.NEXT:
            lane.misses = self._doubts.count(item.silo_id, doubtful=False)
            return True
        lane.misses += 1
        doubts = self._doubts.count(item.silo_id, doubtful=verdict.lane is Then.ASIDE)
        return lane.misses == 1 and doubts >= STEP_ASIDE_AFTER

    # -- the end of a lane -------------------------------------------------------------------------------------------
    def _finish(self, lane: OpenLane, now: int) -> None:
        """Nothing is left that may be sent, but for what let the others pass."""
        del self._lanes[lane.owner]
        if lane.again:  # all is sent: who called meanwhile has what he wanted
            lane.wishes += lane.again.wishes
        if lane.aside:
            words, code = lane.aside
            tries = self._tries(lane.owner) + 1
            self._note(Recipient(lane.owner, retry_at(now, tries), tries, code, words))
        elif lane.room != 0:
            self._note_reached(lane.owner)
        elif lane.recheck:
            self.expect(lane.owner, now, "a reminder is due")
        elif (old := self._troubled.get(lane.owner)) and (old.next_try or 0) <= now + GUARD:
            self._note_reached(lane.owner)  # what was only there in case we die; else the rest waits as before
        self._grant(lane.wishes, {"delivered": lane.delivered, "reason": ""})

    def _close(self, lane: OpenLane, words: str, code: int | None, soon: int | None, now: int) -> None:
        """The recipient could not be reached: give the rest back, and try again at `soon` or at the next wake-up."""
        self._silo.release(lane.queue, now)
        self.line.leave(lane.owner)
        if lane.again and not self._stopped:  # the phone registered again meanwhile, perhaps somewhere else
            self._queue[lane.owner] = Call(lane.wishes + lane.again.wishes, lane.again.room, lane.recheck)
            return
        if now < self.held_until:
            soon = self.held_until
        self._note(Recipient(lane.owner, soon, self._tries(lane.owner) + 1, code, words))
        self._grant(lane.wishes, {"delivered": lane.delivered, "reason": words})

    def _put_off(self, owner: Aor, wishes: list[int], words: str, until: int) -> None:
        self._note(Recipient(owner, until, self._tries(owner), None, words))
        self._grant(wishes, {"delivered": 0, "reason": words})

    def _note(self, one: Recipient) -> None:
        self._troubled[one.owner] = one
        self._silo.turn.recipients[one.owner] = one

    def _note_reached(self, owner: Aor) -> None:
        if self._troubled.pop(owner, None):
            self._silo.turn.recipients[owner] = None

    def _grant(self, wishes: list[int], result: dict[str, object]) -> None:
        self._silo.turn.wishes.update(dict.fromkeys(wishes, result))
