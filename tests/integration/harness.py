"""The command as a child process, a UDP socket that speaks SIP, and a look into the database file.

Ports come from the kernel, waiting is for a condition with a deadline, and only what a test started is ended.
"""

import contextlib
import fcntl
import itertools
import json
import os
import pty
import resource
import select
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.waiting import until

Address = tuple[str, int]
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(os.environ.get("MSILO_PACKAGE") or ROOT)
"The folder with the package under test: the source, or what `make compiled` has built."
COMMAND = (sys.executable, "-m", "msilo_lite")
_serial = itertools.count(1)


def missing(what: str) -> None:
    """A tool of this machine is not there: that skips a test on a laptop and fails it in CI."""
    if os.environ.get("MSILO_REQUIRE_PEERS") == "1":
        pytest.fail(f"{what} is missing; tests/install-peers.sh brings it")
    pytest.skip(f"{what} is not on this machine")


def make(target: str, lacking: str = "") -> None:
    """Build something anew where a source has changed; `lacking`: what it says where a tool for it is not here."""
    made = subprocess.run(["make", "--silent", target], cwd=ROOT, capture_output=True, text=True, check=False)
    if lacking and lacking in made.stderr:
        missing(lacking)
    if made.returncode != 0:
        pytest.fail(f"make {target}: {made.stderr[-3000:]}")


# -- the command -------------------------------------------------------------------------------------------------------
def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user who has configured nothing; whatever this machine's user has stays out."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MSILO_", "XDG_"))}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        kept.pop(name, None)
    return {**kept, "HOME": str(home), "TERM": "xterm-256color", "PYTHONPATH": f"{PACKAGE}:{ROOT}", **more}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """What stderr says in one sentence; fails the test for a traceback."""
        assert "Traceback" not in self.err, self.err
        return self.err.strip()


def run(folder: Path, *words: str, seconds: float = 20, env: Mapping[str, str] = MappingProxyType({})) -> Ran:
    """Run a command to its end on pipes, in `folder` and with nothing to read; `env` comes on top."""
    ended = subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment(folder, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def run_on_terminal(folder: Path, *words: str, typed: str = "", seconds: float = 20, columns: int = 160) -> Ran:
    """Run a command on a terminal; `typed` is what the person types. `out` is all that it shows."""
    try:
        leader, follower = pty.openpty()
    except OSError as error:  # a chroot without devpts
        pytest.skip(f"this machine gives no terminal: {error}")
    try:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        child = subprocess.Popen(
            [*COMMAND, *words], cwd=folder, env=environment(folder), stdin=follower, stdout=follower, stderr=follower
        )
        os.close(follower)
        os.write(leader, typed.encode())
        shown = b"".join(_read_until_closed(leader, time.monotonic() + seconds))
        return Ran(_ended(child, seconds), shown.decode(), "")
    finally:
        os.close(leader)


def _read_until_closed(number: int, deadline: float) -> Iterator[bytes]:
    while select.select([number], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            read = os.read(number, 65536)
        except OSError:  # EIO: the last process of the terminal has closed it
            return
        if not read:
            return
        yield read


def _ended(child: subprocess.Popen[bytes], seconds: float) -> int:
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        pytest.fail(f"{child.args!r} still runs after {seconds:g} s")


def python(folder: Path, script: str, *words: str, seconds: float = 20) -> Ran:
    """Run a few lines of Python in a process of their own, which may die as it likes."""
    argv = [sys.executable, "-c", script, *words]
    ended = subprocess.run(argv, cwd=folder, env=environment(folder), capture_output=True, timeout=seconds, check=False)
    return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


class Serve:
    """`msilo-lite serve` on a file in `folder`; ends at the end of the `with`, at the latest."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        bind: Sequence[str] = ("udp:127.0.0.1:0",),
        supervised: bool = False,
        env: Mapping[str, str] = MappingProxyType({}),
        disk: Path | None = None,
    ) -> None:
        """`disk`: where the database is, when it is not in `folder`."""
        self.folder = folder
        self.file = (disk or folder) / "silo.sqlite"
        self._out, self._err = folder / f"serve.{next(_serial)}.out", folder / f"serve.{next(_serial)}.err"
        binds = [word for one in bind for word in ("--bind", one)]
        words = [
            "serve",
            *(() if supervised else ("--no-supervise",)),
            *binds,
            "--db-url",
            f"sqlite:///{self.file}",
            "--set",
            "add_date=0",
            *options,
        ]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._child = subprocess.Popen(
                [*COMMAND, *words],
                cwd=folder,
                env=environment(folder, **env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def __enter__(self) -> "Serve":
        until(lambda: self.ready_line or self._child.poll() is not None, 15, f"the ready line\n{self.log}")
        if not self.ready_line:
            self.kill()
            pytest.fail(f"serve ended with {self._child.returncode}: {self.log}")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def log(self) -> str:
        return self._err.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of the log about one event, the oldest first."""
        lines = [line for line in self.log.splitlines(keepends=True) if line.startswith("{") and line.endswith("}\n")]
        return [one for one in map(json.loads, lines) if one["event"] == name]

    @property
    def ready_line(self) -> str:
        lines = [line for line in self.out.splitlines(keepends=True) if line.startswith("ready ")]
        return lines[-1].strip() if lines and lines[-1].endswith("\n") else ""

    @property
    def addresses(self) -> list[Address]:
        parts = [word.removeprefix("udp:").rpartition(":") for word in self.ready_line.split()[1:]]
        return [(host.strip("[]"), int(port)) for host, _, port in parts]

    @property
    def address(self) -> Address:
        return self.addresses[0]

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._child.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Exit code; fails the test when it still runs after `seconds`."""
        return _ended(self._child, seconds)

    def stop(self, seconds: float = 5) -> None:
        """Ask for an orderly end, and insist on exit code 0."""
        self.signal(signal.SIGTERM)
        code = self.ended(seconds)
        assert code == 0, self.log

    def kill(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()


# -- the wire ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Sip:
    """One SIP message as bytes came: first line, headers by lower-case name (the first of each), body."""

    first: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Sip":
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        return cls(first, headers, body)

    @property
    def code(self) -> int:
        """Status code of an answer, 0 for a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def call_id(self) -> str:
        return self.headers["call-id"]


class Peer:
    """A user at a UDP socket, without transactions: what is to be repeated, the test repeats."""

    def __init__(self, user: str, silo: Address) -> None:
        self.user, self.silo = user, silo
        six = ":" in silo[0]
        self._socket = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("::1" if six else "127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.host = "[::1]" if six else "127.0.0.1"

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def request(self, method: str, to: str, *lines: str, body: bytes = b"", call_id: str = "") -> bytes:
        """A request to a user of home.lan; `lines` are further headers."""
        mark = call_id or f"{next(_serial)}.{time.time_ns()}"
        target = "sip:home.lan" if method == "REGISTER" else f"sip:{to}@home.lan"
        head = (
            f"{method} {target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK{mark}",
            "Max-Forwards: 70",
            f"From: <sip:{self.user}@home.lan>;tag={mark}",
            f"To: <sip:{to}@home.lan>",
            f"Call-ID: {mark}",
            f"CSeq: 1 {method}",
            *lines,
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body

    def message(self, to: str, text: str, call_id: str = "") -> bytes:
        return self.request("MESSAGE", to, "Content-Type: text/plain", body=text.encode(), call_id=call_id)

    def send(self, raw: bytes) -> None:
        self._socket.sendto(raw, self.silo)

    def glance(self, seconds: float) -> Sip | None:
        """The next datagram, or None when none comes in time."""
        self._socket.settimeout(max(seconds, 0.001))
        with contextlib.suppress(TimeoutError, ConnectionRefusedError):
            raw, self._source = self._socket.recvfrom(65535)
            return Sip.parse(raw)
        return None

    def receive(self, seconds: float = 5) -> Sip:
        """The next datagram; fails the test when none comes."""
        seen = self.glance(seconds)
        if seen is None:
            pytest.fail(f"nothing reached {self.user} within {seconds:g} s")
        return seen

    def ask(self, raw: bytes, seconds: float = 5) -> Sip:
        """Send a request and take its answer, past whatever else comes."""
        self.send(raw)
        mine, deadline = Sip.parse(raw).call_id, time.monotonic() + seconds
        while True:
            seen = self.receive(deadline - time.monotonic())
            if seen.code >= 200 and seen.call_id == mine:
                return seen

    def write(self, to: str, text: str) -> str:
        """Leave a message, insist on 202, return its Call-ID."""
        raw = self.message(to, text)
        answer = self.ask(raw)
        assert answer.code == 202, answer
        return answer.call_id

    def register(self) -> None:
        """Say where this user is, and insist on 200."""
        contact = f"Contact: <sip:{self.user}@{self.host}:{self.port}>"
        answer = self.ask(self.request("REGISTER", self.user, contact, "Expires: 600"))
        assert answer.code == 200, answer

    def reply(self, request: Sip, code: int = 200, *more: str, reason: str = "Reply") -> None:
        """Answer a request to where the last datagram came from."""
        echoed = [f"{name}: {request.headers[name]}" for name in ("via", "from", "to", "call-id", "cseq")]
        echoed[2] += f";tag={self.user}"
        text = "\r\n".join([f"SIP/2.0 {code} {reason}", *echoed, *more, "Content-Length: 0", "", ""])
        self._socket.sendto(text.encode("utf-8", "surrogateescape"), self._source)

    def challenge(self, request: Sip) -> None:
        """Ask for a password (RFC 3261 22.2), with a nonce of its own each time."""
        self.reply(request, 401, f'WWW-Authenticate: Digest realm="home", nonce="{next(_serial)}", qop="auth"')

    def take(self, count: int, seconds: float = 5) -> list[Sip]:
        """Answer MESSAGEs with 200 until `count` different ones came; retransmissions are answered and left out."""
        deadline, taken = time.monotonic() + seconds, dict[str, Sip]()
        while len(taken) < count:
            seen = self.receive(deadline - time.monotonic())
            if seen.code == 0:
                self.reply(seen)
                taken.setdefault(seen.call_id, seen)
        return list(taken.values())


# -- the file ----------------------------------------------------------------------------------------------------------
def query(file: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the database, read by a connection of our own."""
    with contextlib.closing(sqlite3.connect(file, timeout=5)) as connection:
        return connection.execute(statement, values).fetchall()


def change(file: Path, *statements: str) -> None:
    """Statements of another program, in one commit."""
    with contextlib.closing(sqlite3.connect(file, timeout=5, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the database's write lock, as a careless program does."""
    with contextlib.closing(sqlite3.connect(file, timeout=5, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # write() then fails with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


def on(file: Path) -> tuple[str, str]:
    """The options that name a database."""
    return "--db-url", f"sqlite:///{file}"


def waiting(file: Path) -> list[int]:
    """Ids of the messages in the box."""
    return [row[0] for row in query(file, "SELECT id FROM silo ORDER BY id")]
