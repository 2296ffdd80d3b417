"""One interface over the two sides: a scenario is played on both, and what their senders and phones saw is compared.

A side is a store with two phones: alice writes, and `phone` is what the store sends to. As its outbound proxy the phone
stands where a PBX would and sees everything that leaves, replays, reminders and notices. A *straight* side reaches the
phone at the Contact that it registered: the original by its own location table, ours by itself.
"""

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.waiting import until

from ..phone import Address, Phone, Seen
from .lite import Lite
from .original import ITSELF, Original

T = TypeVar("T")
HOME = "home.lan"
SILENT = "X-MSilo-Flags: 5"
"Makes a store that has skip_notification_flag = 5 send no notice."
_numbers = itertools.count(1)
_SELECT = """
    SELECT id, username, domain, src_addr, dst_addr, body, ctype, extra_hdrs, inc_time, exp_time, snd_time
    FROM silo ORDER BY id
"""


def newcomer(name: str = "bob") -> str:
    """A user nobody has heard of, so that tests can share a store."""
    return f"{name}{next(_numbers)}@{HOME}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of msilo's table, which both sides have."""

    id: int
    username: str
    domain: str
    src_addr: str
    dst_addr: str
    body: bytes | None
    ctype: str
    extra_hdrs: bytes | str | None
    inc_time: int
    exp_time: int
    snd_time: int

    @property
    def owner(self) -> str:
        return f"{self.username}@{self.domain}"


class Side:
    """A store and its phones."""

    def __init__(self, store: Original | Lite, phone: Phone) -> None:
        self.store = store
        self.phone = phone
        self.alice = Phone("alice")
        self._answered: set[str] = set()

    def start(self) -> "Side":
        self.store.start()
        return self

    def close(self) -> None:
        self.store.close()
        with self.phone, self.alice:
            pass

    @property
    def name(self) -> str:
        return type(self.store).__name__

    @property
    def address(self) -> Address:
        return self.store.address

    @property
    def kamailio(self) -> Original:
        """The store, where only the original can be meant."""
        assert isinstance(self.store, Original)
        return self.store

    @property
    def silo(self) -> Lite:
        """The store, where only ours can be meant."""
        assert isinstance(self.store, Lite)
        return self.store

    # -- what its users do ---------------------------------------------------------------------------------------------
    def written(self, owner: str, body: bytes, *lines: str, ctype: str = "text/plain", to: str = "") -> bytes:
        """A MESSAGE of alice as bytes; `to`: another To URI; no `ctype`: no Content-Type."""
        typed = (f"Content-Type: {ctype}", *lines) if ctype else lines
        raw = self.alice.request("MESSAGE", owner, *typed, body=body)
        return raw.replace(f"\r\nTo: <sip:{owner}>".encode(), f"\r\nTo: <{to or 'sip:' + owner}>".encode())

    def message(self, owner: str, body: bytes = b"hello", *lines: str, ctype: str = "text/plain", to: str = "") -> Seen:
        """Alice writes to the owner; the final answer."""
        return self.alice.ask(self.written(owner, body, *lines, ctype=ctype, to=to), self.address)

    def store_all(self, owner: str, *bodies: bytes, lines: tuple[str, ...] = ()) -> None:
        """Alice writes to the owner, and each message is taken."""
        codes = [self.message(owner, body, *lines).code for body in bodies]
        assert codes == [202] * len(bodies), f"{codes} for {owner}"

    def contact(self, owner: str) -> str:
        """Where the phone is, as the owner's Contact URI."""
        host, port = self.phone.address
        return f"sip:{owner.partition('@')[0]}@{host}:{port}"

    def register(self, owner: str, *lines: str) -> Seen:
        """The owner's phone registers for an hour."""
        return self.registers(owner, f"Contact: <{self.contact(owner)}>", "Expires: 3600", *lines)

    def registers(self, owner: str, *lines: str) -> Seen:
        """A REGISTER of the owner with these lines alone."""
        with Phone(owner.partition("@")[0]) as sender:
            return sender.ask(sender.request("REGISTER", owner, *lines), self.address)

    def dump(self, owner: str, *lines: str) -> Seen:
        """What a script calls m_dump(owner) for, nobody registering: here an OPTIONS that names the owner."""
        orders = (f"X-MSilo-Owner: sip:{owner}", *lines)
        return self.alice.ask(self.alice.request("OPTIONS", HOME, *orders), self.address)

    def replayed(self, owner: str, code: int = 200, *lines: str) -> Seen:
        """The owner registers; the MESSAGE that comes, answered with `code`."""
        self.register(owner)
        return self.phone.take(code, *lines)

    def delivered(self, owner: str, body: bytes = b"hello", *lines: str, ctype: str = "text/plain") -> Seen:
        """Alice writes, the owner registers; the MESSAGE that comes."""
        taken = self.message(owner, body, *lines, ctype=ctype)
        assert taken.code == 202, taken.first
        return self.replayed(owner)

    def sent(self, code: int = 200) -> list[Seen]:
        """All that was sent up to now, answered with `code`; there is no waiting for what might still come.

        A stranger's message leaves after it, because on neither side one who registers later is served first. An answer
        can make the next message leave, so the last stranger is one before whom nothing came.
        """
        found: list[Seen] = []
        while more := self._before_a_stranger(code):
            found += more
        return found

    def _before_a_stranger(self, code: int) -> list[Seen]:
        stranger = newcomer("stranger")
        self.store_all(stranger, b"the end", lines=(SILENT,))
        self.register(stranger)
        found = []
        while stranger not in (one := self.phone.receive())["To"]:
            self.phone.answer(one, code)
            if one["Via"] not in self._answered:  # else the answer came too late, or a test let it wait
                found.append(one)
            self._answered.add(one["Via"])
        self.phone.answer(one, 200)
        return found

    def bounced(self, replay: Seen) -> Seen:
        """A PBX cannot deliver what the store sent, and hands it over as it does with every MESSAGE; the answer."""
        host, port = self.alice.address
        top = f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKback{next(_numbers)}"
        lines = [replay.first, top, *(f"{name}: {value}" for name, value in replay.headers), "", ""]
        return self.alice.ask("\r\n".join(lines).encode("utf-8", "surrogateescape") + replay.body, self.address)

    # -- what lies in its table ----------------------------------------------------------------------------------------
    def rows(self, owner: str = "") -> list[Row]:
        """The messages that are stored: of one owner, or of all."""
        with contextlib.closing(sqlite3.connect(self.store.database, timeout=5)) as connection:
            found = [Row(*row) for row in connection.execute(_SELECT)]
        return [row for row in found if owner in ("", row.owner)]

    def ends(self, owner: str, seconds: float = 5) -> None:
        """Wait until nothing of an owner is stored."""
        until(lambda: not self.rows(owner), seconds, f"nothing waits for {owner} in {self.name}")

    def bodies(self, owner: str) -> list[bytes]:
        """The texts that are stored for an owner."""
        return [row.body or b"" for row in self.rows(owner)]


@dataclass(frozen=True, slots=True)
class Played(Generic[T]):
    """What a scenario gave on the two sides."""

    original: T
    lite: T

    def __iter__(self) -> Iterator[T]:
        return iter((self.original, self.lite))


class Pair:
    """The two sides with the same parameters."""

    def __init__(self, original: Side, lite: Side) -> None:
        self.original = original
        self.lite = lite

    def play(self, scenario: Callable[[Side, str], T]) -> Played[T]:
        """Play it on both at the same time, for one new user."""
        owner = newcomer()
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(_told, scenario, side, owner) for side in (self.original, self.lite)]
        return Played(running[0].result(), running[1].result())


def _told(scenario: Callable[[Side, str], T], side: Side, owner: str) -> T:
    try:
        return scenario(side, owner)
    except BaseException as error:
        error.add_note(f"on the side of {side.name}")
        raise


# ---- making ----------------------------------------------------------------------------------------------------------


def make_original(folder: Path, *, tz: str = "UTC", straight: bool = False, **parameters: Any) -> Side:
    """Kamailio, to be started; `tz`: its time zone."""
    phone = Phone("phone")
    way = ITSELF if straight else "sip:{}:{}".format(*phone.address)
    return Side(Original(folder, {"outbound_proxy": way, **parameters}, tz=tz), phone)


def make_lite(folder: Path, *, tz: str = "UTC", straight: bool = False, **parameters: Any) -> Side:
    """msilo-lite, to be started; `tz`: its time zone."""
    phone = Phone("phone")
    way = {} if straight else {"outbound_proxy": "sip:{}:{}".format(*phone.address)}
    return Side(Lite(folder, way | parameters, tz=tz), phone)
