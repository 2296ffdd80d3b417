"""`account`: who may come from networks that are not trusted, in the file that accounts_file names.

The file keeps what checks a password (H(A1), as htdigest writes it), never the password itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, NotFound
from .options import AsJson, Chosen, ConfigFile, loaded_from

if TYPE_CHECKING:
    from ..settings.config import Config

app = typer.Typer()
account_app = typer.Typer(
    no_args_is_help=True, help="Users who may come from networks that are not trusted, by a password."
)
app.add_typer(account_app, name="account")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the phone sends as user name: bob, or bob@home.lan.")]
FILE_FIRST = "accounts_file is not set; write accounts_file = '/etc/msilo-lite/accounts' into the configuration, say"


@account_app.command("set", epilog="Example: msilo-lite account set bob --config silo.toml")
def account_set(name: Name, config: ConfigFile = None, chosen: Chosen = None) -> None:
    """Add a user, or give him another password: it is asked for, or read from the first line of a pipe."""
    from .views import say

    settings = loaded_from(config, chosen).config
    file = _file(settings)
    aor = settings.aor_of_account(name)
    lines = _lines_of(settings, name, _password(name))
    before = _others(file, name)
    _write(file, [*before, *lines])
    say(f"{name} may come as {aor} from anywhere; the daemon knows it when it starts again, or at a SIGHUP.")


@account_app.command("list", epilog="Example: msilo-lite account list --json")
def account_list(json: AsJson = False, config: ConfigFile = None, chosen: Chosen = None) -> None:
    """Show who has an account, and for which address."""
    from . import views

    settings = loaded_from(config, chosen).config
    known = settings.accounts() if settings.has_accounts else {}
    records = [
        {"name": name, "user": str(settings.aor_of_account(name)), "algorithms": sorted(secrets)}
        for name, secrets in sorted(known.items())
    ]
    if json:
        views.as_json(records)
        return
    for one in records:
        views.say(f"{one['name']}\t{one['user']}\t{', '.join(one['algorithms'])}")
    if not records:
        views.say("Nobody has an account: `msilo-lite account set NAME` makes one.")


@account_app.command("remove", epilog="Example: msilo-lite account remove bob --config silo.toml")
def account_remove(name: Name, config: ConfigFile = None, chosen: Chosen = None) -> None:
    """Take a user's account away."""
    from .views import say

    file = _file(loaded_from(config, chosen).config)
    before = _others(file, "")
    left = _others(file, name)
    if left == before:
        raise NotFound(f"{file} has no account {name}; `msilo-lite account list` shows those that are there")
    _write(file, left)
    say(f"{name} has no account any more; the daemon knows it when it starts again, or at a SIGHUP.")


def _file(config: Config) -> Path:
    if config.accounts_file is None:
        raise ConfigError(FILE_FIRST)
    return config.accounts_file


def _password(name: str) -> str:
    """What a person types twice unseen, or the first line of a pipe. Raises ConfigError for none."""
    if sys.stdin.isatty():
        word = str(typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt="Again"))
    else:
        word = sys.stdin.readline().rstrip("\r\n")
    if not word:
        raise ConfigError("an empty password keeps nobody out")
    return word


def _lines_of(config: Config, name: str, password: str) -> list[str]:
    from ..settings.access import Account

    realm = config.realm_of_accounts
    try:
        account = Account.model_validate({"name": name, "password": password})
    except ValueError:
        raise ConfigError(f"{name!r} is not the name of a user") from None
    return [f"{name}:{realm}:{secret}" for secret in account.secrets(realm).values()]


def _others(file: Path, name: str) -> list[str]:
    """The lines of a file that are not about an account; none where there is no file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"accounts_file {file} cannot be read: {error}") from error
    return [line for line in lines if line.partition(":")[0] != name or not name]


def _write(file: Path, lines: list[str]) -> None:
    """Whole or not at all, and readable by us alone."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)  # made 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as made:
                made.write("".join(f"{line}\n" for line in lines))
                made.flush()
                os.fsync(made.fileno())
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise ConfigError(f"accounts_file {file} cannot be written: {error}") from error
