"""Which REGISTER makes a store send: table 3.5 of msilo-behaviour.md, row by row."""

from collections.abc import Sequence

import pytest

from .both import Pair, Side

pytestmark = pytest.mark.sip

HERE = "Contact: <HERE>"


def row(name: str, *lines: str, original: bool, lite: bool) -> object:
    return pytest.param(lines, original, lite, id=name)


ROWS = [
    row("no-contact", original=False, lite=False),
    row("star", "Contact: *", "Expires: 0", original=False, lite=False),
    row("expires-0-by-parameter", f"{HERE};expires=0", original=False, lite=False),
    row("expires-0-by-header", HERE, "Expires: 0", original=False, lite=False),
    row("all-contacts-expire", f"{HERE};expires=0", f"{HERE[:-1]};x=1>;expires=0", original=False, lite=False),
    row("parameter-over-header", f"{HERE};expires=60", "Expires: 0", original=True, lite=True),
    row("no-expires", HERE, original=True, lite=True),
    row("methods-with-message", f'{HERE};methods="INVITE,MESSAGE"', "Allow: INVITE", original=True, lite=True),
    row("methods-alone", f'{HERE};methods="MESSAGE"', original=True, lite=True),
    row("allow-with-message", HERE, "Allow: INVITE, MESSAGE", original=True, lite=True),
    row("allow-without-message", HERE, "Allow: INVITE, ACK", original=False, lite=False),
    row("neither", HERE, "Expires: 60", original=True, lite=True),
    row("methods-without-allow-with", f'{HERE};methods="INVITE"', "Allow: MESSAGE", original=False, lite=False),
    row("methods-without-allow-without", f'{HERE};methods="INVITE"', "Allow: INVITE", original=False, lite=False),
    row("methods-without-and-no-allow", f'{HERE};methods="INVITE"', original=True, lite=False),
    row("malformed-methods", f'{HERE};methods="(,;"', original=False, lite=False),
    row(
        "second-contact-takes-it", f'{HERE};methods="INVITE"', f'{HERE[:-1]};x=1>;methods="MESSAGE"', "Allow: INVITE",
        original=True, lite=True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "original", "lite"), ROWS)
def test_which_register_wakes(pair: Pair, lines: Sequence[str], original: bool, lite: bool) -> None:
    """One row differs: `methods` without MESSAGE and no Allow, where the original's own comment says no.

    Malformed `methods` Kamailio's registrar answers 400, ours 200; neither sends.
    """

    def scenario(side: Side, bob: str) -> bool:
        assert side.message(bob).code == 202
        assert side.registers(bob, *(line.replace("HERE", side.contact(bob)) for line in lines)).code in (200, 400)
        return len(side.sent()) == 1

    old, new = pair.play(scenario)
    assert (old, new) == (original, lite)


def test_a_later_register_wakes_what_an_earlier_did_not(pair: Pair) -> None:
    def scenario(side: Side, bob: str) -> list[bytes]:
        assert side.message(bob).code == 202
        side.registers(bob, f"Contact: <{side.contact(bob)}>", "Expires: 0")
        assert side.sent() == []
        side.register(bob)
        return [seen.body[-5:] for seen in side.sent()]

    old, new = pair.play(scenario)
    assert old == new == [b"hello"]


def test_a_register_wakes_its_own_user_alone(pair: Pair) -> None:
    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob).code == 202
        side.register(f"not-{bob}")
        return len(side.sent())

    old, new = pair.play(scenario)
    assert old == new == 0
