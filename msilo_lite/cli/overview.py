"""The whole of it in one record, for `status` and `top`: the daemon, the box, what happened last, the disk."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ..box.holds import Hold
from ..box.inbox import Inbox
from ..box.lock import is_served
from ..settings.config import Config
from .reasons import span
from .views import utc

FACTS = (
    "pid", "version", "listening", "trusted", "outbound_proxy", "streams", "http", "extension", "watched",
    "configuration",
)  # fmt: skip
"What the daemon says of itself."
LISTED = 100
"Users that a record names at the most; how many there are is told beside them."
STATISTICS = (
    "stored_messages", "dumped_messages", "failed_messages", "dumped_reminders", "failed_reminders",
    "expired_messages", "duplicate_messages", "sent_notices", "failed_notices",
)  # fmt: skip
"msilo's five, and those of ours that are always shown."


def overview(config: Config) -> dict[str, Any]:
    """The daemon and the box."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return overview_of(inbox, config)


def overview_of(inbox: Inbox, config: Config) -> dict[str, Any]:
    """The same from a file that is open: `top` looks again and again."""
    now, file = int(time.time()), config.db_file
    up, facts, oldest = is_served(file), inbox.daemon(), inbox.oldest()
    owners, users = inbox.owners(LISTED)
    contacts, troubled = inbox.contacts(now), inbox.recipients()
    has_mail = {who for who, _ in owners}
    alive = {key: facts.get(key) for key in FACTS if key in facts} if up else {}
    return {
        "daemon": "running" if up else "not running",
        **alive,
        "since": utc(facts.get("started") if up else None),
        "alarm": facts.get("alarm") if up else None,
        "file": str(file),
        **_disk(file),
        "waiting": inbox.count(),
        "waiting_users": users,
        "waiting_for": {str(owner): number for owner, number in owners},
        "oldest": span(now - oldest) if oldest else None,
        "holds": [hold_record(one, now) for one in inbox.holds()],
        "registered_users": len(contacts),
        "registered": {str(aor): span(one.expires - now) for aor, one in list(contacts.items())[-LISTED:]},
        "troubled": {str(who): one.reason for who, one in troubled.items() if who in has_mail},
        **_recent(inbox, now),
        "counters": inbox.counters(),
    }


def _disk(file: Path) -> dict[str, int]:
    log = file.with_name(file.name + "-wal")
    database, wal = (part.stat().st_size if part.exists() else 0 for part in (file, log))
    return {
        "bytes": database + wal,
        "database_bytes": database,
        "wal_bytes": wal,
        "free_bytes": shutil.disk_usage(file.parent).free,
    }


def hold_record(one: Hold, now: int) -> dict[str, Any]:
    """One hold."""
    return {"kind": one.kind.value, "name": one.name, "since": utc(one.since), "for": span(now - one.since)}


def _recent(inbox: Inbox, now: int) -> dict[str, list[dict[str, Any]]]:
    """What the daemon told of the last wake-ups, attempts that failed, refusals and errors; the newest first."""
    told = inbox.recent()
    return {
        f"last_{ring}": [
            {"at": utc(int(one["at"])), "age": span(now - int(one["at"])), **_rest(one)}
            for one in reversed(told.get(ring, []))
        ]
        for ring in ("wakeups", "attempts", "refusals", "errors")
    }


def _rest(one: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key not in ("of", "at")}


def statistics(config: Config) -> dict[str, int]:
    """msilo's statistics under their own names, and what else is counted; zero for what never happened."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        counted = inbox.counters()
    refused = sum(number for name, number in counted.items() if name.startswith("refused_"))
    rest = {name: counted.pop(name, 0) for name in STATISTICS}
    return {**rest, "refused_messages": refused, **counted}
