"""The commands that keep the file: backup, verify, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, MsiloError
from .options import AsJson, Chosen, ConfigFile, DbUrl, DryRun, loaded_from

app = typer.Typer()


@app.command("backup", epilog="Example: msilo-lite backup /var/backups/silo.sqlite")
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; readable by you alone.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Copy the database while it is in use, and verify the copy."""
    from .safe import copied, examined
    from .views import counted, progress, say

    settings = loaded_from(config, chosen, db_url=db_url).config
    waiting = copied(settings, target, progress, force=force)
    wrong = [one.words for one in examined(settings, target) if one.level == "wrong"]
    if wrong:
        raise MsiloError(f"{target} was written, and is not sound: {wrong[0]}")
    say(f"Copied to {target}: {counted(waiting)} waiting; verified.")


@app.command("verify", epilog="Example: msilo-lite verify /var/backups/silo.sqlite")
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A backup, say; the database itself when left out.", show_default=False),
    ] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Read a database whole and say whether it is sound, and what to do where it is not; exit code 1 then."""
    from . import views
    from .safe import examined

    settings = loaded_from(config, chosen, db_url=db_url).config
    found = list(examined(settings, file or settings.db_file))
    if json:
        views.as_json([{"level": one.level, "about": one.about, "words": one.words} for one in found])
    else:
        views.report((one.level, one.about, one.words) for one in found)
    raise typer.Exit(1 if any(one.level == "wrong" for one in found) else 0)


@app.command("prune", epilog="Example: msilo-lite prune --older-than 30d --dry-run")
def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="What left the box so long ago: 30d, 12h.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=0, metavar="NUMBER", help="All but the newest so many; 0: by age alone.")
    ] = 0,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    db_url: DbUrl = None,
    chosen: Chosen = None,
) -> None:
    """Forget what became of messages that left the box; what waits stays. `serve` does so by `history_time`."""
    if older_than is None and not keep:
        raise ConfigError("prune takes --older-than AGE, or --keep NUMBER, or both")
    from .safe import pruned
    from .views import counted, progress, say
    from .words import seconds_in

    settings = loaded_from(config, chosen, db_url=db_url).config
    age = seconds_in(older_than, "--older-than") if older_than else None
    number = pruned(settings, age, keep, progress, dry=dry_run)
    say(f"{'Would forget' if dry_run else 'Forgot'} {counted(number)} of the history.")
