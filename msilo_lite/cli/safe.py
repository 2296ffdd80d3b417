"""What backup, verify and prune do: one function each, from a configuration to what happened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..box.copies import Found, copy, findings, old_history
from ..box.inbox import BATCH, Inbox
from ..settings.config import Config
from .deeds import Progress

LEAST_AGE = 300
"Seconds of history that always stay: by them a repeated request is known."


def copied(config: Config, target: Path, progress: Progress, *, force: bool) -> int:
    """Copy the database; returns how many messages wait in it. Raises as `copy` does."""
    file = config.db_file
    with closing(Inbox(file, config.names)) as inbox:
        waiting = inbox.count()
    with progress(None, f"copying {file.name}") as update:
        copy(file, target, lambda done, _: update(done), force=force)
    return waiting


def examined(config: Config, file: Path) -> Iterator[Found]:
    """What can be said of a file. Raises NotFound and StoreError."""
    return findings(file, config.names)


def pruned(config: Config, age: int | None, keep: int, progress: Progress, *, dry: bool) -> int:
    """Forget history, in short commits; returns how many messages of it went, or would."""
    now, done = int(time.time()), 0
    with closing(Inbox(config.db_file, config.names)) as inbox:
        before, number = old_history(inbox.connection, None if age is None else now - age, keep)
        if before > now - LEAST_AGE:
            before, number = old_history(inbox.connection, now - LEAST_AGE, 0)
        if dry:
            return number
        with progress(number, "forgetting") as update:
            while gone := inbox.prune(before, BATCH):
                done += gone
                update(done)
    return done
