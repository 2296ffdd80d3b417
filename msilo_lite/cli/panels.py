"""The pictures of `status` and `top`, for terminals of 80 columns and more: records in, rich renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..box.holds import HELD
from .views import clean, counted

Record = Mapping[str, Any]
ROWS = 5
"Rows of each list in `status`."
RINGS = (
    ("last_wakeups", "Last wake-ups", "green"),
    ("last_attempts", "Last attempts that failed", "yellow"),
    ("last_refusals", "Last refusals", "yellow"),
    ("last_errors", "Last warnings and errors", "red"),
)
RATES = (
    ("stored", ("stored_messages",)),
    ("delivered", ("dumped_messages", "dumped_reminders")),
    ("failed", ("failed_messages", "failed_reminders")),
    ("wake-ups", ("wakeups",)),
)
"What `top` shows a second, and the counters it is made of."
SHOWN_COUNTERS = (
    ("stored", ("stored_messages",)),
    ("delivered", ("dumped_messages", "dumped_reminders")),
    ("failed attempts", ("failed_messages", "failed_reminders")),
    ("expired", ("expired_messages",)),
    ("repeats", ("duplicate_messages",)),
    ("wake-ups", ("wakeups",)),
)


def size(number: int) -> str:
    """Bytes for a person: 96 kB, 1.2 GB."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= one:
            return f"{number / one:.1f} {unit}" if number < 10 * one else f"{number // one} {unit}"
    return f"{number} bytes"


def total(counters: Mapping[str, int], names: Iterable[str]) -> int:
    """The sum of some counters."""
    return sum(counters.get(name, 0) for name in names)


def picture(record: Record, rates: Mapping[str, float] | None = None, rows: int = ROWS) -> RenderableType:
    """Everything; `rates`: what happened a second, for `top`; `rows` of each list at the most."""
    parts: list[RenderableType] = [_title(record), _facts(record, rates)]
    parts += _waiting(record, rows)
    for key, title, colour in RINGS:
        if record[key]:
            parts += [Text(""), Text(title, style="bold"), _ring(record[key][:rows], colour)]
    return Group(*parts)


def _title(record: Record) -> Text:
    up = record["daemon"] == "running"
    title = Text.assemble(("msilo-lite", "bold"), f" {record['version']}  " if up else "  ")
    if up:
        title.append("running", style="bold green")
        title.append(f" since {str(record['since']).replace('T', ' ')}, process {record['pid']}")
    else:
        title.append("not running", style="bold red")
        title.append("; start `msilo-lite serve`")
    return title


def _grid(*columns: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    for one in columns:
        table.add_column(**{"overflow": "fold", **one})
    return table


def _facts(record: Record, rates: Mapping[str, float] | None) -> Table:
    table = _grid({"style": "cyan", "no_wrap": True}, {"ratio": 1})
    for name, words, style in _lines(record, rates):
        if words:
            table.add_row(name, Text(clean(words), style=style))
    return table


def _lines(record: Record, rates: Mapping[str, float] | None) -> list[tuple[str, str, str]]:
    """Name, words and style of each fact; the ones without words are left out."""
    counters = record["counters"]
    up = record["daemon"] == "running"
    straight = "straight to the Contact that registered last" if up else ""
    disk = f"{record['file']}: {size(record['database_bytes'])} + {size(record['wal_bytes'])} log"
    return [
        ("alarm", record.get("alarm") or "", "bold red"),
        ("configuration", record.get("configuration") or "", "bold yellow"),
        ("held", ", ".join(f"{_held(one)} for {one['for']}" for one in record["holds"]), "bold magenta"),
        ("listens on", ", ".join([*record.get("listening", []), *filter(None, [record.get("http")])]), ""),
        ("connections", _some(record.get("streams") or {}, " "), ""),
        ("trusts", ", ".join(record.get("trusted", [])), ""),
        ("way out", record.get("outbound_proxy") or straight, ""),
        ("extension", record.get("extension") or "", ""),
        ("watched", _some(record.get("watched") or {}, ": "), ""),
        ("registered", _some(record["registered"], " ", record["registered_users"]), ""),
        ("disk", f"{disk}, {size(record['free_bytes'])} free", ""),
        ("a second", "  ".join(f"{name} {rate:.1f}" for name, rate in rates.items()) if rates else "", "bold"),
        ("counted", "  ".join(f"{name} {total(counters, names)}" for name, names in SHOWN_COUNTERS), ""),
    ]


def _held(one: Record) -> str:
    return {"all": "all mail", "peer": f"mail through {one['name']}", "user": f"mail for {one['name']}"}[one["kind"]]


def _some(named: Mapping[str, Any], between: str, number: int = 0) -> str:
    """The first of many."""
    shown = [f"{name}{between}{value}" for name, value in list(named.items())[:ROWS]]
    left = max(number, len(named)) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def _waiting(record: Record, rows: int) -> list[RenderableType]:
    number, users = record["waiting"], record["waiting_users"]
    if not number:
        return [Text(""), Text("Nothing waits", style="bold")]
    words = f"{counted(number)} for {counted(users, 'user')}, the oldest {record['oldest']} old"
    table = _grid(
        {"no_wrap": True, "max_width": 32}, {"justify": "right", "no_wrap": True}, {"ratio": 1, "style": "dim"}
    )
    held = {one["name"] for one in record["holds"] if one["kind"] == "user"}
    for who, waits in list(record["waiting_for"].items())[:rows]:
        why = HELD if who in held else record["troubled"].get(who, "")
        table.add_row(Text(clean(who)), str(waits), Text(clean(why)))
    parts: list[RenderableType] = [Text(""), Text.assemble(("Waiting", "bold"), f"  {words}"), table]
    left = users - min(rows, len(record["waiting_for"]))
    return [*parts, Text(f"… and {left} more", style="dim")] if left > 0 else parts


def _ring(entries: Sequence[Record], colour: str) -> Table:
    table = _grid(
        {"justify": "right", "no_wrap": True, "style": "dim"}, {"no_wrap": True, "style": colour}, {"ratio": 1}
    )
    for one in entries:
        subject, words = said(one)
        table.add_row(f"{one['age']} ago", clean(subject), Text(clean(words)))
    return table


def said(one: Record) -> tuple[str, str]:
    """What an entry is about, and the rest of it, in words."""
    if one["event"] == "woken":
        return one["to"], f"by {one['by']}"
    if one["event"] == "refused":
        return one["peer"], f"{one['code']} {one['reason']}"
    if "to" in one:
        tries = f"attempt {one['attempts']}: " if one.get("attempts") else ""
        return one["to"], f"{tries}{one.get('reason') or one['event']}"
    return one["event"], one["words"]


def flat(record: Record) -> dict[str, Any]:
    """The record for a pipe: one line each, lists of events as text."""
    known = {key for key, _, _ in RINGS}
    lines = {key: value for key, value in record.items() if key not in known and key != "holds"}
    lines["holds"] = [_held(one) for one in record["holds"]]
    for key in known:
        lines[key] = [" ".join((f"{one['age']} ago", *said(one))) for one in record[key]]
    return lines
