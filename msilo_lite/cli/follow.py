"""The loop of `tail`: look whether anything was committed, tell it, wait a moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from ..box.feed import Event, Feed
from ..box.inbox import Inbox
from ..settings.config import Config
from .choice import Choice

PAUSE = 0.2
"Seconds between two looks; a look where nothing was committed is one PRAGMA."
SHARE = 4
"A look that takes long is made at the most every so many times as long."


def events(config: Config, choice: Choice, since: int | None, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Events in order, each as a record; without `follow` it ends with the past. Raises NotFound and StoreError."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        feed = Feed(inbox, since, int(time.time()))
        while True:
            began = time.monotonic()
            for event in feed.look():
                if choice.owner is None or event.get("to") == str(choice.owner):
                    yield _record(event)
            if not follow:
                return
            time.sleep(max(PAUSE, SHARE * (time.monotonic() - began)))


def _record(event: Event) -> dict[str, Any]:
    at = datetime.fromtimestamp(event["at"], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**event, "at": at}
