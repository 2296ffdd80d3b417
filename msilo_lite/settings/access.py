"""Who may do what: the rights of a network, and the accounts of those who come from elsewhere.

The field descriptions are the manual; docs/security.md tells it task by task.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from ..errors import BadRequest, ConfigError
from ..sip.address import Aor
from ..sip.digest import secret_of
from ..sip.verifier import STRONGEST_FIRST

ACCOUNT_EXAMPLE = '[{"name": "bob", "password": "..."}]'
HASHES = {32: "MD5", 64: "SHA-256"}
"Algorithm of an H(A1), by its hexadecimal digits."
_HEX = re.compile(r"[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Rights:
    """What requests from one address may do."""

    store: bool = True
    wake: bool = True
    replayed: bool = True
    control: bool = False


class Account(BaseModel):
    """A user who proves himself by a password, wherever he is."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    "What his phone sends as user name: the user part of his address, or the whole of it."
    password: SecretStr | None = None
    ha1: tuple[SecretStr, ...] = ()
    "In place of it: H(A1) as MD5 (32 hexadecimal digits), as SHA-256 (64), or both."

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not value or re.search(r'[\x00-\x20":<>]', value):
            raise ValueError(f"{value!r} is not the name of a user")
        return value

    @field_validator("ha1", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | SecretStr) else value

    @field_validator("ha1")
    @classmethod
    def _check_hash(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not _HEX.fullmatch(one.get_secret_value()) or _length(one) not in HASHES for one in value):
            raise ValueError("ha1 is 32 (MD5) or 64 (SHA-256) hexadecimal digits")
        return value

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if (self.password is None or not self.password.get_secret_value()) == (not self.ha1):
            raise ValueError(f"account {self.name} needs a password or ha1, one of them")
        return self

    def secrets(self, realm: str) -> dict[str, str]:
        """H(A1) by algorithm."""
        if self.password is None:
            return {HASHES[_length(one)]: one.get_secret_value().lower() for one in self.ha1}
        password = self.password.get_secret_value()
        return {one: secret_of(one, self.name, realm, password) for one in STRONGEST_FIRST}

    def __str__(self) -> str:
        return self.name


def _length(secret: SecretStr) -> int:
    return len(secret.get_secret_value())


class Access(BaseModel):
    """Settings about those who come from networks that are not trusted."""

    account: Annotated[tuple[Account, ...], NoDecode] = Field(
        (), description="Users who may come from anywhere, as tables with name and password or ha1; never shown."
    )
    accounts_file: Path | None = Field(
        None, description="File (0600) of more of them, a line each: name:password, or name:realm:HA1 as htdigest does."
    )
    realm: str = Field("", description="Realm of their passwords; empty: the first domain.")
    auth_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        STRONGEST_FIRST, description="What we ask them for, in this order; MD5 alone for phones that read one question."
    )
    nonce_time: int = Field(300, ge=10, le=86400, description="Seconds for which an answer to our challenge is good.")
    auth_failures: int = Field(
        10, ge=1, le=10000, description="Wrong passwords a minute from one address; more of it gets 503 for a while."
    )

    @field_validator("account", mode="before")
    @classmethod
    def _decode_accounts(cls, value: Any) -> Any:
        try:
            found = json.loads(value or "[]") if isinstance(value, str) else value
        except ValueError:
            found = None
        if not isinstance(found, list | tuple) or not all(isinstance(one, Account | dict) for one in found):
            raise ValueError(f"write it as JSON: {ACCOUNT_EXAMPLE}")
        for one in found:
            if isinstance(one, dict) and (wrong := one.keys() - Account.model_fields.keys()):
                raise ValueError(f"{min(wrong)} is not a key of an account; {', '.join(Account.model_fields)} are")
        return found

    @field_validator("auth_algorithms", mode="before")
    @classmethod
    def _split_algorithms(cls, value: Any) -> Any:
        return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value

    @field_validator("auth_algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(one.upper() for one in value))
        if not found or set(found) - set(STRONGEST_FIRST):
            raise ValueError(f"write one or more of {', '.join(STRONGEST_FIRST)}")
        return found

    @field_validator("realm")
    @classmethod
    def _check_realm(cls, value: str) -> str:
        if re.search(r'[\x00-\x1f"\\:]', value):
            raise ValueError("a realm has no quotes, colons or control characters")
        return value

    @field_validator("accounts_file", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _check_accounts(self) -> Self:
        if self.has_accounts and not self.domains_of_accounts:
            raise ValueError("accounts need a domain: the users of which host are they? Set domain = home.lan, say")
        return self

    @property
    def domains_of_accounts(self) -> tuple[str, ...]:
        """Hosts of the users who may have accounts, the first one's where a name has none."""
        return tuple(getattr(self, "domain", ()))

    @property
    def has_accounts(self) -> bool:
        """Whether anybody may prove himself."""
        return bool(self.account or self.accounts_file)

    @property
    def realm_of_accounts(self) -> str:
        """The realm that passwords belong to."""
        return self.realm or self.domains_of_accounts[0]

    def accounts(self) -> dict[str, Mapping[str, str]]:
        """H(A1)s by algorithm, by the names of the accounts. Raises ConfigError, also for a file that others read."""
        realm = self.realm_of_accounts
        found: dict[str, Mapping[str, str]] = {}
        for one in (*self.account, *(read_accounts(self.accounts_file, realm) if self.accounts_file else ())):
            if one.name in found:
                raise ConfigError(f"account {one.name} stands there twice")
            found[one.name] = one.secrets(realm)
        return found

    def algorithms(self, accounts: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
        """What we ask for: what every account can answer, for a longer list would tell who exists.

        Raises ConfigError where they have none of ours in common.
        """
        common = [one for one in self.auth_algorithms if all(one in secrets for secrets in accounts.values())]
        if not common:
            raise ConfigError("the accounts have no algorithm of auth_algorithms in common: give each its password")
        return tuple(common)

    def aor_of_account(self, name: str) -> Aor:
        """Whose address an account is for. Raises ConfigError for one of another domain."""
        try:
            aor = Aor.parse(name if "@" in name else f"{name}@{self.domains_of_accounts[0]}")
        except BadRequest as error:
            raise ConfigError(f"account {name}: {error}") from error
        if aor.host not in self.domains_of_accounts:
            raise ConfigError(f"account {name}: {aor.host} is not a domain of ours")
        return aor


def read_accounts(file: Path, realm: str) -> list[Account]:
    """The accounts of a file. Raises ConfigError that names the line, never what stands in it."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"accounts_file {file} cannot be read: {error}") from error
    if mode & 0o077:
        raise ConfigError(f"accounts_file {file} can be read by others (mode {mode:04o}); chmod 600 {file}")
    plain: dict[str, str] = {}
    hashed: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = line.split(":")
        known = name in plain or (name in hashed and len(rest) < 2)
        if len(rest) == 1 and rest[0] and not known:
            plain[name] = rest[0]
        elif len(rest) == 2 and rest[0] == realm and name not in plain and len(rest[1]) in HASHES:
            hashed.setdefault(name, []).append(rest[1])
        else:
            raise ConfigError(f"accounts_file {file} line {number}: {_what_is_wrong(rest, realm, known)}")
    made: list[dict[str, Any]] = [{"name": name, "password": secret} for name, secret in plain.items()]
    made += [{"name": name, "ha1": secrets} for name, secrets in hashed.items()]
    try:
        return [Account.model_validate(one) for one in made]
    except ValueError as error:
        raise ConfigError(f"accounts_file {file}: {_first_words(error)}") from error


def _what_is_wrong(rest: list[str], realm: str, known: bool) -> str:
    if known:
        return "this name stands there twice"
    if len(rest) == 2 and len(rest[1]) in HASHES and rest[0] != realm:
        return f"its realm is {rest[0]}, and ours is {realm}; set realm, or make it again"
    return "neither name:password nor name:realm:HA1 (32 or 64 hexadecimal digits)"


def _first_words(error: ValueError) -> str:
    """What pydantic says first, without what was given."""
    errors = getattr(error, "errors", None)
    words = str(errors(include_input=False)[0]["msg"]) if errors else "it cannot be understood"
    return words.removeprefix("Value error, ")
