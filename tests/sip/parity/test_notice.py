"""The notice that a sender gets when his message was stored: from_address, offline_message and their kin."""

import pytest

from tests.waiting import until

from ..phone import Seen
from .both import SILENT, Pair, Side
from .conftest import PairOf, Start
from .shown import Shown, shown

pytestmark = pytest.mark.sip

NOTICE = {
    "from_address": "sip:silo@home.lan",
    "offline_message": "Bob is away",
    "content_type_hdr": "Content-Type: text/plain\r\n",
    "skip_notification_flag": 5,
}
OURS = ("date", "auto-submitted")
"Headers that only our notices have; the second keeps other machines from answering (RFC 5436)."


def noticed(side: Side, bob: str, *lines: str) -> Seen:
    """What alice is told when her message was stored."""
    assert side.message(bob, b"hello", *lines).code == 202
    return side.phone.take()


def test_notice(pair_of: PairOf) -> None:
    """From the silo to the sender's address, without msilo's words before the text."""
    old, new = pair_of(**NOTICE).play(lambda side, bob: shown(noticed(side, bob)))
    assert new.without(*OURS) == old
    headers = (("content-type", "text/plain"), ("from", "<sip:silo@home.lan>"), ("to", "<sip:alice@home.lan>"))
    assert old == Shown("sip:alice@home.lan", headers, "", b"Bob is away")
    assert new.all("Auto-Submitted") == ["auto-replied"]


def test_no_notice_without_its_text(pair_of: PairOf) -> None:
    old, new = pair_of(from_address="sip:silo@home.lan").play(_all_after_a_message)
    assert old == new == []


def test_no_notice_without_its_sender(pair_of: PairOf) -> None:
    parameters = {name: NOTICE[name] for name in ("offline_message", "content_type_hdr")}
    old, new = pair_of(**parameters).play(_all_after_a_message)
    assert old == new == []


def _all_after_a_message(side: Side, bob: str) -> list[Seen]:
    assert side.message(bob).code == 202
    return side.sent()


def test_notice_to_the_contact_of_the_message(pair_of: PairOf) -> None:
    """use_contact = 1, the default: the Contact is where to send it, To is still the sender's address."""
    old, new = pair_of(**NOTICE).play(lambda side, bob: shown(noticed(side, bob, "Contact: <sip:alice@127.0.0.9:9>")))
    assert new.without(*OURS) == old
    assert (new.uri, new.all("To")) == ("sip:alice@127.0.0.9:9", ["<sip:alice@home.lan>"])


def test_use_contact_0_is_to_the_sender(pair_of: PairOf) -> None:
    pair = pair_of(**NOTICE, use_contact=0)
    old, new = pair.play(lambda side, bob: shown(noticed(side, bob, "Contact: <sip:alice@127.0.0.9:9>")))
    assert new.without(*OURS) == old
    assert new.uri == "sip:alice@home.lan"


def test_a_contact_whose_scheme_is_in_capitals(pair_of: PairOf) -> None:
    """Schemes have no case (RFC 3986 3.1); the original overlooks such a Contact."""
    old, new = pair_of(**NOTICE).play(lambda side, bob: shown(noticed(side, bob, "Contact: <SIP:alice@127.0.0.9:9>")))
    assert old.uri == "sip:alice@home.lan"
    assert new.uri.lower() == "sip:alice@127.0.0.9:9"


def test_a_contact_that_wants_tls(pair_of: PairOf) -> None:
    """Neither serves it, so the notice goes to the sender's address."""
    old, new = pair_of(**NOTICE).play(lambda side, bob: shown(noticed(side, bob, "Contact: <sips:alice@127.0.0.9:9>")))
    assert new.without(*OURS) == old
    assert new.uri == "sip:alice@home.lan"


def test_contact_hdr(pair_of: PairOf) -> None:
    pair = pair_of(**NOTICE, contact_hdr="Contact: <sip:null@home.lan>;about=$rU\r\n")
    old, new = pair.play(lambda side, bob: (bob, shown(noticed(side, bob))))
    assert new[1].without(*OURS) == old[1]
    assert new[1].all("Contact") == [f"<sip:null@home.lan>;about={new[0].partition('@')[0]}"]


def test_contact_hdr_without_line_end(pair_of: PairOf) -> None:
    """In the original the Content-Type becomes a part of the Contact."""
    pair = pair_of(**NOTICE, contact_hdr="Contact: <sip:null@home.lan>")
    old, new = pair.play(lambda side, bob: shown(noticed(side, bob)))
    assert (old.all("Contact"), old.all("Content-Type")) == (["<sip:null@home.lan>Content-Type: text/plain"], [])
    assert (new.all("Contact"), new.all("Content-Type")) == (["<sip:null@home.lan>"], ["text/plain"])


def test_skip_notification_flag(pair_of: PairOf) -> None:
    """The flag of the script, here asked for by a header, is about one message."""

    def scenario(side: Side, bob: str) -> list[bytes]:
        assert side.message(bob, b"silent", SILENT).code == 202
        assert side.message(bob, b"with notice").code == 202
        return [seen.body for seen in side.sent()]

    old, new = pair_of(**NOTICE).play(scenario)
    assert old == new == [b"Bob is away"]


TEMPLATES = {
    "from_address": "sip:about-$rU@$rd",
    "offline_message": "To $fu ($fU at $fd): $tu, that is $rU of $rd, is away. $ru $tU $td $hdr(Subject) $ci",
    "content_type_hdr": "Content-Type: text/x-$fU\r\n",
    "contact_hdr": "Contact: <sip:$tU@$td>\r\n",
    "skip_notification_flag": 5,
}


def test_pseudo_variables(pair_of: PairOf) -> None:
    """They are those of the message that was stored, and may stand in all four."""

    def scenario(side: Side, bob: str) -> tuple[Shown, str]:
        raw = side.written(bob, b"hello", "Subject: lunch")
        call = raw.partition(b"Call-ID: ")[2].partition(b"\r\n")[0].decode()
        assert side.alice.ask(raw, side.address).code == 202
        seen = shown(side.phone.take())
        text, _, given = seen.body.decode().rpartition(" ")
        assert given == call
        return Shown(seen.uri, seen.headers, "", text.encode()), bob

    old, new = pair_of(**TEMPLATES).play(scenario)
    bob, user = new[1], new[1].partition("@")[0]
    assert new[0].without(*OURS) == old[0]
    assert new[0].all("From") == [f"<sip:about-{bob}>"]
    assert new[0].all("Contact") == [f"<sip:{bob}>"]
    assert new[0].all("Content-Type") == ["text/x-alice"]
    assert new[0].body.decode() == (
        f"To sip:alice@home.lan (alice at home.lan): sip:{bob}, that is {user} of home.lan, is away."
        f" sip:{bob} {user} home.lan lunch"
    )


def test_a_variable_that_is_null(pair_of: PairOf) -> None:
    """Inside a longer text it prints as `<null>`."""
    pair = pair_of(**{**NOTICE, "offline_message": "About $hdr(Subject): $fn"})
    old, new = pair.play(lambda side, bob: shown(noticed(side, bob)))
    assert new.without(*OURS) == old
    assert new.body == b"About <null>: <null>"


def test_a_sender_address_that_is_null(pair_of: PairOf) -> None:
    """The message is stored. The original sends a notice from `<null>`, ours none."""

    def scenario(side: Side, bob: str) -> list[str]:
        assert side.message(bob).code == 202
        found = [seen["From"].partition(";")[0] for seen in side.sent()]
        assert len(side.rows(bob)) == 1
        return found

    old, new = pair_of(**{**NOTICE, "from_address": "$hdr(X-Clerk)"}).play(scenario)
    assert old[0] == "<null>"
    assert new == []


def test_no_notice_about_a_message_that_was_refused(pair_of: PairOf) -> None:
    def scenario(side: Side, bob: str) -> tuple[bool, list[Seen]]:
        return side.message(bob, b"hello", ctype="").code >= 400, side.sent()

    old, new = pair_of(**NOTICE).play(scenario)
    assert old == new == (True, [])


def test_w6_no_notice_about_a_machines_message(pair_of: PairOf) -> None:
    """The original answers even to what says that nobody wrote it (kamailio issue 61: rooms and lists)."""

    def scenario(side: Side, bob: str) -> int:
        assert side.message(bob, b"hello", "Auto-Submitted: auto-generated").code == 202
        return len(side.sent())

    old, new = pair_of(**NOTICE).play(scenario)
    assert (old, new) == (1, 0)


def test_w6_the_original_tells_itself_for_ever(original: Start) -> None:
    """Alice is away, too: the notice to her is stored, which makes a notice to the silo, which is stored, ..."""
    side = original(straight=True, **NOTICE)
    assert side.message("bob@home.lan").code == 202
    until(lambda: len(side.rows()) > 20, 10, "more than 20 rows of one message")
    side.store.stop()


def test_w6_one_message_is_one_row(lite: Start) -> None:
    """The PBX brings our notice back, as it does with every MESSAGE to somebody who is away: refused, not stored."""
    side = lite(**NOTICE)
    notice = noticed(side, "bob@home.lan")
    assert side.bounced(notice).code == 480
    assert side.sent() == []
    assert [row.owner for row in side.rows() if "stranger" not in row.owner] == ["bob@home.lan"]


def test_w6_our_notice_straight_back_without_our_mark(lite: Start) -> None:
    """A PBX that drops unknown headers hides that the notice is ours: From still tells, so there is one more row."""
    side = lite(**NOTICE)
    notice = noticed(side, "bob@home.lan")
    stripped = tuple(pair for pair in notice.headers if pair[0] not in ("x-msilo-id", "auto-submitted"))
    assert side.bounced(Seen(notice.first, stripped, notice.body)).code == 202
    assert side.sent() == []


def test_a_notice_is_sent_once(pair_of: PairOf) -> None:
    """Whatever it is answered."""

    def scenario(side: Side, bob: str) -> list[bytes]:
        assert side.message(bob).code == 202
        return [seen.body for code in (503, 200) for seen in side.sent(code)]

    def silent(side: Side, bob: str) -> list[bytes]:
        return [body for body in scenario(side, bob) if body != b"the end"]

    old, new = pair_of(**NOTICE).play(silent)
    assert old == new == [b"Bob is away"]


def test_notices_of_a_sender_with_two_recipients(pair_of: PairOf) -> None:
    def scenario(side: Side, bob: str) -> list[bytes]:
        return [noticed(side, owner).body for owner in (bob, f"other-{bob}")]

    pair: Pair = pair_of(**NOTICE)
    old, new = pair.play(scenario)
    assert old == new == [b"Bob is away"] * 2
