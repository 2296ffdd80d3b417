"""`init`: a commented configuration to start from, or one that carries a Kamailio's parameters over."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError, MsiloError
from ..settings.config import Config, in_order, problem_with
from .kamailio import carry_over

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


def commented() -> str:
    """Every setting with its meaning and its default, all as comments."""
    lines = [HEAD]
    for name in in_order():
        if name == "peer":
            continue
        field = Config.model_fields[name]
        default = field.get_default(call_default_factory=True)
        shown = f"# {name} = {_toml(default) if default is not None else chr(34) * 2}"
        lines.append(f"\n# {field.description}\n{shown}\n")
    return "".join(lines) + "\n" + PEER


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


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


def write(file: Path, text: str, *, force: bool) -> None:
    """Write a configuration for this user alone. Raises ConfigError where it exists and MsiloError where it cannot."""
    try:
        mode = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, mode, 0o600), "w", encoding="utf-8") as made:
            os.fchmod(made.fileno(), 0o600)
            made.write(text)
    except FileExistsError:
        if not file.is_file():
            raise MsiloError(f"cannot write {file}: {file.parent} is no folder") from None
        raise ConfigError(f"{file} exists already; --force overwrites it, --output names another") from None
    except OSError as error:
        raise MsiloError(f"cannot write {file}: {error.strerror}") from error
