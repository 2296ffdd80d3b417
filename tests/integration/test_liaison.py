"""Who is subscribed to, by what is in the file: only owners of what may be sent, and all of them in turn."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Settled, Turn
from msilo_lite.box.store import Store
from msilo_lite.pbx.liaison import PAGE, Liaison
from msilo_lite.settings.config import Config
from msilo_lite.sip.address import Aor, Endpoint
from msilo_lite.sip.wire import Answer, Outgoing
from tests.unit.kit import BOB, NOW, message


class Pbx:
    """In place of the asker: takes every request, and answers it at the next look."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Outgoing]] = []
        self.names = {"pbx.lan": ""}

    def address_of(self, host: str) -> str | None:
        return self.names.get(host, host) or None

    def send(self, token: int, request: Outgoing) -> None:
        self.asked.append((token, request))

    def answered(self) -> list[tuple[int, Answer]]:
        asked, self.asked = self.asked, []
        return [(token, accepted(token, request)) for token, request in asked]


def accepted(token: int, request: Outgoing) -> Answer:
    expires = dict(request.headers)[b"Expires"].decode()
    lines = (f"To: {request.to};tag={request.to_tag or token}", "Contact: <sip:127.0.0.1:5060>", f"Expires: {expires}")
    return Answer(200, "OK", "\r\n".join(["SIP/2.0 200 OK", *lines, "", ""]).encode())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "silo.sqlite")) as one:
        yield one


def liaison(store: Store, pbx: Pbx, most: int = 100, proxy: str = "127.0.0.1", bind: str = "127.0.0.1") -> Liaison:
    config = Config.model_validate({"outbound_proxy": f"sip:{proxy}", "watch": "presence"})
    return Liaison(config, pbx, store, (Endpoint(bind, 5070),), most)  # type: ignore[arg-type]  # a double


def pass_time(one: Liaison, pbx: Pbx, start: int, seconds: int) -> set[str]:
    """A look a second; whom it asked about."""
    asked = set()
    for now in range(start, start + seconds):
        one.tick(now)
        asked |= {request.to for _, request in pbx.asked}
        for token, answer in pbx.answered():
            assert one.answered(token, answer, now)
    return asked


def test_only_owners_of_what_may_be_sent_are_watched(store: Store) -> None:
    users = [Aor(name, "home.lan") for name in ("due", "handed", "later", "parked", "plain")]
    store.write(Turn(new=[message(user, due=NOW + 60 if user.user == "later" else 0) for user in users]), NOW)
    for user, state in (("handed", State.HANDED), ("parked", State.PARKED)):
        (item,) = store.pending(Aor(user, "home.lan"), 0, 1, NOW)
        store.write(Turn(claimed=[item]), NOW)
        store.write(Turn(settled=[Settled(item, state, NOW, 202, "words", 1)]), NOW)
    assert [owner.user for owner in store.owners(10, NOW)] == ["due", "plain"]
    assert [owner.user for owner in store.owners(10, NOW + 60)] == ["due", "later", "plain"]
    assert [owner.user for owner in store.owners(10, NOW, users[0])] == ["plain"]
    assert [owner.user for owner in store.owners(1, NOW)] == ["due"]


def test_mail_that_comes_is_seen_at_the_next_look(store: Store) -> None:
    pbx = Pbx()
    one = liaison(store, pbx)
    assert pass_time(one, pbx, NOW, 3) == set()
    store.write(Turn(new=[message(BOB)]), NOW)
    assert pass_time(one, pbx, NOW + 3, 2) == {"<sip:bob@home.lan>"}


def test_more_users_than_are_looked_at_take_turns_too(store: Store) -> None:
    users = [Aor(f"u{number:02}", "home.lan") for number in range(50)]
    store.write(Turn(new=[message(user) for user in users]), NOW)
    everybody, pbx = [f"<{user.uri}>" for user in users], Pbx()
    one = liaison(store, pbx, most=20)
    pages = [pass_time(one, pbx, NOW + number * int(PAGE), int(PAGE)) for number in range(3)]
    assert pages[0] == {*everybody[:20]}
    assert pages[1] >= {*everybody[21:40]}
    assert set().union(*pages) == {*everybody}


def test_it_begins_when_the_name_of_the_pbx_has_an_address(store: Store) -> None:
    """Only then is it known by which of our addresses the PBX reaches us: it stands in Contact."""
    store.write(Turn(new=[message(BOB)]), NOW)
    pbx = Pbx()
    one = liaison(store, pbx, proxy="pbx.lan", bind="0.0.0.0")
    assert pass_time(one, pbx, NOW, 5) == set()
    pbx.names["pbx.lan"] = "127.0.0.9"
    one.tick(NOW + 6)
    ((_, request),) = pbx.asked
    assert dict(request.headers)[b"Contact"] == b"<sip:msilo-lite@127.0.0.1:5070>"
    assert request.routes == ("<sip:pbx.lan;lr;hide>",)
