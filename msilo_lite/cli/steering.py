"""The commands that steer: each parses, calls one function, shows one view, returns one code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import ConfigError, MsiloError
from .options import (
    AsJson,
    Chosen,
    ConfigFile,
    DbUrl,
    DryRun,
    Everything,
    From,
    InState,
    Numbers,
    OlderThan,
    To,
    Yes,
    aor,
    choice_of,
    loaded_from,
    picked,
)

app = typer.Typer()
Peer = Annotated[
    str | None,
    typer.Option(
        "--peer", metavar="HOST", help="What would be handed to this address, network or name.", show_default=False
    ),
]
All = Annotated[bool, typer.Option("--all", help="Everything.")]


@app.command("dump", epilog="Example: msilo-lite dump bob@home.lan")
def dump(
    owner: Annotated[str, typer.Argument(metavar="USER", help="Whose messages to deliver: bob@home.lan.")],
    most: Annotated[int, typer.Option("--max", min=0, help="Messages to deliver at the most; 0: all.")] = 0,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Deliver the waiting messages of one user now, through the running daemon or, when none runs, directly."""
    from .deeds import deliver
    from .views import counted, progress, say

    loaded, who = loaded_from(config, chosen, db_url=db_url), aor(owner)
    result = deliver(loaded.config, who, most, progress)
    if not result.waiting:
        say(f"Nothing waits for {who}.")
        return
    say(f"Delivered {result.delivered} of {counted(result.waiting)} to {who}.")
    if result.reason:
        raise MsiloError(result.reason)


@app.command("retry", epilog="Example: msilo-lite retry 12 13 · msilo-lite retry --to bob@home.lan --state parked")
def retry(
    numbers: Numbers = None,
    to: To = None,
    from_: From = None,
    state: InState = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Send messages again that were handed over and never confirmed, or parked because their content was refused."""
    choice = choice_of(to, from_, state, older_than)
    picked("retry", numbers, choice, everything=everything)
    from .deeds import retriable, retrying, selected
    from .views import counted, progress, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    ids = selected(settings, numbers or [], choice)
    if dry_run:
        say(f"Would send {counted(retriable(settings, ids))} again.")
        return
    with progress(len(ids), "retrying") as update:
        done = retrying(settings, ids, update)
    say(f"{counted(done)} will be sent again." if done else "None of them is parked or handed over.")


@app.command("hold", epilog="Example: msilo-lite hold --to bob@home.lan · msilo-lite hold --all")
def hold(
    to: Annotated[str | None, typer.Option(metavar="USER", help="Mail for this user.", show_default=False)] = None,
    peer: Peer = None,
    everything: All = False,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Keep mail from being sent until `unhold`; it is taken as before. Without options: show what is held."""
    import time

    from . import deeds
    from .overview import hold_record
    from .views import as_json, held, say

    settings, now = loaded_from(config, chosen, db_url=db_url).config, int(time.time())
    if not (to or peer or everything):
        records = [hold_record(one, now) for one in deeds.holds(settings)]
        as_json(records) if json else held(records)
        return
    one = deeds.hold_named(to, peer, everything=everything, now=now)
    new = deeds.hold(settings, one)
    say(f"{'Held' if new else 'Held already'}; `msilo-lite unhold {one.option}` lets it go.")


@app.command("unhold", epilog="Example: msilo-lite unhold --to bob@home.lan · msilo-lite unhold --every")
def unhold(
    to: Annotated[str | None, typer.Option(metavar="USER", help="Mail for this user.", show_default=False)] = None,
    peer: Peer = None,
    everything: Annotated[bool, typer.Option("--all", help="The hold on everything.")] = False,
    every: Annotated[bool, typer.Option("--every", help="Every hold there is.")] = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Let go what `hold` keeps back; who was seen meanwhile is tried at once."""
    import time

    from . import deeds
    from .views import say

    settings = loaded_from(config, chosen, db_url=db_url).config
    if every and not (to or peer or everything):
        ended, up = deeds.unhold(settings, None)
    else:
        one = deeds.hold_named(to, peer, everything=everything or every, now=int(time.time()))
        ended, up = deeds.unhold(settings, one.kind, one.name)
    say(f"Let go: {', '.join(one.option for one in ended)}." + ("" if up else " No daemon runs that would send it."))


@app.command("schedule", epilog='Example: msilo-lite schedule 12 13 --at "tomorrow 9:00" --tz Europe/Rome')
def schedule(
    numbers: Numbers = None,
    at: Annotated[
        str, typer.Option(help="When: tomorrow 9:00 · in 2 hours · 2027-07-15T12:00+02:00 · +90m · now.")
    ] = "",
    tz: Annotated[
        str, typer.Option("--tz", help="Time zone of the time, such as Europe/Rome.", show_default=False)
    ] = "",
    to: To = None,
    from_: From = None,
    state: InState = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Make waiting messages due at a time, or change the time of reminders; their lifetimes count from then."""
    choice = choice_of(to, from_, state, older_than)
    picked("schedule", numbers, choice, everything=everything)
    if not at:
        raise ConfigError('--at is missing; write for example --at "tomorrow 9:00"')
    import time

    from .deeds import scheduling, selected
    from .errands import when
    from .views import counted, progress, say, zoned

    settings = loaded_from(config, chosen, db_url=db_url).config
    zone = tz or settings.timezone
    due = int(time.time()) if at.strip().lower() == "now" else when(at, zone)
    ids = selected(settings, numbers or [], choice)
    with progress(len(ids), "scheduling") as update:
        done, left = scheduling(settings, ids, due, update, dry=dry_run)
    alone = (
        f" {counted(left)} on the way, parked or handed over {'is' if left == 1 else 'are'} left alone." if left else ""
    )
    say(f"{counted(done)} {'would go' if dry_run else 'will go'} at {zoned(due, zone)}.{alone}")
    if left and not done:
        raise typer.Exit(1)


@app.command("purge", epilog="Example: msilo-lite purge 12 13 · msilo-lite purge --to bob@home.lan --yes")
def purge(
    numbers: Numbers = None,
    to: To = None,
    from_: From = None,
    state: InState = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Take messages out of the box without delivering them."""
    choice = choice_of(to, from_, state, older_than)
    picked("purge", numbers, choice, everything=everything)
    from .deeds import purging, selected
    from .views import counted, out, progress, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    found = selected(settings, numbers or [], choice)
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


app.command(
    "drop", help="The same as `purge`.", epilog="Example: msilo-lite drop 12 13 · msilo-lite drop --older-than 2d --yes"
)(purge)
