"""`check` and the network: ports, the PBX, and a message that goes round. The order is that of a message's way."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from typing import Any

from ..box.delivery import Hop
from ..box.inbox import Inbox
from ..box.lock import is_served
from ..errors import ConfigError, MsiloError, SipError
from ..pbx.echoes import Echo, body_of
from ..settings.config import Config
from ..sip.address import Endpoint, next_host, parse_uri
from . import verdicts
from .enquiry import NOBODY, PATIENCE, Enquiry, closed_port
from .phone import Phone
from .verdicts import FINE, WARNING, WRONG, Asked, Finding

LONG_BODIES = (1100, 3000)
"Bytes of the texts that measure what a PBX carries: more than an Asterisk does, more than one Ethernet frame."
USERS = 1000
"Users with mail among whom one of the PBX's domain is looked for."


@dataclass(frozen=True, slots=True)
class Round:
    """How to ask."""

    doing: Callable[[str], AbstractContextManager[Any]]
    "Shows what is being done while it takes long."
    loop: str | None = None
    "A user of the PBX whose phones are off: a message to him is to come to us."
    caller: str | None = None
    "The phone that sends it, where the PBX asks phones for passwords."
    password: str | None = None


def online(config: Config, how: Round) -> Iterator[Finding]:
    """What the network tells. Works beside a daemon and without one."""
    with ExitStack() as stack:
        inbox = _served_file(config, stack)
        problems = list(_ports(config) if inbox is None else _daemon(config, inbox))
        yield from problems or [Finding(FINE, "port", f"{', '.join(config.bind)} can be listened on")]
        in_place = inbox is None and not problems
        targets = dict.fromkeys(filter(None, (config.outbound_proxy, config.registrar)))
        if not targets:
            words = "no outbound_proxy and no registrar: replays go straight to the phones, there is no PBX to ask"
            yield Finding(WARNING if how.loop else FINE, "pbx", words)
        for uri in targets:
            yield from _pbx(config, uri, inbox, how, in_place=in_place)


def _served_file(config: Config, stack: ExitStack) -> Inbox | None:
    """The file, where a daemon serves it."""
    if not is_served(config.db_file):
        return None
    try:
        return stack.enter_context(closing(Inbox(config.db_file, config.names)))
    except MsiloError:  # said where the database was looked at
        return None


def _ports(config: Config) -> Iterator[Finding]:
    """What stands in the way of listening."""
    for one in config.endpoints:
        family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
        kind = socket.SOCK_DGRAM if str(one).startswith("udp:") else socket.SOCK_STREAM
        with socket.socket(family, kind) as probe:
            try:
                if kind == socket.SOCK_STREAM:  # what is left of old connections is in nobody's way
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((one.host, one.port))
            except OSError as error:
                yield Finding(WRONG, "port", _unbound(one, error))


def _unbound(one: Endpoint, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        who = f"`ss -lnp 'sport = :{one.port}'` names it"
        return f"{one} is taken by another program ({who}): end that one, or name another port in bind"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{one}: this machine has no such address; `ip address` shows those it has, name one in bind"
    if error.errno == errno.EACCES:
        return f"{one}: ports below 1024 are not for this user; name another port in bind"
    return f"{one} cannot be listened on: {error.strerror}"


def _daemon(config: Config, inbox: Inbox) -> Iterator[Finding]:
    """What the daemon says of itself, which asks from its own address and port."""
    facts = inbox.daemon()
    listening = [str(one) for one in facts.get("listening", ())]
    asked = {one.partition(":")[2].rpartition(":")[0] for one in config.bind}
    if any(one.partition(":")[2].rpartition(":")[0] not in asked for one in listening):
        words = (
            f"the daemon listens on {', '.join(listening)}, the settings say {', '.join(config.bind)}: start it anew"
        )
        yield Finding(WARNING, "port", words)
    else:
        yield Finding(FINE, "port", f"the daemon listens on {', '.join(listening)}")
    if facts.get("alarm"):
        yield Finding(WRONG, "daemon", f"it says: {facts['alarm']}")
    extension = str(facts.get("extension") or "")
    if extension:
        yield Finding(FINE if extension.startswith("registered") else WRONG, "daemon", f"it is {extension}")
    refused = [(user, said) for user, said in dict(facts.get("watched") or {}).items() if "refused" in said]
    if refused:
        user, said = refused[0]
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        yield Finding(WRONG, "wake-up", f"its SUBSCRIBE for {user} was {said}{more}")


def _pbx(config: Config, uri: str, inbox: Inbox | None, how: Round, *, in_place: bool) -> Iterator[Finding]:
    parsed = parse_uri(uri)
    pbx = f"{parsed.host}:{parsed.port or 5060}"
    try:
        source = next((one.host for one in config.endpoints if (":" in one.host) == (":" in next_host(uri))), "0.0.0.0")
        if (parsed.parameters.get("transport") or "udp").lower() == "udp" and (why := closed_port(uri, source)):
            yield Finding(WRONG, "pbx", f"{pbx} cannot be reached: {why}. Is it up, and is this its address?")
            return
        with Enquiry(config, uri, inbox, in_place=in_place) as enquiry:
            yield from _questions(config, enquiry, uri, inbox, how)
    except ConfigError as error:
        yield Finding(WRONG, "extension", str(error))
    except (SipError, MsiloError) as error:
        yield Finding(WRONG, "pbx", f"{pbx} cannot be asked: {error}")


def _questions(config: Config, enquiry: Enquiry, uri: str, inbox: Inbox | None, how: Round) -> Iterator[Finding]:
    """All that one PBX is asked, as long as it answers."""
    asked = []
    with how.doing(f"asking {enquiry.pbx} whether it is there"):
        asked.append(enquiry.options())
    yield verdicts.about_options(asked[0], PATIENCE)
    if not asked[0].code:
        return
    if uri == config.registrar and config.user:
        with how.doing(f"asking {enquiry.pbx} about the extension"):
            asked.append(enquiry.register())
        yield verdicts.about_register(asked[-1], config.user)
    if uri == config.outbound_proxy:
        with how.doing(f"asking {enquiry.pbx} to take a message to nobody"):
            asked.append(enquiry.message(NOBODY, enquiry.announce()))
        yield verdicts.about_message(asked[-1])
        yield from _wake_up(config, enquiry, asked, inbox, how)
        if how.loop:
            yield from _loop(config, enquiry, how)
        yield from verdicts.about_product(asked, config.hop(enquiry.host))
    clock = verdicts.about_clocks(asked)
    if clock:
        yield clock


def _wake_up(
    config: Config, enquiry: Enquiry, asked: list[Asked], inbox: Inbox | None, how: Round
) -> Iterator[Finding]:
    if config.watch == "off":
        yield from verdicts.about_silence(asked, _has_heard(config))
        return
    waiting = inbox.owners(USERS)[0] if inbox else []
    user = how.loop or next((owner.user for owner, _ in waiting if owner.host == enquiry.domain), None)
    with how.doing(f"asking {enquiry.pbx} to tell who is back"):
        asked.append(enquiry.subscribe(config.watch, user or NOBODY))
    yield verdicts.about_subscribe(asked[-1], config.watch, user or NOBODY, real=user is not None)


def _has_heard(config: Config) -> bool | None:
    """Whether a REGISTER ever came; None where there is no file yet."""
    try:
        with closing(Inbox(config.db_file, config.names)) as inbox:
            return bool(inbox.contacts(int(time.time())) or inbox.counters().get("wakeups"))
    except MsiloError:
        return None


# -- round and back ----------------------------------------------------------------------------------------------------
def _loop(config: Config, enquiry: Enquiry, how: Round) -> Iterator[Finding]:
    """A message to a user whose phones are off has to come to us: sent as ours, then as a phone's."""
    user = how.loop or ""
    with how.doing(f"sending a message to {user} through {enquiry.pbx}: it has to come to us"):
        number = enquiry.announce()
        ours = enquiry.message(user, number)
        echo = enquiry.came(number) if ours.code in range(200, 300) else enquiry.came(number, 1)
    if echo:
        yield Finding(FINE, "loop", f"a message to {user} came round from {echo.host}")
        yield from _lengths(config.hop(enquiry.host), how, lambda size: _sent_by_us(enquiry, user, size))
        return
    if enquiry.strangers:
        yield _no_loop(enquiry, how, ours, 0)
        return
    with how.doing(f"sending it once more, as a phone would: {how.caller or NOBODY}"):
        code, echo = _sent_by_phone(enquiry, how, 0)
    if echo:
        yield Finding(FINE, "loop", f"a message of {how.caller or NOBODY} to {user} came to us from {echo.host}")
        yield from _lengths(config.hop(enquiry.host), how, lambda size: _sent_by_phone(enquiry, how, size)[1])
        return
    yield _no_loop(enquiry, how, ours, code)


def _no_loop(enquiry: Enquiry, how: Round, ours: Asked, code: int) -> Finding:
    if enquiry.strangers:
        words = f"a request came from {', '.join(enquiry.strangers)}, which is not in trusted: add it, if it is the PBX"
        return Finding(WRONG, "loop", words)
    if enquiry.turned_away:
        words = "the daemon refused a request from an address that is not in trusted: is it the PBX? Its log names it"
        return Finding(WRONG, "loop", words)
    user = how.loop
    if code in (401, 407) and not how.password:
        words = (
            f"{enquiry.pbx} asks phones for a password ({code}), so nobody can tell whether messages to {user} come to "
        )
        return Finding(WARNING, "loop", words + "us: name an account with --as and --as-password-file")
    if code in (401, 403, 407):
        words = f"{enquiry.pbx} refuses the phone {how.caller or NOBODY} ({code}); is its password right?"
        return Finding(WRONG, "loop", words)
    answers = f"as ours: {ours.said}, as a phone's: {code or 'no answer'}"
    words = (
        f"no message to {user} came to {enquiry.source} ({answers}): either a phone of {user} is there and has it, or "
    )
    words += f"{enquiry.pbx} does not send us what nobody takes. `msilo-lite init --pbx KIND` shows what it needs"
    return Finding(WRONG, "loop", words)


def _sent_by_us(enquiry: Enquiry, user: str, size: int) -> Echo | None:
    number = enquiry.announce()
    enquiry.message(user, number, size)
    return enquiry.came(number)


def _sent_by_phone(enquiry: Enquiry, how: Round, size: int) -> tuple[int, Echo | None]:
    """The answer the phone got (0: none), and what came of it."""
    number = enquiry.announce()
    try:
        with closing(_phone(enquiry, how)) as phone:
            code = enquiry.beside(lambda: phone.write(how.loop or "", body_of(number, size).decode(), PATIENCE))
    except (SipError, OSError, ValueError):
        code = 0
    return code, enquiry.came(number, 1 if code >= 300 else PATIENCE)


def _phone(enquiry: Enquiry, how: Round) -> Phone:
    return Phone(how.caller or NOBODY, enquiry.address, enquiry.domain, host=enquiry.source_host, password=how.password)


def _lengths(hop: Hop, how: Round, send: Callable[[int], Echo | None]) -> Iterator[Finding]:
    """What the PBX does to long texts, by what comes back of them."""
    sizes = (hop.max_body,) if 0 < hop.max_body <= LONG_BODIES[-1] else LONG_BODIES
    for size in sizes:
        with how.doing(f"sending {size:,} bytes"):
            echo = send(size)
        found = verdicts.about_body(size, echo.size if echo else None, hop.max_body)
        if found and (found.level != FINE or size == sizes[-1]):
            yield found
        if found and found.level != FINE:
            return
