"""Digest authentication, by the examples of RFC 7616 and by what servers really send."""

from __future__ import annotations

import pytest

from msilo_lite.errors import BadRequest
from msilo_lite.sip.digest import Challenge, Credentials, best_of, parameters

WHO = Credentials("Mufasa", "Circle of Life")
RFC = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={},'
    ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
NONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_the_rfc(algorithm: str, response: str) -> None:
    """RFC 7616 3.9.1."""
    challenge = Challenge.parse(RFC.format(algorithm))
    assert challenge.response(WHO, "GET", "/dir/index.html", NONCE, 1) == response


def test_without_qop_as_rfc_2069() -> None:
    challenge = Challenge.parse('Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"')
    value = challenge.answer(WHO, "GET", "/dir/index.html", NONCE)
    assert "qop" not in value
    assert "cnonce" not in value
    assert parameters(value.removeprefix("Digest "))["response"] == challenge.response(
        WHO, "GET", "/dir/index.html", "", 1
    )


def test_an_answer_says_all_that_was_asked() -> None:
    challenge = Challenge.parse('Digest realm="a \\"b\\"", nonce="n", opaque="", qop="auth", algorithm=MD5-sess')
    said = parameters(challenge.answer(Credentials('bo"b', "x"), "MESSAGE", "sip:bob@home.lan", "c", 10)[7:])
    assert (said["realm"], said["username"], said["nc"], said["opaque"]) == ('a "b"', 'bo"b', "0000000a", "")
    assert (said["algorithm"], said["qop"], said["uri"]) == ("MD5-sess", "auth", "sip:bob@home.lan")


@pytest.mark.parametrize("value", ["", "Basic realm=x", 'Digest nonce="n"', 'Digest realm="r"', "Digest"])
def test_what_is_no_challenge(value: str) -> None:
    with pytest.raises(BadRequest):
        Challenge.parse(value)
    assert best_of([value]) is None


def test_the_first_that_we_can_answer_counts() -> None:
    """RFC 8760 2.4: the server puts the one it likes best first."""
    values = [
        RFC.format("SHA-1024"),
        'Digest realm="r", nonce="n", qop="auth-int"',
        RFC.format("SHA-256"),
        RFC.format("MD5"),
    ]
    found = best_of(values)
    assert found is not None
    assert found.algorithm == "SHA-256"


def test_a_password_is_not_shown() -> None:
    assert "Circle" not in repr(WHO)
