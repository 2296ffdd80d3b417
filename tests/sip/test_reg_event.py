"""Wake-up by reg event (RFC 3680): a real Kamailio with presence_reginfo and pua_reginfo, a scripted PBX for the rest.

No copy of a REGISTER reaches the silo here.
"""

import signal

import pytest

from tests.waiting import until

from .conftest import PickUp, StartKamailio, StartSilo
from .peers import Kamailio, Silo
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"


@pytest.fixture
def kamailio(start_kamailio: StartKamailio) -> Kamailio:
    return start_kamailio("PHONE_TIMEOUT=1000", reg_event=True)


def store(alice: Phone, kamailio: Kamailio, *texts: str) -> None:
    for text in texts:
        assert alice.message(kamailio.address, BOB, text.encode()).code == 202


def take(phone: Phone, count: int) -> list[str]:
    return [phone.take(seconds=10).text for _ in range(count)]


def test_away_stored_back_delivered(kamailio: Kamailio, phone: PickUp) -> None:
    alice, bob, silo = phone("alice"), phone("bob"), kamailio.silo
    store(alice, kamailio, "one", "two", "three")
    silo.watches(BOB, "nothing known")  # Kamailio has nothing to say of who never registered
    assert bob.register(kamailio.address).code == 200
    assert take(bob, 3) == ["one", "two", "three"]
    silo.empties()
    assert bob.glance(0.5) is None
    until(lambda: silo.facts["watched"] == {}, 10, "who has no mail is watched no more")


def test_gone_again_and_back(kamailio: Kamailio, phone: PickUp) -> None:
    alice, bob, silo = phone("alice"), phone("bob"), kamailio.silo
    store(alice, kamailio, "one", "two")
    bob.register(kamailio.address)
    first = bob.receive(10)
    bob.register(kamailio.address, expires=0)
    bob.answer(first, 200)
    until(lambda: [code for _, _, code in silo.box] == [480], 10, "the second has nowhere to go")
    silo.watches(BOB, "closed")
    bob.register(kamailio.address)
    assert take(bob, 1) == ["two"]
    silo.empties()


def test_a_second_phone_wakes_where_the_first_is_dead(kamailio: Kamailio, phone: PickUp) -> None:
    """Its user was open all the time: the new Contact is the news."""
    alice, dead, alive, silo = phone("alice"), phone("bob"), phone("bob"), kamailio.silo
    dead.register(kamailio.address)
    store(alice, kamailio, "Hello")
    silo.watches(BOB, "open")
    until(lambda: [code for _, _, code in silo.box] == [408], 15, "nobody answered")
    alive.register(kamailio.address)
    assert take(alive, 1) == ["Hello"]
    silo.empties()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_kamailio(kamailio: Kamailio, phone: PickUp, number: signal.Signals) -> None:
    """It keeps the subscriptions and forgets who is registered: the next REGISTER wakes."""
    alice, bob, silo = phone("alice"), phone("bob"), kamailio.silo
    store(alice, kamailio, "one", "two")
    silo.watches(BOB, "nothing known")
    until(lambda: kamailio.saved == 1, 15, "Kamailio has written the subscription")
    kamailio.restart(number)
    assert bob.register(kamailio.address).code == 200
    assert take(bob, 2) == ["one", "two"]
    silo.empties()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_silo(kamailio: Kamailio, phone: PickUp, number: signal.Signals) -> None:
    alice, bob, silo = phone("alice"), phone("bob"), kamailio.silo
    store(alice, kamailio, "one", "two")
    silo.watches(BOB, "nothing known")
    silo.restart(number)
    silo.watches(BOB, "nothing known")
    bob.register(kamailio.address)
    assert take(bob, 2) == ["one", "two"]
    silo.empties()
    assert bob.glance(0.3) is None


def test_a_kamailio_without_the_event_is_given_up_with_the_reason(
    start_kamailio: StartKamailio, start_silo: StartSilo, phone: PickUp
) -> None:
    """The example as shipped takes no SUBSCRIBE from the silo: 405."""
    kamailio = start_kamailio("PHONE_TIMEOUT=1000")
    silo = kamailio.silo
    silo.options = (*silo.options, "--set", "watch=reg")
    silo.restart()
    store(phone("alice"), kamailio, "Hello")
    silo.watches(BOB, "refused: 405")
    assert "next try in 6 h" in silo.facts["watched"][BOB]


# A PBX played by hand


def reginfo(version: int, state: str, *contacts: tuple[str, str, str]) -> bytes:
    rows = "".join(
        f'<contact id="{number}" state="{now}" event="{event}"><uri>sip:bob@127.0.0.1:5090</uri></contact>'
        for number, now, event in contacts
    )
    head = f'<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="{version}" state="{state}">'
    return f'{head}<registration aor="sip:{BOB}" id="1" state="active">{rows}</registration></reginfo>'.encode()


class Server:
    """The notifier's side of one subscription, and the proxy in front of the phones."""

    def __init__(self, phone: Phone, silo: Silo) -> None:
        self.phone, self.silo, self._cseq = phone, silo, 0
        self.asked = self.subscribed(200, "Expires: 600")

    def subscribed(self, code: int, *extra: str) -> Seen:
        """The next SUBSCRIBE, answered."""
        seen = self.phone.receive(10)
        assert seen.method == "SUBSCRIBE"
        self.phone.answer(seen, code, f"Contact: <{self.phone.contact}>", *extra)
        return seen

    def notify(self, body: bytes, state: str = "active;expires=600") -> int:
        """Tell the silo; its answer. A MESSAGE that comes in between is answered 480: the phone is not here."""
        self._cseq += 1
        lines = ("Event: reg", f"Subscription-State: {state}", f"Contact: <{self.phone.contact}>")
        ctype = "Content-Type: application/reginfo+xml"
        raw = self.phone.request("NOTIFY", "silo@home.lan", *lines, ctype, body=body).decode()
        swapped = [
            f"From: {self.asked['To']};tag={self.phone.user}" if line.startswith("From:")
            else f"To: {self.asked['From']}" if line.startswith("To:")
            else f"Call-ID: {self.asked['Call-ID']}" if line.startswith("Call-ID:")
            else f"CSeq: {self._cseq} NOTIFY" if line.startswith("CSeq:")
            else line
            for line in raw.split("\r\n")
        ]  # fmt: skip
        return self.phone.ask("\r\n".join(swapped).encode(), self.silo.address).code


@pytest.fixture
def server(start_silo: StartSilo, proxy: Phone, phone: PickUp) -> Server:
    silo = start_silo("--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}", "--set", "watch=reg")
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 202
    return Server(proxy, silo)


def test_partial_notifications(server: Server) -> None:
    """Only what changed is told; a gap is answered by a SUBSCRIBE that asks for everything."""
    assert server.notify(reginfo(0, "full")) == 200
    assert server.notify(reginfo(1, "partial", ("7", "terminated", "expired"))) == 200
    assert server.phone.glance(0.5) is None, "nobody is there"
    assert server.notify(reginfo(2, "partial", ("8", "active", "registered"))) == 200
    server.phone.take(480)
    assert server.notify(reginfo(3, "partial", ("9", "active", "created"))) == 200
    server.phone.take(480)
    assert server.notify(reginfo(4, "partial", ("9", "active", "refreshed"))) == 200
    assert server.notify(reginfo(4, "partial", ("10", "active", "created"))) == 200, "repeated: nothing new"
    assert server.phone.glance(0.5) is None
    assert server.notify(reginfo(6, "partial", ("9", "terminated", "expired"))) == 200
    assert server.subscribed(200, "Expires: 600")["Call-ID"] == server.asked["Call-ID"]
    assert server.notify(reginfo(7, "full", ("11", "active", "created"))) == 200
    assert server.phone.take(200).body == b"Hello"
    server.silo.empties()


def test_what_is_no_document_is_refused_and_said(server: Server) -> None:
    assert server.notify(b"<reginfo") == 400
    server.silo.watches(BOB, "a NOTIFY cannot be read")
    assert server.notify(reginfo(0, "full", ("1", "active", "created"))) == 200
    assert server.phone.take(200).body == b"Hello"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (489, "refused: 489 No, the PBX has no event reg, next try in 6 h"),
        (404, "refused: 404 No, next try in 60 min"),
    ],
)
def test_given_up_politely_with_the_reason(
    start_silo: StartSilo, proxy: Phone, phone: PickUp, code: int, words: str
) -> None:
    silo = start_silo("--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}", "--set", "watch=reg")
    assert phone("alice").message(silo.address, BOB, b"Hello").code == 202
    refused = proxy.receive(10)
    proxy.answer(refused, code)
    silo.watches(BOB, words)
    assert proxy.glance(1.5) is None, "it is not asked again"
