"""Carries out a plan: one fresh target process and database for each measurement.

Repeats are the outermost loop, so that whatever else the machine does falls on all targets alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep

from bench import processes, targets
from bench.load import LoadOrder, LoadResult
from bench.phone import PhoneOrder, PhoneResult
from bench.plan import Case, Plan, StoreCase
from bench.processes import Running, Unavailable
from bench.targets import LITE, Target

Say = Callable[[str], None]
_CLEANED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one target."""

    result: LoadResult | PhoneResult
    cpu_us: float | None
    """Processor time of the target for each message answered or delivered, in microseconds."""
    idle_bytes: int | None
    peak_bytes: int | None
    rows: int | None
    """Rows in the silo afterwards."""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a target costs beside its speed."""

    idle_bytes: int | None
    idle_cpu: float | None
    """Share of one processor while nothing happens."""
    syncs: dict[int, float] = field(default_factory=dict)
    """fsync and fdatasync calls for each stored message, by messages outstanding."""


@dataclass(slots=True)
class Run:
    """All that was measured."""

    plan: Plan
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    """By case and target."""
    upkeep: dict[str, Upkeep] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Targets that could not be started, and why."""
    others: float | None = None
    """Share of all processor time that went to processes which are not ours."""
    notes: list[str] = field(default_factory=list)


def steps(plan: Plan) -> int:
    """How many measurements a plan asks for."""
    return plan.repeat * sum(len(case.targets) for case in plan.cases) + len(plan.upkeep)


def carry_out(plan: Plan, say: Say) -> Run:
    """Measure everything; `say` hears one line after each step."""
    run = Run(plan)
    start = processes.Meter()
    for _ in range(plan.repeat):
        for case in plan.cases:
            for target in case.targets:
                say(_attempt(run, case, target))
    traced = bool(plan.upkeep) and processes.can_trace()
    if plan.upkeep and not traced:
        run.notes.append("strace is missing or forbidden: syncs not counted")
    for target in plan.upkeep:
        if target.key not in run.missing:
            _attempt_upkeep(run, target, traced)
        say(f"idle and syncs: {target.title}")
    run.others = start.others()
    return run


def _attempt(run: Run, case: Case, target: Target) -> str:
    what = f"{case.title}: {target.title}"
    if target.key in run.missing:
        return f"{what}: left out"
    try:
        sample = measure(run.plan, case, target)
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


def measure(plan: Plan, case: Case, target: Target) -> Sample:
    """One measurement on a fresh target."""
    return _store(plan, case, target) if isinstance(case, StoreCase) else _replay(plan, case.users, case.each, target)


def _store(plan: Plan, case: StoreCase, target: Target) -> Sample:
    with _fresh(target) as running:
        idle, before = processes.memory_now(running.pid), processes.cpu_seconds(running.pid)
        result = load(LoadOrder(running.port, case.count(target), case.outstanding, case.users, plan.limit))
        cpu = _cpu_us(running, before, result.accepted + sum(result.refused.values()))
        peak = processes.memory_peak(running.pid)
        rows = targets.rows_waiting(running.database) if running.database else None
        return Sample(result, cpu, idle, peak, rows, running.stop())


def _replay(plan: Plan, users: int, each: int, target: Target) -> Sample:
    phone = processes.tool("bench.phone")
    try:
        with _fresh(target, phone_port(phone)) as running:
            idle = processes.memory_now(running.pid)
            expect = users * each
            if running.database:
                # One at a time fills the original without refusals and in order; for us it makes no difference.
                expect = load(LoadOrder(running.port, expect, 16 if target == LITE else 1, users, plan.limit)).accepted
            before = processes.cpu_seconds(running.pid)
            order = PhoneOrder(running.port, users, expect, plan.patience)
            out, _ = phone.communicate(json.dumps(asdict(order)) + "\n", timeout=plan.limit + plan.patience * 20)
            result = PhoneResult(**json.loads(out))
            cpu = _cpu_us(running, before, result.delivered)
            peak = processes.memory_peak(running.pid)
            return Sample(result, cpu, idle, peak, _rows_left(target, running), running.stop())
    finally:
        if phone.poll() is None:
            phone.kill()
        phone.wait()


def _rows_left(target: Target, running: Running) -> int | None:
    """Rows that stay after all is delivered. The original removes them a minute later, so it is not asked."""
    database = running.database
    if target != LITE or database is None:
        return None
    processes.until(lambda: targets.rows_waiting(database) == 0, _CLEANED_SECONDS)
    return targets.rows_waiting(database)


def weigh(plan: Plan, target: Target, traced: bool) -> Upkeep:
    """What a target takes while idle, and how often it syncs."""
    with _fresh(target) as running:
        before, start = processes.cpu_seconds(running.pid), monotonic()
        sleep(plan.idle_seconds)
        after, idle = processes.cpu_seconds(running.pid), processes.memory_now(running.pid)
        share = None if before is None or after is None else (after - before) / (monotonic() - start)
    syncs = {n: _syncs(plan, target, n) for n in (1, 16)} if traced else {}
    return Upkeep(idle, share, {n: rate for n, rate in syncs.items() if rate is not None})


def _syncs(plan: Plan, target: Target, outstanding: int) -> float | None:
    """Sync calls for each stored message."""
    with _fresh(target, trace=True) as running:
        if not running.syncs:
            return None
        before = processes.sync_calls(running.syncs)
        result = load(LoadOrder(running.port, plan.sync_messages, outstanding, 100, plan.limit))
        calls = processes.sync_calls(running.syncs) - before
        return calls / result.accepted if result.accepted else None


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


@contextmanager
def _fresh(target: Target, phone: int = 9, trace: bool = False) -> Iterator[Running]:
    """A target on a new database; port 9 (discard) stands for a phone nobody will call."""
    with tempfile.TemporaryDirectory(prefix="msilo-bench-", dir=disk()) as place:
        running = target.start(Path(place), phone, trace)
        try:
            yield running
        finally:
            running.stop()


def disk() -> str:
    """Where databases go: /var/tmp, since /tmp may be in memory, where a sync costs nothing."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


def _cpu_us(running: Running, before: float | None, messages: int) -> float | None:
    after = processes.cpu_seconds(running.pid)
    if before is None or after is None or not messages:
        return None
    return (after - before) / messages * 1e6
