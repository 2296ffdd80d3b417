"""A daemon on a real file and real sockets whose every turn is counted; run as a process of its own by `test_turns`.

``python -m tests.integration.turns SCENE FOLDER ROWS``: prints the counts as JSON. PJSIP starts once in a process, so
the tests cannot hold a daemon each.
"""

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import fill, wire
from msilo_lite.daemon import Daemon
from msilo_lite.settings.config import Config

DEADLINE = 200.0


@dataclass(slots=True)
class Turn:
    """What one turn of the loop did to the file."""

    commits: int = 0
    statements: list[str] = field(default_factory=list)
    steps: int = 0
    "Instructions of SQLite's virtual machine: they grow with the rows that are looked at."


@dataclass(slots=True)
class Counted:
    """What a scene cost."""

    turns: list[Turn]
    answers: int
    delivered: int
    peak: int = 0
    "Bytes that Python held at the most, beyond what it held before."


class Scene:
    """The daemon, and a socket that is PBX and phone at once."""

    def __init__(self, folder: Path, rows: int, each: int = 0) -> None:
        file = folder / "silo.sqlite"
        fill.fill_lite(file, fill.rows(1, each, rows), int(time.time()))
        config = Config(
            db_url=f"sqlite:///{file}", bind=("udp:127.0.0.1:0",), domain=(wire.DOMAIN,), settle=0, add_date=0
        )  # type: ignore[call-arg]  # the rest has defaults
        self.daemon = Daemon(config)
        self.socket = wire.datagram_socket()
        self.socket.setblocking(False)
        self.port = wire.port_of(self.socket)
        self.silo = (wire.HOST, self.daemon.listening[0].port)
        self.counted = Counted([], 0, 0)
        self.counts = True
        self.seen: list[int] = []

    def work(self, done: Callable[[], bool]) -> None:
        """Turn by turn, until `done`."""
        end = time.monotonic() + DEADLINE
        while not done():
            assert time.monotonic() < end, asdict(self.counted)
            self.turn()
            self.hear()

    def turn(self) -> None:
        """One turn, counted."""
        if not self.counts:
            self.daemon.turn()
            return
        turn, connection = Turn(), self.daemon._store._c

        def step() -> None:
            turn.steps += 1

        connection.set_trace_callback(turn.statements.append)
        connection.set_progress_handler(step, 1)
        self.daemon.turn()
        connection.set_trace_callback(None)
        connection.set_progress_handler(None, 1)
        turn.commits = turn.statements.count("COMMIT")
        turn.statements = [one.split("(")[0][:60] for one in turn.statements]
        self.counted.turns.append(turn)

    def hear(self) -> None:
        """Answer every MESSAGE 200, count every answer."""
        while True:
            try:
                data = self.socket.recv(wire.PACKET)
            except BlockingIOError:
                return
            if data.startswith(b"SIP/2.0 2"):
                self.counted.answers += 1
            elif data.startswith(b"MESSAGE"):
                self.socket.sendto(wire.response(data, b"200 OK"), self.silo)
                tags = wire.tags_of(data)
                assert tags is not None
                self.seen.append(tags[0])
                self.counted.delivered += 1

    def put(self, *requests: bytes) -> None:
        """These arrive together."""
        for one in requests:
            self.socket.sendto(one, self.silo)


def store(scene: Scene) -> None:
    """64 messages that arrive together, five times; the last of each five was sent before."""
    for batch in range(5):
        numbers = [*range(batch * 64, batch * 64 + 64)]
        scene.put(*(wire.message(number - 63 * (number % 64 == 63), 1, scene.port, "turns") for number in numbers))
        scene.work(lambda: scene.counted.answers == len(numbers) * (batch + 1))  # noqa: B023 (called at once)


def replay(scene: Scene, each: int) -> None:
    """An inbox goes to its phone."""
    scene.put(wire.register(0, scene.port, "turns"))
    scene.work(lambda: scene.counted.delivered == each)
    scene.work(lambda: scene.daemon._replay.idle and scene.daemon._silo.turn.empty)
    assert scene.seen == sorted(scene.seen)


def memory(scene: Scene, each: int) -> None:
    """The same, and how much memory it takes; nothing else is counted, since that would take some too."""
    scene.counts = False
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    replay(scene, each)
    scene.counted.peak = tracemalloc.get_traced_memory()[1] - before


def register(scene: Scene) -> None:
    """Phones of users who have no mail, known already, refresh their registrations, one at a time."""
    for number in range(1, 40):
        scene.put(wire.register(number % 2 + 1, scene.port, "turns", number).replace(b"CSeq: 1", b"CSeq: %d" % number))
        scene.work(lambda: scene.counted.answers == number)  # noqa: B023 (called at once)


def main() -> None:
    """One scene."""
    name, folder, rows, each = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    scene = Scene(folder, rows, each)
    if name == "store":
        store(scene)
    elif name == "replay":
        replay(scene, each)
    elif name == "memory":
        memory(scene, each)
    else:
        register(scene)
    json.dump(asdict(scene.counted), sys.stdout)
    sys.stdout.flush()
    scene.daemon.close()


if __name__ == "__main__":
    main()
