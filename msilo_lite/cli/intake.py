"""The commands that put messages into the box and take them elsewhere: store, remind, import, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .options import (
    AsJson,
    Chosen,
    ConfigFile,
    DbUrl,
    InState,
    OlderThan,
    OwnerArg,
    To,
    WithDefault,
    choice_of,
    loaded_from,
)
from .options import From as OnlyFrom

app = typer.Typer()
remind_app = typer.Typer(
    cls=WithDefault,
    no_args_is_help=True,
    help="Messages to deliver at a certain time: `remind USER TEXT --at TIME`; list and cancel them.",
    epilog='Example: msilo-lite remind bob@home.lan "Take the pizza out" --at "in 20 minutes"',
)
app.add_typer(remind_app, name="remind")

Owner = Annotated[str, typer.Argument(metavar="USER", help="For whom: bob@home.lan.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="What it says; - reads it from standard input.")]
From = Annotated[str | None, typer.Option("--from", help="From URI; the user himself when left out.")]
Type = Annotated[str, typer.Option("--type", help="Content-Type of the text.")]
Header = Annotated[
    list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="A header to keep; repeat for more.")
]
Zone = Annotated[str, typer.Option("--tz", help="Time zone of the time, such as Europe/Rome.", show_default=False)]
PLAIN = "text/plain;charset=utf-8"


@app.command("store", epilog='Example: msilo-lite store bob@home.lan "Dinner is ready" --from sip:alice@home.lan')
def store(
    owner: Owner,
    text: Text,
    from_: From = None,
    to: Annotated[str | None, typer.Option(help="To header; the user when left out.")] = None,
    src: Annotated[str | None, typer.Option(help="m_store_addrs: address in place of From.")] = None,
    dst: Annotated[str | None, typer.Option(help="m_store_addrs: address in place of To, and where it goes.")] = None,
    ctype: Type = PLAIN,
    header: Header = None,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Put a message into the box of a user, as if a MESSAGE had come (msilo: m_store, m_store_addrs)."""
    from .errands import Letter, put
    from .views import say

    letter = Letter(owner, _body(text), src or from_ or "", to or "", dst or "", ctype, tuple(header or ()))
    who = put(loaded_from(config, chosen, db_url=db_url).config, letter)
    say(f"Stored for {who}; `msilo-lite list {who}` tells when it goes.")


@remind_app.command("add", epilog='Example: msilo-lite remind add bob@home.lan "Call back" --at "tomorrow 9:00"')
def remind_add(
    owner: Owner,
    text: Text,
    at: Annotated[
        str, typer.Option(help="When: tomorrow 9:00 · in 2 hours · 2027-07-15T12:00+02:00 · +90m · 20270715120000.")
    ],
    tz: Zone = "",
    from_: From = None,
    ctype: Type = PLAIN,
    header: Header = None,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Deliver a text at a certain time. The word `add` may be left out."""
    from .errands import Letter, put, when
    from .views import say, zoned

    settings = loaded_from(config, chosen, db_url=db_url).config
    due = when(at, tz or settings.timezone)
    letter = Letter(owner, _body(text), from_ or "", "", "", ctype, tuple(header or ()), due)
    who = put(settings, letter)
    say(f"{who} will be reminded at {zoned(due, tz or settings.timezone)}.")


@remind_app.command("list", epilog="Example: msilo-lite remind list --json")
def remind_list(
    owner: OwnerArg = None,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Show the reminders that wait, and when each is due."""
    from . import views
    from .records import reminders

    records = reminders(loaded_from(config, chosen, db_url=db_url).config, choice_of(owner, None, None, None))
    if json:
        views.json_list(records)
    else:
        views.messages(records, "No reminders wait.")


@remind_app.command("cancel", epilog="Example: msilo-lite remind cancel 12")
def remind_cancel(
    numbers: Annotated[list[int], typer.Argument(metavar="ID...", help="Ids that `remind list` shows.")],
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Take reminders out of the box."""
    from .deeds import purging
    from .records import reminder_ids
    from .views import counted, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    gone, late = purging(settings, reminder_ids(settings, numbers), lambda _: None)
    say(f"Cancelled {counted(gone, 'reminder')}." + (f" {late} on the way may still arrive." if late else ""))


@app.command("export", epilog="Example: msilo-lite export --to bob@home.lan --output bob.jsonl")
def export(
    to: To = None,
    from_: OnlyFrom = None,
    state: InState = None,
    older_than: OlderThan = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, readable by you alone.")
    ] = None,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Write what waits as JSON Lines, bodies included: for `import` elsewhere."""
    from .errands import exported_to
    from .views import counted, progress, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    count = exported_to(settings, choice_of(to, from_, state, older_than), output, progress)
    if output:
        say(f"Exported {counted(count)} to {output}.")


@app.command("import", epilog="Example: msilo-lite import /var/lib/kamailio/kamailio.sqlite")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON Lines of `export`, or a Kamailio's SQLite file.")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Kamailio's db_table or sc_... where it is called otherwise."),
    ] = None,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Take over messages from another silo; those that were taken before are not taken twice."""
    from .errands import import_from
    from .views import counted, progress, say

    if not source.is_file():
        raise ConfigError(f"there is no file {source}")
    moved = import_from(loaded_from(config, chosen, db_url=db_url).config, source, column or [], progress)
    say(f"Imported {counted(moved.taken)}.")
    for number, words in (
        (moved.known, "known already"), (moved.over, "over, not taken"), (moved.unfit, "too long to be sent, not taken")
    ):  # fmt: skip
        if number:
            say(f"{counted(number)} {words}.")


def _body(text: str) -> bytes:
    """What a person typed, or what comes in through a pipe."""
    return sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
