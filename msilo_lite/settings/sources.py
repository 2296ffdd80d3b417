"""Where settings come from: defaults, a TOML file, the environment, options; merged once, later ones win.

Every value remembers its source, so that an error and `config show` can name it.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from ..errors import ConfigError
from .config import Config, default_file

ENV_PREFIX = "MSILO_"
SECRETS = ("password", "account")
"Settings whose values are never shown."
OTHERS = ("config", "require_peers", "supervised", "crash_at")
"Variables with our prefix that are no settings: the file's name, and those of the tests and of the supervisor."


class _Environment(BaseSettings):
    """Only there to let pydantic-settings read MSILO_* for the fields of Config."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each of its values came from."""

    config: Config
    origins: Mapping[str, str]
    "Key to `default`, the file's path, `environment NAME` or `flag --name`."
    file: Path | None
    "The file that was read, if any."
    given: tuple[Mapping[str, Any], Sequence[str]] = (MappingProxyType({}), ())
    "The options that came on top."

    def reread(self) -> Loaded:
        """The same sources as they are now; a file that is gone is no empty one. Raises ConfigError."""
        return load(self.file, *self.given)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and yet hardly meant, a sentence each."""
        unknown = sorted(
            name
            for name in os.environ
            if name.startswith(ENV_PREFIX)
            and name.removeprefix(ENV_PREFIX).lower() not in (*Config.model_fields, *OTHERS)
        )
        found = [f"{name} in the environment is not a setting and does nothing" for name in unknown]
        beyond = [str(one) for one in self.config.endpoints if not ipaddress.ip_address(one.host).is_loopback]
        alone = all(network.is_loopback for network in self.config.networks) and not self.config.has_accounts
        if beyond and alone:
            found.append(f"{beyond[0]} can be reached from outside, but only this machine is trusted: see --trusted")
        return tuple(found)


def load(file: Path | None, flags: Mapping[str, Any], chosen: Sequence[str] = ()) -> Loaded:
    """Merge all sources. `flags` with the value None or () were not given; `chosen` are `NAME=VALUE` of --set.

    Raises ConfigError that names the key, its source and what is wrong.
    """
    path = file or Path(os.environ.get(ENV_PREFIX + "CONFIG", "") or default_file())
    named = file is not None or ENV_PREFIX + "CONFIG" in os.environ
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Config.model_fields, "default")
    for key, value in _read_file(path, named).items():
        values[key], origins[key] = value, str(path)
    for key, value in _read_environment().items():
        values[key], origins[key] = value, f"environment {ENV_PREFIX}{key.upper()}"
    for key, value in flags.items():
        if value is not None and value != ():
            values[key], origins[key] = value, f"flag --{key.replace('_', '-')}"
    for item in chosen:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise ConfigError(f"--set {item}: write NAME=VALUE; `msilo-lite config show` lists the names")
        values[key], origins[key] = value, "option --set"
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        _blame(error, origins)
    return Loaded(config, origins, path if path.exists() else None, (flags, chosen))


def _read_file(path: Path, named: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigError(f"the configuration file {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error


def _read_environment() -> dict[str, Any]:
    source = EnvSettingsSource(_Environment, env_prefix=ENV_PREFIX)
    found = {}
    for key, field in Config.model_fields.items():
        value, _, _ = source.get_field_value(field, key)
        if value is not None:
            found[key] = value
    return found


def _blame(error: ValidationError, origins: Mapping[str, str]) -> NoReturn:
    """Turn pydantic's report into one sentence about the first wrong value."""
    first = error.errors()[0]
    if not first["loc"]:  # two settings that do not go together
        raise ConfigError(str(first["msg"]).removeprefix("Value error, ")) from error
    key = str(first["loc"][0])
    origin = origins.get(key, "?")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Config.model_fields, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `msilo-lite config show` lists the keys"
        raise ConfigError(f"{key} (from {origin}) is not a setting{hint}") from error
    words = str(first["msg"]).removeprefix("Value error, ")
    value = first["input"]
    given = ", ".join(map(str, value)) if isinstance(value, tuple | list) else repr(value)
    if key in SECRETS:
        raise ConfigError(f"{key} (from {origin}): {words}") from None  # neither words nor cause show what was given
    raise ConfigError(f"{key} = {given} (from {origin}): {words}") from error
