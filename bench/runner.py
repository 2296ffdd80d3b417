"""Carries out a plan: one fresh target process and database for each measurement.

Repeats are the outermost loop, so that whatever else the machine does falls on all targets alike.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep

from bench import processes, targets
from bench.load import LoadOrder, LoadResult
from bench.phone import PhoneOrder, PhoneResult
from bench.plan import Case, Plan, RateCase, RegisterCase, ReplayCase, StoreCase
from bench.processes import Running, Setting, Unavailable
from bench.targets import LITE, NULL, OURS, Target

Say = Callable[[str], None]
_CLEANED_SECONDS = 5.0
_HIGHEST = 60_000.0
"""Messages a second beyond which no rate is tried."""
_CLOSER = 3
"""Steps between the highest rate that went well and the lowest that did not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one target."""

    result: LoadResult | PhoneResult
    cpu_us: float | None
    """Processor time of the target for each message answered or delivered, in microseconds."""
    idle_bytes: int | None
    peak_bytes: int | None
    rows: int | None
    """Rows in the silo afterwards, but for those that were there before."""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a target costs beside its speed."""

    idle_bytes: int | None
    idle_cpu: float | None
    """Share of one processor while nothing happens."""
    start_seconds: float
    """From its start to its first answer, or to its line that says ready."""
    syncs: dict[int, float] = field(default_factory=dict)
    """fsync and fdatasync calls for each stored message, by messages outstanding."""


@dataclass(slots=True)
class Run:
    """All that was measured."""

    plan: Plan
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    """By case and target."""
    upkeep: dict[str, Upkeep] = field(default_factory=dict)
    commands: dict[str, float] = field(default_factory=dict)
    """Seconds that commands of msilo-lite take."""
    missing: dict[str, str] = field(default_factory=dict)
    """Targets that could not be started, and why."""
    others: float | None = None
    """Share of all processor time that went to processes which are not ours."""
    notes: list[str] = field(default_factory=list)


def steps(plan: Plan) -> int:
    """How many measurements a plan asks for."""
    often = plan.repeat * sum(len(case.targets) for case in plan.cases)
    return often + sum(len(case.targets) for case in plan.once) + len(plan.upkeep) + bool(plan.listed)


def carry_out(plan: Plan, say: Say) -> Run:
    """Measure everything; `say` hears one line after each step."""
    run = Run(plan)
    start = processes.Meter()
    with _boxes() as boxes:
        for cases in (*[plan.cases] * plan.repeat, plan.once):
            for case in cases:
                for target in case.targets:
                    say(_attempt(run, case, target, boxes))
        if plan.listed:
            run.commands = time_commands(plan.listed, boxes)
            say("commands")
    traced = bool(plan.upkeep) and processes.can_trace()
    if plan.upkeep and not traced:
        run.notes.append("strace is missing or forbidden: syncs not counted")
    for target in plan.upkeep:
        if target.key not in run.missing:
            _attempt_upkeep(run, target, traced)
        say(f"idle, start and syncs: {target.title}")
    run.others = start.others()
    return run


def _attempt(run: Run, case: Case, target: Target, boxes: Boxes) -> str:
    what = f"{case.title}: {target.title}"
    if target.key in run.missing:
        return f"{what}: left out"
    try:
        sample = measure(run.plan, case, target, boxes)
    except Unavailable as reason:
        run.missing[target.key] = str(reason)
        return f"{what}: {reason}"
    run.samples.setdefault((case.key, target.key), []).append(sample)
    return f"{what}: {sample.result.rate:,.0f}/s"


def _attempt_upkeep(run: Run, target: Target, traced: bool) -> None:
    try:
        run.upkeep[target.key] = weigh(run.plan, target, traced)
    except Unavailable as reason:
        run.missing[target.key] = str(reason)


def measure(plan: Plan, case: Case, target: Target, boxes: Boxes) -> Sample:
    """One measurement on a fresh target."""
    if isinstance(case, ReplayCase):
        return _replay(plan, case, target, boxes)
    if isinstance(case, RateCase) and not case.rate:
        return _highest(case, target)
    order = _order(plan, case, target)
    return _load(order, target, case.waiting if isinstance(case, StoreCase) else 0, _slow(case), boxes)


def _slow(case: Case) -> int:
    return case.slow_ms if isinstance(case, StoreCase | RateCase) else 0


def _order(plan: Plan, case: Case, target: Target) -> LoadOrder:
    """What the load generator does; the port is filled in later."""
    if isinstance(case, StoreCase):
        return LoadOrder(0, case.count(target), case.outstanding, case.users, plan.limit)
    if isinstance(case, RegisterCase):
        return LoadOrder(0, case.count, case.outstanding, case.users, plan.limit, method="REGISTER")
    assert isinstance(case, RateCase)
    return LoadOrder(0, max(2, round(case.rate * case.seconds)), 0, 100, plan.limit, rate=case.rate)


def _load(order: LoadOrder, target: Target, waiting: int, slow_ms: int, boxes: Boxes | None) -> Sample:
    box = boxes.of(target, waiting) if boxes and waiting else None
    with _fresh(target, slow_ms=slow_ms, box=box) as running:
        idle, before = processes.memory_now(running.pid), processes.cpu_seconds(running.pid)
        result = load(at_port(order, running.port))
        cpu = _cpu_us(running, before, result.accepted + sum(result.refused.values()))
        peak = processes.memory_peak(running.pid)
        rows = None
        if running.database and order.method == "MESSAGE":
            rows = targets.rows_waiting(running.database) - waiting
        return Sample(result, cpu, idle, peak, rows, running.stop())


def _highest(case: RateCase, target: Target) -> Sample:
    """The highest rate at which nothing is refused and nothing has to be sent twice, by trying."""

    def attempt(rate: float) -> Sample | None:
        order = LoadOrder(0, max(4, round(rate * case.seconds)), 0, 100, case.seconds + 5, rate=rate)
        sample = _load(order, target, 0, 0, None)
        result = sample.result
        assert isinstance(result, LoadResult)
        return None if result.refused or result.resent or result.unanswered else sample

    rate, best, good, bad = 2000.0, None, 0.0, 0.0
    while not (good and bad):
        sample = attempt(rate)
        good, bad, best = (rate, bad, sample) if sample else (good, rate, best)
        rate = rate * 2 if sample else rate / 4
        if rate > _HIGHEST or rate < 1:
            break
    for _ in range(_CLOSER if good and bad else 0):
        rate = (good * bad) ** 0.5
        sample = attempt(rate)
        good, bad, best = (rate, bad, sample) if sample else (good, rate, best)
    return best or Sample(LoadResult(0, 0, 0.0), None, None, None, None)


def _replay(plan: Plan, case: ReplayCase, target: Target, boxes: Boxes) -> Sample:
    phone = processes.tool("bench.phone")
    try:
        box = None if target.key == NULL.key else boxes.of(target, case.waiting, case.users, case.each)
        with _fresh(target, phone_port(phone), box=box) as running:
            idle = processes.memory_now(running.pid)
            before = processes.cpu_seconds(running.pid)
            order = PhoneOrder(running.port, case.users, case.users * case.each, plan.patience)
            out, _ = phone.communicate(json.dumps(asdict(order)) + "\n", timeout=plan.limit + plan.patience * 20)
            result = PhoneResult(**json.loads(out))
            cpu = _cpu_us(running, before, result.delivered)
            peak = processes.memory_peak(running.pid)
            return Sample(result, cpu, idle, peak, _rows_left(target, running, case.waiting), running.stop())
    finally:
        if phone.poll() is None:
            phone.kill()
        phone.wait()


def _rows_left(target: Target, running: Running, waiting: int) -> int | None:
    """Rows that stay after all is delivered. The original removes them a minute later, so it is not asked."""
    database = running.database
    if target not in OURS or database is None:
        return None
    processes.until(lambda: targets.rows_waiting(database) == waiting, _CLEANED_SECONDS)
    return targets.rows_waiting(database) - waiting


def weigh(plan: Plan, target: Target, traced: bool) -> Upkeep:
    """What a target takes while idle, and how often it syncs."""
    launched = monotonic()
    with _fresh(target) as running:
        started = monotonic() - launched
        before, start = processes.cpu_seconds(running.pid), monotonic()
        sleep(plan.idle_seconds)
        after, idle = processes.cpu_seconds(running.pid), processes.memory_now(running.pid)
        share = None if before is None or after is None else (after - before) / (monotonic() - start)
    syncs = {n: _syncs(plan, target, n) for n in (1, 16, 64)} if traced else {}
    return Upkeep(idle, share, started, {n: rate for n, rate in syncs.items() if rate is not None})


def _syncs(plan: Plan, target: Target, outstanding: int) -> float | None:
    """Sync calls for each stored message."""
    with _fresh(target, trace=True) as running:
        if not running.syncs:
            return None
        before = processes.sync_calls(running.syncs)
        result = load(LoadOrder(running.port, plan.sync_messages, outstanding, 100, plan.limit))
        calls = processes.sync_calls(running.syncs) - before
        return calls / result.accepted if result.accepted else None


def time_commands(rows: int, boxes: Boxes) -> dict[str, float]:
    """Seconds that commands take from start to end, `list` over so many rows."""
    url = f"sqlite:///{boxes.of(LITE, rows)}"
    commands = {
        "--help": ["--help"],
        f"list, {rows:,} rows": ["list", "--db-url", url],
        f"list --json, {rows:,} rows": ["list", "--json", "--db-url", url],
    }
    return {name: _seconds(words) for name, words in commands.items()}


def _seconds(words: list[str]) -> float:
    """The better of two runs, the first of which may find nothing in the caches."""
    command = [sys.executable, "-m", "msilo_lite", *words]
    taken = []
    for _ in range(2):
        start = monotonic()
        subprocess.run(command, cwd=processes.ROOT, stdout=subprocess.DEVNULL, env=processes.environment(), check=True)
        taken.append(monotonic() - start)
    return min(taken)


def at_port(order: LoadOrder, port: int) -> LoadOrder:
    """The same order for a target that has been started."""
    return LoadOrder(**{**asdict(order), "port": port})


def load(order: LoadOrder) -> LoadResult:
    """Let the load generator carry out an order."""
    generator = processes.tool("bench.load", json.dumps(asdict(order)))
    try:
        out, _ = generator.communicate(timeout=order.limit + 60)
    except subprocess.TimeoutExpired:
        generator.kill()
        raise
    return LoadResult(**json.loads(out))


def phone_port(phone: subprocess.Popen[str]) -> int:
    """The first line the phone writes."""
    if phone.stdout is None:
        raise ValueError("the phone was started without a pipe")
    return int(phone.stdout.readline())


@dataclass(slots=True)
class Boxes:
    """Filled databases, each made once a run."""

    place: Path
    made: dict[tuple[str, int, int, int], Path] = field(default_factory=dict)

    def of(self, target: Target, waiting: int, users: int = 0, each: int = 0) -> Path:
        """A file with `waiting` rows of others, and so many for each of so many users; not to be written to."""
        key = target.key, waiting, users, each
        if key not in self.made:
            base = self.of(target, waiting) if waiting and users else None
            file = self.place / f"{len(self.made)}.sqlite"
            if base:
                shutil.copyfile(base, file)
                target.fill(file, users, each, 0)
            else:
                target.fill(file, users, each, waiting)
            self.made[key] = file
        return self.made[key]


@contextmanager
def _boxes() -> Iterator[Boxes]:
    with tempfile.TemporaryDirectory(prefix="msilo-bench-", dir=disk()) as place:
        yield Boxes(Path(place))


@contextmanager
def _fresh(
    target: Target, phone: int = 9, *, trace: bool = False, slow_ms: int = 0, box: Path | None = None
) -> Iterator[Running]:
    """A target on a new database, or on a copy of `box`; port 9 (discard) stands for a phone nobody will call."""
    with tempfile.TemporaryDirectory(prefix="msilo-bench-", dir=disk()) as place:
        setting = Setting(Path(place), phone, trace, slow_ms)
        if box:
            _copy(box, setting.database)
        running = target.start(setting)
        try:
            yield running
        finally:
            running.stop()


def _copy(box: Path, file: Path) -> None:
    """What has waited for an hour is on the disk, and no sync of the target's has to write it."""
    shutil.copyfile(box, file)
    with file.open("rb+") as copy:
        os.fsync(copy.fileno())


def disk() -> str:
    """Where databases go: /var/tmp, since /tmp may be in memory, where a sync costs nothing."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


def _cpu_us(running: Running, before: float | None, messages: int) -> float | None:
    after = processes.cpu_seconds(running.pid)
    if before is None or after is None or not messages:
        return None
    return (after - before) / messages * 1e6
