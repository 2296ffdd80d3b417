"""The original: Kamailio with the msilo and db_sqlite modules the distribution ships.

Its settings: *as shipped* is the module's own sample with 4 children, where a replay goes to the address of record, so
back to Kamailio itself, which looks up the Contact. *Straight* spares that way by naming the phone as outbound proxy:
its fastest replay, though no real installation with more than one phone can do it. *Tuned* is the best known way to
store: WAL journal, a lock in the script so that the children take turns at the database, and shared memory for all the
transactions it keeps. *One child* is the way that keeps order best, since no second worker overtakes; packets lost in
its own burst still come late.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bench import wire
from bench.processes import Running, Setting, Unavailable, last_words, launch, run_tool, until

SCHEMAS = (Path("/usr/share/kamailio/db_sqlite"), Path("/usr/local/share/kamailio/db_sqlite"))
TEMPLATE = Path(__file__).with_name("kamailio.cfg")
_SBIN = ("/usr/sbin", "/usr/local/sbin")
_TRIES = 3
_READY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Kamailio:
    """One setting of the original."""

    key: str
    title: str
    children: int = 4
    tuned: bool = False
    straight: bool = False

    def start(self, setting: Setting) -> Running:
        """Start it on a free port."""
        program = shutil.which("kamailio", path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))
        if not program:
            raise Unavailable("kamailio is not installed")
        place, database = setting.place, setting.database
        if not database.exists():
            create_tables(database, wal=self.tuned)
        memory = ["-m", "512"] if self.tuned else []
        # Kamailio cannot be given port 0, so one is taken from the kernel and freed again; another process may
        # be quicker to take it, hence the second and third try.
        for _ in range(_TRIES):
            port = free_port()
            config = place / "kamailio.cfg"
            config.write_text(self.config(port, setting.phone if self.straight else port, database))
            running = launch([program, "-DD", "-E", *memory, "-f", str(config), "-Y", str(place)], setting, database)
            running.port = port
            if serves(running):
                return running
            running.stop()
        raise Unavailable(f"Kamailio did not start: {last_words(place)}")

    def fill(self, file: Path, users: int, each: int, bulk: int) -> None:
        """Into its table."""
        if not file.exists():
            create_tables(file, wal=self.tuned)
        run_tool("bench.fill", "kamailio", str(file), str(users), str(each), str(bulk))

    def config(self, port: int, replay: int, database: Path) -> str:
        """The template with its words filled in."""
        words = {
            "CHILDREN": str(self.children),
            "PORT": str(port),
            "REPLAY": str(replay),
            "DOMAIN": wire.DOMAIN,
            "DATABASE": str(database),
            "LOCK": 'lock("silo");' if self.tuned else "",
            "UNLOCK": 'unlock("silo");' if self.tuned else "",
        }
        text = TEMPLATE.read_text()
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        return text


def create_tables(database: Path, wal: bool) -> None:
    """Make the database from the schema files Kamailio's packages install."""
    folder = next((folder for folder in SCHEMAS if (folder / "msilo-create.sql").exists()), None)
    if folder is None:
        raise Unavailable("Kamailio's db_sqlite schema is not installed")
    database.unlink(missing_ok=True)
    connection = sqlite3.connect(database)
    try:
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        for name in ("standard-create.sql", "msilo-create.sql"):
            connection.executescript((folder / name).read_text())
        connection.commit()
    finally:
        connection.close()


def free_port() -> int:
    """A UDP port nobody uses at this moment."""
    with wire.datagram_socket() as sock:
        return wire.port_of(sock)


def serves(running: Running) -> bool:
    """Wait until it answers; it may end instead, for one because its port is taken."""
    until(lambda: answers(running.port) or running.process.poll() is not None, _READY_SECONDS)
    return running.process.poll() is None and answers(running.port)


def answers(port: int) -> bool:
    """Whether an OPTIONS to this port gets any response."""
    with wire.datagram_socket() as sock:
        sock.connect((wire.HOST, port))
        sock.settimeout(0.2)
        try:
            sock.send(wire.options(wire.port_of(sock)))
            return sock.recv(wire.PACKET).startswith(b"SIP/2.0 ")
        except (TimeoutError, ConnectionRefusedError):
            return False
