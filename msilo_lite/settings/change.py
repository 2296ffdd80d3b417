"""From the configuration in force to one that was read again: what comes into force, what waits for a restart."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pydantic import ValidationError

from ..errors import ConfigError
from .config import Config, in_order


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration that can come into force while we serve."""

    config: Config
    taken: tuple[str, ...]
    "Settings that are different from now on."
    kept: tuple[str, ...]
    "Settings that differ in the file and stay as they are until a restart."


def change(now: Config, wanted: Config, live: Collection[str]) -> Change:
    """What of `wanted` may come into force; `live`: settings that can change while we serve.

    Raises ConfigError where these do not go together with those that stay.
    """
    different = [name for name in in_order() if getattr(now, name) != getattr(wanted, name)]
    kept = tuple(name for name in different if name not in live)
    values = {name: getattr(now if name in kept else wanted, name) for name in in_order()}
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        words = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{words}; {', '.join(kept)} can only change at a restart") from error
    return Change(config, tuple(name for name in different if name in live), kept)
