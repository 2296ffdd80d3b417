"""Identity stays inside the trust domain, and outside of it nobody learns more than the sender wants."""

from __future__ import annotations

import pytest

from msilo_lite.box.policy import MAX_REQUEST
from msilo_lite.outbound.compose import Dress, replay, replay_size
from msilo_lite.outbound.privacy import asked
from msilo_lite.sip.wire import Outgoing

from .kit import AGENT, NOW, message, waiting

KEPT = {
    "P-Asserted-Identity": '"Alice" <sip:alice@home.lan>',
    "P-Preferred-Identity": "<sip:alice@home.lan>",
    "Subject": "Dinner",
    "Reply-To": "<sip:alice@work.lan>",
    "Call-Info": "<http://alice.lan/me.png>;purpose=icon",
    "Organization": "Alice & Sons",
    "History-Info": "<sip:alice@home.lan>;index=1",
    "X-App": "1",
    "X-Empty": "",
}
ALICE = '"Alice" <sip:alice@home.lan>'
ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'


def sent(privacy: str | None, *, trusted: bool, dress: Dress | None = None, due: int = 0) -> Outgoing:
    headers = KEPT | ({"Privacy": privacy} if privacy is not None else {})
    kept = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    item = waiting(message(kept=kept, from_=ALICE, call_id="alice-1@192.168.7.7", due=due))
    made = dress or Dress(AGENT, add_date=False)
    return replay(item, "sip:bob@h", (), made, call_id="ours", trusted=trusted, now=NOW)


def names(what: Outgoing) -> set[str]:
    return {name.decode() for name, _ in what.headers} & {*KEPT, "Privacy"}


def test_a_trusted_peer_gets_all_but_what_was_for_the_first_proxy() -> None:
    """RFC 3325 9.2: P-Preferred-Identity is a phone's word to its proxy."""
    for privacy in (None, "id", "user;header;critical", "none"):
        what = sent(privacy, trusted=True)
        assert names(what) == {*KEPT, *({"Privacy"} if privacy else ())} - {"P-Preferred-Identity"}
        assert what.from_ == ALICE


def test_nobody_else_gets_an_asserted_identity() -> None:
    what = sent(None, trusted=False)
    assert names(what) == KEPT.keys() - {"P-Asserted-Identity", "P-Preferred-Identity"}
    assert what.from_ == ALICE


ALWAYS = {"P-Asserted-Identity", "P-Preferred-Identity"}
PERSON = {"Subject", "Reply-To", "Call-Info", "Organization"}


@pytest.mark.parametrize(
    ("privacy", "hidden", "left", "anonymous"),
    [
        ("id", set(), None, False),
        ("id;critical", set(), None, False),
        ("ID", set(), None, False),
        ("header", {"History-Info"}, None, False),
        ("history", {"History-Info"}, None, False),
        ("user", PERSON | {"History-Info"}, None, True),
        ("user; id ;header", PERSON | {"History-Info"}, None, True),
        ("id;x-own", set(), "x-own", False),
        ("x-own", set(), "x-own", False),
        ("none", set(), "none", False),
        ("user;none", set(), "user;none", False),
        ("session", set(), None, False),
        ("", set(), "", False),
    ],
)
def test_a_stranger_learns_what_the_sender_wants(
    privacy: str, hidden: set[str], left: str | None, anonymous: bool
) -> None:
    """RFC 3323 5: what was done is taken out of the header, and the header with it when nothing is left."""
    what = sent(privacy, trusted=False)
    shown = {"Privacy"} if left is not None else set()
    assert names(what) == KEPT.keys() - ALWAYS - hidden | shown
    assert [value.decode() for name, value in what.headers if name == b"Privacy"] == (
        [left] if left is not None else []
    )
    assert (what.from_ == ANONYMOUS) == anonymous
    if anonymous:
        assert b"alice" not in repr(what).lower().encode().replace(b"x-msilo", b"")


def test_a_hidden_sender_is_in_no_other_place_either() -> None:
    """Contact, Call-ID and the name on a reminder would tell."""
    dress = Dress(AGENT, add_date=False, add_contact=True, keep_call_id=True, reminder="sip:reminder@home.lan")
    plain = sent("user", trusted=False, dress=dress)
    assert plain.call_id == "ours"
    assert b"Contact" not in dict(plain.headers)
    late = sent("user", trusted=False, dress=dress, due=NOW)
    assert late.from_ == '"Anonymous" <sip:reminder@home.lan>'
    assert not {b"Reply-To", b"Contact"} & dict(late.headers).keys()


def test_room_is_kept_for_being_anonymous() -> None:
    """Accepted must mean replayable, also where the anonymous From is the longer one."""
    kept, dress = "Privacy: user;x\r\n", Dress(AGENT, add_date=False)
    one = message(kept=kept, from_="<sip:a@b>", body=b"")
    plain = message(kept="X-Privat: user;x\r\n", from_="<sip:a@b>", body=b"")
    assert replay_size(one, dress) - replay_size(plain, dress) >= len(ANONYMOUS) - len("<sip:a@b>") - 1
    assert replay_size(one, dress) < MAX_REQUEST


def test_two_privacy_headers_are_one() -> None:
    assert asked([("Privacy", "id"), ("privacy", "user, header")]) == {"id", "user", "header"}
