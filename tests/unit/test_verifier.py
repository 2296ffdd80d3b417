"""Digest from the server's side: what we ask, which answers are true, and that none counts twice."""

from __future__ import annotations

import hashlib
import re

import pytest

from msilo_lite.sip import verifier
from msilo_lite.sip.digest import Challenge, Credentials, best_of
from msilo_lite.sip.verifier import Asked, Finding, Verifier

REALM, HOST, URI = "home.lan", "192.0.2.7", "sip:carl@home.lan"
NOW = 1_800_000_000.0
BOB = Credentials("bob", "secret")
SHA, MD5 = 0, 1


def secrets(name: str = "bob", password: str = "secret", realm: str = REALM) -> dict[str, str]:
    """H(A1) as a file of htdigest has it, worked out here."""
    whole = f"{name}:{realm}:{password}".encode()
    return {"SHA-256": hashlib.sha256(whole).hexdigest(), "MD5": hashlib.md5(whole).hexdigest()}


@pytest.fixture
def door() -> Verifier:
    return Verifier(REALM, {"bob": secrets()}, ("SHA-256", "MD5"), b"k" * 32, lifetime=300)


def challenge(door: Verifier, which: int = SHA, now: float = NOW, host: str = HOST) -> Challenge:
    return Challenge.parse(door.challenges(host, now)[which])


def asked(*proofs: str, host: str = HOST, whole: bytes = b"one", method: str = "MESSAGE", target: str = URI) -> Asked:
    return Asked(method, target, proofs, host, whole)


def proof(to: Challenge, who: Credentials = BOB, count: int = 1, method: str = "MESSAGE", uri: str = URI) -> str:
    """What a phone that knows RFC 7616 sends: the client's side of this program, which real PBXs have accepted."""
    return to.answer(who, method, uri, "c0ffee", count)


def test_the_strongest_comes_first_and_each_has_qop_auth(door: Verifier) -> None:
    """RFC 8760 2.3 and 2.4."""
    values = door.challenges(HOST, NOW)
    found = [Challenge.parse(value) for value in values]
    assert [one.algorithm for one in found] == ["SHA-256", "MD5"]
    assert {one.qop for one in found} == {frozenset({"auth"})}
    assert {one.realm for one in found} == {REALM}
    assert not any(one.stale for one in found)
    best = best_of(list(values))
    assert best is not None
    assert best.algorithm == "SHA-256"


@pytest.mark.parametrize("which", [SHA, MD5])
def test_the_right_password_is_the_user(door: Verifier, which: int) -> None:
    assert door.judge(asked(proof(challenge(door, which))), NOW + 1) == (Finding.TRUE, "bob")


def test_without_a_proof_for_our_realm_there_is_none(door: Verifier) -> None:
    other = proof(challenge(door)).replace('realm="home.lan"', 'realm="elsewhere"')
    for proofs in ((), (other,), ("Basic Ym9iOnNlY3JldA==",), ("Digest",), ("",)):
        assert door.judge(asked(*proofs), NOW) == (Finding.ABSENT, "")


def test_a_proof_for_our_realm_is_found_beside_others(door: Verifier) -> None:
    mine = proof(challenge(door))
    other = mine.replace('realm="home.lan"', 'realm="elsewhere"')
    assert door.judge(asked(other, mine), NOW)[0] is Finding.TRUE


def changed(text: str, name: str, value: str | None) -> str:
    """A proof with one parameter otherwise, or without it."""
    assert re.search(rf'\b{name}=("[^"]*"|[^,]*)', text)
    new = "" if value is None else f"{name}={value}"
    return re.sub(rf'\b{name}=("[^"]*"|[^,]*)(, )?', f"{new}, " if new else "", text).rstrip(", ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("username", '"carl"'), ("username", '"nobody"'), ("username", '""'), ("username", None),
        ("response", '"' + "0" * 64 + '"'), ("response", '""'), ("response", None), ("response", '"ä"'),
        ("algorithm", "MD5"), ("algorithm", "SHA-512-256"), ("algorithm", "AKAv1-MD5"), ("algorithm", "SHA-256-sess"),
        ("algorithm", None), ("qop", None), ("qop", "auth-int"), ("nc", None), ("nc", "1"), ("nc", "00000002"),
        ("nc", "zzzzzzzz"), ("cnonce", None), ("cnonce", '""'), ("cnonce", '"other"'), ("uri", '"sip:bob@home.lan"'),
        ("uri", None),
    ],
)  # fmt: skip
def test_whatever_is_wrong_looks_the_same(door: Verifier, name: str, value: str | None) -> None:
    """No user, no password and no algorithm can be told from another."""
    assert door.judge(asked(changed(proof(challenge(door)), name, value)), NOW) == (Finding.WRONG, "")


def test_a_wrong_password_or_method_is_wrong(door: Verifier) -> None:
    given = challenge(door)
    assert door.judge(asked(proof(given, Credentials("bob", "Secret"))), NOW)[0] is Finding.WRONG
    assert door.judge(asked(proof(given), method="REGISTER"), NOW)[0] is Finding.WRONG
    assert door.judge(asked(proof(given)), NOW)[0] is Finding.TRUE, "a wrong guess uses nothing up"


def test_the_secret_of_nobody_is_no_account(door: Verifier) -> None:
    """What stands in for an unknown user is worked out from a key that nobody has, and is no user even then."""
    who = Credentials(verifier.NOBODY, (b"k" * 32).hex())
    assert door.judge(asked(proof(challenge(door), who)), NOW)[0] is Finding.WRONG


def test_a_proof_for_another_request_uri_is_told(door: Verifier) -> None:
    """RFC 7616 3.4.6: the URI is part of what was proved."""
    given = challenge(door)
    assert door.judge(asked(proof(given, uri="sip:dave@home.lan")), NOW) == (Finding.OTHER_URI, "bob")
    same = proof(given, count=2, uri="sip:carl@HOME.LAN")
    assert door.judge(asked(same, whole=b"two"), NOW)[0] is Finding.TRUE


def test_a_nonce_is_good_for_a_while(door: Verifier) -> None:
    given = challenge(door)
    assert door.judge(asked(proof(given)), NOW + 300)[0] is Finding.TRUE
    assert door.judge(asked(proof(given, count=2), whole=b"two"), NOW + 301) == (Finding.STALE, "")
    again = Challenge.parse(door.challenges(HOST, NOW + 301, stale=True)[0])
    assert again.stale
    assert again.nonce != given.nonce


@pytest.mark.parametrize(
    "nonce", ["", "x", "1.1.1", "a.b", "1" * 100, "-1.1.00", "1.1.\u00e4", "\u0661.1.1", "1..1", "0x1.1.1"]
)
def test_a_nonce_that_we_never_made_is_asked_again(door: Verifier, nonce: str) -> None:
    """The password is not even looked at, so nobody can guess with nonces of his own."""
    text = re.sub(r'nonce="[^"]*"', f'nonce="{nonce}"', proof(challenge(door)), count=1)
    assert door.judge(asked(text), NOW)[0] is Finding.STALE


def test_a_nonce_is_of_one_address_and_one_process(door: Verifier) -> None:
    """Who forges the source of a packet never sees a nonce for it, and so cannot use up another's tries."""
    given = challenge(door)
    assert door.judge(asked(proof(given), host="192.0.2.8"), NOW)[0] is Finding.STALE
    other = Verifier(REALM, {"bob": secrets()}, ("SHA-256", "MD5"), b"x" * 32, lifetime=300)
    assert other.judge(asked(proof(given)), NOW)[0] is Finding.STALE


# -- nothing counts twice ------------------------------------------------------------------------------------------
def test_a_proof_counts_once(door: Verifier) -> None:
    text = proof(challenge(door))
    assert door.judge(asked(text, whole=b"one"), NOW)[0] is Finding.TRUE
    assert door.judge(asked(text, whole=b"another body"), NOW) == (Finding.STALE, "")
    assert door.judge(asked(text, whole=b"another body"), NOW + 2) == (Finding.STALE, "")


def test_a_retransmission_is_the_same_request(door: Verifier) -> None:
    """RFC 3261 17.1.2.2: a request sent over UDP comes again, byte for byte, for 32 seconds."""
    text = proof(challenge(door))
    for after in (0, 0.5, 1.5, 3.5, 7.5, 31.5):
        assert door.judge(asked(text), NOW + after) == (Finding.TRUE, "bob")
    assert door.judge(asked(text), NOW + 41)[0] is Finding.STALE, "later it is a recording"


def test_requests_may_overtake_one_another(door: Verifier) -> None:
    given = challenge(door)

    def take(number: int) -> Finding:
        return door.judge(asked(proof(given, count=number), whole=bytes([number])), NOW)[0]

    assert [take(number) for number in (1, 3, 2, 70, 7)] == [Finding.TRUE] * 5
    assert take(6) is Finding.STALE, "too far behind to be known"
    for number in (1, 3, 2, 70, 7):
        text = proof(given, count=number)
        assert door.judge(asked(text, whole=b"again"), NOW)[0] is Finding.STALE


def test_no_number_of_a_nonce_counts_twice_however_they_come(door: Verifier) -> None:
    given = challenge(door)
    taken = []
    for step in range(400):
        number = (step * 37) % 150 + 1
        text = proof(given, count=number)
        if door.judge(asked(text, whole=step.to_bytes(2)), NOW)[0] is Finding.TRUE:
            taken.append(number)
    assert len(taken) == len(set(taken)) > 60


def test_memory_is_bounded_and_what_is_forgotten_never_counts_again(door: Verifier) -> None:
    used = []
    for step in range(verifier.REMEMBERED + 300):
        at = NOW + step / 200
        used.append(proof(challenge(door, now=at)))
        assert door.judge(asked(used[-1], whole=step.to_bytes(4)), at)[0] is Finding.TRUE
    assert len(door._used) <= verifier.REMEMBERED
    end = NOW + len(used) / 200
    again = [door.judge(asked(text, whole=b"again"), end)[0] for text in (*used[:500], *used[-500:])]
    assert set(again) == {Finding.STALE}
    assert door.judge(asked(proof(challenge(door, now=end))), end)[0] is Finding.TRUE


def test_who_never_answers_costs_no_memory(door: Verifier) -> None:
    for _ in range(1000):
        text = proof(challenge(door), Credentials("bob", "wrong"))
        door.judge(asked(text), NOW)
    assert len(door._used) == 0


def test_a_clock_that_is_set_back_voids_every_nonce(door: Verifier) -> None:
    """Else a recording from before would be good once more when its time comes again."""
    text = proof(challenge(door))
    assert door.judge(asked(text), NOW)[0] is Finding.TRUE
    door.judge(asked(proof(challenge(door, now=NOW + 86400))), NOW + 86400)
    back = NOW - 3600
    assert door.judge(asked(proof(challenge(door, now=back))), back)[0] is Finding.TRUE
    assert door.judge(asked(text, whole=b"again"), NOW)[0] is Finding.STALE
