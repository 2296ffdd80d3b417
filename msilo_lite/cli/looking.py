"""The commands that look: each parses, calls one function, shows one view, returns one code."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import Annotated

import typer

from ..errors import ConfigError
from .options import (
    AsJson,
    Chosen,
    ConfigFile,
    DbUrl,
    From,
    InState,
    OlderThan,
    OwnerArg,
    To,
    aor,
    choice_of,
    loaded_from,
)

app = typer.Typer()


@app.command("list", epilog="Example: msilo-lite list bob@home.lan --json · msilo-lite list --state held")
def list_(
    owner: OwnerArg = None,
    history: Annotated[
        bool, typer.Option("--all", help="Also what was delivered, refused, expired or purged.")
    ] = False,
    to: To = None,
    from_: From = None,
    state: InState = None,
    older_than: OlderThan = None,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Show the messages that wait, each with the reason why it still does."""
    if owner is not None and to is not None:
        raise ConfigError("USER and --to mean the same: one of them")
    from . import views
    from .records import listing

    choice = choice_of(to, from_, state, older_than)
    if owner is not None:
        choice = replace(choice, owner=aor(owner))
    records = listing(loaded_from(config, chosen, db_url=db_url).config, choice, history=history)
    if json:
        views.json_list(records)
    else:
        views.messages(records, f"No messages wait{f' for {choice.owner}' if choice.owner else ''}.")


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


@app.command("status", epilog="Example: msilo-lite status --json")
def status(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None, chosen: Chosen = None) -> None:
    """Show whether the daemon runs, what it listens on, who has mail waiting, what happened last, and the disk."""
    from . import panels, views
    from .overview import overview

    record = overview(loaded_from(config, chosen, db_url=db_url).config)
    if json:
        views.as_json(record)
    elif views.out.is_terminal:
        views.show(panels.picture(record))
    else:
        views.facts("msilo-lite", panels.flat(record))


@app.command("top", epilog="Example: msilo-lite top --interval 0.5")
def top(
    interval: Annotated[float, typer.Option("--interval", "-n", min=0.1, max=3600, help="Seconds between looks.")] = 1,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Show the same as `status`, again and again, with what happens a second; q or Ctrl-C leaves."""
    from . import panels, views

    settings = loaded_from(config, chosen, db_url=db_url).config
    if views.out.is_terminal and sys.stdin.isatty():
        from .live import watch

        watch(settings, interval)
        return
    from .overview import overview

    views.show(panels.picture(overview(settings)))


@app.command("tail", epilog="Example: msilo-lite tail --to bob@home.lan --since 1h --json")
def tail(
    to: To = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Begin with what happened so long ago: 10m, 2h.", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until Ctrl-C.")] = True,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Show what happens as it happens: stored, sending, delivered, missed, parked, woken, refused, and the like."""
    import time

    from . import views
    from .follow import events
    from .words import seconds_in

    start = int(time.time()) - seconds_in(since, "--since") if since else None
    found = events(
        loaded_from(config, chosen, db_url=db_url).config, choice_of(to, None, None, None), start, follow=follow
    )
    with contextlib.suppress(KeyboardInterrupt):  # wherever it comes, this is how one leaves
        if json:
            views.json_lines(found)
        else:
            views.events(found)


@app.command("stats", epilog="Example: msilo-lite stats --json")
def stats(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None, chosen: Chosen = None) -> None:
    """Show the statistics under the names msilo gives them, counted since the file was made."""
    from . import views
    from .overview import statistics

    record = statistics(loaded_from(config, chosen, db_url=db_url).config)
    if json:
        views.as_json(record)
    else:
        views.facts("statistics", {name: str(number) for name, number in record.items()}, exact=True)
