"""The configuration: one frozen object with defaults, each value checked. `sources` makes it.

The field descriptions here and in `parameters` are the manual.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode

from ..box.delivery import Hop, Trust
from ..box.due import zone_of
from ..errors import ConfigError
from ..sip.address import Endpoint, parse_uri
from .access import Access, Rights
from .limits import Limits
from .pacing import Pacing
from .parameters import Parameters, sip_uri
from .transports import Transports
from .watching import Watching

APP = "msilo-lite"
Listed = Annotated[tuple[str, ...], NoDecode]
"A list; in the environment its items stand behind one another, separated by commas."


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


SYSTEM_FILE = Path("/etc") / APP / "config.toml"
SYSTEM_DATA = Path("/var/lib") / APP


def default_file() -> Path:
    """Where the configuration file is looked for when none is named: the user's own, else the machine's."""
    try:
        own = Path(platformdirs.user_config_dir(APP)) / "config.toml"
    except RuntimeError:  # a user without a home, as in a container
        return SYSTEM_FILE
    return SYSTEM_FILE if SYSTEM_FILE.is_file() and not own.exists() else own


def default_db_url() -> str:
    """The embedded SQLite file in the platform's place for data; the machine's where the user has no home."""
    try:
        folder = Path(platformdirs.user_data_dir(APP))
    except RuntimeError:
        folder = SYSTEM_DATA
    return f"sqlite:///{folder / 'silo.sqlite'}"


PEER_EXAMPLE = '[{"address": "192.168.1.10", "control": true}]'


class Peer(BaseModel):
    """What one network may do, and how it treats what it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    "Network (CIDR) or address."
    store: bool = True
    "Whether it may leave MESSAGEs."
    wake: bool = True
    "Whether its REGISTERs and NOTIFYs wake users and say where they are."
    replayed: bool = True
    "Whether X-MSilo-ID and X-MSilo-Path of its requests are believed; else they are taken away."
    control: bool = False
    "Whether its requests may steer the silo with X-MSilo-* headers."
    trust_2xx: Trust | None = None
    "How far its 2xx is believed; unset: the setting of that name."
    max_body: Annotated[int | None, Field(ge=0)] = None
    "Bytes of a body that it carries whole; unset: the setting of that name."

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return str(_network(value))

    @property
    def network(self) -> Network:
        """`address`, parsed."""
        return ipaddress.ip_network(self.address)

    @property
    def rights(self) -> Rights:
        """What it may do."""
        return Rights(self.store, self.wake, self.replayed, self.control)

    def __str__(self) -> str:
        lacks = [f"no {name}" for name in ("store", "wake", "replayed") if not getattr(self, name)]
        words = " and ".join((["control"] if self.control else []) + lacks)
        return f"{self.address}{f' with {words}' if words else ''}"


class Config(Watching, Limits, Access, Pacing, Transports, Parameters):
    """All settings: those of msilo, and ours."""

    model_config = ConfigDict(hide_input_in_errors=True)  # it may be a password

    bind: Listed = Field(
        ("udp:127.0.0.1:5070",),
        max_length=32,
        description="Addresses to listen on, as udp:, tcp: or tls:HOST:PORT; port 0 takes a free one.",
    )
    db_url: str = Field(default_factory=default_db_url, description="The database, as sqlite:///FILE.")
    domain: Listed = Field(
        (), description="Domains whose users are ours; the first replaces our own address. None: every host counts."
    )
    trusted: Listed = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Networks (CIDR) that are served; everyone else needs an account, or gets 403.",
    )
    peer: Annotated[tuple[Peer, ...], NoDecode] = Field(
        (), description="Networks that may do more or less: address, store, wake, replayed, control; served as well."
    )
    registrar: str | None = Field(None, description="SIP URI of the PBX to register at, as an extension; unset: none.")
    user: str | None = Field(None, description="Name of that extension, and of the user a PBX asks a password of.")
    password: SecretStr | None = Field(None, description="Its password; never shown.")
    password_file: Path | None = Field(None, description="File whose first line is that password.")
    register_expires: int = Field(300, ge=30, le=86400, description="Seconds for which the extension registers.")
    watch: Literal["off", "presence", "reg"] = Field(
        "off", description="Event to SUBSCRIBE to at the outbound_proxy for users with mail; its NOTIFY wakes them."
    )
    watch_most: int = Field(250, ge=1, le=10000, description="Such subscriptions at once; more users take turns.")
    trust_2xx: Trust = Field(
        Trust.ANY, description="any: 2xx is delivered. confirm: taken, it may come back. 200-only: 202 has to wait."
    )
    max_body: int = Field(0, ge=0, description="Bytes of a body that the PBX carries whole, longer ones wait; 0: any.")
    handed_time: int = Field(
        86400, ge=60, description="Seconds for which a message that a PBX took unconfirmed can be sent again."
    )
    max_attempts: int = Field(
        0, ge=0, description="Failed attempts after which a message is given up; 0: it is tried until it expires."
    )
    settle: float = Field(0.5, ge=0, le=60, description="Seconds between a REGISTER and the first replay.")
    max_in_flight: int = Field(64, ge=1, le=500, description="Messages under way at once, one for each recipient.")
    history_time: int = Field(
        30 * 86400, ge=300, description="Seconds for which what happened to a message is kept, without its body."
    )
    notice_interval: int = Field(
        600, ge=0, le=86400, description="Seconds in which a sender gets one notice about the same recipient."
    )
    timezone: str = Field("", description="Time zone of send times that name none; empty: this machine's.")
    ignored_types: Listed = Field(
        ("application/im-iscomposing+xml",), description="Media types answered 200 and forgotten (RFC 3994)."
    )
    store_hook: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Command to run when a message was stored, such as a push sender; it gets no body."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="What goes to the log.")

    @field_validator("bind", "domain", "trusted", "ignored_types", mode="before")
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
            sip_uri(f"sip:user@{item}", f"{item!r} is not a host name")
            if parse_uri(f"sip:user@{item}").host != item:
                raise ValueError(f"{item!r} is not a host name alone; leave port and parameters out")
        return tuple(item.lower().rstrip(".") for item in value)

    @field_validator("trusted")
    @classmethod
    def _check_trusted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(_network(item)) for item in value)

    @field_validator("peer", mode="before")
    @classmethod
    def _decode_peers(cls, value: Any) -> Any:
        try:
            found = json.loads(value or "[]") if isinstance(value, str) else value
        except ValueError:
            found = None
        if not isinstance(found, list | tuple):
            raise ValueError(f"write it as JSON: {PEER_EXAMPLE}")
        for one in found:
            if not isinstance(one, Peer) and not (isinstance(one, dict) and "address" in one):
                raise ValueError(f"each needs an address: {PEER_EXAMPLE}")
            if isinstance(one, dict) and (wrong := one.keys() - Peer.model_fields.keys()):
                raise ValueError(f"{min(wrong)} is not a key of a peer; {', '.join(Peer.model_fields)} are")
        return found

    @field_validator("user", "password", "password_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_validator("store_hook", mode="before")
    @classmethod
    def _split_words(cls, value: Any) -> Any:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        zone_of(value)
        return value

    @field_validator("ignored_types")
    @classmethod
    def _lower(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(item.lower() for item in value)

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

    @model_validator(mode="after")
    def _check_extension(self) -> Self:
        if self.password and self.password_file:
            raise ValueError("password and password_file are both set; one of them")
        if (self.password or self.password_file or self.registrar) and not self.user:
            raise ValueError("user is not set; a registrar and a password need one")
        if self.watch != "off" and not self.outbound_proxy:
            raise ValueError("watch needs an outbound_proxy, to which it subscribes")
        return self

    @property
    def secret(self) -> str | None:
        """The password, from its file where it is in one. Raises ConfigError when that cannot be read."""
        if self.password_file is None:
            return self.password.get_secret_value() if self.password else None
        try:
            return self.password_file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"password_file {self.password_file} cannot be read: {error}") from error

    def hop(self, host: str) -> Hop:
        """What is known of the host, an IP address or a name, that a message is handed to."""
        try:
            peer = self.peer_at(host) if self.peer else None
        except ValueError:  # a name
            peer = None
        trust = peer.trust_2xx if peer and peer.trust_2xx else self.trust_2xx
        most = peer.max_body if peer and peer.max_body is not None else self.max_body
        return Hop(trust, most)

    @property
    def networks(self) -> tuple[Network, ...]:
        """`trusted` and the networks of `peer`, parsed."""
        return tuple(ipaddress.ip_network(item) for item in self.trusted) + tuple(one.network for one in self.peer)

    def rights_at(self, host: str) -> Rights | None:
        """What an IP address may do by the smallest network that holds it, a peer's before others; None: a stranger."""
        address = ipaddress.ip_address(host)
        known = [(ipaddress.ip_network(item), Rights()) for item in self.trusted]
        known += [(one.network, one.rights) for one in self.peer]
        found = [one for one in known if address in one[0]]
        return max(reversed(found), key=lambda one: one[0].prefixlen)[1] if found else None

    def peer_at(self, host: str) -> Peer | None:
        """The peer with the smallest network that holds an IP address."""
        address = ipaddress.ip_address(host)
        found = [one for one in self.peer if address in one.network]
        return max(found, key=lambda one: one.network.prefixlen, default=None)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" not in str(error):
            raise
        whole, alone = ipaddress.ip_network(text, strict=False), text.partition("/")[0]
        raise ValueError(f"{text} has host bits set; write {whole}, or {alone} for this host alone") from None


def in_order() -> list[str]:
    """The names of all settings: ours, then msilo's."""
    own = [name for name in Config.model_fields if name not in Parameters.model_fields]
    return [*own, *Parameters.model_fields]


def problem_with(name: str, value: str | int) -> str | None:
    """Why a setting cannot have a value, in a sentence; None where it can."""
    try:
        Config.model_validate({name: value})
    except ValidationError as error:
        first = error.errors()[0]
        return str(first["msg"]).removeprefix("Value error, ") if first["loc"] else None
    return None
