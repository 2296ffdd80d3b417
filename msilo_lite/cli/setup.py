"""`init`: a commented configuration to start from, one for a certain PBX, or one that carries a Kamailio's over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, MsiloError
from ..settings.config import Config, in_order, problem_with
from .kamailio import carry_over
from .recipe import Recipe, Wanted, recipe_for

EXISTS = "{} exists already; --force overwrites it, --output names another"
HEAD = """\
# Configuration of msilo-lite: msilo-lite serve --config THIS_FILE
# Every setting stands here with its default, as a comment; take the # away to change it.
"""
PEER = """\
# Networks that may do more than store and wake; repeat the table for more. `control` lets them steer the silo with
# X-MSilo-* headers: only where the PBX takes those headers away from what phones send.
# [[peer]]
# address = "192.168.1.10/32"
# control = true
"""


def commented(recipe: Recipe | None = None) -> str:
    """Every setting with its meaning and its default, all as comments but for those that a PBX needs."""
    lines = [HEAD, *(_for_pbx(recipe) if recipe else ())]
    set_already = {one.name for one in recipe.settings} if recipe else set()
    for name in in_order():
        if name == "peer" or name in set_already:
            continue
        field = Config.model_fields[name]
        default = field.get_default(call_default_factory=True)
        shown = f"# {name} = {_toml(default) if default is not None else chr(34) * 2}"
        lines.append(f"\n# {field.description}\n{shown}\n")
    return "".join(lines) + "\n" + PEER


def _for_pbx(recipe: Recipe) -> Iterator[str]:
    """What fits the PBX, each with its reason."""
    yield f"\n######## For {recipe.title} ########\n"
    for one in recipe.settings:
        yield f"\n# {one.why[0].upper()}{one.why[1:]}.\n{one.name} = {_toml(one.value)}\n"
    yield "\n######## Everything else, with its default ########\n"


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `init` is to write."""

    text: str
    "The configuration."
    problems: tuple[str, ...] = ()
    "What could not be carried over."
    recipe: Recipe | None = None
    "What the PBX needs in its own files."


def prepared(kamailio: Path | None, wanted: Wanted | None, fragment: Path | None) -> Prepared:
    """What a person asked for. Raises ConfigError for what does not go together, and MsiloError."""
    if kamailio and wanted:
        raise ConfigError("--from-kamailio and --pbx are two ways to start; take one of them")
    if fragment and not wanted:
        raise ConfigError("--fragment needs --pbx, which says for what")
    if kamailio:
        return Prepared(*carried(kamailio))
    recipe = recipe_for(wanted) if wanted else None
    return Prepared(commented(recipe), recipe=recipe)


def carried(file: Path) -> tuple[str, tuple[str, ...]]:
    """The configuration that a kamailio.cfg stands for, and what could not be carried over.

    Raises MsiloError when the file cannot be read.
    """

    def read(name: str) -> str:
        return (file.parent / name).read_text(encoding="utf-8", errors="replace")

    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MsiloError(f"cannot read {file}: {error.strerror}") from error
    done = carry_over(text, str(file), read, problem_with)
    return done.toml, done.problems


def write_all(made: Prepared, output: Path | None, fragment: Path | None, *, force: bool) -> list[Path]:
    """Write the configuration to `output`, and what goes into the PBX to `fragment`, into a folder file by file.

    Returns the files for the PBX. Nothing is written where one of the files exists, unless `force`. Raises as `write`.
    """
    texts = {output: made.text} if output else {}
    for_pbx: dict[Path, str] = {}
    if fragment and made.recipe:
        whole = {fragment: made.recipe.fragment}
        for_pbx = {fragment / name: text for name, text in made.recipe.files.items()} if fragment.is_dir() else whole
    for file in (*texts, *for_pbx):
        if file.exists() and not force:
            raise ConfigError(EXISTS.format(file))
    for file, text in {**texts, **for_pbx}.items():
        write(file, text, force=force)
    return list(for_pbx)


def write(file: Path, text: str, *, force: bool, mode: int = 0o600) -> None:
    """Write a file, for this user alone unless `mode` says otherwise.

    Raises ConfigError where it exists and MsiloError where it cannot be written.
    """
    try:
        how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, how, mode), "w", encoding="utf-8") as made:
            os.fchmod(made.fileno(), mode)
            made.write(text)
    except FileExistsError:
        if not file.is_file():
            raise MsiloError(f"cannot write {file}: {file.parent} is no folder") from None
        raise ConfigError(EXISTS.format(file)) from None
    except OSError as error:
        raise MsiloError(f"cannot write {file}: {error.strerror}") from error
