"""A REGISTER judged by msilo's table (its slip mended), and the bindings it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from msilo_lite.box.message import Turn
from msilo_lite.errors import BadRequest
from msilo_lite.outbound.bindings import LONGEST_CONTACT, Bindings
from msilo_lite.pbx.registration import DEFAULT_EXPIRES, Registration, judge
from msilo_lite.sip.address import Aor, aor_of, parse_address, parse_uri

from .kit import BOB, CARL, NOW, contact, register

PHONE = "<sip:bob@127.0.0.1:5090>"
OTHER = "<sip:bob@127.0.0.1:5091>"


def ours(uri: str) -> Aor | None:
    aor = aor_of(parse_uri(uri))
    return aor if aor and aor.host == "home.lan" else None


def judged(
    *contacts: str, more: tuple[str, ...] = (), now: float = NOW, user: str = "bob", **changed: str | None
) -> Registration:
    return judge(register(*contacts, more=more, user=user, **changed), ours, now)


@pytest.mark.parametrize(
    ("contacts", "more", "wakes"),
    [
        # msilo-lite wakes where msilo dumps
        ((), (), False),
        (("*",), ("Expires: 0",), False),
        ((f"{PHONE};expires=0",), (), False),
        ((PHONE,), ("Expires: 0",), False),
        ((f"{PHONE};expires=0", f"{OTHER};expires=0"), (), False),
        ((f"{PHONE};expires=60",), ("Expires: 0",), True),
        ((f"{PHONE};expires=0",), ("Expires: 60",), False),
        ((PHONE,), (), True),
        ((f'{PHONE};methods="INVITE, MESSAGE"',), (), True),
        ((f'{PHONE};methods="INVITE, MESSAGE"',), ("Allow: INVITE",), True),
        ((f"{PHONE};methods=message",), (), True),
        ((PHONE,), ("Allow: INVITE, MESSAGE",), True),
        ((PHONE,), ("Allow: INVITE", "Allow: MESSAGE"), True),
        ((PHONE,), ("Allow: INVITE, ACK",), False),
        ((PHONE,), ("Allow:",), False),
        ((f'{PHONE};methods="INVITE"',), ("Allow: INVITE, MESSAGE",), False),
        ((f'{PHONE};methods="INVITE"',), ("Allow: INVITE",), False),
        ((f"{PHONE};methods",), ("Allow: MESSAGE",), False),
        # the slip: methods without MESSAGE and no Allow wakes msilo, but not us
        ((f'{PHONE};methods="INVITE"',), (), False),
        # the first positive contact wins
        ((f'{PHONE};methods="INVITE"', OTHER), (), True),
        ((f"{PHONE};expires=0", OTHER), (), True),
        # a name that only contains MESSAGE is not it
        ((f'{PHONE};methods="MESSAGES"',), (), False),
    ],
)
def test_who_is_woken(contacts: tuple[str, ...], more: tuple[str, ...], wakes: bool) -> None:
    assert judged(*contacts, more=more).wakes is wakes


@pytest.mark.parametrize(
    ("parameter", "header", "seconds"),
    [
        (None, None, DEFAULT_EXPIRES),
        (None, "60", 60),
        ("60", None, 60),
        ('"60"', None, 60),
        ("60", "0", 60),
        ("0", "60", 0),
        ("soon", "60", 60),
        ("-1", "60", 60),
        ("soon", "later", DEFAULT_EXPIRES),
        (None, "4294967295", 2**31 - 1),
        ("99999999999999999999", None, 2**31 - 1),
    ],
)
def test_how_long_a_binding_lasts(parameter: str | None, header: str | None, seconds: int) -> None:
    line = PHONE if parameter is None else f"{PHONE};expires={parameter}"
    (binding,) = judged(line, more=(f"Expires: {header}",) if header else ()).contacts
    assert binding.expires == NOW + seconds


def test_what_a_binding_remembers() -> None:
    path = ("Path: <sip:p.lan;lr>, <sip:q.lan;lr>", "Path: <sip:r.lan;lr>")
    (binding,) = judged(f"Bob {PHONE};expires=60", more=path, now=NOW + 0.5, call_id="c", cseq="7 REGISTER").contacts
    assert binding == contact(
        "sip:bob@127.0.0.1:5090",
        path=("<sip:p.lan;lr>", "<sip:q.lan;lr>", "<sip:r.lan;lr>"),
        expires=NOW + 60,
        updated=NOW + 0.5,
        call_id="c",
        cseq=7,
    )


@pytest.mark.parametrize(
    "value", ["<sip:127.0.0.1;lr>", "<sip:127.0.0.1;lr>;x=y", '"Edge, one" <sip:127.0.0.1;lr>', "sip:127.0.0.1"]
)
def test_a_path_can_be_followed(value: str) -> None:
    (binding,) = judged(PHONE, more=(f"Path: {value}",)).contacts
    (hop,) = binding.path
    assert parse_uri(parse_address(hop).uri).host == "127.0.0.1"


@pytest.mark.parametrize("value", ["garbage", "<tel:+1>", "<sip:127.0.0.1;x=\udcff>", "<>", "<sip:p>\r;x"])
def test_a_path_that_cannot_be_followed_is_refused(value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        judged(PHONE, more=(f"Path: {value}",))
    assert caught.value.status in (400, 416)


def test_the_answer_echoes_contacts_and_expires() -> None:
    assert judged(PHONE, f"{OTHER};expires=5", more=("Expires: 60",)).headers == (
        ("Contact", PHONE),
        ("Contact", f"{OTHER};expires=5"),
        ("Expires", "60"),
    )
    assert judged("*", more=("Expires: 0",)).headers == (("Expires", "0"),)


@pytest.mark.parametrize(
    ("line", "more"), [(f'"a\rX-Evil: 1" {PHONE}', ()), (PHONE, ("Expires: 60\rX-Evil: 1",)), (f'"\x00" {PHONE}', ())]
)
def test_the_answer_carries_no_line_end_of_the_request(line: str, more: tuple[str, ...]) -> None:
    try:
        headers = judged(line, more=more).headers
    except BadRequest as refusal:
        assert refusal.status == 400  # noqa: PT017 (refusing is as good as dropping)
        return
    assert all(ord(char) >= 32 for _, value in headers for char in value)


@pytest.mark.parametrize(
    ("contacts", "more"),
    [
        (("*",), ()),
        (("*",), ("Expires: 60",)),
        (("*", PHONE), ("Expires: 0",)),
        (("*;expires=0",), ()),
        (("nonsense",), ()),
        (("<sip:>",), ()),
    ],
)
def test_a_register_that_contradicts_itself(contacts: tuple[str, ...], more: tuple[str, ...]) -> None:
    with pytest.raises(BadRequest) as caught:
        judged(*contacts, more=more)
    assert caught.value.status == 400


def test_a_tel_contact_is_not_served() -> None:
    with pytest.raises(BadRequest) as caught:
        judged("<tel:+123>")
    assert caught.value.status == 416


@pytest.mark.parametrize(
    ("to", "status"), [("<sip:bob@elsewhere.lan>", 404), ("<sip:home.lan>", 404), (None, 400), ("x", 400)]
)
def test_a_register_for_nobody_of_ours(to: str | None, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        judged(PHONE, to=to)
    assert caught.value.status == status


# -- the bindings --------------------------------------------------------------------------------------------------
class Book:
    """Bindings, and what they staged since."""

    def __init__(self) -> None:
        self.bindings, self.turn, self.cseq = Bindings(()), Turn(), 0

    def take(self, *contacts: str, now: float = NOW, cseq: int | None = None, **more: Any) -> None:
        self.cseq = cseq or self.cseq + 1
        lines = (f"Expires: {more.pop('expires')}",) if "expires" in more else ()
        numbered: dict[str, Any] = {"call_id": "phone", **more, "cseq": f"{self.cseq} REGISTER"}
        self.bindings.apply(judged(*contacts, now=now, more=lines, **numbered), now, self.turn)

    def newest(self, now: float = NOW) -> str | None:
        found = self.bindings.newest(BOB, now)
        return found.uri if found else None

    def staged(self) -> dict[str, bool]:
        return {uri: one is not None for (_, uri), one in self.turn.contacts.items()}


@pytest.fixture
def book() -> Book:
    return Book()


ONE, TWO = "sip:bob@127.0.0.1:5090", "sip:bob@127.0.0.1:5091"


def test_nobody_is_registered_at_first(book: Book) -> None:
    assert book.newest() is None


def test_the_newest_binding_is_the_one_set_last(book: Book) -> None:
    book.take(PHONE, now=NOW)
    book.take(OTHER, now=NOW + 1)
    assert book.newest(NOW + 1) == TWO
    book.take(PHONE, now=NOW + 2)
    assert book.newest(NOW + 2) == ONE
    assert book.staged() == {ONE: True, TWO: True}


def test_a_binding_that_takes_no_message_is_not_the_newest(book: Book) -> None:
    book.take(PHONE, now=NOW)
    book.take(f"{OTHER};methods=INVITE", now=NOW + 1)
    assert book.newest(NOW + 1) == ONE


def test_a_binding_ends_at_its_second(book: Book) -> None:
    book.take(f"{PHONE};expires=60")
    assert book.newest(NOW + 59.9) == ONE
    assert book.newest(NOW + 60) is None


def test_a_binding_is_removed_by_expires_zero(book: Book) -> None:
    book.take(PHONE, OTHER)
    book.take(f"{PHONE};expires=0", now=NOW + 1)
    assert book.newest(NOW + 1) == TWO
    assert book.staged() == {ONE: False, TWO: True}


def test_a_star_ends_all_of_one_user_only(book: Book) -> None:
    book.take(PHONE, OTHER)
    book.take("<sip:carl@127.0.0.1:1>", user="carl")
    book.take("*", expires="0")
    assert book.newest() is None
    assert book.staged() == {ONE: False, TWO: False, "sip:carl@127.0.0.1:1": True}
    assert book.bindings.newest(CARL, NOW) is not None


def test_an_older_register_of_the_same_phone_is_refused_and_changes_nothing(book: Book) -> None:
    book.take(f"{PHONE};expires=60", cseq=5)
    for line in (f"{PHONE};expires=0", PHONE):
        with pytest.raises(BadRequest) as caught:
            book.take(OTHER, line, cseq=4)
        assert caught.value.status == 500
    assert book.staged() == {ONE: True}
    assert book.newest(NOW + 59) == ONE
    assert book.newest(NOW + 60) is None


def test_the_same_register_again_is_taken(book: Book) -> None:
    book.take(f"{PHONE};expires=60", cseq=5)
    book.take(f"{PHONE};expires=60", cseq=5)
    assert book.newest() == ONE


def test_an_older_star_of_the_same_phone_ends_nothing(book: Book) -> None:
    book.take(PHONE, cseq=5)
    with pytest.raises(BadRequest):
        book.take("*", expires="0", cseq=4)
    assert book.newest() == ONE


def test_a_phone_that_started_again_counts_from_one(book: Book) -> None:
    book.take(PHONE, cseq=500)
    book.take(f"{PHONE};expires=60", cseq=1, call_id="another")
    assert book.newest(NOW + 60) is None


def test_bindings_that_ran_out_are_forgotten(book: Book) -> None:
    book.take(f"{PHONE};expires=60", f"{OTHER};expires=90")
    book.turn = Turn()
    book.bindings.prune(NOW + 60, book.turn)
    assert book.staged() == {ONE: False}
    book.bindings.prune(NOW + 90, book.turn)
    assert book.staged() == {ONE: False, TWO: False}
    book.turn = Turn()
    book.bindings.prune(NOW + 91, book.turn)
    assert book.staged() == {}


def test_a_contact_too_long_for_a_request_uri_wakes_but_is_not_remembered(book: Book) -> None:
    room = LONGEST_CONTACT - len("sip:@127.0.0.1")
    book.take(f"<sip:{'x' * room}@127.0.0.1>")
    assert book.newest() == f"sip:{'x' * room}@127.0.0.1"
    long = f"<sip:{'y' * (room + 1)}@127.0.0.1>"
    assert judged(long).wakes
    book.take(long, now=NOW + 1)
    assert book.newest(NOW + 1) == f"sip:{'x' * room}@127.0.0.1"


def test_the_path_counts_as_well(book: Book) -> None:
    long = judge(register(PHONE, more=(f"Path: <sip:{'p' * LONGEST_CONTACT}>",)), ours, NOW)
    book.bindings.apply(long, NOW, book.turn)
    assert long.wakes
    assert book.staged() == {}


def test_bindings_come_back_from_disk() -> None:
    old, new = contact(ONE, updated=NOW), contact(TWO, updated=NOW + 1)
    found = Bindings([new, old]).newest(BOB, NOW + 2)
    assert found is new


def test_a_contact_in_other_words_is_the_same_binding(book: Book) -> None:
    """RFC 3261 10.3 step 7 compares as 19.1.4 does: an un-REGISTER need not repeat the text."""
    book.take("<sip:bob@127.0.0.1:5090;ob>")
    book.take("<sip:%62ob@127.0.0.1:5090>")
    assert book.newest() == "sip:%62ob@127.0.0.1:5090"
    assert book.staged() == {"sip:bob@127.0.0.1:5090;ob": False, "sip:%62ob@127.0.0.1:5090": True}
    book.take("<sip:bob@127.0.0.1:5090>;expires=0")
    assert book.newest() is None
    assert not any(book.staged().values())


def test_an_older_register_in_other_words_is_still_older(book: Book) -> None:
    book.take(PHONE, cseq=5)
    with pytest.raises(BadRequest):
        book.take("<sip:bob@127.0.0.1:5090;ob>;expires=0", cseq=4)
    assert book.newest() == ONE


# -- an IMS registers its users at us (3GPP TS 24.229 5.4.1.7) -------------------------------------------------------
SCSCF = "sip:scscf.ims.home.lan:6060"


@pytest.mark.parametrize(
    ("sender", "contact", "path"),
    [
        (SCSCF, f"<{SCSCF}>", (f"<{SCSCF};lr>",)),
        (SCSCF, "<sip:10.0.0.1:6060;lr>", ("<sip:10.0.0.1:6060;lr>",)),
        ("sip:scscf@home.lan", "<sip:scscf@10.0.0.1:6060>", ("<sip:scscf@10.0.0.1:6060;lr>",)),
    ],
)
def test_the_contact_of_a_server_is_the_way_and_never_the_target(
    sender: str, contact: str, path: tuple[str, ...]
) -> None:
    found = judged(contact, more=("Expires: 600", "Allow: INVITE"), from_=f"<{sender}>;tag=1")
    assert (found.aor, found.wakes) == (BOB, True)
    (one,) = found.contacts
    assert (one.uri, one.path, one.expires) == (BOB.uri, path, NOW + 600)


def test_a_server_that_says_zero_wakes_nobody_and_ends_what_it_set() -> None:
    bindings, turn = Bindings([]), Turn()
    bindings.apply(judged(f"<{SCSCF}>", more=("Expires: 600",), from_=f"<{SCSCF}>;tag=1"), NOW, turn)
    assert bindings.newest(BOB, NOW)
    gone = judged(f"<{SCSCF}>", more=("Expires: 0",), from_=f"<{SCSCF}>;tag=2")
    assert gone.wakes is False
    bindings.apply(gone, NOW, turn)
    assert bindings.newest(BOB, NOW) is None


def test_another_server_of_the_same_ims_takes_over() -> None:
    bindings, turn = Bindings([]), Turn()
    for host in ("10.0.0.1", "10.0.0.2"):
        bindings.apply(judged(f"<sip:{host}>", more=("Expires: 600",), from_="<sip:scscf.lan>;tag=1"), NOW, turn)
    newest = bindings.newest(BOB, NOW)
    assert newest
    assert newest.path == ("<sip:10.0.0.2;lr>",)
    assert len(turn.contacts) == 1


@pytest.mark.parametrize("sender", ["<sip:bob@home.lan>", "<sip:bob@127.0.0.1>", "<sip:admin@home.lan>", "<tel:+49>"])
def test_whoever_registers_a_phone_sets_the_contact_of_the_phone(sender: str) -> None:
    (one,) = judged(PHONE, from_=f"{sender};tag=1").contacts
    assert (one.uri, one.path) == ("sip:bob@127.0.0.1:5090", ())


def test_a_phone_without_a_user_in_its_contact_registers_itself() -> None:
    (one,) = judged("<sip:127.0.0.1:5090>", from_="<sip:bob@home.lan>;tag=1").contacts
    assert one.uri == "sip:127.0.0.1:5090"
