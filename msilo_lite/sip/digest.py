"""Digest authentication (RFC 7616, as RFC 8760 brings it to SIP): its arithmetic, and the answer to a challenge. Pure.

MD5, SHA-256 and SHA-512-256, with and without qop, and the `-sess` variants. auth-int is not answered: no PBX asks for
it alone. What we ask others is `verifier`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import BadRequest
from .address import split_list

_HASHES: dict[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
"Algorithms we answer, the strongest first (RFC 8760 2.4 leaves the choice to the order of the server)."


def secret_of(algorithm: str, user: str, realm: str, password: str) -> str:
    """What a server has to keep of a password, hexadecimal (RFC 7616 3.4.2: H(A1)); KeyError: unknown algorithm."""
    return _hashed(algorithm, f"{user}:{realm}:{password}")


def response_of(algorithm: str, secret: str, method: str, uri: str, middle: str) -> str:
    """The hexadecimal response (RFC 7616 3.4.1). `middle`: nonce, or nonce:nc:cnonce:qop."""
    request = _hashed(algorithm, f"{method}:{uri}")
    return _hashed(algorithm, f"{secret}:{middle}:{request}")


def _hashed(algorithm: str, text: str) -> str:
    return _HASHES[algorithm](text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a PBX."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A WWW-Authenticate or Proxy-Authenticate value."""

    realm: str
    nonce: str
    algorithm: str
    "As written; empty for none, which means MD5."
    qop: frozenset[str]
    opaque: str | None
    stale: bool

    @classmethod
    def parse(cls, value: str) -> Challenge:
        """Raises BadRequest (400) for what is no Digest challenge."""
        scheme, _, rest = value.strip().partition(" ")
        pairs = parameters(rest)
        if scheme.lower() != "digest" or "nonce" not in pairs or "realm" not in pairs:
            raise BadRequest(400, "not a Digest challenge")
        return cls(
            realm=pairs["realm"],
            nonce=pairs["nonce"],
            algorithm=pairs.get("algorithm", ""),
            qop=frozenset(one.strip().lower() for one in pairs.get("qop", "").split(",") if one.strip()),
            opaque=pairs.get("opaque"),
            stale=pairs.get("stale", "").lower() == "true",
        )

    @property
    def answerable(self) -> bool:
        """Whether we know its algorithm and its quality of protection."""
        return self._hash in _HASHES and (not self.qop or "auth" in self.qop)

    @property
    def _hash(self) -> str:
        return (self.algorithm or "MD5").upper().removesuffix("-SESS")

    def answer(self, who: Credentials, method: str, uri: str, client_nonce: str, count: int = 1) -> str:
        """The value of Authorization or Proxy-Authorization. Raises BadRequest for what we cannot answer."""
        if not self.answerable:
            raise BadRequest(400, f"the challenge asks for {self.algorithm or 'MD5'} {', '.join(sorted(self.qop))}")
        response = self.response(who, method, uri, client_nonce, count)
        parts = [quoted("username", who.user), quoted("realm", self.realm), quoted("nonce", self.nonce)]
        parts += [quoted("uri", uri), quoted("response", response)]
        if self.algorithm:
            parts.append(f"algorithm={self.algorithm}")
        if self.qop:
            parts += ["qop=auth", quoted("cnonce", client_nonce), f"nc={count:08x}"]
        if self.opaque is not None:
            parts.append(quoted("opaque", self.opaque))
        return "Digest " + ", ".join(parts)

    def response(self, who: Credentials, method: str, uri: str, client_nonce: str, count: int) -> str:
        """The hexadecimal response (RFC 7616 3.4.1)."""
        secret = secret_of(self._hash, who.user, self.realm, who.password)
        if self.algorithm.upper().endswith("-SESS"):
            secret = _hashed(self._hash, f"{secret}:{self.nonce}:{client_nonce}")
        middle = f"{self.nonce}:{count:08x}:{client_nonce}:auth" if self.qop else self.nonce
        return response_of(self._hash, secret, method, uri, middle)


def best_of(values: list[str]) -> Challenge | None:
    """The first challenge that we can answer, in the order of the server (RFC 8760 2.4); None for none."""
    for value in values:
        try:
            challenge = Challenge.parse(value)
        except BadRequest:
            continue
        if challenge.answerable:
            return challenge
    return None


def parameters(text: str) -> dict[str, str]:
    """`name=value` pairs separated by commas, values with or without quotes, names in lower case."""
    found = {}
    for item in split_list(text):
        name, equals, value = item.partition("=")
        if equals:
            found[name.strip().lower()] = _plain(value.strip())
    return found


def _plain(value: str) -> str:
    """A quoted-string without its quotes and escapes."""
    if len(value) < 2 or not (value.startswith('"') and value.endswith('"')):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1])


def quoted(name: str, value: str) -> str:
    inner = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{inner}"'
