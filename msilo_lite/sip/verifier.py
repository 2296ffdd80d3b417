"""Digest authentication from the other side: what we ask a stranger, and whether his answer is true. Pure.

Several challenges, the strongest first (RFC 8760 2.3), always with qop=auth. A nonce is our own word (an HMAC of the
time and of who asked), so that nothing has to be remembered of those who never answer. Of those who did, each number of
a nonce counts once; a retransmission, which is the same request byte for byte, is no second use (RFC 3261 17.1.2.2).

An unknown user, a wrong password and an algorithm that we do not offer take the same steps and get the same answer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ..errors import BadRequest
from .address import same_uri
from .digest import parameters, quoted, response_of, secret_of

STRONGEST_FIRST = ("SHA-256", "MD5")
"Algorithms we ask for, where every account has them."
REMEMBERED = 16_384
"Nonces in use that are remembered at the most, about 300 bytes each."
WINDOW = 64
"Numbers of one nonce that may arrive out of order: requests sent over UDP overtake one another."
RETRANSMISSION = 40.0
"Seconds within which the same bytes are the same request: 32 by RFC 3261 17.1.2.2 (Timer F), and the way."
NOBODY = "nobody"
"Stands in for an account that does not exist."
_COUNT = re.compile(r"[0-9a-fA-F]{8}")
_HEX = re.compile(r"[0-9a-f]+")

Secrets = Mapping[str, str]
"H(A1) by algorithm, hexadecimal."


class Finding(Enum):
    """What there is to say about the proof in a request."""

    ABSENT = "absent"
    TRUE = "true"
    STALE = "stale"
    "Its nonce is not good any more, or was never ours: ask again. Nothing was compared."
    WRONG = "wrong"
    OTHER_URI = "other_uri"
    "True, and made for another Request-URI."


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked at of one request."""

    method: str
    target: str
    "Request-URI."
    proofs: tuple[str, ...]
    "Values of Authorization, whole."
    host: str
    "IP address it came from."
    whole: bytes
    "Hash of the whole request: tells a retransmission from another request with the same proof."


@dataclass(slots=True)
class _Use:
    """A nonce that somebody has answered."""

    issued: int
    highest: int = 0
    seen: dict[int, tuple[bytes, float]] = field(default_factory=dict)
    "Numbers in the window, each with the request that used it, and when."


class Verifier:
    """Asks for passwords and checks the answers. `now`: seconds of one clock."""

    def __init__(
        self, realm: str, accounts: Mapping[str, Secrets], algorithms: Iterable[str], key: bytes, lifetime: int
    ) -> None:
        """`key`: random bytes that nobody else knows. `lifetime`: seconds for which a nonce is good."""
        self._realm = realm
        self._accounts = accounts
        self._algorithms = tuple(algorithms)
        self._key = key
        self._lifetime = lifetime
        self._nobody = {one: secret_of(one, NOBODY, realm, key.hex()) for one in self._algorithms}
        self._count = 0
        self._used: OrderedDict[str, _Use] = OrderedDict()
        self._floor = 0
        "Milliseconds: nonces issued up to then are good only where they are remembered."
        self._latest = 0.0

    # -- what we ask -------------------------------------------------------------------------------------------------
    def challenges(self, host: str, now: float, *, stale: bool = False) -> tuple[str, ...]:
        """Values of WWW-Authenticate for somebody at an IP address, in the order we prefer."""
        self._watch_the_clock(now)
        self._count += 1
        nonce = quoted("nonce", self._nonce(int(now * 1000), self._count, host))
        more = ", stale=true" if stale else ""
        return tuple(
            f'Digest {quoted("realm", self._realm)}, {nonce}, algorithm={one}, qop="auth"{more}'
            for one in self._algorithms
        )

    def _watch_the_clock(self, now: float) -> None:
        """A clock that was set back would let old nonces live again: all are void then."""
        if now < self._latest - 1:
            self._key = hmac.new(self._key, b"the clock was set back", hashlib.sha256).digest()
            self._used.clear()
            self._floor = 0
        self._latest = now

    def _nonce(self, issued: int, count: int, host: str) -> str:
        name = f"{issued:x}.{count:x}"
        sealed = hmac.new(self._key, f"{name}|{host}".encode(), hashlib.sha256).hexdigest()
        return f"{name}.{sealed[:32]}"

    def _issued(self, nonce: str, host: str) -> int:
        """When a nonce was made for this address, in milliseconds; -1 for one that was not."""
        parts = nonce.split(".")
        if len(parts) != 3 or not all(_HEX.fullmatch(part) for part in parts) or len(nonce) > 80:
            return -1
        issued, count = int(parts[0], 16), int(parts[1], 16)
        return issued if hmac.compare_digest(nonce, self._nonce(issued, count, host)) else -1

    # -- what they answer --------------------------------------------------------------------------------------------
    def judge(self, asked: Asked, now: float) -> tuple[Finding, str]:
        """What the proof is worth, and the name of the account where it is true."""
        given = self._for_us(asked.proofs)
        if given is None:
            return Finding.ABSENT, ""
        self._watch_the_clock(now)
        issued = self._issued(given.get("nonce", ""), asked.host)
        old = now * 1000 - issued
        remembered = given.get("nonce") in self._used
        if issued < 0 or not -1000 <= old <= 1000 * self._lifetime or (issued <= self._floor and not remembered):
            return Finding.STALE, ""
        name = given.get("username", "")
        if not self._is_true(given, name, asked.method):
            return Finding.WRONG, ""
        if not self._counts(given["nonce"], issued, int(given["nc"], 16), asked.whole, now):
            return Finding.STALE, ""
        if not _same(given.get("uri", ""), asked.target):
            return Finding.OTHER_URI, name
        return Finding.TRUE, name

    def _for_us(self, proofs: tuple[str, ...]) -> dict[str, str] | None:
        """The first proof for our realm; a phone behind a proxy may carry some for others."""
        for value in proofs:
            scheme, _, rest = value.strip().partition(" ")
            given = parameters(rest)
            if scheme.lower() == "digest" and given.get("realm") == self._realm:
                return given
        return None

    def _is_true(self, given: Mapping[str, str], name: str, method: str) -> bool:
        """Whether the response is what the password gives; as long for every wrong one."""
        asked = given.get("algorithm", "MD5").upper()
        algorithm = asked if asked in self._algorithms else self._algorithms[0]
        account = self._accounts.get(name, self._nobody)
        count, client = given.get("nc", ""), given.get("cnonce", "")
        middle = f"{given.get('nonce', '')}:{count}:{client}:auth"
        wanted = response_of(algorithm, account[algorithm], method, given.get("uri", ""), middle)
        equal = hmac.compare_digest(wanted.encode(), given.get("response", "").lower().encode("utf-8", "replace"))
        whole = bool(client) and given.get("qop", "").lower() == "auth" and bool(_COUNT.fullmatch(count))
        return equal and whole and asked == algorithm and name in self._accounts

    def _counts(self, nonce: str, issued: int, number: int, fingerprint: bytes, now: float) -> bool:
        """Whether a number of a nonce was not used before, or by this very request; remembers it."""
        use = self._used.get(nonce)
        if use is None:
            self._forget(now)
            use = self._used[nonce] = _Use(issued)
        known = use.seen.get(number)
        if known is not None:
            return known[0] == fingerprint and 0 <= now - known[1] <= RETRANSMISSION
        if not max(0, use.highest - WINDOW) < number:
            return False
        use.highest = max(use.highest, number)
        use.seen[number] = fingerprint, now
        if len(use.seen) > WINDOW:
            use.seen = {one: what for one, what in use.seen.items() if one > use.highest - WINDOW}
        return True

    def _forget(self, now: float) -> None:
        """Make room: what is over goes, and where that is not enough the oldest; what goes is never good again."""
        while self._used:
            nonce, first = next(iter(self._used.items()))
            if len(self._used) < REMEMBERED and first.issued + 1000 * self._lifetime >= now * 1000:
                return
            del self._used[nonce]
            self._floor = max(self._floor, first.issued)


def _same(uri: str, target: str) -> bool:
    """Whether a proof was made for this Request-URI (RFC 7616 3.4.6)."""
    try:
        return uri == target or same_uri(uri, target)
    except BadRequest:
        return False
