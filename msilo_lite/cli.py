"""The command line: each command parses, calls one function, shows one view, returns one code.

Heavy modules (PJSIP, SQLAlchemy, pydantic) are imported inside the commands that need them: `--help` stays quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from . import __version__
from .errors import BadRequest, ConfigError, MsiloError, NotFound

if TYPE_CHECKING:
    from .address import Aor
    from .config import Loaded

FAILED, USAGE, NOT_FOUND = 1, 2, 3
app = typer.Typer(
    name="msilo-lite",
    help="An offline store for SIP MESSAGE requests: keeps them while a phone is off, sends them when it registers.",
    epilog="Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 not found.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (TOML).", show_default=False)
]
DbUrl = Annotated[str | None, typer.Option("--db-url", help="The database, as sqlite:///FILE.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
OwnerArg = Annotated[
    str | None,
    typer.Argument(metavar="[USER]", help="Whose messages: bob@home.lan or sip:bob@home.lan.", show_default=False),
]


def main() -> NoReturn:
    """Run the command line; every expected failure is one sentence on stderr and a documented exit code."""
    from .views import complain

    try:
        app(prog_name="msilo-lite")
    except MsiloError as error:
        complain(str(error))
        usage = isinstance(error, ConfigError | BadRequest)
        sys.exit(USAGE if usage else NOT_FOUND if isinstance(error, NotFound) else FAILED)
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        sys.exit(FAILED)
    sys.exit(0)


def _load(file: Path | None, **flags: Any) -> Loaded:
    from .config import load

    return load(file, flags)


def _aor(text: str) -> Aor:
    from .address import Aor

    return Aor.parse(text)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", "-V", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    if version:
        from .views import say

        say(f"msilo-lite {__version__}")
        raise typer.Exit


@app.command(epilog="Example: msilo-lite serve --bind udp:192.168.1.5:5070 --trusted 192.168.1.1 --domain home.lan")
def serve(
    config: ConfigFile = None,
    bind: Annotated[
        list[str] | None,
        typer.Option(help="Listen here, as udp:HOST:PORT or udp:[::1]:PORT; repeat for more, port 0 takes a free one."),
    ] = None,
    db_url: DbUrl = None,
    domain: Annotated[list[str] | None, typer.Option(help="A domain whose users are ours; repeat for more.")] = None,
    trusted: Annotated[list[str] | None, typer.Option(help="A network (CIDR) that is served; repeat for more.")] = None,
    outbound_proxy: Annotated[
        str | None, typer.Option(help="Send every replay through this SIP URI, to the AoR.")
    ] = None,
    expire_time: Annotated[int | None, typer.Option(help="Longest life of a message, in seconds.")] = None,
    settle: Annotated[float | None, typer.Option(help="Seconds between a REGISTER and the first replay.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="Messages under way at once, one for each user.")] = None,
    check_time: Annotated[int | None, typer.Option(help="Seconds between two runs of the cleaner.")] = None,
    clean_period: Annotated[int | None, typer.Option(help="Runs of the cleaner between two purges of history.")] = None,
    history_time: Annotated[int | None, typer.Option(help="Seconds for which history is kept.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Start the silo: take MESSAGEs, wake on REGISTER, replay in order."""
    loaded = _load(
        config,
        bind=tuple(bind or ()),
        db_url=db_url,
        domain=tuple(domain or ()),
        trusted=tuple(trusted or ()),
        outbound_proxy=outbound_proxy,
        expire_time=expire_time,
        settle=settle,
        max_in_flight=max_in_flight,
        check_time=check_time,
        clean_period=clean_period,
        history_time=history_time,
        log_level=log_level,
    )
    from .serving import serve as run
    from .views import complain

    for warning in loaded.warnings:
        complain(warning)
    run(loaded)


@app.command("list", epilog="Example: msilo-lite list bob@home.lan --json")
def list_(
    owner: OwnerArg = None,
    history: Annotated[
        bool, typer.Option("--all", help="Also what was delivered, refused, expired or purged.")
    ] = False,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
) -> None:
    """Show the messages that wait, each with the reason why it still does."""
    from . import views
    from .records import listing

    records = listing(_load(config, db_url=db_url).config, None if owner is None else _aor(owner), history=history)
    if json:
        views.json_list(records)
    else:
        views.messages(records, f"No messages wait{f' for {owner}' if owner else ''}.")


@app.command(epilog="Example: msilo-lite show 12")
def show(
    number: Annotated[
        str, typer.Argument(metavar="ID", help="The id that `list` shows, or h and a number from `--all`.")
    ],
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
) -> None:
    """Show one waiting message with its headers and its body, or what became of one that left the box."""
    from . import views
    from .records import detail, former

    digits = number.removeprefix("h")
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"{number!r} is no id; `msilo-lite list` shows them")
    loaded = _load(config, db_url=db_url)
    if digits != number:
        show_past = views.as_json if json else views.message
        show_past(former(loaded.config, int(digits)))
        return
    record, headers, body = detail(loaded.config, int(digits))
    if json:
        text = views.body_text(body)
        whole = {"body": text} if text is not None else {"body_base64": views.encoded(body)}
        views.as_json({**record, "headers": headers.split("\r\n")[:-1], **whole})
    else:
        views.message(record, headers, body)


@app.command(epilog="Example: msilo-lite dump bob@home.lan")
def dump(
    owner: Annotated[str, typer.Argument(metavar="USER", help="Whose messages to deliver: bob@home.lan.")],
    config: ConfigFile = None,
    db_url: DbUrl = None,
) -> None:
    """Deliver the waiting messages of one user now, through the running daemon or, when none runs, directly."""
    from .records import deliver
    from .views import counted, progress, say

    loaded, who = _load(config, db_url=db_url), _aor(owner)
    result = deliver(loaded.config, who, progress)
    if not result.waiting:
        say(f"Nothing waits for {who}.")
        return
    say(f"Delivered {result.delivered} of {counted(result.waiting)} to {who}.")
    if result.reason:
        raise MsiloError(result.reason)


@app.command(epilog="Example: msilo-lite purge 12 13 · msilo-lite purge --to bob@home.lan --yes")
def purge(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids that `list` shows.")] = None,
    to: Annotated[str | None, typer.Option(help="Every message for this user.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every message of everybody.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
) -> None:
    """Take messages out of the box without delivering them."""
    if sum((bool(numbers), bool(to), everything)) != 1:
        raise ConfigError("purge takes ids, or --to USER, or --all: one of them")
    from .records import purging, selected
    from .views import counted, out, progress, say

    settings = _load(config, db_url=db_url).config
    found = selected(settings, numbers or [], _aor(to) if to else None)
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


@app.command(epilog="Example: msilo-lite status --json")
def status(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None) -> None:
    """Show whether the daemon runs, where it listens, who has mail waiting, and its counters."""
    from . import views
    from .records import overview

    record = overview(_load(config, db_url=db_url).config)
    if json:
        views.as_json(record)
    else:
        up = record["daemon"] == "running"
        views.facts("msilo-lite", record if up else {**record, "daemon": "not running; start `msilo-lite serve`"})


@app.command(epilog="Example: msilo-lite demo")
def demo() -> None:
    """Try it without a PBX: a silo and two phones on this machine; alice writes while bob is away."""
    from .demo import run
    from .views import story

    run(story)


@config_app.command("show", epilog="Example: MSILO_SETTLE=2 msilo-lite config show")
def config_show(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None) -> None:
    """Show every setting with its value, where it came from and what it means."""
    from . import views
    from .config import Config

    loaded = _load(config, db_url=db_url)
    values = loaded.config.model_dump()
    if json:
        views.as_json({key: {"value": value, "from": loaded.origins[key]} for key, value in values.items()})
        return
    fields = Config.model_fields
    views.settings((key, value, loaded.origins[key], fields[key].description or "") for key, value in values.items())
