"""Starting, stopping and weighing processes. Only those started here are ever ended.

What is read from /proc counts for a process and all its children. Elsewhere than on Linux there is no /proc and the
readings are None.
"""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
SLOW_SOURCE = Path(__file__).with_name("slowsync.c")
_STOP_SECONDS = 15.0


class Unavailable(Exception):
    """A target that cannot be measured here; the text says why."""


def until(condition: Callable[[], bool], seconds: float, step: float = 0.02) -> bool:
    """Wait for a condition, at most so long; return whether it came true."""
    end = monotonic() + seconds
    while not condition():
        if monotonic() > end:
            return False
        sleep(step)
    return True


def environment() -> dict[str, str]:
    """Our own environment without settings that would leak into the daemon under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MSILO_")}


def tool(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process of this package, spoken to by lines of text."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_tool(module: str, *arguments: str) -> None:
    """Run a process of this package to its end."""
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


@dataclass(slots=True)
class Running:
    """A target that serves."""

    process: subprocess.Popen[bytes]
    port: int
    database: Path | None
    syncs: Path | None = None
    """Where strace writes a line for each sync, when the target was started under it."""
    files: list[IO[bytes]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The target's own process, not that of a strace around it."""
        pid = self.process.pid
        return next(children(pid), pid) if self.syncs else pid

    def stop(self) -> int:
        """End it politely, after a while by force; return its exit code."""
        try:
            if self.process.poll() is None:
                os.kill(self.pid, signal.SIGTERM)
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in [*family(self.pid), self.process.pid]:
                _kill(pid)
            return self.process.wait()
        finally:
            for file in self.files:
                file.close()


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how a target is started."""

    place: Path
    """An empty folder, or one that holds a filled database."""
    phone: int = 9
    """Port that replays go to, for a target that must know; 9 (discard) for a phone nobody will call."""
    trace: bool = False
    """Whether syncs are counted."""
    slow_ms: int = 0
    """Milliseconds that a sync of the disk takes, 0: what it takes."""

    @property
    def database(self) -> Path:
        """The target's file."""
        return self.place / "silo.sqlite"

    def environment(self) -> dict[str, str]:
        """The target's environment."""
        plain = environment()
        if self.slow_ms:
            plain |= {"LD_PRELOAD": str(slow_disk()), "SLOWSYNC_MS": str(self.slow_ms)}
        return plain


@cache
def slow_disk() -> Path:
    """The shim that makes syncs slow, compiled once a run."""
    library = Path(tempfile.mkdtemp(prefix="msilo-bench-")) / "slowsync.so"
    atexit.register(shutil.rmtree, library.parent, ignore_errors=True)
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(SLOW_SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"no gcc to make a slow disk with: {error}") from error
    return library


def launch(command: Sequence[str], setting: Setting, database: Path | None) -> Running:
    """Start a target with its output in files of its folder, its port still unknown."""
    place = setting.place
    syncs = place / "syncs" if setting.trace else None
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(syncs)] if syncs else []
    out, err = (place / "stdout").open("wb"), (place / "stderr").open("wb")
    try:
        process = subprocess.Popen(
            [*strace, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=setting.environment()
        )
    except OSError as error:
        raise Unavailable(f"cannot start {command[0]}: {error.strerror}") from error
    return Running(process, 0, database, syncs, [out, err])


def last_words(place: Path) -> str:
    """The last line a target wrote to stderr, for the remark why it is not there."""
    lines = (place / "stderr").read_text(errors="replace").strip().splitlines()
    return lines[-1].strip().removeprefix(f"{sys.executable}: ")[:160] if lines else "it said nothing"


def can_trace() -> bool:
    """Whether strace is installed and may be used."""
    if not shutil.which("strace"):
        return False
    probe = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "true"]
    return subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def sync_calls(path: Path) -> int:
    """Calls of fsync and fdatasync strace has written down so far."""
    with path.open(errors="replace") as lines:
        return sum("sync(" in line for line in lines)


def children(pid: int) -> Iterator[int]:
    """The processes whose parent is `pid`."""
    for listing in (PROC / str(pid) / "task").glob("*/children"):
        try:
            yield from map(int, listing.read_text().split())
        except OSError:
            continue


def family(pid: int) -> list[int]:
    """A process, its children, their children."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def cpu_seconds(pid: int) -> float | None:
    """Processor time used so far, in user and kernel mode."""
    ticks = [count for member in family(pid) if (count := _ticks(member)) is not None]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def memory_now(pid: int) -> int | None:
    """Bytes of memory in use: resident for one process, proportional shares summed for several."""
    members = family(pid)
    if len(members) == 1:
        return _field(PROC / str(pid) / "status", "VmRSS:")
    shares = [_field(PROC / str(member) / "smaps_rollup", "Pss:") for member in members]
    return sum(share or 0 for share in shares) or None


def memory_peak(pid: int) -> int | None:
    """The most memory one process ever had resident; for several, their proportional shares now."""
    if len(family(pid)) > 1:
        return memory_now(pid)
    return _field(PROC / str(pid) / "status", "VmHWM:")


class Meter:
    """Tells afterwards how much of the machine others have used, which is how far a run can be trusted."""

    def __init__(self) -> None:
        self.busy, self.total = _machine_ticks()
        self.own = _own_ticks()

    def others(self) -> float | None:
        """Share of all processor time since then that neither we nor what we started and ended have used."""
        busy, total = _machine_ticks()
        if total <= self.total:
            return None
        return max(0.0, busy - self.busy - (_own_ticks() - self.own)) / (total - self.total)


def _machine_ticks() -> tuple[float, float]:
    try:
        ticks = [int(word) for word in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0, 0.0
    return float(sum(ticks) - ticks[3] - ticks[4]), float(sum(ticks))  # the fourth is idle, the fifth waits for disks


def _own_ticks() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used) * os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name in parentheses may contain blanks; utime and stime are fields 14 and 15 (proc(5)).
    return sum(map(int, stat[stat.rfind(")") + 2 :].split()[11:13]))


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
