"""A real systemd as process 1 of its own namespaces, for tests of a service under it; root on Linux only."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.waiting import until

from . import harness

SCRIPT = Path(__file__).with_name("pid1.sh")
GROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
TARGET = "[Unit]\nDescription=One service and what it needs\nWants=msilo-lite.service\n"


class Systemd:
    """Runs from `with` to its end. `files` are laid over this machine's, by absolute path."""

    def __init__(self, folder: Path, files: dict[str, bytes], modes: dict[str, int]) -> None:
        groups = next((one for one in GROUPS if (one / "cgroup.procs").exists()), None)
        if os.geteuid() != 0 or groups is None:
            pytest.skip("a systemd of its own takes root and a cgroup of version 2")
        if not Path("/lib/systemd/systemd").exists():
            harness.missing("systemd")
        self._group = groups / f"msilo-lite-test-{os.getpid()}"
        self._work = folder / "pid1"
        self.log = folder / "pid1.log"
        for name, content in {**files, "/etc/systemd/system/lone.target": TARGET.encode()}.items():
            place = self._work / "files" / name.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(modes.get(name, 0o644))

    def __enter__(self) -> "Systemd":
        with self.log.open("wb") as log:
            words = ["bash", str(SCRIPT), str(self._work), str(self._group)]
            self._unshare = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.pid = until(self._first, 30, "a process 1")
            # systemctl answers as soon as the manager listens
            until(lambda: self.run("systemctl", "is-system-running").stdout, 30, "a manager")
        except BaseException:
            self.end()
            raise
        return self

    def _first(self) -> int:
        """The child of unshare once it has become systemd."""
        if self._unshare.poll() is not None:
            pytest.skip(f"this machine gives no namespaces: {self.log.read_text()}")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        with contextlib.suppress(OSError, IndexError):
            child = int(children.read_text().split()[0])
            return child if Path(f"/proc/{child}/comm").read_text().strip() == "systemd" else 0
        return 0

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Process 1 goes, with everything in there, and leaves no trace."""
        if self._unshare.poll() is None:
            self._unshare.send_signal(signal.SIGKILL)  # takes process 1 along, and that one everything in there
        self._unshare.wait()
        for group in sorted(self._group.rglob("*/"), reverse=True):
            until(lambda group=group: _removed(group), 10, f"an empty {group}")  # type: ignore[misc]  # of this round
        until(lambda: _removed(self._group), 10, f"an empty {self._group}")

    def run(self, *words: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """A command inside."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", "-w", *words]
        return subprocess.run(enter, capture_output=True, text=True, timeout=seconds, check=False)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "--value", "-p", name, "msilo-lite").stdout.strip()

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-u", "msilo-lite").stdout

    def write(self, name: str, text: str) -> None:
        """Another content for a file inside."""
        self.run("bash", "-c", f"cat >{name} <<'END'\n{text}\nEND\n")


def _removed(group: Path) -> bool:
    if not group.exists():
        return True
    with contextlib.suppress(OSError):
        group.rmdir()
        return True
    return False


def here(name: str) -> str:
    """A tool's path, or the end of the test."""
    found = shutil.which(name)
    if found is None:
        harness.missing(name)
    assert found
    return found
