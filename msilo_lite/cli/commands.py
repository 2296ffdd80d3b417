"""The commands about stored messages: each parses, calls one function, shows one view, returns one code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import ConfigError, MsiloError
from .options import AsJson, Chosen, ConfigFile, DbUrl, OwnerArg, aor, loaded_from

app = typer.Typer()


@app.command("list", epilog="Example: msilo-lite list bob@home.lan --json")
def list_(
    owner: OwnerArg = None,
    history: Annotated[
        bool, typer.Option("--all", help="Also what was delivered, refused, expired or purged.")
    ] = False,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Show the messages that wait, each with the reason why it still does."""
    from . import views
    from .records import listing

    settings = loaded_from(config, chosen, db_url=db_url).config
    records = listing(settings, None if owner is None else aor(owner), history=history)
    if json:
        views.json_list(records)
    else:
        views.messages(records, f"No messages wait{f' for {owner}' if owner else ''}.")


@app.command("show", epilog="Example: msilo-lite show 12")
def show(
    number: Annotated[
        str, typer.Argument(metavar="ID", help="The id that `list` shows, or h and a number from `--all`.")
    ],
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Show one waiting message with its headers and its body, or what became of one that left the box."""
    from . import views
    from .records import detail, former

    digits = number.removeprefix("h")
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"{number!r} is no id; `msilo-lite list` shows them")
    loaded = loaded_from(config, chosen, db_url=db_url)
    if digits != number:
        show_past = views.as_json if json else views.message
        show_past(former(loaded.config, int(digits)))
        return
    record, headers, body = detail(loaded.config, int(digits))
    if json:
        text = views.body_text(body)
        whole = {"body": text} if text is not None else {"body_base64": views.encoded(body)}
        views.as_json({**record, "headers": headers.splitlines(), **whole})
    else:
        views.message(record, headers, body)


@app.command("dump", epilog="Example: msilo-lite dump bob@home.lan")
def dump(
    owner: Annotated[str, typer.Argument(metavar="USER", help="Whose messages to deliver: bob@home.lan.")],
    most: Annotated[int, typer.Option("--max", min=0, help="Messages to deliver at the most; 0: all.")] = 0,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Deliver the waiting messages of one user now, through the running daemon or, when none runs, directly."""
    from .records import deliver
    from .views import counted, progress, say

    loaded, who = loaded_from(config, chosen, db_url=db_url), aor(owner)
    result = deliver(loaded.config, who, most, progress)
    if not result.waiting:
        say(f"Nothing waits for {who}.")
        return
    say(f"Delivered {result.delivered} of {counted(result.waiting)} to {who}.")
    if result.reason:
        raise MsiloError(result.reason)


@app.command("purge", epilog="Example: msilo-lite purge 12 13 · msilo-lite purge --to bob@home.lan --yes")
def purge(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids that `list` shows.")] = None,
    to: Annotated[str | None, typer.Option(help="Every message for this user.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every message of everybody.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Take messages out of the box without delivering them."""
    if sum((bool(numbers), bool(to), everything)) != 1:
        raise ConfigError("purge takes ids, or --to USER, or --all: one of them")
    from .records import purging, selected
    from .views import counted, out, progress, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    found = selected(settings, numbers or [], aor(to) if to else None)
    if not found:
        say("Nothing waits.")
        return
    if dry_run:
        say(f"Would purge {counted(len(found))}.")
        return
    if not yes:
        if not (out.is_terminal and sys.stdin.isatty()):
            raise ConfigError(f"purging {counted(len(found))} needs --yes where nobody can be asked")
        typer.confirm(f"Purge {counted(len(found))} for good?", abort=True)
    with progress(len(found), "purging") as update:
        gone, late = purging(settings, found, update)
    say(f"Purged {counted(gone)}." + (f" {counted(late)} on the way may still arrive." if late else ""))


@app.command("retry", epilog="Example: msilo-lite retry 12 13 · msilo-lite retry --to bob@home.lan")
def retry(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids that `list` shows.")] = None,
    to: Annotated[str | None, typer.Option(help="Every such message for this user.")] = None,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Send messages again that were handed over and never confirmed, or parked because their content was refused."""
    if bool(numbers) == bool(to):
        raise ConfigError("retry takes ids, or --to USER: one of them")
    from .records import retrying, selected
    from .views import counted, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    done = retrying(settings, selected(settings, numbers or [], aor(to) if to else None))
    say(f"{counted(done)} will be sent again." if done else "None of them is parked or handed over.")


@app.command("status", epilog="Example: msilo-lite status --json")
def status(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None, chosen: Chosen = None) -> None:
    """Show whether the daemon runs, where it listens, who has mail waiting, and its counters."""
    from . import views
    from .records import overview

    record = overview(loaded_from(config, chosen, db_url=db_url).config)
    if json:
        views.as_json(record)
    else:
        up = record["daemon"] == "running"
        views.facts("msilo-lite", record if up else {**record, "daemon": "not running; start `msilo-lite serve`"})


@app.command("stats", epilog="Example: msilo-lite stats --json")
def stats(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None, chosen: Chosen = None) -> None:
    """Show the statistics under the names msilo gives them, counted since the file was made."""
    from . import views
    from .records import statistics

    record = statistics(loaded_from(config, chosen, db_url=db_url).config)
    if json:
        views.as_json(record)
    else:
        views.facts("statistics", {name: str(number) for name, number in record.items()}, exact=True)
