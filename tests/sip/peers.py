"""The silo and its real peers, each one process: start, wait until ready, look at what it saw, stop by its id.

Everything is on loopback, on ports the kernel gave, with files in the test's own folder.
Nothing here judges: the tests do.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.box.inbox import Inbox
from tests.waiting import until

from .phone import Address, Phone, Seen, answers_options
from .process import Process, free_port, missing, program

HERE = Path(__file__).parent
SCENARIOS = HERE / "scenarios"
ROOT = HERE.parent.parent
BARESIP_MODULES = (Path("/usr/lib/baresip/modules"), Path("/usr/lib/x86_64-linux-gnu/baresip/modules"))
KAMAILIO_MODULES = ("lib*/kamailio/modules", "lib/*/kamailio/modules", "local/lib*/kamailio/modules")
KAMAILIO_TABLES = Path("/usr/share/kamailio/db_sqlite")
KAMAILIO_CFG = ROOT / "examples" / "kamailio" / "kamailio.cfg"


class Silo:
    """`msilo-lite serve` on a database of its own. A restart keeps file and ports, as a service does."""

    def __init__(self, folder: Path, *options: str, bind: Sequence[str] = ("udp:127.0.0.1:0",)) -> None:
        self.folder = folder
        self.database = folder / "silo.sqlite"
        self.options = options
        self.bind = list(bind)
        self._process: Process | None = None
        self._commands: list[Process] = []

    def start(self) -> "Silo":
        argv = [
            sys.executable,
            "-m",
            "msilo_lite",
            "serve",
            "--no-supervise",
            "--db-url",
            self.db_url,
            "--settle",
            "0.1",
        ]
        argv += ["--set", "add_date=0", *self.options]  # bytes out = bytes in, unless a test asks for the words
        for address in self.bind:
            argv += ["--bind", address]
        seen = len(self.stdout)
        self._process = Process(argv, self.folder, "silo", env=self._environment())
        line = self._process.ready(lambda: _ready_line(self.stdout[seen:]), 20, "the ready line of the silo")
        self.bind = line.split()[1:]
        return self

    def _environment(self) -> dict[str, str]:
        """The caller's environment without its configuration of msilo-lite, and with empty places for files."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MSILO_")}
        places = {key: str(self.folder / key.lower()) for key in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
        return kept | places

    @property
    def process(self) -> Process:
        assert self._process is not None, "the silo has not been started"
        return self._process

    @property
    def stdout(self) -> str:
        path = self.folder / "silo.out"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def db_url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, in the order of `bind`."""
        found = [re.fullmatch(r"\w+:\[?([^\]]+?)\]?:(\d+)", address) for address in self.bind]
        return [(match[1], int(match[2])) for match in found if match]

    @property
    def address(self) -> Address:
        return self.addresses[0]

    def stop(self) -> int:
        """End it as an init system does; the exit code."""
        return self.process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.stop(signal.SIGKILL)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by that signal and start it again on the same file and ports."""
        self.process.stop(number)
        self.start()

    def close(self) -> None:
        for process in (*self._commands, self._process):
            if process:
                process.stop(signal.SIGKILL)

    def dump(self, owner: str) -> Process:
        """Begin `msilo-lite dump`, which ends when the last answer is there."""
        argv = [sys.executable, "-m", "msilo_lite", "dump", owner, "--db-url", self.db_url]
        name = f"dump{len(self._commands)}"
        self._commands.append(Process(argv, self.folder, name, env=self._environment()))
        return self._commands[-1]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of msilo-lite on this silo's database."""
        argv = [sys.executable, "-m", "msilo_lite", *words, "--db-url", self.db_url]
        return subprocess.run(argv, capture_output=True, text=True, env=self._environment(), timeout=30, check=False)

    def list_json(self, *words: str) -> list[dict[str, Any]]:
        """What `msilo-lite list` shows, oldest first."""
        found: list[dict[str, Any]] = self._json("list", *words)
        return found

    def status_json(self) -> dict[str, Any]:
        found: dict[str, Any] = self._json("status")
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """What the daemon left in the file for `status`, without a process to ask it."""
        with closing(Inbox(self.database)) as inbox:
            return inbox.daemon()

    @property
    def box(self) -> list[tuple[str, str, int | None]]:
        """Body, state and last code of each message in the file, oldest first."""
        with closing(Inbox(self.database)) as inbox:
            return [
                (one.message.body.decode(errors="replace"), one.state.name.lower(), one.code) for one in inbox.waiting()
            ]

    def forward(self) -> None:
        """As if every back-off were over."""
        with closing(sqlite3.connect(self.database, timeout=5)) as file, file:
            file.execute("UPDATE msilo_recipient SET next_try = ?", (int(time.time()),))

    @property
    def texts(self) -> list[str]:
        """The bodies in the box, oldest first."""
        return [text for text, _, _ in self.box]

    @property
    def counters(self) -> dict[str, int]:
        with closing(Inbox(self.database)) as inbox:
            return inbox.counters()

    def _json(self, *words: str) -> Any:
        done = self.cli(*words, "--json")
        if done.returncode:
            pytest.fail(f"msilo-lite {' '.join(words)} --json: exit code {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)

    def watches(self, owner: str, words: str, seconds: float = 15) -> None:
        """Wait until the running daemon, not the one before it, says of who is watched what begins with these words."""

        def told() -> bool:
            facts = self.facts
            watched = facts.get("watched") or {}
            return facts.get("pid") == self.process.pid and str(watched.get(owner)).startswith(words)

        until(told, seconds, f"{owner} is {words}")

    def empties(self, seconds: float = 10) -> None:
        """Wait until nothing waits."""
        until(lambda: not self.box, seconds, "the box is empty")


def _ready_line(text: str) -> str:
    lines = (line for line in text.split("\n")[:-1] if line.startswith("ready "))
    return next(lines, "")


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry of a peer's own message log."""

    sent: bool
    seen: Seen


class SippRun(Process):
    """One run of one scenario."""

    def __init__(self, argv: Sequence[str], folder: Path, name: str, address: Address) -> None:
        self.address = address
        self._log = folder / f"{name}.messages"
        self._errors = folder / f"{name}.unexpected"
        super().__init__([*argv, "-message_file", str(self._log), "-error_file", str(self._errors)], folder, name)

    def passes(self, seconds: float = 20) -> "SippRun":
        """Wait for the end; fails the test unless every call went as the scenario says."""
        code = self.wait(seconds)
        if code:
            unexpected = self._errors.read_text("utf-8", "replace")[-3000:] if self._errors.exists() else ""
            pytest.fail(f"{self.name}: SIPp exit code {code}\n{unexpected}\n{self.errors[-500:]}")
        return self

    @property
    def log(self) -> list[Logged]:
        """What it sent and received so far, in order."""
        raw = self._log.read_bytes() if self._log.exists() else b""
        entries = re.split(rb"^-{40,} .*\n", raw, flags=re.MULTILINE)[1:]
        return [_logged(entry) for entry in entries]

    @property
    def sent(self) -> list[Seen]:
        return [entry.seen for entry in self.log if entry.sent]

    @property
    def received(self) -> list[Seen]:
        return [entry.seen for entry in self.log if not entry.sent]


def _logged(entry: bytes) -> Logged:
    """An entry is a line such as `UDP message received [345] bytes :`, an empty line, the message, an empty line."""
    title, _, text = entry.partition(b"\n\n")
    size = re.search(rb"[\[(](\d+)", title)
    return Logged(b"sent" in title, Seen.parse(text[: int(size[1])] if size else text))


class Sipp:
    """Starts SIPp runs in one folder and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._binary = program("sipp", "sip-tester")
        self._folder = folder
        self._runs: list[SippRun] = []

    def start(
        self,
        scenario: str,
        target: Address | None = None,
        *options: str,
        calls: int = 1,
        user: str = "bob",
        host: str = "127.0.0.1",
        keys: Mapping[str, str] | None = None,
    ) -> SippRun:
        """Run a scenario in the background: against `target`, or waiting on a port when it is None."""
        port = free_port(host)
        argv = [self._binary, "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", host, "-p", str(port), "-m", str(calls)]
        argv += ["-s", user, "-nostdin", "-trace_msg", "-trace_err", "-timeout", "120s", "-timeout_error", *options]
        for key, value in (keys or {}).items():
            argv += ["-key", key, value]
        if target:
            argv.append(f"[{target[0]}]:{target[1]}" if ":" in target[0] else f"{target[0]}:{target[1]}")
        run = SippRun(argv, self._folder, f"sipp{len(self._runs)}-{scenario}", (host, port))
        self._runs.append(run)
        return run

    def run(self, scenario: str, target: Address, *options: str, seconds: float = 20, **more: Any) -> SippRun:
        """Run a scenario to its end; fails the test unless all calls pass."""
        return self.start(scenario, target, *options, **more).passes(seconds)

    def close(self) -> None:
        for run in self._runs:
            run.stop(signal.SIGKILL)


class Kamailio:
    """Kamailio with the example configuration, unmodified: only its parameters are set, as a user would with -A."""

    def __init__(
        self, folder: Path, silo: Silo | Phone, *, port: int = 0, defines: Iterable[str] = (), cfg: Path = KAMAILIO_CFG
    ) -> None:
        self._cfg = cfg
        self._binary = program("kamailio", "kamailio")
        self._kamcmd = program("kamcmd", "kamailio")
        self._folder = folder
        self._run = folder / "run"
        self._defines = [f'SILO_ADDR="{silo.address[0]}"', f"SILO_PORT={silo.address[1]}", *defines]
        self._silo = silo
        self._process: Process | None = None
        self.address: Address = ("127.0.0.1", port or free_port())

    @property
    def silo(self) -> Silo:
        assert isinstance(self._silo, Silo), "a phone plays the silo"
        return self._silo

    def with_reg_event(self) -> "Kamailio":
        """Before the start: it tells the silo who is registered (RFC 3680), and sends no copies of REGISTERs."""
        if not any(found for place in KAMAILIO_MODULES for found in Path("/usr").glob(f"{place}/pua_reginfo.so")):
            missing("no pua_reginfo.so (apt-get install kamailio-presence-modules)")
        database = self._folder / "presence.sqlite"
        with closing(sqlite3.connect(database)) as file:
            for table in ("standard", "presence"):
                file.executescript((KAMAILIO_TABLES / f"{table}-create.sql").read_text())
        place = f"{self.address[0]}:{self.address[1]}"
        self._defines += ["WITH_REG_EVENT", f'DB_URL="sqlite:///{database}"', f'SELF_URI="sip:{place}"']
        return self

    def start(self) -> "Kamailio":
        self._run.mkdir(exist_ok=True)
        argv = [self._binary, "-DD", "-E", "-f", str(self._cfg), "-Y", str(self._run), "-w", str(self._folder)]
        for define in [f"LISTEN_PORT={self.address[1]}", *self._defines]:
            argv += ["-A", define]
        self._process = Process(argv, self._folder, "kamailio")
        self._process.ready(self._answers, 15, "Kamailio answers OPTIONS")
        return self

    def _answers(self) -> bool:
        return answers_options(self.address, 200)

    @property
    def errors(self) -> str:
        assert self._process is not None
        return self._process.errors

    @property
    def saved(self) -> int:
        """The subscriptions in its file, which survive a crash."""
        with closing(sqlite3.connect(self._folder / "presence.sqlite", timeout=5)) as file:
            return int(file.execute("SELECT count(*) FROM active_watchers").fetchone()[0])

    def contacts(self, user: str) -> list[str]:
        """The addresses under which it knows a user now."""
        argv = [self._kamcmd, "-s", f"unix:{self._run / 'kamailio_ctl'}", "ul.lookup", "location", user]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        return re.findall(r"Address: <?(sip:[^\s>]+)", done.stdout)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """As after an update, or a crash: it forgets who is registered."""
        self.close(number)
        self.start()

    def close(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process:
            self._process.stop(number, 5)


class Baresip:
    """baresip without audio: a real phone that prints what it receives."""

    def __init__(
        self, folder: Path, proxy: Address, *, user: str, password: str, contact: str, transport: str = "udp"
    ) -> None:
        self._binary = program("baresip", "baresip-core")
        modules = next((path for path in BARESIP_MODULES if path.is_dir()), None) or missing("no modules of baresip")
        self._folder = folder / f"baresip-{user}"
        self._folder.mkdir()
        self.port = free_port(count=2)  # it takes the next port too, for TLS
        config = f"sip_listen 127.0.0.1:{self.port}\nnet_interface 127.0.0.1\nmodule_path {modules}\n"
        config += "module stdio.so\nmodule g711.so\nmodule_tmp account.so\nmodule_app contact.so\nmodule_app menu.so\n"
        account = f"<sip:{user}@home.lan;transport={transport}>;auth_user={user};auth_pass={password}"
        account += f';outbound="sip:{proxy[0]}:{proxy[1]};transport={transport}"'
        (self._folder / "config").write_text(config)
        (self._folder / "accounts").write_text(f"{account};regint=60\n")
        (self._folder / "contacts").write_text(f'"Contact" <{contact}>\n')
        self._process: Process | None = None

    def start(self) -> "Baresip":
        argv = [self._binary, "-4", "-s", "-f", str(self._folder)]
        self._process = Process(argv, self._folder, "log", stdin=True)  # stdio.so cannot poll a file
        self._process.ready(lambda: " registered successfully" in self.trace, 15, "baresip has registered")
        return self

    @property
    def trace(self) -> str:
        """All it printed: each SIP message it received or sent, and its own words."""
        assert self._process is not None
        return self._process.output + self._process.errors

    @property
    def log(self) -> list[Logged]:
        """The SIP messages of its trace, in order."""
        found = re.findall(r"#\n\w+ \S+:(\d+) -> \S+\n(.*?)\x1b\[;m\n", self.trace, re.DOTALL)
        return [Logged(int(source) == self.port, Seen.parse(text.encode())) for source, text in found]

    @property
    def messages(self) -> list[Seen]:
        """The MESSAGE requests it received."""
        return [entry.seen for entry in self.log if not entry.sent and entry.seen.method == "MESSAGE"]

    def codes(self, *, sent: bool) -> list[int]:
        """The status codes it answered to, or was answered to, a MESSAGE."""
        answers = [entry.seen for entry in self.log if entry.sent == sent and entry.seen.code]
        return [seen.code for seen in answers if seen["CSeq"].endswith(" MESSAGE")]

    def message(self, text: str) -> None:
        """Send a text to its contact."""
        assert self._process is not None
        self._process.type(f"/message {text}")

    def kill(self) -> None:
        """End it as when its plug is pulled: nobody is told."""
        assert self._process is not None
        self._process.stop(signal.SIGKILL)

    def quit(self) -> None:
        """Unregister and end."""
        assert self._process is not None
        self._process.type("/quit")
        self._process.wait(10)

    def close(self) -> None:
        if self._process:
            self._process.stop(signal.SIGTERM, 5)
