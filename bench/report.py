"""What was measured, as one table for people and one JSON document for programs.

Rates and times are medians of the repeats; whatever went wrong (lost, disordered, duplicate) is the worst of them.
"""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import median

from rich import box
from rich.table import Table

from bench.load import LoadResult
from bench.phone import PhoneResult
from bench.plan import Case, ReplayCase, StoreCase
from bench.runner import Run, Sample, disk
from bench.targets import LITE, NULL, ORDERED, OURS, SHIPPED, STRAIGHT, TUNED, Target

NONE = "-"
NEAR_CEILING = 0.7
CAPTION = (
    "/shipped /best /ordered: how many times the rate of Kamailio's msilo in the same case of this run, as shipped, in "
    "its best way (store: WAL and lock; replay: straight to the phone, without a lookup), in its most ordered way (one "
    "child). ±: half the spread of the repeats. ms, to ms: store p50 and p99 from sending to 202; replay from REGISTER "
    "to first and to last delivered. CPU: the target's processor time for each message, refused ones too. The null "
    "responder shows the most that load generator and phone can do here (replay: one in flight for each user)."
)
HEADINGS = ("msg/s", "±", "/shipped", "/best", "/ordered", "ms", "to ms", "refused", "resent", "CPU µs")


def rate(samples: list[Sample]) -> float:
    """Median messages in a second: accepted or delivered."""
    return median(sample.result.rate for sample in samples)


def ratio(run: Run, case: Case, target: Target, base: Target) -> float | None:
    """How many times faster than `base` in the same case."""
    ours, theirs = run.samples.get((case.key, target.key)), run.samples.get((case.key, base.key))
    if not ours or not theirs or not rate(theirs) or target == base:
        return None
    return rate(ours) / rate(theirs)


def ratios(run: Run, case: Case, target: Target) -> dict[str, float | None]:
    """How a target compares with the settings of the original."""
    best = STRAIGHT if isinstance(case, ReplayCase) else TUNED
    bases = {"shipped": SHIPPED, "best": best, "ordered": ORDERED}
    return {name: ratio(run, case, target, base) for name, base in bases.items()}


def table(run: Run) -> Table:
    """Everything: a section for each case, a line in it for each target."""
    view = Table(
        title="msilo-lite beside the original", caption=CAPTION, caption_justify="left", box=box.SIMPLE_HEAD, padding=0
    )
    view.add_column("", no_wrap=True)
    for heading in HEADINGS:
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("remarks", min_width=34)
    for case in (*run.plan.cases, *run.plan.once):
        view.add_row(case.title, style="italic")
        for target in case.targets:
            view.add_row(f"  {target.title}", *_cells(run, case, target), style=_style(target))
        view.add_section()
    if run.plan.upkeep:
        view.add_row("beside", style="italic")
    for target in run.plan.upkeep:
        view.add_row(f"  {target.title}", *[""] * len(HEADINGS), upkeep_text(run, target), style=_style(target))
    if run.commands:
        view.add_row("  commands", *[""] * len(HEADINGS), commands_text(run), style=_style(LITE))
    return view


def _style(target: Target) -> str:
    return "bold" if target in OURS else "dim" if target.key == NULL.key else ""


def _cells(run: Run, case: Case, target: Target) -> list[str]:
    samples = run.samples.get((case.key, target.key))
    if not samples:
        return [*[NONE] * len(HEADINGS), "not available" if target.key in run.missing else "not measured"]
    if not rate(samples):
        found = "none delivered" if isinstance(case, ReplayCase) else "none without a refusal or a repeat"
        return ["0", *[NONE] * (len(HEADINGS) - 1), found]
    return [
        f"{rate(samples):,.0f}",
        _spread(samples),
        *map(_times, ratios(run, case, target).values()),
        *_milliseconds(samples),
        _refused(samples),
        f"{_median(samples, lambda sample: sample.result.resent):,.0f}",
        _optional(_median(samples, lambda sample: sample.cpu_us), "{:,.0f}"),
        remarks(run, case, target, samples),
    ]


def _spread(samples: list[Sample]) -> str:
    rates = [sample.result.rate for sample in samples]
    middle = rate(samples)
    return f"{(max(rates) - min(rates)) / 2 / middle:.0%}" if len(rates) > 1 and middle else NONE


def _times(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _milliseconds(samples: list[Sample]) -> tuple[str, str]:
    pairs = [_pair(sample.result) for sample in samples]
    return f"{median(low for low, _ in pairs) * 1000:,.1f}", f"{median(high for _, high in pairs) * 1000:,.1f}"


def _pair(result: LoadResult | PhoneResult) -> tuple[float, float]:
    return (result.p50, result.p99) if isinstance(result, LoadResult) else (result.first, result.last)


def _refused(samples: list[Sample]) -> str:
    shares = [sum(r.refused.values()) / r.sent for s in samples if isinstance(r := s.result, LoadResult)]
    if not shares:
        return ""
    share = median(shares) * 100
    return "0" if not any(shares) else f"{share:.1f} %" if share < 10 else f"{share:.0f} %"


def remarks(run: Run, case: Case, target: Target, samples: list[Sample]) -> str:
    """What a reader must know about a line, worst of the repeats."""
    found = _replay_remarks(samples) if isinstance(case, ReplayCase) else _store_remarks(samples)
    if target in OURS and (codes := {sample.exit_code for sample in samples} - {0}):
        found.append(f"exit code {min(codes)}")
    if (alone := _without_rows(run, case, target)) is not None:
        found.append(f"{alone:.0%} of the rate without them")
    ceiling = ratio(run, case, target, case.targets[0]) if target in OURS and case.targets[0].key == NULL.key else None
    if ceiling and ceiling > NEAR_CEILING:
        found.append(f"{ceiling * 100:.0f} % of the null responder")
    return ", ".join(found)


def _without_rows(run: Run, case: Case, target: Target) -> float | None:
    """A rate as a share of that of the same case on an empty box."""
    if not isinstance(case, StoreCase | ReplayCase) or not case.waiting:
        return None
    empty, full = (run.samples.get((key, target.key)) for key in (replace(case, waiting=0).key, case.key))
    return rate(full) / rate(empty) if empty and full and rate(empty) else None


def _store_remarks(samples: list[Sample]) -> list[str]:
    results = [(sample, sample.result) for sample in samples if isinstance(sample.result, LoadResult)]
    lost = [result.accepted - sample.rows for sample, result in results if sample.rows is not None]
    counted = {
        "accepted but not in the table": max(lost, default=0),
        "rows too many": -min(lost, default=0),
        "unanswered": max(result.unanswered for _, result in results),
    }
    found = [f"{count:,} {what}" for what, count in counted.items() if count > 0]
    return [*found, *(["ended during the run"] if any(result.gone for _, result in results) else [])]


def _replay_remarks(samples: list[Sample]) -> list[str]:
    results = [sample.result for sample in samples if isinstance(sample.result, PhoneResult)]
    counted = {
        "missing": max(result.missing for result in results),
        "out of order": max(result.disordered for result in results),
        "duplicate": max(result.duplicates for result in results),
        "to somebody else": max(result.strays for result in results),
        "rows left": max(sample.rows or 0 for sample in samples),
    }
    return [f"{count:,} {what}" for what, count in counted.items() if count] or ["all in order"]


def upkeep_text(run: Run, target: Target) -> str:
    """Memory, idle processor time and syncs of a target in a few words."""
    upkeep = run.upkeep.get(target.key)
    if not upkeep:
        return "not available" if target.key in run.missing else "not measured"
    parts = [
        f"idle {_megabytes(upkeep.idle_bytes)}",
        f"at most {_megabytes(peak(run, target))}",
        f"{_optional(upkeep.idle_cpu, '{:.1%}')} CPU idle",
        f"ready after {upkeep.start_seconds:.2f} s",
        *(f"{syncs:.2f} syncs a message at {outstanding}" for outstanding, syncs in upkeep.syncs.items()),
    ]
    return ", ".join(parts)


def commands_text(run: Run) -> str:
    """How long commands take."""
    return ", ".join(f"{name}: {seconds:.2f} s" for name, seconds in run.commands.items())


def peak(run: Run, target: Target) -> int | None:
    """The most memory a target held in any of its measurements."""
    lists = [samples for (_, key), samples in run.samples.items() if key == target.key]
    return max((sample.peak_bytes or 0 for samples in lists for sample in samples), default=None) or None


def markdown(run: Run) -> str:
    """The table for a page: the same lines, fewer columns."""
    lines = [
        "| | msg/s | times shipped | times best | times ordered | ms | to ms | refused | CPU µs | remarks |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for case in (*run.plan.cases, *run.plan.once):
        lines.append(f"| **{case.title}** | | | | | | | | | |")
        for target in case.targets:
            cells = _cells(run, case, target)
            shown = [cells[0], *cells[2:8], cells[9], cells[10]]
            lines.append(f"| {target.title} | " + " | ".join(shown) + " |")
    lines.append("")
    lines += [f"- {target.title}: {upkeep_text(run, target)}" for target in run.plan.upkeep]
    lines += [f"- Commands: {commands_text(run)}"] if run.commands else []
    lines += [f"- {line}" for line in footnotes(run)]
    return "\n".join(lines) + "\n"


def document(run: Run) -> dict[str, object]:
    """Everything as JSON: medians, ratios, and each single measurement."""
    return {
        "machine": machine(),
        "repeat": run.plan.repeat,
        "cases": {case.key: _case_document(run, case) for case in (*run.plan.cases, *run.plan.once)},
        "commands": run.commands,
        "upkeep": {
            key: asdict(upkeep) | {"peak_bytes": peak(run, target)}
            for target in run.plan.upkeep
            if (upkeep := run.upkeep.get(key := target.key))
        },
        "others_share": run.others,
        "missing": run.missing,
        "notes": run.notes,
    }


def _case_document(run: Run, case: Case) -> dict[str, object]:
    return {
        target.key: {
            "rate": rate(samples),
            "ratio_to": ratios(run, case, target),
            "remarks": remarks(run, case, target, samples),
            "samples": [asdict(sample) for sample in samples],
        }
        for target in case.targets
        if (samples := run.samples.get((case.key, target.key)))
    }


def machine() -> dict[str, object]:
    """Where this was measured."""
    return {
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "databases": disk(),
    }


def footnotes(run: Run) -> list[str]:
    """Lines below the table: what is not in it and why, and where and how quietly this was measured."""
    here = machine()
    titles = {target.key: target.title for case in (*run.plan.cases, *run.plan.once) for target in case.targets}
    lines = [f"{titles.get(key, key)}: {reason}" for key, reason in run.missing.items()]
    lines += run.notes
    lines.append(
        f"{here['system']}, {here['processors']} processors, Python {here['python']}, SQLite {here['sqlite']}, "
        f"databases in {here['databases']}"
    )
    if run.others is not None:
        lines.append(f"Other processes of this machine used {run.others:.0%} of its processors meanwhile.")
    return lines


def _median(samples: list[Sample], value: Callable[[Sample], float | None]) -> float | None:
    values = [number for sample in samples if (number := value(sample)) is not None]
    return median(values) if values else None


def _optional(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def _megabytes(value: int | None) -> str:
    return NONE if value is None else f"{value / 1e6:.0f} MB"
