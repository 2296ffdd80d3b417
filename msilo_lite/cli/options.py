"""Options that many commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from ..settings.sources import Loaded
    from ..sip.address import Aor
    from .choice import Choice

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (TOML).", show_default=False)
]
DbUrl = Annotated[str | None, typer.Option("--db-url", help="The database, as sqlite:///FILE.", show_default=False)]
Chosen = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting; repeat for more.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Pbx = Annotated[
    str | None,
    typer.Option(
        "--pbx", metavar="KIND", show_default=False, rich_help_panel="Beside a PBX",
        help="For this PBX: asterisk, freepbx, kamailio, opensips or freeswitch.",
    ),
]  # fmt: skip
PbxAddress = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Where the PBX listens.", rich_help_panel="Beside a PBX")
]
PbxDomain = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", show_default=False, rich_help_panel="Beside a PBX",
        help="What stands behind the @ of your users; repeat for more.",
    ),
]  # fmt: skip
PbxBind = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", show_default=False, rich_help_panel="Beside a PBX",
        help="Where the silo is to listen; unset: the address that faces the PBX, port 5070.",
    ),
]  # fmt: skip
PbxPhones = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", show_default=False, rich_help_panel="Beside a PBX",
        help="A user of an Asterisk, or a pattern of its dialplan such as _1XX; repeat for more.",
    ),
]  # fmt: skip
PbxUser = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", show_default=False, rich_help_panel="Beside a PBX",
        help="Be an extension of that name, with a password, instead of being known by the address.",
    ),
]  # fmt: skip
PbxPasswordFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False, rich_help_panel="Beside a PBX",
        help="Its first line is that password; unset: one is made.",
    ),
]  # fmt: skip
Fragment = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False, rich_help_panel="Beside a PBX",
        help="Write what goes into the PBX there, into a folder file by file; unset: it is shown.",
    ),
]  # fmt: skip
LoopUser = Annotated[
    str | None,
    typer.Option(
        "--loop", metavar="USER", show_default=False,
        help="Send a message to this user through the PBX: his phones have to be off, and it has to come to us.",
    ),
]  # fmt: skip
LoopCaller = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="Send it as this phone, too.", show_default=False)
]
LoopPassword = Annotated[
    Path | None,
    typer.Option(
        "--as-password-file", metavar="FILE", help="Its first line is that phone's password.", show_default=False
    ),
]
OwnerArg = Annotated[
    str | None,
    typer.Argument(metavar="[USER]", help="Whose messages: bob@home.lan or sip:bob@home.lan.", show_default=False),
]


To = Annotated[str | None, typer.Option("--to", metavar="USER", help="Only for this user.", show_default=False)]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="WHO", help="Only from this user, host or tel: URI.", show_default=False),
]
InState = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="Only in this state: pending, scheduled, held, sending, parked, handed-over; repeat for more.",
        show_default=False,
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than", metavar="AGE", help="Only what arrived so long ago: 90m, 2h, 1d12h.", show_default=False
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="Every message of everybody.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="Ids that `list` shows.", show_default=False)
]


def choice_of(to: str | None, from_: str | None, state: list[str] | None, older_than: str | None) -> Choice:
    """The filters of a command. Raises ConfigError and BadRequest."""
    import time

    from .choice import Choice, states_named
    from .words import seconds_in

    before = int(time.time()) - seconds_in(older_than, "--older-than") if older_than else None
    sender = (from_ or "").strip().removeprefix("sip:").removeprefix("@")
    return Choice(aor(to) if to else None, sender, states_named(state or []), before)


def picked(command: str, numbers: list[int] | None, choice: Choice, *, everything: bool) -> None:
    """Raises ConfigError unless ids, filters or --all say what is meant: one of them."""
    from ..errors import ConfigError

    if sum((bool(numbers), not choice.empty, everything)) != 1:
        raise ConfigError(f"{command} takes ids, or filters such as --to USER, or --all: one of them")


def loaded_from(file: Path | None, chosen: list[str] | None = None, **flags: Any) -> Loaded:
    """The configuration. Raises ConfigError."""
    from ..settings.sources import load

    return load(file, flags, chosen or ())


def aor(text: str) -> Aor:
    """A user that a person named. Raises BadRequest."""
    from ..sip.address import Aor

    return Aor.parse(text)


class WithDefault(TyperGroup):
    """A group whose first command may be left out: `remind USER ...` is `remind add USER ...`."""

    default = "add"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in where it is missing."""
        asks_help = {"-h", "--help"} & set(args[:1])
        if args and not asks_help and args[0] not in self.commands:
            args = [self.default, *args]
        return super().parse_args(ctx, args)
