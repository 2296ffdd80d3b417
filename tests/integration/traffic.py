"""Senders that repeat until they are answered and phones that register and take messages: one thread, one loop.

What was promised (202) and what arrived is written down here and compared at the end, whatever happened in between.
"""

import random
import select
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from . import harness
from .harness import Address, Peer, Serve, Sip

T1, T2, PATIENCE = 0.5, 4.0, 32.0
"Seconds: RFC 3261 17.1.2.2, first and longest pause between two repeats, and the end of a transaction."
SOON = 3.0
"Seconds within which a delivery is surely on disk, on a machine with much else to do; 0.02 is what is promised."


@dataclass(slots=True)
class Sent:
    """A request under way."""

    raw: bytes
    began: float
    again: float
    pause: float = T1


@dataclass(slots=True)
class Letter:
    """A MESSAGE as its sender knows it."""

    owner: str
    sent: float
    accepted: float = 0.0
    "When its 202 came; 0: it has none."


@dataclass(frozen=True, slots=True)
class Arrival:
    """One attempt as the phone saw it."""

    at: float
    call_id: str
    msilo_id: str
    date: str
    answered: bool


@dataclass(slots=True)
class Tally:
    """How it went."""

    accepted: int = 0
    delivered: int = 0
    waiting: int = 0
    repeats: int = 0
    "Deliveries that came again with the same X-MSilo-ID and Date, because a kill came before their answer was on disk."
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    inverted: list[str] = field(default_factory=list)
    "Messages that came before an earlier one."


class Town:
    """Everybody who speaks with the silo."""

    def __init__(self, silo: Address, senders: int, phones: int, *, window: int = 4, seed: int = 0) -> None:
        """`window`: messages that each sender has under way at once."""
        self._chance = random.Random(seed)
        self._window = window
        self.senders = [Peer(f"sender{n}", silo) for n in range(senders)]
        self.phones = [Peer(f"phone{n}", silo) for n in range(phones)]
        self._of = {peer.fileno(): peer for peer in (*self.senders, *self.phones)}
        self._under_way: dict[Peer, dict[str, Sent]] = {peer: {} for peer in self._of.values()}
        self.letters: dict[str, Letter] = {}
        "By Call-ID, which is also the body."
        self.arrivals: dict[str, list[Arrival]] = defaultdict(list)
        "By body, in the order of the first attempt."
        self._seen: dict[str, bool] = {}
        "By Call-ID of an attempt: whether it was answered."
        self.kills: list[float] = []
        self._silos: list[Serve] = []
        "Those started here; none outlives the town."
        self.talking = True
        self.silent: set[str] = set()
        "Phones that were switched off: they answer nothing."
        self.deaf = False
        "Whether the phones register, and answer nothing."
        self.odd: list[str] = []
        "Answers that nobody expects."
        self.refused = 0
        self._registered = dict.fromkeys(self.phones, 0.0)
        self.refresh = 2.0
        "Seconds between two REGISTERs of a phone."

    def __enter__(self) -> "Town":
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._of.values():
            peer.__exit__()
        for silo in self._silos:
            silo.kill()

    # -- time passes -------------------------------------------------------------------------------------------------
    def run(self, seconds: float, over: Callable[[], bool] = lambda: False) -> bool:
        """Live for a while, or until it is `over`; whether it is."""
        deadline = time.monotonic() + seconds
        while not over():
            if time.monotonic() > deadline:
                return False
            self._speak(time.monotonic())
            for number in select.select(list(self._of), [], [], 0.01)[0]:
                self._hear(self._of[number])
        return True

    def _speak(self, now: float) -> None:
        for phone in self.phones:
            if now > self._registered[phone] + self.refresh * self._chance.uniform(0.7, 1.3):
                self._registered[phone] = now
                if phone.user not in self.silent and not self._under_way[phone]:
                    contact = f"Contact: <sip:{phone.user}@{phone.host}:{phone.port}>"
                    self._begin(phone, phone.request("REGISTER", phone.user, contact, "Expires: 600"), now)
        for sender in self.senders:
            while self.talking and len(self._under_way[sender]) < self._window:
                self._write(sender, now)
        for peer, mine in self._under_way.items():
            for call_id, one in list(mine.items()):
                if now >= one.began + PATIENCE:
                    del mine[call_id]  # the sender was never told anything
                elif now >= one.again:
                    one.pause = min(one.pause * 2, T2)
                    one.again = now + one.pause
                    peer.send(one.raw)

    def _write(self, sender: Peer, now: float) -> None:
        owner = self._chance.choice(self.phones).user
        text = f"{sender.user}-{len(self.letters)}"
        self.letters[text] = Letter(owner, now)
        self._begin(sender, sender.message(owner, text, text), now)

    def _begin(self, peer: Peer, raw: bytes, now: float) -> None:
        self._under_way[peer][Sip.parse(raw).call_id] = Sent(raw, now, now + T1)
        peer.send(raw)

    def _hear(self, peer: Peer) -> None:
        seen = peer.glance(0)
        if seen is None:
            return
        if seen.code == 0:
            self._take(peer, seen)
        elif seen.code >= 200:
            self._answered(peer, seen)

    def _answered(self, peer: Peer, answer: Sip) -> None:
        now = time.monotonic()
        one = self._under_way[peer].get(answer.call_id)
        if one is None:
            return  # to a repeat
        if answer.code == 503:  # it is told to come again, and does
            self.refused += 1
            one.again = now + self._chance.uniform(0.3, 0.6)
            return
        del self._under_way[peer][answer.call_id]
        if answer.code == 202 and answer.call_id in self.letters:
            self.letters[answer.call_id].accepted = now
        elif answer.code != 200:
            self.odd.append(answer.first)

    def _take(self, phone: Peer, request: Sip) -> None:
        answered = not self.deaf and phone.user not in self.silent
        if request.call_id not in self._seen or (answered and not self._seen[request.call_id]):
            self._seen[request.call_id] = answered
            headers = request.headers
            arrival = Arrival(
                time.monotonic(), request.call_id, headers["x-msilo-id"], headers["date"], answered=answered
            )
            self.arrivals[request.body.decode()].append(arrival)
        if answered:
            phone.reply(request)

    # -- the silo ----------------------------------------------------------------------------------------------------
    def kill(self, silo: Serve) -> None:
        """Pull the plug, and go on living."""
        silo.kill()
        self.kills.append(time.monotonic())

    def dies(self, silo: Serve, seconds: float = 30) -> bool:
        """Live until the silo is dead; whether that came in time."""
        dead = self.run(seconds, lambda: silo.over)
        self.kills.append(time.monotonic())
        return dead

    def start(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> Serve:
        """Start a silo where the last one was, while everybody goes on."""
        host, port = self.senders[0].silo
        silo = Serve(folder, *options, bind=(f"udp:{host}:{port}",), env=env or {})
        self._silos.append(silo)
        assert self.run(30, lambda: bool(silo.ready_line) or silo.over), silo.log
        return silo

    def quiet(self, silo: Serve, seconds: float = 30) -> bool:
        """Let what is under way come to its end: every sender answered, the box empty or not to be emptied."""
        self.talking = False

        def over() -> bool:
            busy = any(self._under_way[sender] for sender in self.senders)
            return not busy and all(one.user in self.silent or not self._waits(silo, one) for one in self.phones)

        return self.run(seconds, over)

    def _waits(self, silo: Serve, phone: Peer) -> bool:
        waits = "SELECT 1 FROM silo LEFT JOIN msilo_ledger l ON l.silo_id = silo.id WHERE silo.username = ?"
        return bool(harness.query(silo.file, f"{waits} AND l.state IS NOT 2 LIMIT 1", phone.user))  # 2: parked

    def retry_parked(self, silo: Serve) -> int:
        """Have the operator send again what was parked, to phones that come by; returns how much it was."""
        (parked,) = (row[0] for row in harness.query(silo.file, "SELECT count(*) FROM msilo_ledger WHERE state = 2"))
        for phone in self.phones if parked else ():
            assert harness.run(silo.folder, "retry", "--to", f"{phone.user}@home.lan", *harness.on(silo.file)).code == 0
        return int(parked)

    # -- what became of it -------------------------------------------------------------------------------------------
    def tally(self, silo: Serve, *, in_order: bool = True) -> Tally:
        """Compare what was promised with what arrived and what still waits. The silo may run or not."""
        waiting = [row[0] for row in harness.query(silo.file, "SELECT CAST(body AS TEXT) FROM silo")]
        promised = {text for text, one in self.letters.items() if one.accepted}
        arrived = {text for text, tries in self.arrivals.items() if any(one.answered for one in tries)}
        tally = Tally(len(promised), len(arrived), len(waiting))
        tally.lost = sorted(promised - arrived - set(waiting))
        tally.doubled = sorted({text for text in waiting if waiting.count(text) > 1} if len(waiting) < 5000 else set())
        tally.doubled += sorted(self._doubled(tally))
        tally.inverted = list(self._inverted()) if in_order else []
        return tally

    def _doubled(self, tally: Tally) -> Iterator[str]:
        """Messages that came twice and are not one of the documented repeats; counts those."""
        for text, tries in self.arrivals.items():
            taken = [one for one in tries if one.answered]
            for first, second in pairwise(taken):
                same = (first.msilo_id, first.date) == (second.msilo_id, second.date)
                tally.repeats += same
                if not same or not any(abs(first.at - kill) < SOON and kill < second.at for kill in self.kills):
                    yield text

    def _inverted(self) -> Iterator[str]:
        """Messages of an owner that came before one that was accepted before they were even sent."""
        latest: dict[str, float] = defaultdict(float)
        for text, _ in sorted(self.arrivals.items(), key=lambda pair: pair[1][0].at):
            letter = self.letters[text]
            if 0 < letter.accepted < latest[letter.owner]:
                yield text
            latest[letter.owner] = max(latest[letter.owner], letter.sent)
