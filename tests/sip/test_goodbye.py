"""An orderly stop ends the subscriptions, a few at a time, and waits for nobody for long."""

import re

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

WINDOW = 20
"SUBSCRIBEs under way at a time."


def subscribed(start_silo: StartSilo, proxy: Phone, alice: Phone, users: int) -> tuple[Silo, list[Seen]]:
    """A silo with a subscription for each of so many users."""
    silo = start_silo("--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}", "--set", "watch=presence")
    for number in range(users):
        assert alice.message(silo.address, f"u{number}@home.lan", b"Hello").code == 202
    seen: list[Seen] = []
    while len(seen) < users:
        request = proxy.receive(10)
        proxy.answer(request, 200, f"Contact: <{proxy.contact}>", "Expires: 600")
        seen.append(request)
    return silo, seen


def expires(request: Seen) -> str:
    return f"{request.method} {request['Expires']}"


def last_word(proxy: Phone, goodbye: Seen) -> bytes:
    """The NOTIFY that ends the dialog of a SUBSCRIBE."""
    lines = ("Event: presence", "Subscription-State: terminated;reason=timeout")
    raw = proxy.request("NOTIFY", "silo@home.lan", *lines).decode()
    for name, value in (("From", goodbye["To"]), ("To", goodbye["From"]), ("Call-ID", goodbye["Call-ID"])):
        raw = re.sub(rf"(?m)^{name}: .*$", f"{name}: {value}\r", raw).replace("\r\r", "\r")
    return raw.encode()


def test_each_subscription_is_ended_in_its_dialog(start_silo: StartSilo, proxy: Phone, phone: PickUp) -> None:
    silo, begun = subscribed(start_silo, proxy, phone("alice"), 30)
    silo.process.tell()
    first = [proxy.receive(5) for _ in range(WINDOW)]
    assert proxy.glance(0.2) is None, "so many at a time"
    ended = []
    for goodbye in first:
        assert expires(goodbye) == "SUBSCRIBE 0"
        assert goodbye["To"].endswith(";tag=proxy")
        proxy.answer(goodbye, 200, "Expires: 0")
        ended.append(goodbye["Call-ID"])
    answers: list[int] = []
    while len(ended) < 30 or len(answers) < 30:
        for goodbye in first:
            proxy.send(last_word(proxy, goodbye), silo.address)
        first = []
        seen = proxy.receive(5)
        if seen.code:
            answers.append(seen.code)
        else:
            proxy.answer(seen, 200, "Expires: 0")
            ended.append(seen["Call-ID"])
            first = [seen]
    assert answers == [200] * 30
    assert sorted(ended) == sorted(one["Call-ID"] for one in begun)
    assert silo.process.wait(5) == 0


def test_a_pbx_that_is_silent_does_not_keep_it(start_silo: StartSilo, proxy: Phone, phone: PickUp) -> None:
    silo, _ = subscribed(start_silo, proxy, phone("alice"), 30)
    assert silo.stop() == 0
    seen = list(proxy.during(0.1))
    assert {expires(one) for one in seen} == {"SUBSCRIBE 0"}
    assert len({one["Call-ID"] for one in seen}) == WINDOW


def test_a_pbx_that_knows_them_no_more_is_done_with_at_once(start_silo: StartSilo, proxy: Phone, phone: PickUp) -> None:
    silo, _ = subscribed(start_silo, proxy, phone("alice"), 3)
    silo.process.tell()
    for _ in range(3):
        goodbye = proxy.receive(5)
        assert expires(goodbye) == "SUBSCRIBE 0"
        proxy.answer(goodbye, 481)
    assert silo.process.wait(5) == 0
    until(lambda: not silo.process.running, 1, "it has ended")


def test_who_is_only_registered_leaves_too(start_silo: StartSilo, proxy: Phone) -> None:
    """REGISTER with Expires 0, and the password where it is asked for."""
    uri = f"sip:127.0.0.1:{proxy.address[1]}"
    settings = (f"registrar={uri}", "user=silo", "password=secret")
    silo = start_silo("--outbound-proxy", uri, *(word for one in settings for word in ("--set", one)))
    proxy.answer(proxy.receive(5), 200, "Expires: 300")
    until(lambda: str(silo.facts.get("extension")).startswith("registered"), 5, "it is registered")
    silo.process.tell()
    asked = proxy.receive(5)
    assert (asked.method, asked["Expires"]) == ("REGISTER", "0")
    proxy.answer(asked, 401, 'WWW-Authenticate: Digest realm="pbx", nonce="n1"')
    again = proxy.receive(5)
    assert again["Authorization"].startswith('Digest username="silo"')
    proxy.answer(again, 200)
    assert silo.process.wait(5) == 0
