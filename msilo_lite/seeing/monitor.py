"""The daemon's side of seeing: after each commit and once a second it is told, and leaves word for those who look.

For the commands it is the file: `recent`, written with whatever is written next. For health and metrics it is a
snapshot, made once a second and only where somebody listens.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..box.gauges import Gauges
from ..box.holds import Holds
from ..box.message import Turn
from ..box.silo import Silo
from ..outbound.bindings import Bindings
from ..outbound.replay import Replay
from ..outbound.ways import contact_host
from ..settings.config import Config
from ..sip.address import Aor, next_host
from .health import Published, Snapshot
from .journal import Journal

if TYPE_CHECKING:
    from .web import Web

COUNT_SHARE = 200
"The box is counted at the most every so many times as long as a count takes: a large one costs half a percent."
COUNTED_MOST = 10_000
"Held messages of one user that are counted, and users."


class Monitor:
    """One for each daemon. Raises MsiloError where `http_listen` cannot be had."""

    def __init__(
        self,
        config: Config,
        silo: Silo,
        parts: tuple[Replay, Bindings, Holds],
        listening: tuple[str, ...],
        version: str,
        earlier: Mapping[str, Any],
        *,
        listens: bool,
    ) -> None:
        """`earlier`: what the last daemon left as `recent`.

        `listens`: whether anybody outside is to see it; a command in the daemon's place wants no port.
        """
        self._config, self._silo = config, silo
        self._replay, self._bindings, self._holds = parts
        self._listening, self._version = listening, version
        self._started = time.time()
        self.journal = Journal(earlier)
        self._published = Published(time.monotonic())
        address = config.http_address if listens else None
        self._web = _listening_at(address, self._published) if address else None
        self._gauges = Gauges(config.db_file, config.names) if address else None
        self._count_again = 0.0
        self._boxed = self._held = 0

    @property
    def url(self) -> str:
        """Where health and metrics are; empty where they are off."""
        return self._web.url if self._web else ""

    def turned(self) -> None:
        """The loop has turned."""
        self._published.turned = time.monotonic()

    def committed(self, turn: Turn, fresh: frozenset[bytes], now: float) -> None:
        """A turn is on disk; `fresh`: keys of what was new."""
        self.journal.committed(turn, fresh, now)

    def tick(self, now: float, *, refused: bool, registered: bool | None) -> None:
        """Called about once a second. `refused`: the disk said no a moment ago. May raise StoreError."""
        words = self.journal.words()
        if words is not None:
            self._silo.turn.told["recent"] = words
        if self._gauges:
            self._published.snapshot = self._snapshot(self._gauges, now, refused=refused, registered=registered)

    def _snapshot(self, box: Gauges, now: float, *, refused: bool, registered: bool | None) -> Snapshot:
        journal, file = self.journal, self._config.db_file
        return Snapshot(
            at=now,
            ticked=time.monotonic(),
            listening=self._listening,
            obstacle="the last commit was refused" if refused else box.obstacle(),
            free=shutil.disk_usage(file.parent).free,
            info={"version": self._version},
            counters=box.counters(),
            gauges=self._measured(box, now, registered),
            attempts=dict(journal.attempts),
            ended=dict(journal.ended),
            delays=tuple(journal.delays),
            delay_sum=journal.delay_sum,
        )

    def _measured(self, box: Gauges, now: float, registered: bool | None) -> Mapping[str, float]:
        self._count(box, now)
        file, oldest = self._config.db_file, box.oldest()
        found: dict[str, float] = {
            "waiting_messages": self._boxed,
            "held_messages": self._held,
            "holds": len(self._holds.all),
            "oldest_message_age_seconds": max(0, int(now) - oldest) if oldest else 0,
            "in_flight_messages": self._replay.in_flight,
            "lanes": len(self._replay.open),
            "registered_users": len(self._bindings.owners()),
            "alarm": float(bool(self._replay.alarm)),
            "database_bytes": _size(file),
            "wal_bytes": _size(file.with_name(file.name + "-wal")),
            "disk_free_bytes": shutil.disk_usage(file.parent).free,
            "start_time_seconds": self._started,
        }
        return found if registered is None else {**found, "pbx_registered": float(registered)}

    def _count(self, box: Gauges, now: float) -> None:
        """Count the box, and what of it is held: the larger it is, the more seldom."""
        began = time.monotonic()
        if began < self._count_again:
            return
        self._boxed = box.count()
        self._held = self._count_held(box, now) if self._holds.all else 0
        self._count_again = time.monotonic() + COUNT_SHARE * (time.monotonic() - began)

    def _count_held(self, box: Gauges, now: float) -> int:
        proxy = self._config.outbound_proxy
        nobody = Aor("", "")
        if self._holds.on(nobody, next_host(proxy) if proxy else ""):
            return self._boxed
        users = {Aor.parse(one.name) for one in self._holds.all if one.kind == "user"}
        if not proxy:
            places = self._bindings.of_all(now).items()
            users |= {owner for owner, contact in places if self._holds.on(owner, contact_host(contact))}
        chosen = list(users)[:COUNTED_MOST]
        return sum(box.waiting(owner, int(now), COUNTED_MOST) for owner in chosen)

    def close(self) -> None:
        """Stop listening."""
        if self._web:
            self._web.close()
        if self._gauges:
            self._gauges.close()


def _listening_at(address: tuple[str, int], published: Published) -> Web:
    from .web import Web  # its libraries cost memory and time, and most do without

    return Web(address, published)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # it comes and goes
        return 0
