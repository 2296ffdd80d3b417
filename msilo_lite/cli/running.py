"""The commands about running as a service: each parses, calls one function, shows one view, returns one code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import MsiloError
from .options import AsJson, Chosen, ConfigFile, DbUrl, loaded_from

if TYPE_CHECKING:
    from ..settings.sources import Loaded

app = typer.Typer()
UNIT_MODE = 0o644


@app.command("health", epilog="Example: msilo-lite health --wait 30")
def health(
    wait: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds it may take until the daemon answers.")] = 5.0,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Ask the running daemon whether it takes messages: exit code 0 when it does, 1 when not."""
    from . import views
    from .pulse import look

    settings = loaded_from(config, chosen, db_url=db_url).config
    try:
        record = look(settings, wait)
    except MsiloError as error:
        if not json:
            raise
        views.as_json({"healthy": False, "reason": str(error)})
        raise typer.Exit(1) from error
    if json:
        views.as_json(record)
    else:
        views.say(f"It takes messages: process {record['pid']} on {' '.join(record['listening'])}.")


def install(loaded: Loaded, output: Path | None, *, force: bool) -> None:
    """Write the unit that `init --systemd` asks for, and say what else there is to do."""
    from .setup import write
    from .unit import NAME, Program, unit
    from .views import complain, raw, say

    text, remarks = unit(loaded, Program.here(), output)
    if output is None:
        raw(text)
    else:
        write(output, text, force=force, mode=UNIT_MODE)
    for remark in remarks:
        complain(remark)
    if output is not None:
        say(f"Wrote {output}. Next: systemctl daemon-reload && systemctl enable --now {NAME}")
