"""What the commands do: one function each, from a configuration to records that `views` shows as table or JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..box.delivery import State
from ..box.inbox import BATCH, History, Inbox
from ..box.lock import is_served, sole_user
from ..box.message import Waiting
from ..daemon import Daemon
from ..errors import InUse, MsiloError, NotFound
from ..settings.config import Config
from ..sip.address import Aor
from .reasons import Surroundings, span, why
from .views import state_name, utc

PATIENCE = 45.0
"Seconds without any progress after which `dump` no longer waits for the daemon: a phone may take 32 to time out."
POLL = 0.05
FACTS = ("pid", "version", "listening", "trusted", "outbound_proxy", "extension", "watched", "configuration")
"What the daemon says of itself, for `status`."
STATISTICS = (
    "stored_messages", "dumped_messages", "failed_messages", "dumped_reminders", "failed_reminders",
    "expired_messages", "duplicate_messages", "sent_notices", "failed_notices",
)  # fmt: skip
"msilo's five, and those of ours that are always shown."
Progress = Callable[[int | None, str], AbstractContextManager[Callable[[int], None]]]


def _surroundings(inbox: Inbox, config: Config, now: int) -> Surroundings:
    facts = inbox.daemon()
    up = is_served(config.db_file)
    proxy = facts.get("outbound_proxy") if up else config.outbound_proxy
    return Surroundings(inbox.recipients(), inbox.contacts(now), up, bool(proxy))


def listing(config: Config, owner: Aor | None, *, history: bool) -> Iterator[dict[str, Any]]:
    """The waiting messages, oldest first, after what left the box where `history` asks for it."""
    now = int(time.time())
    with closing(Inbox(config.db_file, config.names)) as inbox:
        if history:
            for old in inbox.history(owner):
                yield _past(old, now)
        around = _surroundings(inbox, config, now)
        for item in inbox.waiting(owner):
            yield _present(item, around, now)


def reminders(config: Config, owner: Aor | None) -> Iterator[dict[str, Any]]:
    """The reminders among them."""
    return (record for record in listing(config, owner, history=False) if record["due"])


def reminder_ids(config: Config, numbers: list[int]) -> list[int]:
    """The same ids. Raises NotFound for one that is no waiting reminder."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        for number in numbers:
            if not inbox.message(number).reminder:
                raise NotFound(f"{number} is no reminder; `msilo-lite purge {number}` takes any message away")
    return numbers


def _present(item: Waiting, around: Surroundings, now: int) -> dict[str, Any]:
    message = item.message
    scheduled = message.due > now and item.state is State.PENDING
    return {
        "id": item.silo_id,
        "to": str(message.owner),
        "from": message.from_,
        "state": "scheduled" if scheduled else state_name(item.state),
        "arrived": utc(message.arrived),
        "age": span(now - message.arrived),
        "expires": utc(message.expires),
        "due": utc(message.due or None),
        "size": len(message.body),
        "ctype": message.ctype,
        "attempts": item.attempts,
        "last_code": item.code,
        "why": why(item, around, now),
    }


def _past(old: History, now: int) -> dict[str, Any]:
    return {
        "id": f"h{old.ledger_id}",
        "to": str(old.owner),
        "from": old.from_,
        "state": state_name(old.state),
        "arrived": utc(old.arrived),
        "age": span(now - old.arrived),
        "settled": utc(old.settled),
        "size": old.size,
        "ctype": old.ctype,
        "attempts": old.attempts,
        "last_code": old.code,
        "why": f"{state_name(old.state)} {span(now - old.settled)} ago{f' ({old.reason})' if old.reason else ''}",
    }


def detail(config: Config, number: int) -> tuple[dict[str, Any], str, bytes]:
    """One waiting message: its record, the headers it keeps, its body. Raises NotFound."""
    now = int(time.time())
    with closing(Inbox(config.db_file, config.names)) as inbox:
        item = inbox.message(number)
        record = _present(item, _surroundings(inbox, config, now), now)
    more = {"message_id": item.msilo_id or None, "to_header": item.message.to, "call_id": item.message.call_id}
    return {**record, **more}, item.message.kept, item.message.body


def former(config: Config, number: int) -> dict[str, Any]:
    """One message that left the box, by its number in the history. Raises NotFound."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return _past(inbox.past(number), int(time.time()))


def overview(config: Config) -> dict[str, Any]:
    """The daemon and the box, for `status`."""
    now = int(time.time())
    file = config.db_file
    with closing(Inbox(file, config.names)) as inbox:
        up, facts, oldest, owners = is_served(file), inbox.daemon(), inbox.oldest(), dict(inbox.owners())
        alive = {key: facts.get(key) for key in FACTS if key in facts} if up else {}
        started = facts.get("started") if up else None
        return {
            "daemon": "running" if up else "not running",
            **alive,
            "since": utc(started),
            "alarm": facts.get("alarm") if up else None,
            "file": str(file),
            "bytes": sum(os.path.getsize(part) for part in _parts(file)),
            "waiting": inbox.count(),
            "waiting_for": {str(owner): number for owner, number in owners.items()},
            "oldest": span(now - oldest) if oldest else None,
            "registered": {str(aor): span(one.expires - now) for aor, one in inbox.contacts(now).items()},
            "troubled": {str(who): one.reason for who, one in inbox.recipients().items() if who in owners},
            "counters": inbox.counters(),
        }


def _parts(file: Path) -> list[Path]:
    return [part for part in (file, file.with_name(file.name + "-wal")) if part.exists()]


def statistics(config: Config) -> dict[str, int]:
    """msilo's statistics under their own names, and what else is counted; zero for what never happened."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        counted = inbox.counters()
    refused = sum(number for name, number in counted.items() if name.startswith("refused_"))
    rest = {name: counted.pop(name, 0) for name in STATISTICS}
    return {**rest, "refused_messages": refused, **counted}


def selected(config: Config, numbers: list[int], to: Aor | None) -> list[int]:
    """Ids that a purge would take; raises NotFound for an id that does not wait."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        if numbers:
            return [inbox.message(number).silo_id for number in dict.fromkeys(numbers)]
        return [item.silo_id for item in inbox.waiting(to)]


def retrying(config: Config, ids: list[int]) -> int:
    """Let messages be sent again that were parked or handed over; returns how many were."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return sum(inbox.retry(ids[at : at + BATCH], int(time.time())) for at in range(0, len(ids), BATCH))


def purging(config: Config, ids: list[int], update: Callable[[int], None]) -> tuple[int, int]:
    """Purge in short commits, so that a daemon waits for none of them long.

    Returns how many were there, and how many of them may still arrive because they were on their way.
    """
    gone, late, now = 0, 0, int(time.time())
    with closing(Inbox(config.db_file, config.names)) as inbox:
        for start in range(0, len(ids), BATCH):
            taken, sending = inbox.purge(ids[start : start + BATCH], now)
            gone, late = gone + taken, late + sending
            update(min(start + BATCH, len(ids)))
        inbox.scrub()
    return gone, late


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a `dump` ended."""

    waiting: int
    "Messages that waited before."
    delivered: int
    reason: str
    "Why some are still there; empty when none is."


def deliver(config: Config, owner: Aor, most: int, progress: Progress) -> Delivery:
    """Deliver what waits for one owner, `most` messages at the most (0: all), through the daemon or in its place.

    Raises NotFound without a database and MsiloError when the daemon does not react.
    """
    with closing(Inbox(config.db_file, config.names)) as inbox:
        waiting = inbox.count(owner, ripe_at=int(time.time()))
        if not waiting:
            return Delivery(0, 0, "")
        number = inbox.ask("dump", owner, int(time.time()), most)
        with progress(waiting, f"delivering to {owner}") as update:

            def done() -> bool:
                update(waiting - inbox.count(owner, ripe_at=int(time.time())))
                return inbox.granted(number) is not None

            try:
                with sole_user(config.db_file):
                    _in_its_place(config, inbox, done)
            except InUse:
                _through_daemon(inbox, owner, done)
        return _outcome(inbox, owner, waiting, most, inbox.granted(number) or {})


def _in_its_place(config: Config, inbox: Inbox, done: Callable[[], bool]) -> None:
    """Be the daemon for as long as it takes, on free ports and with the way out that the last one had."""
    changes: dict[str, Any] = {"bind": tuple(one.rpartition(":")[0] + ":0" for one in config.bind)}
    if config.outbound_proxy is None:
        changes["outbound_proxy"] = inbox.daemon().get("outbound_proxy")
    daemon = Daemon(config.model_copy(update=changes), serving=False)
    try:
        daemon.work_until(done)
    finally:
        daemon.close()


def _through_daemon(inbox: Inbox, owner: Aor, done: Callable[[], bool]) -> None:
    left, deadline = inbox.count(owner), time.monotonic() + PATIENCE
    while not done():
        if inbox.count(owner) != left:
            left, deadline = inbox.count(owner), time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise MsiloError(f"the daemon made no progress for {PATIENCE:.0f} s; `msilo-lite status` tells more")
        time.sleep(POLL)


def _outcome(inbox: Inbox, owner: Aor, waiting: int, most: int, result: dict[str, Any]) -> Delivery:
    """What the daemon says it delivered; what left the box in another way is named, not counted."""
    left = inbox.count(owner, ripe_at=int(time.time()))
    delivered = min(int(result.get("delivered", 0)), max(0, waiting - left))  # what came back is not delivered
    gone = waiting - delivered - left
    words = []
    if left and not (most and delivered >= most):
        first = next(inbox.waiting(owner), None)
        reason = result.get("reason") or (first.reason if first else None) or "it is not reachable"
        words.append(f"{left} stay{'s' if left == 1 else ''}: {reason}")
    if gone > 0:
        words.append(f"{gone} left the box in another way; `msilo-lite list --all` tells")
    return Delivery(waiting, delivered, "; ".join(words))
