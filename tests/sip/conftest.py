"""Peers as fixtures. Whatever a test started is ended after it, passed or failed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from .asterisk import Asterisk, Handset
from .peers import Kamailio, Silo, Sipp
from .phone import Address, Phone
from .process import free_port

StartSilo = Callable[..., Silo]
StartKamailio = Callable[..., Kamailio]
StartAsterisk = Callable[..., Asterisk]
PickUp = Callable[..., Phone]
PickUpHandset = Callable[..., Handset]


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_silo(tmp_path: Path, ends: ExitStack) -> StartSilo:
    """Start a silo of its own options, for example `start_silo("--trusted", "127.0.0.9/32")`."""

    def start(*options: str, bind: tuple[str, ...] = ("udp:127.0.0.1:0",)) -> Silo:
        return ends.enter_context(closing(Silo(tmp_path, *options, bind=bind))).start()

    return start


@pytest.fixture
def silo(start_silo: StartSilo) -> Silo:
    """A silo that sends to the Contact of the newest REGISTER."""
    return start_silo()


@pytest.fixture
def sipp(tmp_path: Path, ends: ExitStack) -> Sipp:
    return ends.enter_context(closing(Sipp(tmp_path)))


@pytest.fixture
def phone(ends: ExitStack) -> PickUp:
    """Pick up a scripted phone, for example `phone("bob")`."""
    return lambda user="bob", host="127.0.0.1": ends.enter_context(Phone(user, host))


@pytest.fixture
def handset(ends: ExitStack) -> PickUpHandset:
    """Pick up a scripted phone that gives its password when asked, for example `handset("bob")`."""

    def pick_up(user: str = "bob", host: str = "127.0.0.1", *, password: str = "") -> Handset:
        picked_up = Handset(user, host, password=password)
        ends.enter_context(picked_up)
        return picked_up

    return pick_up


@pytest.fixture
def start_asterisk(tmp_path: Path, ends: ExitStack) -> StartAsterisk:
    """Start the example Asterisk with the silo at that address; None: the silo registers as an extension."""

    def start(silo: Address | None, **more: Any) -> Asterisk:
        return ends.enter_context(closing(Asterisk(tmp_path, silo, **more))).start()

    return start


@pytest.fixture
def proxy(phone: PickUp) -> Phone:
    """A phone that plays the outbound_proxy."""
    return phone("proxy")


@pytest.fixture
def start_kamailio(tmp_path: Path, ends: ExitStack, start_silo: StartSilo) -> StartKamailio:
    """Start the example Kamailio with a silo behind it; more of its parameters as `NAME=value`.

    The silo sends to the AoR through Kamailio; `direct`: to the Contact that Kamailio's copy of the REGISTER shows.
    `reg_event`: the silo subscribes to who is registered, and gets no copy of a REGISTER.
    """

    def start(*defines: str, direct: bool = False, reg_event: bool = False) -> Kamailio:
        port = free_port()
        more = ("--set", "watch=reg") if reg_event else ()
        silo = start_silo() if direct else start_silo("--outbound-proxy", f"sip:127.0.0.1:{port}", *more)
        kamailio = ends.enter_context(closing(Kamailio(tmp_path, silo, port=port, defines=defines)))
        return (kamailio.with_reg_event() if reg_event else kamailio).start()

    return start


@pytest.fixture
def kamailio(start_kamailio: StartKamailio) -> Kamailio:
    return start_kamailio("PHONE_TIMEOUT=1000")
