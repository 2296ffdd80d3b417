"""What the commands do: one function each, from a configuration to records that `views` shows as table or JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .address import Aor
from .config import Config
from .daemon import Daemon
from .errors import InUse, MsiloError
from .inbox import BATCH, History, Inbox
from .lock import is_served, sole_user
from .message import Waiting
from .reasons import Surroundings, span, why
from .views import state_name, utc

PATIENCE = 45.0
"Seconds without any progress after which `dump` no longer waits for the daemon: a phone may take 32 to time out."
POLL = 0.05
Progress = Callable[[int | None, str], AbstractContextManager[Callable[[int], None]]]


def _surroundings(inbox: Inbox, config: Config, now: int) -> Surroundings:
    facts = inbox.daemon()
    up = is_served(config.db_file)
    proxy = facts.get("outbound_proxy") if up else config.outbound_proxy
    return Surroundings(inbox.recipients(), inbox.contacts(now), up, bool(proxy))


def listing(config: Config, owner: Aor | None, *, history: bool) -> Iterator[dict[str, Any]]:
    """The waiting messages, oldest first, after what left the box where `history` asks for it."""
    now = int(time.time())
    with closing(Inbox(config.db_file)) as inbox:
        if history:
            for old in inbox.history(owner):
                yield _past(old, now)
        around = _surroundings(inbox, config, now)
        for item in inbox.waiting(owner):
            yield _present(item, around, now)


def _present(item: Waiting, around: Surroundings, now: int) -> dict[str, Any]:
    message = item.message
    return {
        "id": item.silo_id,
        "to": str(message.owner),
        "from": message.from_,
        "state": state_name(item.state),
        "arrived": utc(message.arrived),
        "age": span(now - message.arrived),
        "expires": utc(message.expires),
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
    with closing(Inbox(config.db_file)) as inbox:
        item = inbox.message(number)
        record = _present(item, _surroundings(inbox, config, now), now)
    more = {"message_id": item.msilo_id or None, "to_header": item.message.to, "call_id": item.message.call_id}
    return {**record, **more}, item.message.kept, item.message.body


def overview(config: Config) -> dict[str, Any]:
    """The daemon and the box, for `status`."""
    now = int(time.time())
    file = config.db_file
    with closing(Inbox(file)) as inbox:
        up, facts, oldest = is_served(file), inbox.daemon(), inbox.oldest()
        alive = (
            {key: facts.get(key) for key in ("pid", "version", "listening", "trusted", "outbound_proxy")} if up else {}
        )
        started = facts.get("started") if up else None
        return {
            "daemon": "running" if up else "not running",
            **alive,
            "since": utc(started),
            "alarm": facts.get("alarm") if up else None,
            "file": str(file),
            "bytes": sum(os.path.getsize(part) for part in _parts(file)),
            "waiting": inbox.count(),
            "waiting_for": {str(owner): number for owner, number in inbox.owners()},
            "oldest": span(now - oldest) if oldest else None,
            "registered": {str(aor): span(one.expires - now) for aor, one in inbox.contacts(now).items()},
            "troubled": {str(owner): one.reason for owner, one in inbox.recipients().items()},
            "counters": inbox.counters(),
        }


def _parts(file: Path) -> list[Path]:
    return [part for part in (file, file.with_name(file.name + "-wal")) if part.exists()]


def selected(config: Config, numbers: list[int], to: Aor | None) -> list[int]:
    """Ids that a purge would take; raises NotFound for an id that does not wait."""
    with closing(Inbox(config.db_file)) as inbox:
        if numbers:
            return [inbox.message(number).silo_id for number in dict.fromkeys(numbers)]
        return [item.silo_id for item in inbox.waiting(to)]


def purging(config: Config, ids: list[int], update: Callable[[int], None]) -> int:
    """Purge in short commits, so that a daemon waits for none of them long; returns how many were there."""
    gone, now = 0, int(time.time())
    with closing(Inbox(config.db_file)) as inbox:
        for start in range(0, len(ids), BATCH):
            gone += inbox.purge(ids[start : start + BATCH], now)
            update(min(start + BATCH, len(ids)))
    return gone


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a `dump` ended."""

    waiting: int
    "Messages that waited before."
    delivered: int
    reason: str
    "Why some are still there; empty when none is."


def deliver(config: Config, owner: Aor, progress: Progress) -> Delivery:
    """Deliver what waits for one owner, through the running daemon or in its place.

    Raises NotFound without a database and MsiloError when the daemon does not react.
    """
    with closing(Inbox(config.db_file)) as inbox:
        waiting = inbox.count(owner)
        if not waiting:
            return Delivery(0, 0, "")
        with progress(waiting, f"delivering to {owner}") as update:
            try:
                with sole_user(config.db_file):
                    return _in_its_place(config, inbox, owner, waiting, update)
            except InUse:
                return _through_daemon(inbox, owner, waiting, update)


def _in_its_place(config: Config, inbox: Inbox, owner: Aor, waiting: int, update: Callable[[int], None]) -> Delivery:
    free = tuple(one.rpartition(":")[0] + ":0" for one in config.bind)
    daemon = Daemon(config.model_copy(update={"bind": free}), serving=False)
    try:
        daemon.deliver(owner, lambda: update(waiting - inbox.count(owner)))
    finally:
        daemon.close()
    return _outcome(inbox, owner, waiting)


def _through_daemon(inbox: Inbox, owner: Aor, waiting: int, update: Callable[[int], None]) -> Delivery:
    number = inbox.ask("dump", owner, int(time.time()))
    left, deadline = waiting, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if inbox.granted(number) is not None:
            return _outcome(inbox, owner, waiting)
        now_left = inbox.count(owner)
        if now_left != left:
            left, deadline = now_left, time.monotonic() + PATIENCE
            update(waiting - left)
        time.sleep(POLL)
    raise MsiloError(f"the daemon made no progress for {PATIENCE:.0f} s; `msilo-lite status` tells more")


def _outcome(inbox: Inbox, owner: Aor, waiting: int) -> Delivery:
    left = inbox.count(owner)
    trouble = inbox.recipients().get(owner)
    first = next(inbox.waiting(owner), None)
    words = (trouble.reason if trouble else first.reason if first else None) or "it is not reachable"
    return Delivery(waiting, waiting - left, words if left else "")
