"""A REGISTER, judged: which Contacts it sets or ends, whether it wakes its user, what the 200 says. Pure functions.

The table is msilo's (check_message_support) with its slip mended: a Contact whose `methods` leave MESSAGE out never
wakes. We are a silo beside the registrar, not the registrar: the bindings only tell where a replay may go.

The S-CSCF of an IMS registers its users at us in its own name (3GPP TS 24.229 5.4.1.7): From and Contact are the
server's. Such a Contact is no phone: it is the way to the user, whose AoR stays the Request-URI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..box.message import Contact
from ..box.policy import delta_seconds
from ..errors import BadRequest
from ..sip.address import URI, Aor, NameAddr, parse_address, parse_uri, without_headers
from ..sip.wire import Request, plain, registrar_order

DEFAULT_EXPIRES = 3600
"Seconds a binding lasts when the REGISTER does not say (RFC 3261 10.3 step 7c leaves it to us)."


@dataclass(frozen=True, slots=True)
class Registration:
    """What one REGISTER means."""

    aor: Aor
    contacts: tuple[Contact, ...]
    "Bindings it sets; one whose `expires` is not in the future ends."
    order: tuple[str, int]
    "Call-ID and CSeq of the REGISTER."
    clear: bool
    "Whether it ends every binding of the user (`Contact: *`)."
    wakes: bool
    "Whether the user can take messages from now on."
    headers: tuple[tuple[str, str], ...]
    "Headers of the 200: Contact and Expires echoed."


def judge(
    request: Request, owner_of: Callable[[str], Aor | None], now: float, owner: str | None = None
) -> Registration:
    """What a REGISTER means. `owner_of` maps a URI to an AoR of ours, or None; `owner`: URI to take instead of To.

    Raises BadRequest: 404 when To names no user of ours, 400 when it contradicts itself.
    """
    aor = owner_of(owner or parse_address(request.get("to") or "").uri)
    if aor is None:
        raise BadRequest(404, "To names no user of ours")
    plain(request, "path")
    plain(request, "contact")  # this and Expires are echoed
    values = request.all("contact")
    header = plain(request, "expires")
    order = registrar_order(request)
    headers = tuple(("Contact", value) for value in values if value != "*") + ((("Expires", header),) if header else ())
    if "*" in values:
        if len(values) > 1 or (header or "").strip() != "0":  # RFC 3261 10.3 step 6
            raise BadRequest(400, "Contact: * goes alone and with Expires: 0")
        return Registration(aor, (), order, clear=True, wakes=False, headers=headers)
    allow = frozenset(name.upper() for name in request.all("allow")) if request.get("allow") is not None else None
    parsed = [parse_address(value) for value in values]
    server = _server(request)
    bindings = tuple(
        _by_server(_binding(request, aor, one, None, now))
        if server and _is_servers(one, server)
        else _binding(request, aor, one, allow, now)
        for one in parsed
    )
    wakes = any(one.takes_message and one.expires > now for one in bindings)
    return Registration(aor, bindings, order, clear=False, wakes=wakes, headers=headers)


def _server(request: Request) -> URI | None:
    """Who registers in place of the user (RFC 3261 10.2, third-party registration); None: he does himself."""
    try:
        sender, user = (parse_uri(parse_address(request.get(name) or "").uri) for name in ("from", "to"))
    except BadRequest:  # a tel: URI, say: nothing that a server would write
        return None
    return None if sender.user == user.user else sender  # whatever the hosts: a border may have rewritten one


def _is_servers(contact: NameAddr, server: URI) -> bool:
    """Whether a Contact is that of the server which registers, and not of a phone that an administrator registers."""
    uri = parse_uri(contact.uri)
    return uri.user is None or uri.user == server.user


def _by_server(one: Contact) -> Contact:
    """The way through a server: its Contact becomes the Route. Its Allow and methods are not those of a phone."""
    loose = one.uri if "lr" in parse_uri(one.uri).parameters else f"{one.uri};lr"
    return replace(one, uri=one.aor.uri, path=(*one.path, f"<{loose}>"), takes_message=True)


def _binding(request: Request, aor: Aor, address: NameAddr, allow: frozenset[str] | None, now: float) -> Contact:
    parse_uri(address.uri)
    call_id, cseq = registrar_order(request)
    seconds = _expires(address.get("expires"), request.get("expires"))
    return Contact(
        aor=aor,
        uri=without_headers(address.uri),  # RFC 3261 19.1.5: they are for a request that a person makes of it
        path=tuple(f"<{parse_address(value).uri}>" for value in request.all("path")),
        expires=int(now) + seconds,
        takes_message=_takes_message(address.get("methods"), allow),
        updated=now,
        call_id=call_id,
        cseq=cseq,
    )


def _expires(parameter: str | None, header: str | None) -> int:
    """Seconds: parameter before header before default; a malformed value counts as absent (RFC 3261 10.3)."""
    for value in (parameter, header):
        seconds = delta_seconds((value or "").strip().strip('"'))
        if seconds is not None:
            return min(seconds, 2**31 - 1)
    return DEFAULT_EXPIRES


def _takes_message(methods: str | None, allow: frozenset[str] | None) -> bool:
    """`methods` of the Contact decides alone where it is given; else Allow; else everybody takes MESSAGE."""
    if methods is not None:
        return "MESSAGE" in {name.strip().upper() for name in methods.strip('"').split(",")}
    return allow is None or "MESSAGE" in allow
