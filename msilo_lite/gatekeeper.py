"""Who a request is from and what he may do, asked once a request, before anything else looks at it.

A trusted network has rights by its address. Whoever comes from elsewhere proves by a password that he is one of the
users who have an account, and then leaves messages in his own name and registers himself: nothing else. What a sender
may not use, he has not sent: those headers are taken away.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import ClassVar

from .box.bucket import Buckets
from .box.silo import Source
from .errors import BadRequest, ConfigError, Refused, Rejected
from .seeing.logs import logger
from .settings.access import Rights
from .settings.config import Config
from .settings.control import REPLAYED
from .sip.address import Aor, parse_address
from .sip.verifier import Asked, Finding, Verifier
from .sip.wire import OWN_PREFIX, Incoming, Request

log = logger(__name__)

NOT_A_USERS = (OWN_PREFIX, "p-asserted-identity", "p-preferred-identity", "path")
"What a phone may not say: our own headers, claims that hold inside a trust domain (RFC 3325 5), a proxy's words."
CHALLENGED = "challenged_requests"
"Counts those that were asked for a password, as every phone is now and then: no refusal."
SAID_AGAIN = 60.0
"Seconds after which a limit that is still met is worth another line in the log."
SUBNET = 64
"Bits of an IPv6 address that name a customer: who has one address has all of them."


class Gatekeeper:
    """Lets requests in. Raises ConfigError from the constructor, for accounts that cannot be."""

    live: ClassVar[frozenset[str]] = frozenset({
        "account", "accounts_file", "auth_algorithms", "auth_failures", "max_header_bytes", "max_headers", "max_size",
        "nonce_time", "peer", "realm", "sender_burst", "sender_rate", "trusted",
    })  # fmt: skip
    "Settings that it takes over while we serve."

    def __init__(self, config: Config, owner_of: Callable[[str], Aor | None]) -> None:
        """`owner_of` maps a URI to an AoR of ours, or None."""
        self._owner_of = owner_of
        self._said: dict[str, float] = {}
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Go by another configuration from now on. Raises ConfigError, and then nothing has changed."""
        users, verifier = self._accounts(config) if config.has_accounts else ({}, None)
        self._config = config
        self._users: Mapping[str, Aor] = users
        self._verifier: Verifier | None = verifier
        self._guesses = Buckets(config.auth_failures / 60, config.auth_failures)
        self._senders = Buckets(config.sender_rate / 60, config.sender_burst)
        self._rights = lru_cache(maxsize=1024)(config.rights_at)

    def _accounts(self, config: Config) -> tuple[dict[str, Aor], Verifier]:
        accounts = config.accounts()
        if not accounts:
            raise ConfigError("accounts_file names no account; `msilo-lite account set NAME` writes one")
        users = {name: config.aor_of_account(name) for name in accounts}
        algorithms = config.algorithms(accounts)
        key = secrets.token_bytes(32)  # a new one, since what was used of the old nonces is forgotten
        return users, Verifier(config.realm_of_accounts, accounts, algorithms, key, config.nonce_time)

    # -- at the edge -------------------------------------------------------------------------------------------------
    def trusts(self, host: str) -> bool:
        """Whether an IP address is one of a trusted network."""
        return self._rights(host) is not None

    def hears(self, host: str) -> bool:
        """Whether a request from an IP address is worth a look; all others get 403."""
        return self._verifier is not None or self.trusts(host)

    # -- one request -------------------------------------------------------------------------------------------------
    def admit(self, incoming: Incoming, request: Request, now: float) -> tuple[Request, Source]:
        """The request with what its sender may say, and who he is. Raises Refused with the answer it gets."""
        self._measure(request)
        rights = self._rights(incoming.host)
        source = Source(incoming.host, incoming.port, control=bool(rights and rights.control))
        request = _within(rights, request) if rights else self._admit_stranger(incoming, request, now)
        if request.method == "MESSAGE":
            self._slow_down(request, incoming.host, now)
        return request, source

    def _measure(self, request: Request) -> None:
        """Raises Rejected for a request that is larger than the limits."""
        config, head = self._config, request.size - len(request.body)
        if 0 < config.max_headers < len(request.headers):
            raise Rejected(513, f"{len(request.headers)} header lines (max_headers)", counter="refused_header")
        if 0 < config.max_header_bytes < head:
            raise Rejected(513, f"{head} bytes before the body (max_header_bytes)", counter="refused_header")
        if 0 < config.max_size < len(request.body):
            raise Rejected(413, f"a body of {len(request.body)} bytes (max_size)", counter="refused_size")

    def _slow_down(self, request: Request, host: str, now: float) -> None:
        wait = self._senders.take(f"{_sender(request)} {host}", now) if self._config.sender_rate else 0.0
        if wait:
            again = (("Retry-After", str(int(wait) + 1)),)
            words = f"{_sender(request)} sends too fast (sender_rate)"
            raise Rejected(480, words, headers=again, counter="refused_rate")

    # -- those who come from elsewhere -------------------------------------------------------------------------------
    def _admit_stranger(self, incoming: Incoming, request: Request, now: float) -> Request:
        """The request of a user who has proved himself, without what only a trusted peer may say."""
        user = self._proven(incoming, request, now)
        if request.method == "NOTIFY":
            raise Rejected(403, "a NOTIFY of a user means nothing here", counter="refused_user")
        self._judge(request, user)
        return request.without(*NOT_A_USERS)

    def _judge(self, request: Request, user: Aor) -> None:
        """Raises Rejected unless a user speaks for himself: he writes in his own name, and registers himself alone."""
        names = {"MESSAGE": ("from",), "REGISTER": ("from", "to")}.get(request.method, ())
        for name in names:
            if any(self._aor(value) != user for key, value in request.headers if key == name):
                raise Rejected(403, f"{user} is not whom its {name.capitalize()} names", counter="refused_user")
            if request.get(name) is None:
                raise BadRequest(400, f"it has no {name.capitalize()}")

    def _aor(self, value: str) -> Aor | None:
        try:
            return self._owner_of(parse_address(value).uri)
        except BadRequest:
            return None

    def _proven(self, incoming: Incoming, request: Request, now: float) -> Aor:
        """The user whose password the request proves. Raises Rejected: 401 with our questions, 503 after too many."""
        assert self._verifier is not None  # else nobody would have heard him
        source = _customer(incoming.host)
        wait = self._guesses.wait(source, now)
        if wait:
            words = "too many wrong passwords from there (auth_failures)"
            raise Rejected(503, words, headers=(("Retry-After", str(int(wait) + 1)),), counter="refused_guesses")
        proofs = tuple(value for key, value in request.headers if key == "authorization")
        whole = hashlib.sha256(incoming.text.raw).digest()[:16]
        asked = Asked(request.method, request.target, proofs, incoming.host, whole)
        finding, name = self._verifier.judge(asked, now)
        if finding is Finding.TRUE:
            return self._users[name]
        if finding is Finding.OTHER_URI:
            raise BadRequest(400, "the password was proved for another Request-URI", counter="refused_user")
        if finding is Finding.WRONG:
            self._guesses.take(source, now)
        raise self._question(finding, incoming.host, now)

    def _question(self, finding: Finding, host: str, now: float) -> Rejected:
        assert self._verifier is not None
        asked = self._verifier.challenges(host, now, stale=finding is Finding.STALE)
        wrong = finding is Finding.WRONG
        return Rejected(
            401,
            "a wrong user or password" if wrong else "asked for a password",
            headers=tuple(("WWW-Authenticate", one) for one in asked),
            counter="refused_401" if wrong else CHALLENGED,
        )

    # -- the log -----------------------------------------------------------------------------------------------------
    def note(self, incoming: Incoming, refusal: Refused, now: float) -> None:
        """Say why a request was refused; a limit that is met is a warning, once a minute."""
        said = {"peer": f"{incoming.host}:{incoming.port}", "code": refusal.status, "reason": refusal.reason}
        if refusal.counter == CHALLENGED:
            log.debug("request.challenged", **said)
        elif refusal.counter == f"refused_{refusal.status}" or not self._is_news(refusal.counter, now):
            log.info("request.refused", **said)
        else:
            log.warning("request.refused", **said, words="others like it are not told for a minute")

    def _is_news(self, counter: str, now: float) -> bool:
        if 0 <= now - self._said.get(counter, -SAID_AGAIN) < SAID_AGAIN:
            return False
        self._said[counter] = now
        return True


def _within(rights: Rights, request: Request) -> Request:
    """The request with what its network may say. Raises Rejected (403) for what it may not ask."""
    if request.method == "MESSAGE" and not rights.store:
        raise Rejected(403, "its network may not store (store = false)", counter="refused_peer")
    if request.method in ("REGISTER", "NOTIFY") and not rights.wake:
        raise Rejected(403, "its network may not wake users (wake = false)", counter="refused_peer")
    return request if rights.replayed or not request.steered else request.without(*REPLAYED)


def _sender(request: Request) -> str:
    """Who a request says it is from, as far as it can be read."""
    value = request.get("from") or ""
    try:
        return parse_address(value, tel=True).uri.partition(";")[0].lower()
    except BadRequest:
        return "?"


def _customer(host: str) -> str:
    """Whom an address belongs to, for counting."""
    address = ip_address(host)
    return str(IPv6Network((address, SUBNET), strict=False)) if isinstance(address, IPv6Address) else host
