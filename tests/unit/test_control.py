"""What a peer with control orders in headers: understood whole or refused; from others as if it were not there."""

from __future__ import annotations

import pytest

from msilo_lite.errors import BadRequest
from msilo_lite.settings.control import Orders, obeyed, orders_of

from .kit import request


def orders(*lines: str) -> Orders:
    return orders_of(request("MESSAGE", "sip:bob@home.lan", *lines))


def test_a_request_without_orders() -> None:
    assert orders("Subject: X-MSilo-Owner: sip:carl@home.lan", "XX-MSilo-Max: 1") == Orders()
    assert Orders() == Orders(owner=None, src=None, dst=None, flags=frozenset(), most=0)


def test_all_orders_at_once() -> None:
    found = orders(
        "X-MSilo-Owner: <sip:carl@home.lan>",
        'x-msilo-src: "Zoë, x" <sip:zoe@home.lan>;tag=1',
        "X-MSILO-DST: Group <sips:group@elsewhere.lan:5099;user=phone>",
        "X-MSilo-Flags: 5, 0 ,31",
        "X-MSilo-Max: 3",
    )
    assert found.owner == "sip:carl@home.lan"
    assert found.src is not None
    assert (found.src.text, found.src.uri) == ('"Zoë, x" <sip:zoe@home.lan>', "sip:zoe@home.lan")
    assert found.dst is not None
    assert found.dst.text == "Group <sips:group@elsewhere.lan:5099;user=phone>"
    assert found.dst.uri == "sips:group@elsewhere.lan:5099;user=phone"
    assert (found.flags, found.most) == (frozenset({0, 5, 31}), 3)


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        ("X-MSilo-Owner: sip:carl@home.lan", "sip:carl@home.lan"),
        ("X-MSilo-Owner: SIP:carl@home.lan", "SIP:carl@home.lan"),
        ('X-MSilo-Owner: "Carl" <sip:carl@home.lan:5070;x=y>;z', "sip:carl@home.lan:5070;x=y"),
        ("X-MSilo-Owner:   <sips:carl@home.lan>  ", "sips:carl@home.lan"),
    ],
)
def test_the_owner_is_a_uri(line: str, owner: str) -> None:
    assert orders(line).owner == owner


@pytest.mark.parametrize("name", ["X-MSilo-Src", "X-MSilo-Dst", "X-MSilo-Flags", "X-MSilo-Max"])
def test_an_empty_order_is_none(name: str) -> None:
    """As with msilo, whose empty srcaddr and dstaddr mean From and To."""
    assert orders(f"{name}:", "X-MSilo-Whatever: 1") == Orders()


@pytest.mark.parametrize(
    "line",
    [
        "X-MSilo-Owner:",
        "X-MSilo-Owner: carl",
        "X-MSilo-Owner: carl@home.lan",
        "X-MSilo-Owner: <sip:carl@home.lan",
        "X-MSilo-Owner: sip:carl@home.lan, sip:bob@home.lan",
        "X-MSilo-Owner: http://home.lan",
        "X-MSilo-Owner: <sip:carl@home.lan> x",
        "X-MSilo-Src: nobody",
        "X-MSilo-Src: sip:",
        'X-MSilo-Src: "a\x0cX-Evil: 1" <sip:a@b>',
        'X-MSilo-Src: "\x1b[31m" <sip:a@b>',
        "X-MSilo-Dst: <>",
        "X-MSilo-Dst: *",
        'X-MSilo-Dst: "a\x00" <sip:a@b>',
        "X-MSilo-Flags: five",
        "X-MSilo-Flags: 32",
        "X-MSilo-Flags: -1",
        "X-MSilo-Flags: 1,",
        "X-MSilo-Flags: 1;2",
        "X-MSilo-Flags: 1 2",
        "X-MSilo-Flags: 99999999999999999999",
        "X-MSilo-Flags: ٣",
        "X-MSilo-Max: all",
        "X-MSilo-Max: -1",
        "X-MSilo-Max: 1.5",
        "X-MSilo-Max: 2,3",
    ],
)
def test_an_order_that_cannot_be_understood_is_refused(line: str) -> None:
    with pytest.raises(BadRequest) as caught:
        orders("X-MSilo-Max: 1" if "Max" not in line else "X-MSilo-Flags: 1", line)
    assert caught.value.status == 400
    assert line.partition(":")[0].lower() in caught.value.reason.lower()


@pytest.mark.parametrize(
    ("value", "flags"),
    [("0", {0}), ("31", {31}), ("1,1", {1}), (" 7 ,\t8 ", {7, 8}), ("007", {7})],
)
def test_flags_are_numbers_from_0_to_31(value: str, flags: set[int]) -> None:
    assert orders(f"X-MSilo-Flags: {value}").flags == flags


@pytest.mark.parametrize(("value", "most"), [("0", 0), ("1", 1), ("00012", 12), ("4294967296", 4294967296)])
def test_a_limit_is_a_number(value: str, most: int) -> None:
    assert orders(f"X-MSilo-Max: {value}").most == most


def test_who_may_not_steer_is_heard_as_if_he_had_not_tried() -> None:
    plain = request("MESSAGE", "sip:bob@home.lan", "Subject: Hi", "X-Msilo: kept")
    tried = request(
        "MESSAGE", "sip:bob@home.lan", "X-MSilo-Owner: nonsense", "Subject: Hi", "x-msilo-ID: 1-2", "X-Msilo: kept",
        "X-MSILO-: 1", call_id=plain.get("call-id"), via=plain.get("via"),
    )  # fmt: skip
    heard = obeyed(tried, control=False)
    assert (heard.headers, heard.names) == (plain.headers, plain.names)
    assert orders_of(heard) == Orders()
    assert heard.body == tried.body


def test_who_may_steer_is_heard_word_for_word() -> None:
    tried = request("MESSAGE", "sip:bob@home.lan", "X-MSilo-Owner: sip:carl@home.lan", "Subject: Hi")
    assert obeyed(tried, control=True) is tried
    assert orders_of(obeyed(tried, control=True)).owner == "sip:carl@home.lan"


def test_a_request_without_such_headers_is_not_copied() -> None:
    same = request()
    assert obeyed(same, control=False) is same
