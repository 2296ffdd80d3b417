"""What a hold covers, and how a person names one."""

from __future__ import annotations

import pytest

from msilo_lite.box.holds import HELD, Hold, Holds, Kind, peer_name
from msilo_lite.errors import BadRequest, ConfigError
from msilo_lite.outbound.bindings import Bindings
from msilo_lite.outbound.ways import Way, Ways
from msilo_lite.sip.address import Aor

from .kit import BOB, CARL, NOW, contact

ODD = Aor("b b", "home.lan")


def holds(*named: tuple[Kind, str]) -> Holds:
    return Holds(Hold(kind, name, NOW) for kind, name in named)


@pytest.mark.parametrize(
    ("held", "owner", "host", "covered"),
    [
        ((Kind.ALL, ""), BOB, "", True),
        ((Kind.USER, "bob@home.lan"), BOB, "10.0.0.1", True),
        ((Kind.USER, "bob@home.lan"), CARL, "10.0.0.1", False),
        ((Kind.USER, str(ODD)), ODD, "", True),
        ((Kind.PEER, "10.0.0.0/8"), BOB, "10.9.9.9", True),
        ((Kind.PEER, "10.0.0.0/8"), BOB, "11.0.0.1", False),
        ((Kind.PEER, "10.0.0.0/8"), BOB, "", False),
        ((Kind.PEER, "10.0.0.0/8"), BOB, "pbx.home.lan", False),
        ((Kind.PEER, "pbx.home.lan"), BOB, "PBX.home.lan", True),
        ((Kind.PEER, "::1/128"), BOB, "[::1]", True),
        ((Kind.PEER, "::1/128"), BOB, "127.0.0.1", False),
    ],
)
def test_what_a_hold_covers(held: tuple[Kind, str], owner: Aor, host: str, covered: bool) -> None:
    assert (holds(held).on(owner, host) is not None) is covered


def test_loading_tells_whether_anything_changed() -> None:
    some = holds((Kind.ALL, ""))
    assert not some.load([Hold(Kind.ALL, "", NOW)])
    assert some.load([])
    assert some.on(BOB, "10.0.0.1") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [("10.0.0.1", "10.0.0.1/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("[::1]", "::1/128"), ("PBX.home.lan", "pbx.home.lan")],
)
def test_the_name_of_a_peer(text: str, name: str) -> None:
    assert peer_name(text) == name


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0", "a b", "sip:pbx", "300.1.1.1", "pbx/24"])
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(ValueError, match="is no address, no network and no host name"):
        peer_name(text)


def test_no_way_leads_past_a_hold() -> None:
    bindings, held = Bindings([contact("sip:bob@127.0.0.1:5090")]), Holds()
    straight, proxied = Ways(bindings, None, holds=held), Ways(bindings, "sip:10.0.0.1:5060", holds=held)
    before = straight.to(BOB, NOW)
    assert isinstance(before, Way)
    assert straight.by_redirect("sip:bob@10.0.0.9", before) is not None
    held.load([Hold(Kind.PEER, "10.0.0.0/8", NOW)])
    assert straight.to(BOB, NOW) == before
    assert proxied.to(BOB, NOW) == HELD
    assert straight.by_redirect("sip:bob@10.0.0.9", before) is None
    held.load([Hold(Kind.USER, "carl@home.lan", NOW)])
    assert straight.to(CARL, NOW) == HELD  # though he is not registered: that is what list says of him


@pytest.mark.parametrize(
    ("to", "peer", "everything"),
    [(None, None, False), ("bob@home.lan", "10.0.0.1", False), ("bob@home.lan", None, True)],
)
def test_a_person_names_one_hold(to: str | None, peer: str | None, everything: bool) -> None:
    from msilo_lite.cli.deeds import hold_named

    with pytest.raises(ConfigError, match="one of them"):
        hold_named(to, peer, everything=everything, now=NOW)
    with pytest.raises(BadRequest):
        hold_named("home.lan", None, everything=False, now=NOW)
    with pytest.raises(ConfigError, match="--peer"):
        hold_named(None, "10.0.0.1/8", everything=False, now=NOW)
