"""What only time shows: repeats to a silent phone, the end of the patience, and tries that no REGISTER asks for.

Five phones are played at once, since each takes a minute by itself; every test looks at one of them.
"""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import pytest

from tests.waiting import until

from .peers import Silo
from .phone import Phone, Seen

pytestmark = [pytest.mark.sip, pytest.mark.slow]

Manner = Callable[[int, float], tuple[int, str] | None]
"How a phone answers its n-th MESSAGE, that many seconds after the start: code and one more header line, or not at all."


@dataclass(slots=True)
class Rings:
    """A phone, and when it was sent which MESSAGE."""

    phone: Phone
    manner: Manner
    at: list[float] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def ring(self, seconds: float) -> None:
        request = self.phone.receive()
        if request.method != "MESSAGE":
            return
        self.at.append(seconds)
        self.seen.append(request)
        if answer := self.manner(len(self.at), seconds):
            self.phone.answer(request, answer[0], *filter(None, answer[1:]))


MANNERS: dict[str, Manner] = {
    "deaf": lambda _, __: None,
    "slow": lambda _, seconds: (200, "") if seconds > 15 else None,
    "fine": lambda _, __: (200, ""),
    "busy": lambda n, __: (200, "") if n > 1 else (486, ""),
    "overloaded": lambda n, __: (200, "") if n > 1 else (503, "Retry-After: 66"),
}


@dataclass(frozen=True, slots=True)
class Scene:
    silo: Silo
    phones: dict[str, Rings]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One message for each of five users, who all register once; then 70 seconds pass."""
    with ExitStack() as ends:
        silo = ends.enter_context(closing(Silo(tmp_path_factory.mktemp("patience")))).start()
        alice = ends.enter_context(Phone("alice"))
        phones = {user: Rings(ends.enter_context(Phone(user)), manner) for user, manner in MANNERS.items()}
        for user in phones:
            assert alice.message(silo.address, f"{user}@home.lan", b"Hello").code == 202
        for rings in phones.values():
            rings.phone.register(silo.address)
        _play(list(phones.values()), 70)
        yield Scene(silo, phones)


def _play(rings: list[Rings], seconds: float) -> None:
    start = time.monotonic()
    by_socket = {one.phone.fileno(): one for one in rings}
    while (passed := time.monotonic() - start) < seconds:
        for ready in select.select(list(by_socket), [], [], seconds - passed)[0]:
            by_socket[ready].ring(time.monotonic() - start)


def test_the_others_do_not_wait(scene: Scene) -> None:
    assert len(scene.phones["fine"].at) == 1
    assert scene.phones["fine"].at[0] < 2


def test_a_silent_phone_gets_repeats_for_32_seconds(scene: Scene) -> None:
    """RFC 3261 17.1.2.2: after 0.5, 1 and 2 seconds, then every 4, until timer F fires; the same request each time."""
    deaf = scene.phones["deaf"]
    assert len({(seen["Call-ID"], seen["Via"], seen["CSeq"]) for seen in deaf.seen}) == 1
    assert 9 <= len(deaf.at) <= 12
    assert 24 < deaf.at[-1] < 33


def test_a_late_answer_counts(scene: Scene) -> None:
    slow = scene.phones["slow"]
    assert 15 < slow.at[-1] < 22
    assert "slow@home.lan" not in [row["to"] for row in scene.silo.list_json()]


def test_a_refused_message_is_tried_again_after_a_minute(scene: Scene) -> None:
    """Without another REGISTER."""
    busy = scene.phones["busy"]
    assert len(busy.at) == 2
    assert 59 < busy.at[1] - busy.at[0] < 64


def test_retry_after_is_honoured(scene: Scene) -> None:
    """RFC 3261 20.33: not before."""
    overloaded = scene.phones["overloaded"]
    assert len(overloaded.at) == 2
    assert 65 < overloaded.at[1] - overloaded.at[0] < 70


def test_silence_is_one_failed_attempt(scene: Scene) -> None:
    """And the next REGISTER brings the message. The last test: it ends the silence."""
    (row,) = scene.silo.list_json()
    assert row["to"] == "deaf@home.lan"
    assert row["attempts"] == 1
    deaf = scene.phones["deaf"].phone
    deaf.register(scene.silo.address)
    assert deaf.take().body == b"Hello"
    until(lambda: not scene.silo.list_json(), 10, "the box is empty")
