"""What a peer with `control` tells the silo in headers: msilo's functions and their arguments, flags, a limit.

`X-MSilo-*` of everybody else is taken away before anything looks at the request, so that a phone behind a trusted proxy
steers nothing. Nothing of it is ever replayed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..box.policy import delta_seconds
from ..errors import BadRequest
from ..sip.address import NameAddr, parse_address
from ..sip.wire import OWN_PREFIX, PATH, Request, plain

OWN_ID = "x-msilo-id"
"Marks a replay of ours; understood from every peer that may bring one back, because it can only refuse."


REPLAYED = (OWN_ID, PATH.lower())
"Headers of a replay, believed from peers that are `replayed`."

_ID = re.compile(r"[0-9a-f]{1,15}-[0-9a-f]{16}")


def silos_before(request: Request) -> list[str]:
    """The X-MSilo-IDs that a request names, those of earlier silos first."""
    if OWN_ID not in request.first and PATH.lower() not in request.first:
        return []
    named = [*request.all(PATH.lower()), *request.all(OWN_ID)]
    return [one for one in named if _ID.fullmatch(one)]


@dataclass(frozen=True, slots=True)
class Orders:
    """The arguments of m_store, m_store_addrs and m_dump, as a request carries them."""

    owner: str | None = None
    "URI of whose box is meant."
    src: NameAddr | None = None
    "In place of From (m_store_addrs)."
    dst: NameAddr | None = None
    "In place of To, and where the replay goes (m_store_addrs)."
    flags: frozenset[int] = frozenset()
    "Message flags that Kamailio's script would have set."
    most: int = 0
    "Messages to send at the most; 0: all (OpenSIPS: the second argument of m_dump)."


NO_ORDERS = Orders()


def obeyed(request: Request, *, control: bool) -> Request:
    """The request with those of our headers that its sender may use."""
    return request if control or not request.steered else request.without(OWN_PREFIX)


def orders_of(request: Request) -> Orders:
    """The orders in a request. Raises BadRequest (400) for one that cannot be understood: never half-obeyed."""
    if not request.steered:
        return NO_ORDERS
    ours = [key for key, _ in request.headers if key.startswith(OWN_PREFIX)]
    if len(set(ours)) != len(ours):  # a PBX that adds its own and forgets to take a phone's away
        raise BadRequest(400, "one of the X-MSilo headers stands there twice")
    owner = request.get("x-msilo-owner")
    return Orders(
        owner=None if owner is None else _address(owner, "X-MSilo-Owner").uri,
        src=_given(request, "x-msilo-src"),
        dst=_given(request, "x-msilo-dst"),
        flags=_flags(plain(request, "x-msilo-flags")),
        most=_number(plain(request, "x-msilo-max")),
    )


def _given(request: Request, name: str) -> NameAddr | None:
    """An address, None where msilo's own default holds: absent or empty."""
    value = plain(request, name)
    return _address(value, name) if value else None


def _address(value: str, name: str) -> NameAddr:
    try:
        return parse_address(value)
    except BadRequest as error:
        raise BadRequest(400, f"{name}: {error}") from error


def _flags(value: str) -> frozenset[int]:
    parts = [delta_seconds(part) for part in value.split(",")] if value else []
    numbers = frozenset(part for part in parts if part is not None and part < 32)
    if len(numbers) != len(set(parts)):
        raise BadRequest(400, "X-MSilo-Flags is not a list of numbers from 0 to 31")
    return numbers


def _number(value: str) -> int:
    number = delta_seconds(value) if value else 0
    if number is None:
        raise BadRequest(400, "X-MSilo-Max is not a number")
    return number
