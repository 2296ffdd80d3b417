"""The original: Debian's Kamailio with its msilo and db_sqlite modules, one process group on a database of its own."""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..phone import Address, Phone
from ..process import Process, free_port, missing, program

TEMPLATE = Path(__file__).with_name("msilo.cfg")
SCHEMAS = (Path("/usr/share/kamailio/db_sqlite"), Path("/usr/local/share/kamailio/db_sqlite"))
START_SECONDS = 10
MEMORY = Path(next((folder for folder in ("/dev/shm", "/tmp") if os.path.isdir(folder)), "."))
"""Where its database lies: db_sqlite never waits for a lock, so a worker that stores while the cleaner deletes answers
503. Without a disk each holds it for microseconds. The path is short, too: that of a socket may have 107 bytes."""
ITSELF = "itself"
"As outbound_proxy: its own address, from where its location table leads to the phone, as in the sample."


class Original:
    """Kamailio as its own sample configures msilo. A restart keeps file and port, as a service does.

    `parameters` are msilo's, by name. A value of one that takes an AVP is the expression that the script puts into it.
    """

    def __init__(
        self,
        folder: Path,
        parameters: Mapping[str, str | int],
        *,
        children: int = 1,
        answer_within: int = 30_000,
        recipe: bool = False,
        tz: str = "UTC",
        on_disk: bool = False,
    ) -> None:
        """`recipe`: store what a registered phone did not take, too. `answer_within`: milliseconds, tm's fr_timer.

        `on_disk`: keep the database in the test's folder.
        """
        self._binary = program("kamailio", "kamailio")
        self._kamcmd = program("kamcmd", "kamailio")
        self._folder = folder
        self._place = Path(tempfile.mkdtemp(prefix="parity-", dir=MEMORY))
        self.database = (folder if on_disk else self._place) / "original.sqlite"
        self.address: Address = ("127.0.0.1", free_port())
        itself = "sip:{}:{}".format(*self.address)
        self.parameters = {name: itself if value == ITSELF else value for name, value in parameters.items()}
        self._words = {
            "CHILDREN": str(children),
            "ANSWER_WITHIN": str(answer_within),
            "FAILURE": '        t_on_failure("MISSED");' if recipe else "",
        }
        self._tz = tz
        self._process: Process | None = None

    def start(self, *, answers: bool = True) -> "Original":
        """`answers`: wait until it does; else only start it."""
        if not self.database.exists():
            create_tables(self.database, self.parameters)
        config = self._folder / "original.cfg"
        config.write_text(self._config())
        argv = [self._binary, "-DD", "-E", "-f", str(config), "-Y", str(self._place), "-w", str(self._folder)]
        self._process = Process(argv, self._folder, "original", env={**os.environ, "TZ": self._tz})
        if answers:
            self._process.ready(self._answers, START_SECONDS, "Kamailio answers OPTIONS")
        return self

    def _config(self) -> str:
        lines, script = [], []
        for name, value in self.parameters.items():
            if name.endswith("_avp"):
                lines.append(f'modparam("msilo", "{name}", "$avp({name})")')
                script.append("    " + _assignment(f"$avp({name})", str(value)))
            else:
                lines.append(f'modparam("msilo", "{name}", {_quoted(value)})')
        words = self._words | {
            "PORT": str(self.address[1]),
            "SOCKET": str(self._socket),
            "DATABASE": str(self.database),
            "PARAMETERS": "\n".join(lines),
            "EXPRESSIONS": "\n".join(script),
        }
        return re.sub("@([A-Z_]+)@", lambda found: words[found[1]], TEMPLATE.read_text())

    @property
    def _socket(self) -> Path:
        return self._place / "ctl"

    def _answers(self) -> bool:
        with Phone("probe") as probe:
            probe.send(probe.request("OPTIONS", "home.lan"), self.address)
            answer = probe.glance(0.2)
        return bool(answer and answer.code == 200)

    @property
    def process(self) -> Process:
        assert self._process is not None, "Kamailio has not been started"
        return self._process

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and all its children; the exit code."""
        return self.process.stop(number)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by that signal and start it again: it forgets who is registered and what it has sent."""
        self.stop(number)
        self.start()

    def close(self) -> None:
        if self._process:
            self._process.stop(signal.SIGTERM, 5)
        shutil.rmtree(self._place, ignore_errors=True)

    def statistics(self) -> dict[str, int]:
        """msilo's counters, by name."""
        argv = [self._kamcmd, "-s", f"unix:{self._socket}", "stats.get_statistics", "msilo:"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True)
        return {name: int(number) for name, number in re.findall(r"msilo:(\w+) = (\d+)", done.stdout)}


def _quoted(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\r", "\\r"), ("\n", "\\n")):
        value = value.replace(plain, escaped)
    return f'"{value}"'


def _assignment(target: str, expression: str) -> str:
    """A lone variable may be null, and then the AVP must not exist; text with variables in it is always a string."""
    if re.fullmatch(r"\$\w+(\([^()]*\))?", expression):
        return f"{target} = {expression};"
    return f"pv_printf({_quoted(target)}, {_quoted(expression)});"


COLUMNS = {
    "sc_mid": "id",
    "sc_from": "src_addr",
    "sc_to": "dst_addr",
    "sc_uri_user": "username",
    "sc_uri_host": "domain",
    "sc_body": "body",
    "sc_ctype": "ctype",
    "sc_exp_time": "exp_time",
    "sc_inc_time": "inc_time",
    "sc_snd_time": "snd_time",
    "sc_stored_hdrs": "extra_hdrs",
    "sc_callid": "callid",
    "sc_status": "status",
}


def create_tables(database: Path, parameters: Mapping[str, str | int]) -> None:
    """Make the database from the schema files that Kamailio's packages install, with the names that are asked for."""
    folder = next((folder for folder in SCHEMAS if (folder / "msilo-create.sql").exists()), None)
    if folder is None:
        missing("the schema of Kamailio's db_sqlite is not installed (apt-get install kamailio-sqlite-modules)")
    table = parameters.get("db_table", "silo")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # so that no look of ours takes a lock either
        for name in ("standard-create.sql", "msilo-create.sql"):
            connection.executescript((folder / name).read_text())
        for parameter in COLUMNS.keys() & parameters.keys():
            connection.execute(f'ALTER TABLE silo RENAME COLUMN {COLUMNS[parameter]} TO "{parameters[parameter]}"')
        if table != "silo":
            connection.execute(f'ALTER TABLE silo RENAME TO "{table}"')
            connection.execute("UPDATE version SET table_name = ? WHERE table_name = 'silo'", (table,))
        connection.commit()
