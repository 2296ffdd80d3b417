"""What is measured: the null responder, msilo-lite, and the original in its settings.

A target starts in an empty folder and returns once it answers. Stopping is `Running.stop`.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import wire
from bench.kamailio import Kamailio
from bench.processes import ROOT, Running, Setting, Unavailable, last_words, launch, run_tool, until

COMPILED = ROOT / "build" / "compiled"
_READY = re.compile(r"^ready udp:127\.0\.0\.1:(\d+)", re.MULTILINE)
_READY_SECONDS = 20.0


class Target(Protocol):
    """Something that stores messages, or looks as if it did."""

    @property
    def key(self) -> str:
        """Its name in JSON."""

    @property
    def title(self) -> str:
        """Its name in the table."""

    def start(self, setting: Setting) -> Running:
        """Start it, over a new database where there is none yet."""

    def fill(self, file: Path, users: int, each: int, bulk: int) -> None:
        """Make a database with so many messages for each user, behind so many for others."""


@dataclass(frozen=True, slots=True)
class Null:
    """Our own null responder; `each` is how many messages of a replay it makes up for a user."""

    each: int = 1
    key: str = "null"
    title: str = "null responder"

    def start(self, setting: Setting) -> Running:
        """Start it; it needs no phone and has nothing to trace."""
        return await_ready(launch([sys.executable, "-m", "bench.null", str(self.each)], setting, None), setting.place)

    def fill(self, file: Path, users: int, each: int, bulk: int) -> None:
        """It makes its messages up."""


@dataclass(frozen=True, slots=True)
class Lite:
    """msilo-lite with the Python that runs this benchmark; replays go straight to the Contact."""

    key: str = "msilo-lite"
    title: str = "msilo-lite"
    compiled: bool = False
    """Whether its busiest modules are machine code, as `make compiled` builds them."""

    def start(self, setting: Setting) -> Running:
        """Start it with an empty configuration file, so that one of this machine's user does not count."""
        database = setting.database
        config = setting.place / "silo.toml"
        config.touch()
        options = {
            "--config": str(config),
            "--bind": f"udp:{wire.HOST}:0",
            "--db-url": f"sqlite:///{database}",
            "--domain": wire.DOMAIN,
            "--trusted": "127.0.0.0/8",
            "--settle": "0",
            "--set": "wake_rate=0",
        }
        words = [word for option in options.items() for word in option]
        python = [sys.executable]
        if self.compiled:
            if not COMPILED.exists():
                raise Unavailable("not built: make compiled")
            python = ["env", f"PYTHONPATH={COMPILED}", sys.executable, "-P"]  # the folder we start in has the other one
        command = [*python, "-m", "msilo_lite", "serve", "--no-supervise", *words]
        return await_ready(launch(command, setting, database), setting.place)

    def fill(self, file: Path, users: int, each: int, bulk: int) -> None:
        """Through its own store."""
        run_tool("bench.fill", "lite", str(file), str(users), str(each), str(bulk))


NULL = Null()
LITE = Lite()
FAST = Lite("msilo-lite-compiled", "msilo-lite, compiled", compiled=True)
OURS = (LITE, FAST)
SHIPPED = Kamailio("kamailio", "Kamailio, as shipped")
TUNED = Kamailio("kamailio-tuned", "Kamailio, WAL and lock", tuned=True)
STRAIGHT = Kamailio("kamailio-straight", "Kamailio, straight", straight=True)
ORDERED = Kamailio("kamailio-one-child", "Kamailio, one child", children=1)


def await_ready(running: Running, place: Path) -> Running:
    """Wait for the line that names the bound address, and note its port."""
    out = place / "stdout"
    until(lambda: bool(_READY.search(out.read_text())) or running.process.poll() is not None, _READY_SECONDS)
    found = _READY.search(out.read_text())
    if not found:
        running.stop()
        raise Unavailable(f"not started: {last_words(place)}")
    running.port = int(found[1])
    return running


def rows_waiting(database: Path) -> int:
    """Rows in the silo table."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        (count,) = connection.execute("SELECT count(*) FROM silo").fetchone()
        return int(count)
    finally:
        connection.close()
