"""What `init --pbx` says for each kind of PBX: the settings that fit it, and what goes into its own files."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..errors import ConfigError, MsiloError
from ..pbx.liaison import reachable
from ..settings.config import problem_with
from ..sip.address import Endpoint
from .fragments import Piece, pieces, whole

SIP_PORT, SILO_PORT = 5060, 5070
USER_NAME = "silo"
"What the silo is called where nobody says otherwise."
LOOPBACK, SECOND_LOOPBACK = "127.0.0.1", "127.0.0.2"
"The second is where the silo listens when it shares a host with a PBX that knows it by its address alone."
PHONE = re.compile(r"_?[A-Za-z0-9.!+*\[\]-]+")
"Names of users and patterns of Asterisk's dialplan; anything else could break out of a line."
USER = re.compile(r"[A-Za-z0-9._-]+")
PASSWORD = re.compile(r"[A-Za-z0-9._+=/-]+")
"What needs no escape in any of the files."


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the configuration, and why it stands there."""

    name: str
    value: object
    why: str


class Account(Enum):
    """What the silo may be to a PBX, beside an address."""

    NONE = "nothing"
    EXTENSION = "an extension that registers, if one wants it"
    PASSWORD = "an account that answers for each request and registers nowhere"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of PBX."""

    title: str
    files: tuple[str, ...]
    comment: tuple[str, str]
    "How a comment begins and ends in its files."
    settings: tuple[Setting, ...]
    "Beside those about addresses."
    by_address: bool
    "Whether it knows the silo by its IP address alone, which then has to be the silo's own."
    phones: tuple[str, ...] = ()
    "Whom the files name where nobody is named; empty: they name none."
    account: Account = Account.NONE
    "Whether the silo has a password there."


_PLAIN = (
    Setting("add_date", 0, "texts stay as they were written; the Date header says when that was"),
    Setting("max_messages", 500, "that many may wait for one user, so that nobody can fill the disk"),
)
_WATCHING = (
    Setting("watch", "presence", "it forwards no REGISTER, so ask it who is back, for users who have mail alone"),
    Setting("trust_2xx", "confirm", "its 202 comes before it has tried: what comes back is sent again"),
)
_ASTERISK = (
    *_WATCHING,
    Setting("max_body", 1023, "it empties texts of 1,024 bytes and more: they wait instead"),
    *_PLAIN,
)
KINDS = {
    "asterisk": Kind(
        "Asterisk", ("pjsip.conf", "extensions.conf"), ("; ", ""), _ASTERISK, by_address=True,
        phones=("alice", "bob"), account=Account.EXTENSION,
    ),
    "freepbx": Kind(
        "FreePBX",
        (
            "pjsip_custom.conf", "pjsip.endpoint_custom_post.conf", "pjsip.aor_custom_post.conf",
            "extensions_custom.conf",
        ),
        ("; ", ""), _ASTERISK, by_address=True, phones=("101", "102"),
    ),
    "kamailio": Kind("Kamailio", ("kamailio.cfg",), ("# ", ""), _PLAIN, by_address=False),
    "opensips": Kind("OpenSIPS", ("opensips.cfg",), ("# ", ""), _PLAIN, by_address=False),
    "freeswitch": Kind(
        "FreeSWITCH", ("freeswitch.xml",), ("<!-- ", " -->"), (*_WATCHING, *_PLAIN), by_address=False,
        account=Account.PASSWORD,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says about his PBX."""

    pbx: str
    address: str
    "Host and port of the PBX."
    domain: tuple[str, ...]
    bind: str | None = None
    phones: tuple[str, ...] = ()
    user: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Both sides."""

    title: str
    settings: tuple[Setting, ...]
    pieces: tuple[Piece, ...]
    comment: tuple[str, str]

    @property
    def fragment(self) -> str:
        """All pieces, each with a headline that is a comment in the PBX's own language."""
        return "\n".join(f"{self._headline(one)}\n\n{one.text}" for one in self.pieces)

    @property
    def files(self) -> dict[str, str]:
        """The pieces file by file."""
        found: dict[str, str] = {}
        for one in self.pieces:
            begin, end = self.comment
            found[one.file] = found.get(one.file, "") + f"{begin}{one.where}{end}\n{one.text}\n"
        return found

    def _headline(self, one: Piece) -> str:
        begin, end = self.comment
        return f"{begin}======== {one.file}: {one.where} ========{end}"


def recipe_for(wanted: Wanted) -> Recipe:
    """Settings and fragment for a PBX. Raises ConfigError for what cannot be, and MsiloError for a name unknown."""
    kind = KINDS.get(wanted.pbx)
    if kind is None:
        raise ConfigError(f"--pbx {wanted.pbx}: one of {', '.join(KINDS)}")
    if not wanted.domain:
        raise ConfigError(
            "--domain is missing: what stands behind the @ of your users, such as home.lan, or the address of the PBX"
        )
    _check_names(wanted, kind)
    for name in wanted.domain:
        if problem := problem_with("domain", name):
            raise ConfigError(f"--domain {name}: {problem}")
    pbx = _pbx_address(wanted.address)
    shared = _is_here(pbx.host)
    silo = _silo_address(wanted.bind, pbx, own=kind.by_address and not wanted.user, shared=shared)
    user = wanted.user or (USER_NAME if kind.account is Account.PASSWORD else None)
    password = _password(wanted) if user else None
    values = _values(wanted.domain[0], pbx, silo, user, password)
    way = "extension" if user else "address"
    phones = wanted.phones or kind.phones
    found = [one for file in kind.files for one in pieces(wanted.pbx, file, values, phones, way)]
    account = _account(kind, pbx, user, password, wanted.password_file) if user else ()
    settings = (*_addresses(kind, wanted, pbx, silo, shared=shared), *account, *kind.settings)
    return Recipe(f"{kind.title} at {_place(pbx)}", settings, tuple(found), kind.comment)


def example_of(pbx: str) -> dict[str, str]:
    """The complete files of a kind, by name: all on one host, with the users and passwords of an example."""
    kind = KINDS[pbx]
    host = SECOND_LOOPBACK if kind.by_address else LOOPBACK
    values = _values("home.lan", Endpoint(LOOPBACK, SIP_PORT), Endpoint(host, SILO_PORT), None, None)
    return {file: whole(pbx, file, values, kind.phones) for file in kind.files}


def _values(domain: str, pbx: Endpoint, silo: Endpoint, user: str | None, password: str | None) -> dict[str, str]:
    """What the names in a recipe stand for."""
    return {
        "DOMAIN": domain, "PBX": _place(pbx), "PBX_HOST": pbx.host, "PBX_PORT": str(pbx.port),
        "SILO": _place(silo), "SILO_HOST": silo.host, "SILO_PORT": str(silo.port),
        "ENDPOINT": user or USER_NAME, "USER": user or USER_NAME, "PASSWORD": password or f"{USER_NAME}-password",
    }  # fmt: skip


def _check_names(wanted: Wanted, kind: Kind) -> None:
    for phone in wanted.phones:
        if not PHONE.fullmatch(phone):
            raise ConfigError(f"--phone {phone}: a name such as bob or 101, or a pattern of the dialplan such as _1XX")
    if wanted.phones and not kind.phones:
        raise ConfigError(f"--phone: {kind.title} knows its users by itself")
    if wanted.user and not USER.fullmatch(wanted.user):
        raise ConfigError(f"--user {wanted.user}: letters, digits, dots, dashes and underscores")
    if (wanted.user or wanted.password_file) and kind.account is Account.NONE:
        raise ConfigError(f"--user: {kind.title} knows the silo by its address, without a password")
    if wanted.password_file and not wanted.user and kind.account is Account.EXTENSION:
        raise ConfigError("--password-file needs --user, the extension whose password it is")


def _addresses(kind: Kind, wanted: Wanted, pbx: Endpoint, silo: Endpoint, *, shared: bool) -> Iterable[Setting]:
    bind_why = f"where {kind.title} finds us"
    if silo.host == SECOND_LOOPBACK:
        bind_why += "; an address of our own, since it is by this that we are believed"
    yield Setting("bind", [str(silo)], bind_why)
    yield Setting("domain", list(wanted.domain), "what stands behind the @ of your users")
    networks = ["127.0.0.0/8"] if ipaddress.ip_address(pbx.host).is_loopback else [pbx.host]
    if shared and networks == [pbx.host] and silo.host.startswith("127."):
        networks.insert(0, "127.0.0.0/8")
    yield Setting("trusted", networks, f"{kind.title} alone may store and wake")
    yield Setting("outbound_proxy", f"sip:{_place(pbx)}", f"{kind.title} knows where the phones are")


def _account(
    kind: Kind, pbx: Endpoint, user: str, password: str | None, password_file: Path | None
) -> Iterable[Setting]:
    if kind.account is Account.EXTENSION:
        yield Setting("registrar", f"sip:{_place(pbx)}", "the silo registers there, as a phone does")
        yield Setting("user", user, "the name of the extension")
    else:
        yield Setting("user", user, f"its account at {kind.title}, which asks for a password")
    if password_file:
        yield Setting("password_file", str(password_file.absolute()), "its first line is the password")
    else:
        yield Setting("password", password, "made for you; the fragment for the PBX has the same")


def _password(wanted: Wanted) -> str:
    """What is in the file, or a new one."""
    if wanted.password_file is None:
        return secrets.token_hex(12)
    try:
        found = wanted.password_file.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--password-file {wanted.password_file} cannot be read: {error}") from error
    if not PASSWORD.fullmatch(found):
        raise ConfigError(f"--password-file {wanted.password_file}: letters, digits and -_.+=/ only, in its first line")
    return found


def _pbx_address(text: str) -> Endpoint:
    """HOST, HOST:PORT or [HOST]:PORT; a name is looked up, since the silo looks none up on its own."""
    bare = text.removeprefix("sip:")
    form = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?|([0-9a-fA-F:]*:[0-9a-fA-F:.]*)", bare)
    if form is None:
        raise ConfigError(f"--pbx-addr {text}: write HOST:PORT, such as 192.168.1.10:5060")
    host, port = form[1] or form[3] or form[5], int(form[2] or form[4] or SIP_PORT)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise MsiloError(f"--pbx-addr {text}: {host} is not known here ({error})") from error
    if not 0 < port < 65536:
        raise ConfigError(f"--pbx-addr {text}: {port} is not a port number")
    return Endpoint(str(found[0][4][0]), port)


def _is_here(host: str) -> bool:
    """Whether an IP address is one of this machine."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _silo_address(bind: str | None, pbx: Endpoint, *, own: bool, shared: bool) -> Endpoint:
    """Where the silo is to listen; `own`: at an address that nobody else has."""
    if bind:
        try:
            return Endpoint.parse(bind if re.match(r"\w+:[^:]", bind) and bind[:3].isalpha() else f"udp:{bind}")
        except ValueError as error:
            raise ConfigError(f"--bind {bind}: {error}") from error
    if shared and ":" not in pbx.host:
        return Endpoint(SECOND_LOOPBACK if own else pbx.host, SILO_PORT)
    wild = Endpoint("::" if ":" in pbx.host else "0.0.0.0", SILO_PORT)
    return Endpoint.parse(f"udp:{reachable((wild,), pbx.host, 'udp')}")


def _place(one: Endpoint) -> str:
    """host:port, as in a URI."""
    return str(one).partition(":")[2]
