"""The errors of msilo-lite; each class says whose fault it is, so that the edge knows how to answer."""

from __future__ import annotations


class MsiloError(Exception):
    """Base of everything this package raises on purpose; `str()` is one sentence for a person."""


class Refused(MsiloError):
    """A request that gets a final answer other than success; base of the two leaves below."""

    def __init__(
        self, status: int, reason: str, *, headers: tuple[tuple[str, str], ...] = (), counter: str = ""
    ) -> None:
        super().__init__(reason)
        self.counter = counter or f"refused_{status}"
        "Name of the counter it belongs to; a limit has one of its own."
        self.status = status
        "SIP status code of the answer."
        self.reason = reason
        "Why, in words; also the reason phrase."
        self.headers = headers
        "Headers the answer must carry, such as Unsupported (RFC 3261 8.2.2.3)."


class BadRequest(Refused):
    """They broke the rules: the request cannot be understood or taken as it is."""


class Rejected(Refused):
    """The request is sound, but our policy says no."""


class StoreError(MsiloError):
    """The database could not do its work; nothing of the failed transaction was kept."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        "True when the same write would fail again: not the disk's fault, but ours."


class NotOurs(StoreError):
    """A file of Kamailio's that msilo-lite has never served."""


class Uprooted(MsiloError):
    """The database's file was replaced while the daemon served it: only a new start can serve the one that is there."""


class InUse(MsiloError):
    """Another process delivers from this file: it holds the lock beside it."""


class SipError(MsiloError):
    """The SIP stack could not start, bind or send."""

    def __init__(self, reason: str, *, status: int = 0, permanent: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        "pj_status_t where PJSIP gave one, else 0."
        self.permanent = permanent
        "True when trying the same again cannot help (a request too long, a URI PJSIP refuses)."


class ConfigError(MsiloError):
    """A configuration value is wrong: names its key and where it came from."""


class NotFound(MsiloError):
    """What the operator named does not exist."""
