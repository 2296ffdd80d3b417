"""Records to what a person or a program reads: rich tables on a terminal, plain lines in a pipe, JSON on request.

The only module that prints. Bodies are shown by `show` alone.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unicodedata import category
from zoneinfo import ZoneInfo

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
SHOWN = 500
"Rows a table on a terminal has at the most."
NAME_WIDTH = 24
"Characters of a name in a list; `show` has the whole."
COLUMNS = {"id": 0, "to": 0, "from": 80, "state": 70, "age": 90, "bytes": 110, "tries": 110}
"Columns of the list, and how wide a terminal must be to show them; `why` is always there."
SPEAK = 5.0
"Seconds between two lines of a long command where no terminal shows a bar."
EVENT_COLOURS = {"stored": "green", "woken": "blue", "missed": "yellow", "refused": "yellow", "error": "bold red"}
LEVELS = {"ok": "green", "warning": "yellow", "wrong": "bold red"}
COLOURS = {
    "pending": "yellow",
    "scheduled": "blue",
    "held": "bold magenta",
    "sending": "cyan",
    "parked": "magenta",
    "handed over": "cyan",
    "delivered": "green",
    "failed": "red",
    "expired": "red",
    "purged": "dim",
}


def utc(at: int | None) -> str | None:
    """UTC seconds as ISO 8601, or None."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(at: int | None) -> str:
    """UTC seconds in the reader's own time zone."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def zoned(at: int, zone: str) -> str:
    """UTC seconds in a zone by name, or in the reader's own."""
    moment = datetime.fromtimestamp(at, ZoneInfo(zone)) if zone else datetime.fromtimestamp(at).astimezone()
    return moment.strftime("%A %Y-%m-%d %H:%M:%S %Z")


def raw(text: str) -> None:
    """A text as it is, for a file or a pipe."""
    sys.stdout.write(text)


def for_pbx(title: str, fragment: str, written: list[str], config: str | None) -> None:
    """What goes into the PBX, on stderr where stdout has the configuration (no `config` file), and what to do next."""
    sys.stdout.flush()
    if not written:
        stream = sys.stderr if config is None else sys.stdout
        for part in ("", fragment, ""):
            if part:
                stream.write(part)
                stream.flush()
            elif err.is_terminal:
                err.rule(f"for the files of {escape(title)}", style="cyan")
    file = config or "FILE"
    steps = (
        f"put {', '.join(written) if written else 'the lines above'} into {title}; each headline says where",
        f"msilo-lite serve --config {file}",
        f"msilo-lite check --config {file} --loop USER    a user whose phones are all off",
    )
    for number, step in enumerate(steps, 1):
        err.print(f"[cyan]{number}.[/] {escape(step)}")


def report(findings: Iterable[tuple[str, str, str]]) -> None:
    """What `check` found: how bad, about what, in words."""
    if not out.is_terminal:
        for cells in findings:
            sys.stdout.write("\t".join(map(clean, cells)) + "\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for level, about, words in findings:
        table.add_row(f"[{LEVELS[level]}]{level}[/]", f"[bold]{escape(about)}[/]", escape(clean(words)))
    out.print(table, soft_wrap=False)


def clean(value: object) -> str:
    """Text of a stranger for a terminal or a line: control characters and bytes that are no UTF-8 as escapes."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _json(value: Any, **more: Any) -> str:
    """JSON in UTF-8; what came as bytes that are no UTF-8 stays an escape, which is JSON as well."""
    text = json.dumps(value, ensure_ascii=False, **more)
    return text.encode("utf-8", "backslashreplace").decode()


def say(text: str) -> None:
    """One sentence to the reader."""
    out.print(text, markup=False)


def counted(number: int, noun: str = "message") -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def complain(text: str) -> None:
    """One sentence on stderr."""
    err.print(f"[bold red]msilo-lite:[/] {escape(clean(text))}")


def as_json(value: Any) -> None:
    """A record, or a list of them."""
    sys.stdout.write(_json(value, indent=2) + "\n")


def json_list(records: Iterable[Mapping[str, Any]]) -> None:
    """A JSON array, written as it comes: a box of a million messages is no reason to need memory."""
    first = True
    sys.stdout.write("[")
    for record in records:
        sys.stdout.write(("\n" if first else ",\n") + _json(record))
        first = False
    sys.stdout.write("]\n" if first else "\n]\n")


def messages(records: Iterable[Mapping[str, Any]], nothing: str) -> None:
    """The list of messages."""
    if not out.is_terminal:
        for record in records:
            cells = (record["id"], record["to"], record["from"], record["state"], record["arrived"], record["why"])
            sys.stdout.write("\t".join(map(clean, cells)) + "\n")
        return
    shown = [name for name, least in COLUMNS.items() if out.width >= least]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in shown:
        right = name in ("id", "bytes", "tries")
        longest = NAME_WIDTH if name in ("to", "from") else None
        table.add_column(name, no_wrap=True, justify="right" if right else "left", max_width=longest, min_width=2)
    table.add_column("why", overflow="fold", min_width=24, ratio=1)
    rows = 0
    for record in records:
        rows += 1
        if rows <= SHOWN:
            shapes = _cells(record)
            table.add_row(*(shapes[name] for name in shown), shapes["why"])
    if rows:
        out.print(table, soft_wrap=False)
    else:
        out.print(nothing)
    if rows > SHOWN:
        out.print(f"[dim]… and {rows - SHOWN} more; `msilo-lite list --json` or a pipe shows all[/]")


def _cells(record: Mapping[str, Any]) -> dict[str, str]:
    state = str(record["state"])
    return {
        "id": str(record["id"]),
        "to": escape(_short(clean(record["to"]))),
        "from": escape(_short(clean(record["from"]))),
        "state": f"[{COLOURS[state]}]{state}[/]",
        "age": str(record["age"]),
        "bytes": str(record["size"]),
        "tries": str(record["attempts"]),
        "why": escape(clean(record["why"])),
    }


def _short(text: str) -> str:
    """Names in a list leave room for the reason."""
    return text if len(text) <= NAME_WIDTH else text[: NAME_WIDTH - 1] + "…"


def message(record: Mapping[str, Any], headers: str = "", body: bytes | None = None) -> None:
    """One message with everything that will be sent; without body where none is kept."""
    for key, value in record.items():
        if value not in (None, ""):
            _line(key, str(value))
    for line in filter(None, headers.split("\r\n")):
        _line("header", line)
    if body is None:
        return
    text = body_text(body)
    shown = text if text is not None else f"({len(body)} bytes that are no text, base64) {encoded(body)}"
    if out.is_terminal:
        out.print(Panel(Text(shown.expandtabs(), overflow="fold"), title="body", expand=False), soft_wrap=False)
    else:
        sys.stdout.write(f"\n{shown}\n")


def body_text(body: bytes) -> str | None:
    """The body as text where it is some, else None."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if any(category(c) == "Cc" and c not in "\r\n\t" for c in text) else text


def _line(name: str, value: str) -> None:
    if out.is_terminal:
        out.print(f"[bold]{name:>10}[/]  {escape(clean(value))}")
    else:
        sys.stdout.write(f"{name}: {clean(value)}\n")


def encoded(body: bytes) -> str:
    """Bytes that are no text, for JSON."""
    return base64.b64encode(body).decode()


def facts(title: str, record: Mapping[str, Any], *, exact: bool = False) -> None:
    """Names and values, nested records as further lines; `exact`: names as they are, since somebody looks for them."""
    if out.is_terminal:
        table = Table(
            box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold"
        )
        table.add_column(style="cyan")
        table.add_column(overflow="fold")
        for key, value in record.items():
            if value not in (None, "", {}, []):
                table.add_row(key if exact else key.replace("_", " "), escape(_words(value)))
        out.print(table, soft_wrap=False)
        return
    for key, value in record.items():
        sys.stdout.write(f"{key}\t{_words(value)}\n")


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return clean(", ".join(f"{key} {number}" for key, number in value.items()) or "none")
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value in (None, "") else clean(value)


def settings(rows: Iterable[tuple[str, Any, str, str]]) -> None:
    """Each setting: key, value, where it came from, what it means."""
    if not out.is_terminal:
        for key, value, origin, _ in rows:
            sys.stdout.write(f"{key}\t{_words(value)}\t{origin}\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("setting", "value", "from", "meaning"):
        table.add_column(name, overflow="fold")
    for key, value, origin, meaning in rows:
        table.add_row(f"[cyan]{key}[/]", escape(_words(value)), escape(origin), f"[dim]{escape(meaning)}[/]")
    out.print(table, soft_wrap=False)


def serving(listening: Iterable[str], file: str, details: Mapping[str, str], next_steps: Iterable[str]) -> None:
    """The first words of `serve`; the last line starts with `ready` and names the bound addresses."""
    addresses = list(listening)
    lines = [("listens on", ", ".join(addresses)), ("file", file), *details.items()]
    steps = list(next_steps)
    if out.is_terminal:
        text = "\n".join(f"[cyan]{name:>10}[/]  {escape(value)}" for name, value in lines)
        tries = "\n".join(f"[dim]{'try next' if i == 0 else '':>10}[/]  {escape(step)}" for i, step in enumerate(steps))
        out.print(Panel(f"{text}\n\n{tries}", title="[bold]msilo-lite[/]", expand=False), soft_wrap=False)
    else:
        for name, value in lines:
            sys.stdout.write(f"{name}: {value}\n")
        for step in steps:
            sys.stdout.write(f"try next: {step}\n")
    out.print(f"[bold green]ready[/] {' '.join(escape(address) for address in addresses)}")
    sys.stdout.flush()


def held(records: Iterable[Mapping[str, Any]]) -> None:
    """The holds in force."""
    found = list(records)
    if out.is_terminal and not found:
        out.print("Nothing is held.")
    for one in found:
        option = "--all" if one["kind"] == "all" else f"--{'to' if one['kind'] == 'user' else 'peer'} {one['name']}"
        if out.is_terminal:
            out.print(f"[bold magenta]{escape(clean(option))}[/]  held for {one['for']}, since {one['since']}")
        else:
            sys.stdout.write("\t".join(map(clean, (one["kind"], one["name"], one["since"]))) + "\n")


def show(picture: RenderableType) -> None:
    """A picture that somebody made, on a terminal."""
    out.print(picture, soft_wrap=False)


@contextmanager
def screen() -> Iterator[Callable[[RenderableType], None]]:
    """The whole terminal, for a picture that changes; what stood there before comes back at the end."""
    from rich.live import Live

    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda picture: live.update(picture, refresh=True)


def events(records: Iterable[Mapping[str, Any]]) -> None:
    """What `tail` tells, a line each, at once."""
    for one in records:
        when = datetime.fromisoformat(one["at"]).astimezone()
        about = str(one.get("to") or one.get("peer") or one.get("name") or one.get("what") or "")
        if out.is_terminal:
            name = f"[{COLOURS.get(one['event'], EVENT_COLOURS.get(one['event'], 'white'))}]{one['event']:<11}[/]"
            words = f"[dim]{when:%H:%M:%S}[/]  {name}  {escape(clean(about))}  {escape(clean(_event_words(one)))}"
            out.print(words)
        else:
            cells = (one["at"], one["event"], about, _event_words(one))
            sys.stdout.write("\t".join(map(clean, cells)) + "\n")
            sys.stdout.flush()


def json_lines(records: Iterable[Mapping[str, Any]]) -> None:
    """NDJSON: a record a line, each written out at once."""
    for record in records:
        sys.stdout.write(_json(record) + "\n")
        sys.stdout.flush()


def _event_words(one: Mapping[str, Any]) -> str:
    """The rest of an event, on one line."""
    number = f"#{one['id']} " if one.get("id") else ""
    event = one["event"]
    if event == "stored":
        return f"{number}from {one['from']}, {one['size']} bytes"
    if event == "sending":
        return f"{number}attempt {one['attempts']}"
    if event == "woken":
        return f"by {one['by']}"
    if event == "refused":
        return f"{one['code']} {one['reason']}"
    if event == "error":
        return str(one["words"])
    if event == "skipped":
        return f"{one['number']} more happened than were kept"
    tries = f"after {counted(one['attempts'], 'attempt')}" if one.get("attempts") else ""
    return number + ", ".join(filter(None, (one.get("reason"), tries)))


@contextmanager
def doing(text: str) -> Iterator[None]:
    """What is being waited for, on a terminal; silence elsewhere."""
    if not err.is_terminal:
        yield
        return
    with err.status(f"[dim]{escape(text)}[/]"):
        yield


@contextmanager
def progress(total: int | None, text: str) -> Iterator[Any]:
    """A bar on a terminal, a plain line elsewhere where it takes long; yields a function of how many are done."""
    from rich import progress as bars  # the commands that show none need not wait for it

    columns = (bars.SpinnerColumn(), bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    with bars.Progress(
        *columns, bars.TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal
    ) as bar:
        task = bar.add_task(text, total=total)
        spoken = time.monotonic()

        def update(done: int) -> None:
            nonlocal spoken
            bar.update(task, completed=done)
            if not err.is_terminal and time.monotonic() - spoken >= SPEAK:
                spoken = time.monotonic()
                complain(f"{text}: {done}{f' of {total}' if total else ''}")

        yield update


def story(who: str, text: str) -> None:
    """A line of the demo."""
    colours = {"alice": "magenta", "bob": "blue", "silo": "green"}
    out.print(f"[bold {colours.get(who, 'white')}]{who:>6}[/]  {escape(text)}")
