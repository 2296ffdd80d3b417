"""The configuration: one frozen object, made once from defaults, a TOML file, the environment and flags.

Later sources win. Every value remembers where it came from, so that an error and `config show` can say so. The field
descriptions below are the manual.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from .address import Endpoint, parse_uri
from .errors import BadRequest, ConfigError

APP = "msilo-lite"
ENV_PREFIX = "MSILO_"
OTHERS = ("config", "require_peers")
"Variables with our prefix that are no settings: the file's name, and one that the tests read."
Listed = Annotated[tuple[str, ...], NoDecode]
"A list; in the environment its items stand behind one another, separated by commas."


def default_file() -> Path:
    """Where the configuration file is looked for when none is named."""
    return Path(platformdirs.user_config_dir(APP)) / "config.toml"


def default_db_url() -> str:
    """The embedded SQLite file in the platform's place for data."""
    return f"sqlite:///{Path(platformdirs.user_data_dir(APP)) / 'silo.sqlite'}"


class Config(BaseModel):
    """All settings. Names that msilo has mean what they mean there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: Listed = Field(
        ("udp:127.0.0.1:5070",), description="Addresses to listen on, as udp:HOST:PORT; port 0 takes a free one."
    )
    db_url: str = Field(default_factory=default_db_url, description="The database, as sqlite:///FILE.")
    domain: Listed = Field(
        (), description="Domains whose users are ours; the first replaces our own address. None: every host counts."
    )
    trusted: Listed = Field(
        ("127.0.0.0/8", "::1/128"), description="Networks (CIDR) whose requests are served; everyone else gets 403."
    )
    outbound_proxy: str | None = Field(
        None, description="SIP URI every replay is sent through, to the AoR; unset: straight to the newest Contact."
    )
    expire_time: int = Field(259200, ge=1, le=2**31 - 1, description="Longest life of a message, in seconds.")
    check_time: int = Field(60, ge=1, le=86400, description="Seconds between two runs of the cleaner.")
    clean_period: int = Field(10, ge=1, le=100000, description="Runs of the cleaner between two purges of history.")
    settle: float = Field(0.5, ge=0, le=60, description="Seconds between a REGISTER and the first replay.")
    max_in_flight: int = Field(64, ge=1, le=500, description="Messages under way at once, one for each recipient.")
    history_time: int = Field(
        30 * 86400, ge=300, description="Seconds for which what happened to a message is kept, without its body."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="What goes to the log.")

    @field_validator("bind", "domain", "trusted", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no address to listen on")
        return tuple(str(Endpoint.parse(item)) for item in value)

    @field_validator("domain")
    @classmethod
    def _check_domain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            _sip_uri(f"sip:user@{item}", f"{item!r} is not a host name")
            if parse_uri(f"sip:user@{item}").host != item:
                raise ValueError(f"{item!r} is not a host name alone; leave port and parameters out")
        return tuple(item.lower().rstrip(".") for item in value)

    @field_validator("trusted")
    @classmethod
    def _check_trusted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(_network(item)) for item in value)

    @field_validator("outbound_proxy")
    @classmethod
    def _check_proxy(cls, value: str | None) -> str | None:
        if not value:
            return None
        _sip_uri(value, f"{value!r} is not a SIP URI such as sip:192.168.1.1:5060")
        uri = parse_uri(value)
        if uri.scheme == "sips" or (uri.parameters.get("transport") or "udp").lower() != "udp":
            raise ValueError(f"{value!r} asks for another transport, but only udp is served")
        return value

    @field_validator("db_url")
    @classmethod
    def _check_db_url(cls, value: str) -> str:
        name = value.removeprefix("sqlite:///")
        if not value.startswith("sqlite:///") or not name or name.startswith(":memory:"):
            raise ValueError(f"{value!r} is not of the form sqlite:///FILE (four slashes for an absolute path)")
        return value

    @property
    def db_file(self) -> Path:
        """The database file, as an absolute path."""
        return Path(self.db_url.removeprefix("sqlite:///")).expanduser().absolute()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """`bind`, parsed."""
        return tuple(Endpoint.parse(item) for item in self.bind)

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """`trusted`, parsed."""
        return tuple(ipaddress.ip_network(item) for item in self.trusted)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" not in str(error):
            raise
        whole, alone = ipaddress.ip_network(text, strict=False), text.partition("/")[0]
        raise ValueError(f"{text} has host bits set; write {whole}, or {alone} for this host alone") from None


def _sip_uri(text: str, problem: str) -> None:
    try:
        parse_uri(text)
    except BadRequest:
        raise ValueError(problem) from None


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
        if beyond and all(network.is_loopback for network in self.config.networks):
            found.append(f"{beyond[0]} can be reached from outside, but only this machine is trusted: see --trusted")
        return tuple(found)


def load(file: Path | None, flags: Mapping[str, Any]) -> Loaded:
    """Merge all sources. `flags` with the value None or () were not given.

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
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        _blame(error, origins)
    return Loaded(config, origins, path if path.exists() else None)


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
    key = str(first["loc"][0])
    origin = origins.get(key, "?")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Config.model_fields, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `msilo-lite config show` lists the keys"
        raise ConfigError(f"{key} (from {origin}) is not a setting{hint}") from error
    words = str(first["msg"]).removeprefix("Value error, ")
    given = ", ".join(first["input"]) if isinstance(first["input"], tuple | list) else repr(first["input"])
    raise ConfigError(f"{key} = {given} (from {origin}): {words}") from error
