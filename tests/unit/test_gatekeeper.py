"""The gate: what each network may do, who comes in by a password, and how much of anything is let in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.box.silo import Places, Source
from msilo_lite.errors import ConfigError, Refused
from msilo_lite.gatekeeper import Gatekeeper
from msilo_lite.settings.config import Config
from msilo_lite.sip.digest import Credentials, best_of
from msilo_lite.sip.lines import split
from msilo_lite.sip.wire import Incoming, Request

from .kit import NOW, read, text_of

INSIDE, OUTSIDE = "127.0.0.1", "192.0.2.7"
ALICE, BOB = Credentials("alice", "wonder"), Credentials("bob", "secret")
USERS = {
    "domain": "home.lan",
    "account": [{"name": "alice", "password": "wonder"}, {"name": "bob", "password": "secret"}],
}
PLACES = Places(("home.lan",), frozenset({"127.0.0.1"}))


class Door:
    """A gatekeeper, and somebody who knocks."""

    def __init__(self, **settings: Any) -> None:
        self.gate = Gatekeeper(Config.model_validate(settings), PLACES.aor)
        self.now = float(NOW)

    def send(self, raw: bytes, host: str = INSIDE) -> tuple[Request, Source]:
        return self.gate.admit(Incoming(split(raw), host, 5080, 1), read(raw), self.now)

    def refused(self, raw: bytes, host: str = INSIDE) -> Refused:
        with pytest.raises(Refused) as caught:
            self.send(raw, host)
        return caught.value

    def prove(
        self, who: Credentials, method: str = "MESSAGE", target: str = "sip:carl@home.lan", *more: str,
        host: str = OUTSIDE, **changed: Any,
    ) -> bytes:  # fmt: skip
        """The request of somebody who was asked for his password and gives it."""
        questions = self.refused(text_of(method, target, *more, **changed), host)
        assert questions.status == 401
        best = best_of([value for name, value in questions.headers if name == "WWW-Authenticate"])
        assert best is not None
        answer = best.answer(who, method, target, "c0ffee")
        return text_of(method, target, f"Authorization: {answer}", *more, **changed)


# -- networks ------------------------------------------------------------------------------------------------------
def test_a_trusted_network_may_do_what_it_always_could() -> None:
    door = Door()
    raw = text_of("MESSAGE", "sip:bob@home.lan", "X-MSilo-ID: 1-0123456789abcdef", "X-MSilo-Owner: sip:eve@home.lan")
    request, source = door.send(raw)
    assert request == read(raw)
    assert source == Source(INSIDE, 5080, control=False)
    for method in ("REGISTER", "NOTIFY", "OPTIONS"):
        door.send(text_of(method, "sip:home.lan"))


@pytest.mark.parametrize(
    ("right", "method"), [("store", "MESSAGE"), ("wake", "REGISTER"), ("wake", "NOTIFY")]
)  # fmt: skip
def test_a_peer_may_lose_a_right(right: str, method: str) -> None:
    door = Door(peer=[{"address": "127.0.0.2", right: False}])
    refusal = door.refused(text_of(method, "sip:bob@home.lan"), "127.0.0.2")
    assert (refusal.status, refusal.counter) == (403, "refused_peer")
    assert right in refusal.reason
    door.send(text_of("OPTIONS", "sip:home.lan"), "127.0.0.2")
    for other in {"MESSAGE", "REGISTER", "NOTIFY"} - {method, "NOTIFY" if right == "wake" else "", "REGISTER"}:
        door.send(text_of(other, "sip:bob@home.lan"), INSIDE)


def test_marks_of_a_replay_count_from_those_who_may_bring_one_back() -> None:
    door = Door(peer=[{"address": "127.0.0.2", "replayed": False, "control": True}])
    marks = ("X-MSilo-ID: 1-0123456789abcdef", "x-msilo-path: 2-0123456789abcdef", "X-MSilo-Owner: sip:eve@home.lan")
    request, source = door.send(text_of("MESSAGE", "sip:bob@home.lan", *marks, "Subject: hi"), "127.0.0.2")
    assert {name for name, _ in request.headers if name.startswith("x-msilo")} == {"x-msilo-owner"}
    assert request.get("subject") == "hi"
    assert source.control
    request, _ = door.send(text_of("MESSAGE", "sip:bob@home.lan", *marks), INSIDE)
    assert request.get("x-msilo-id") == "1-0123456789abcdef"


def test_the_smallest_network_decides() -> None:
    config = Config.model_validate({
        "trusted": ["10.0.0.0/8", "10.1.2.3"],
        "peer": [{"address": "10.1.0.0/16", "store": False}, {"address": "10.1.2.0/24", "control": True},
                 {"address": "10.9.0.0/16", "wake": False}, {"address": "2001:db8::/32", "replayed": False}],
    })  # fmt: skip
    rights = {host: config.rights_at(host) for host in ("10.5.5.5", "10.1.9.9", "10.1.2.9", "10.1.2.3", "10.9.1.1")}
    assert [one and (one.store, one.wake, one.control) for one in rights.values()] == [
        (True, True, False), (False, True, False), (True, True, True), (True, True, False), (True, False, False)
    ]  # fmt: skip
    six = config.rights_at("2001:db8::1")
    assert six is not None
    assert not six.replayed
    assert config.rights_at("192.0.2.1") is None
    assert config.rights_at("2001:db9::1") is None


def test_a_peer_decides_over_a_trusted_network_of_the_same_size() -> None:
    config = Config.model_validate({"trusted": ["10.0.0.0/8"], "peer": [{"address": "10.0.0.0/8", "store": False}]})
    rights = config.rights_at("10.0.0.1")
    assert rights is not None
    assert not rights.store


def test_without_accounts_a_stranger_is_not_heard() -> None:
    gate = Gatekeeper(Config.model_validate({}), PLACES.aor)
    assert gate.hears(INSIDE)
    assert not gate.hears(OUTSIDE)
    assert not gate.trusts(OUTSIDE)


# -- accounts ------------------------------------------------------------------------------------------------------
def test_a_stranger_is_asked_for_a_password_and_is_heard_with_it() -> None:
    door = Door(**USERS)
    assert door.gate.hears(OUTSIDE)
    assert not door.gate.trusts(OUTSIDE), "a password makes no next hop trusted"
    refusal = door.refused(text_of(), OUTSIDE)
    assert (refusal.status, refusal.counter) == (401, "challenged_requests")
    assert [name for name, _ in refusal.headers] == ["WWW-Authenticate"] * 2
    request, source = door.send(door.prove(ALICE), OUTSIDE)
    assert request.method == "MESSAGE"
    assert not source.control


def test_what_only_a_trusted_peer_may_say_is_taken_away() -> None:
    """RFC 3325 5: claims from outside the trust domain are removed; a phone is no proxy and no silo."""
    door = Door(**USERS)
    lines = ("X-MSilo-ID: 1-0123456789abcdef", "X-MSilo-Owner: sip:eve@home.lan", "X-MSilo-Src: sip:eve@home.lan",
             "P-Asserted-Identity: <sip:boss@home.lan>", "P-Preferred-Identity: <sip:boss@home.lan>",
             "Path: <sip:192.0.2.99;lr>", "Subject: hi")  # fmt: skip
    request, _ = door.send(door.prove(ALICE, "MESSAGE", "sip:bob@home.lan", *lines), OUTSIDE)
    names = {name for name, _ in request.headers}
    assert "subject" in names
    assert not names & {line.partition(":")[0].lower() for line in lines[:-1]}


@pytest.mark.parametrize(
    "from_",
    ["<sip:alice@home.lan>;tag=1", "sip:alice@home.lan;tag=1", '"The Boss" <sip:alice@home.lan:5060;x=y>;tag=1',
     "<sip:%61lice@HOME.lan>;tag=1", "<sip:alice@127.0.0.1:5070>;tag=1", "<sips:alice@home.lan>;tag=1"],
)  # fmt: skip
def test_a_user_writes_in_his_own_name(from_: str) -> None:
    door = Door(**USERS)
    door.send(door.prove(ALICE, "MESSAGE", "sip:bob@home.lan", from_=from_), OUTSIDE)


@pytest.mark.parametrize(
    "from_",
    ["<sip:bob@home.lan>;tag=1", "<sip:Alice@home.lan>;tag=1", "<sip:alice@elsewhere.lan>;tag=1",
     "<sip:home.lan>;tag=1", "<tel:+4930123>;tag=1", "garbage", '"sip:alice@home.lan" <sip:bob@home.lan>;tag=1',
     "<sip:alice@home.lan>;tag=1\r\nf: <sip:bob@home.lan>;tag=2"],
)  # fmt: skip
def test_a_user_writes_in_no_other_name(from_: str) -> None:
    door = Door(**USERS)
    refusal = door.refused(door.prove(ALICE, "MESSAGE", "sip:carl@home.lan", from_=from_), OUTSIDE)
    assert (refusal.status, refusal.counter) == (403, "refused_user")


def test_a_user_registers_himself() -> None:
    door = Door(**USERS)
    mine = {"from_": "<sip:bob@home.lan>;tag=1", "to": "<sip:bob@home.lan>"}
    request, _ = door.send(door.prove(BOB, "REGISTER", "sip:home.lan", "Contact: <sip:bob@192.0.2.7>", **mine), OUTSIDE)
    assert request.get("contact") == "<sip:bob@192.0.2.7>"


@pytest.mark.parametrize(
    ("from_", "to"),
    [("bob", "alice"), ("alice", "alice"), ("alice", "bob")],  # the last one is a third-party registration
)
def test_a_user_registers_nobody_else(from_: str, to: str) -> None:
    """RFC 3261 10.3 steps 3 and 4: whose mail it is stands in To."""
    door = Door(**USERS)
    names = {"from_": f"<sip:{from_}@home.lan>;tag=1", "to": f"<sip:{to}@home.lan>"}
    raw = door.prove(BOB, "REGISTER", "sip:home.lan", "Contact: <sip:thief@192.0.2.7>", **names)
    assert (door.refused(raw, OUTSIDE).status, door.refused(raw, OUTSIDE).counter) == (403, "refused_user")


def test_a_user_sends_no_notify() -> None:
    door = Door(**USERS)
    assert door.refused(door.prove(BOB, "NOTIFY", "sip:home.lan"), OUTSIDE).status == 403


def test_a_replayed_proof_carries_no_other_message() -> None:
    door = Door(**USERS)
    raw = door.prove(ALICE)
    door.send(raw, OUTSIDE)
    door.send(raw, OUTSIDE)  # a retransmission
    forged = raw.replace(b"hello", b"owned")
    refusal = door.refused(forged, OUTSIDE)
    assert refusal.status == 401
    assert all("stale=true" in value for _, value in refusal.headers)
    assert door.refused(raw, "192.0.2.66").status == 401, "a recording from elsewhere"


def test_another_request_uri_than_the_proof_names_is_refused() -> None:
    door = Door(**USERS)
    raw = door.prove(ALICE, "MESSAGE", "sip:bob@home.lan").replace(b"MESSAGE sip:bob@", b"MESSAGE sip:eve@", 1)
    assert door.refused(raw, OUTSIDE).status == 400


@pytest.mark.parametrize("who", [Credentials("alice", "wrong"), Credentials("nobody", "wonder")])
def test_guesses_become_slow(who: Credentials) -> None:
    """The same for a user that is there and one that is not."""
    door = Door(**USERS, auth_failures=5)
    for _ in range(5):
        refusal = door.refused(door.prove(who), OUTSIDE)
        assert (refusal.status, refusal.counter, refusal.reason) == (401, "refused_401", "a wrong user or password")
    slow = door.refused(text_of(), OUTSIDE)
    assert (slow.status, slow.counter) == (503, "refused_guesses")
    assert 1 <= int(dict(slow.headers)["Retry-After"]) <= 13
    door.send(door.prove(ALICE, host="192.0.2.8"), "192.0.2.8")  # others are not concerned
    door.now += 12
    door.send(door.prove(ALICE), OUTSIDE)


def test_who_has_one_ipv6_address_has_all_of_his_subnet() -> None:
    door = Door(**USERS, auth_failures=2)
    for host in ("2001:db8::1", "2001:db8::2"):
        door.refused(door.prove(Credentials("alice", "wrong"), host=host), host)
    assert door.refused(text_of(), "2001:db8::3").status == 503
    assert door.refused(text_of(), "2001:db8:0:1::3").status == 401
    assert door.refused(text_of(), "::2").status == 401


def test_forged_sources_use_up_nobodys_tries() -> None:
    """Who cannot see our answer has no nonce for that address: his guesses are not even looked at."""
    door = Door(**USERS, auth_failures=2)
    stolen = door.prove(Credentials("alice", "wrong"), host="192.0.2.66")
    for _ in range(20):
        assert door.refused(stolen, OUTSIDE).counter == "challenged_requests"
    door.send(door.prove(ALICE), OUTSIDE)


# -- how much ------------------------------------------------------------------------------------------------------
def test_a_sender_may_be_slowed_down() -> None:
    door = Door(sender_rate=60, sender_burst=3)
    for _ in range(3):
        door.send(text_of())
    refusal = door.refused(text_of())
    assert (refusal.status, refusal.counter, dict(refusal.headers)) == (480, "refused_rate", {"Retry-After": "2"})
    door.send(text_of(from_="<sip:carl@home.lan>;tag=1"))
    door.send(text_of(), "127.0.0.2")
    door.send(text_of("REGISTER", "sip:home.lan"))
    door.now += 1
    door.send(text_of())
    assert door.refused(text_of(from_='"Another name" <sip:alice@HOME.lan;x=1>;tag=9')).status == 480


def test_large_requests_are_refused() -> None:
    door = Door(max_size=100, max_headers=20, max_header_bytes=1000)
    door.send(text_of(body=b"x" * 100))
    assert door.refused(text_of(body=b"x" * 101)).status == 413
    assert door.refused(text_of("MESSAGE", "sip:bob@home.lan", *["X: y"] * 20)).status == 513
    assert door.refused(text_of("MESSAGE", "sip:bob@home.lan", "X: " + "y" * 1000)).status == 513


# -- configuration and log -----------------------------------------------------------------------------------------
def test_accounts_need_a_domain_of_ours() -> None:
    with pytest.raises(ValueError, match="accounts need a domain"):
        Config.model_validate({"account": USERS["account"]})
    with pytest.raises(ConfigError, match=r"elsewhere\.lan is not a domain of ours"):
        Door(domain="home.lan", account=[{"name": "bob@elsewhere.lan", "password": "x"}])


def test_a_reload_that_cannot_be_changes_nothing() -> None:
    door = Door(**USERS)
    bad = Config.model_validate({"domain": "home.lan", "account": [{"name": "bob@elsewhere.lan", "password": "x"}]})
    with pytest.raises(ConfigError):
        door.gate.apply(bad)
    door.send(door.prove(ALICE), OUTSIDE)
    door.gate.apply(Config.model_validate(USERS | {"account": [{"name": "alice", "password": "new"}]}))
    assert door.refused(door.prove(ALICE), OUTSIDE).status == 401
    door.send(door.prove(Credentials("alice", "new")), OUTSIDE)


def test_a_reload_lets_no_recording_in() -> None:
    """What was used is forgotten with it, so the old nonces are as well."""
    door = Door(**USERS)
    raw = door.prove(ALICE)
    door.send(raw, OUTSIDE)
    door.gate.apply(Config.model_validate(USERS))
    refusal = door.refused(raw.replace(b"hello", b"owned"), OUTSIDE)
    assert refusal.status == 401
    assert all("stale=true" in value for _, value in refusal.headers)
    door.send(door.prove(ALICE), OUTSIDE)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "msilo_lite"):
        yield caplog


def test_a_limit_is_told_once_a_minute_and_no_body_is(log: pytest.LogCaptureFixture) -> None:
    door = Door(sender_rate=1, sender_burst=1)
    raw = text_of(body=b"the words of the body")
    incoming = Incoming(split(raw), INSIDE, 5080, 1)
    door.send(raw)
    for _ in range(5):
        door.gate.note(incoming, door.refused(raw), door.now)
    warnings = [one.getMessage() for one in log.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "'peer': '127.0.0.1:5080', 'code': 480" in warnings[0]
    assert "'sip:alice@home.lan sends too fast (sender_rate)'" in warnings[0]
    assert "the words of the body" not in log.text
    door.now += 61
    door.gate.note(incoming, Refused(480, "again", counter="refused_rate"), door.now)
    assert len([one for one in log.records if one.levelno == logging.WARNING]) == 2


@given(st.binary(max_size=300))
def test_whatever_a_stranger_claims_he_gets_an_answer(junk: bytes) -> None:
    """Any proof at all: refused with a code, never another error, and never in."""
    door = Door(**USERS)
    line = junk.decode("utf-8", "surrogateescape").replace("\r", "").replace("\n", "")
    for value in (line, f"Digest {line}", f'Digest realm="home.lan", username="alice", {line}'):
        raw = text_of("MESSAGE", "sip:bob@home.lan", f"Authorization: {value}")
        assert door.refused(raw, OUTSIDE).status in (401, 503)
