"""The command line: each command parses, calls one function, shows one view, returns one code.

Heavy modules (PJSIP, SQLAlchemy, pydantic) are imported inside the commands that need them: `--help` stays quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ..errors import BadRequest, ConfigError, MsiloError, NotFound
from . import account, intake, keeping, looking, options, running, steering
from .options import AsJson, Chosen, ConfigFile, DbUrl, loaded_from

FAILED, USAGE, NOT_FOUND = 1, 2, 3
app = typer.Typer(
    name="msilo-lite",
    help="An offline store for SIP MESSAGE requests: keeps them while a phone is off, sends them when it registers.",
    epilog="Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 not found · 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")

app.add_typer(looking.app)
app.add_typer(steering.app)
app.add_typer(intake.app)
app.add_typer(keeping.app)
app.add_typer(running.app)
app.add_typer(account.app)


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


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", "-V", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    if version:
        from .. import __version__
        from .views import say

        say(f"msilo-lite {__version__}")
        raise typer.Exit


@app.command(epilog="Example: msilo-lite serve --bind udp:192.168.1.5:5070 --trusted 192.168.1.1 --domain home.lan")
def serve(
    config: ConfigFile = None,
    bind: Annotated[
        list[str] | None,
        typer.Option(help="Listen here, as udp:HOST:PORT (or tcp:, tls:, [::1]); repeat for more, 0 is a free port."),
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
    log_format: Annotated[str | None, typer.Option(help="auto, human or json.")] = None,
    http_listen: Annotated[
        str | None, typer.Option(help="Where health and metrics are: PORT, or HOST:PORT.", show_default=False)
    ] = None,
    no_supervise: Annotated[
        bool, typer.Option("--no-supervise", help="Do not start it again when it dies: systemd or the like does.")
    ] = False,
    chosen: Chosen = None,
) -> None:
    """Start the silo: take MESSAGEs, wake on REGISTER, replay in order."""
    del no_supervise  # `supervise` has seen it before anything here was loaded
    loaded = loaded_from(
        config,
        chosen,
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
        log_format=log_format,
        http_listen=http_listen,
    )
    from ..serving import serve as run
    from .views import complain

    for warning in loaded.warnings:
        complain(warning)
    run(loaded)


@app.command(epilog="Example: msilo-lite demo")
def demo() -> None:
    """Try it without a PBX: a silo and two phones on this machine; alice writes while bob is away."""
    from .demo import run
    from .views import story

    run(story)


@app.command(epilog="Example: msilo-lite check --config silo.toml · msilo-lite check --loop bob --as alice")
def check(
    offline: Annotated[bool, typer.Option("--offline", help="Leave the network alone.")] = False,
    loop: options.LoopUser = None,
    caller: options.LoopCaller = None,
    caller_password_file: options.LoopPassword = None,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Look for what may be wrong, each with what to do about it; exit code 0 fine, 1 warnings, 2 something is wrong."""
    from . import views
    from .checks import findings, round_with
    from .verdicts import WARNING, WRONG

    how = round_with(views.doing, loop, caller, caller_password_file, offline=offline)
    found = list(findings(loaded_from(config, chosen, db_url=db_url), how))
    levels = {one.level for one in found}
    if json:
        views.as_json([{"level": one.level, "about": one.about, "words": one.words} for one in found])
    else:
        views.report((one.level, one.about, one.words) for one in found)
    raise typer.Exit(2 if WRONG in levels else 1 if WARNING in levels else 0)


@app.command(
    epilog="Example: msilo-lite init --pbx asterisk --pbx-addr 192.168.1.10 --domain home.lan -o silo.toml"
    " · msilo-lite init --from-kamailio /etc/kamailio/kamailio.cfg --output silo.toml"
)
def init(
    from_kamailio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Carry over what modparam lines of a kamailio.cfg set.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    pbx: options.Pbx = None,
    pbx_addr: options.PbxAddress = "127.0.0.1:5060",
    domain: options.PbxDomain = None,
    bind: options.PbxBind = None,
    phone: options.PbxPhones = None,
    user: options.PbxUser = None,
    password_file: options.PbxPasswordFile = None,
    fragment: options.Fragment = None,
    systemd: Annotated[bool, typer.Option("--systemd", help="Write a hardened unit for systemd instead.")] = False,
    config: ConfigFile = None,
) -> None:
    """Write a commented configuration, with --pbx also what that PBX needs; with --systemd a unit that fits yours."""
    from . import views
    from .recipe import Wanted
    from .setup import prepared, write_all

    if systemd:
        running.install(loaded_from(config), output, force=force)
        return
    wanted = None
    if pbx is not None:
        wanted = Wanted(pbx, pbx_addr, tuple(domain or ()), bind, tuple(phone or ()), user, password_file)
    made = prepared(from_kamailio, wanted, fragment)
    written = write_all(made, output, fragment, force=force)
    if output is None:
        views.raw(made.text)
    for problem in made.problems:
        views.complain(problem)
    if made.recipe:
        views.for_pbx(made.recipe.title, made.recipe.fragment, list(map(str, written)), str(output) if output else None)


@config_app.command("validate", epilog="Example: msilo-lite config validate silo.toml")
def config_validate(
    file: Annotated[Path | None, typer.Argument(help="The file to look at.", show_default=False)] = None,
    config: ConfigFile = None,
    chosen: Chosen = None,
) -> None:
    """Say whether a configuration would be taken, by a start or by a reload; exit code 2 when not."""
    from .views import complain, say

    loaded = loaded_from(file or config, chosen)
    for warning in loaded.warnings:
        complain(warning)
    named = loaded.file or "No configuration file; the environment"
    say(f"{named} is fine, {sum(origin != 'default' for origin in loaded.origins.values())} settings are set.")


@config_app.command("show", epilog="Example: MSILO_SETTLE=2 msilo-lite config show")
def config_show(json: AsJson = False, config: ConfigFile = None, db_url: DbUrl = None, chosen: Chosen = None) -> None:
    """Show every setting with its value, where it came from and what it means."""
    from ..settings.config import Config, in_order
    from . import views

    loaded = loaded_from(config, chosen, db_url=db_url)
    dumped = loaded.config.model_dump(mode="json")
    dumped["peer"] = [{key: value for key, value in one.items() if value is not None} for one in dumped["peer"]]
    values = {name: dumped[name] for name in in_order()}
    accounts = tuple(map(str, loaded.config.account))
    values["account"] = accounts if not json else [{"name": name} for name in accounts]
    values["peer"] = tuple(map(str, loaded.config.peer)) if not json else values["peer"]
    if json:
        views.as_json({key: {"value": value, "from": loaded.origins[key]} for key, value in values.items()})
        return
    fields = Config.model_fields
    views.settings((key, value, loaded.origins[key], fields[key].description or "") for key, value in values.items())
