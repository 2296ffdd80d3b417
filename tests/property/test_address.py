"""URIs are equal to themselves and both ways; what parses prints back equal."""

from __future__ import annotations

import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from msilo_lite.errors import BadRequest
from msilo_lite.sip.address import Aor, Endpoint, aor_of, is_literal, parse_address, parse_uri, same_uri, split_list

users = st.sampled_from(["bob", "Bob", "%62ob", "b%6fb", "%00", "+49-30", "a;b=c?d/e", "x%40y", "%C3%AB", "~"])
hosts = st.sampled_from(["home.lan", "HOME.lan", "a-b.c", "192.0.2.1", "[::1]", "[2001:DB8::1]", "h.", "localhost"])
ports = st.sampled_from(["", ":5060", ":1", ":65535"])
parameters = st.lists(
    st.sampled_from([";transport=udp", ";transport=UDP", ";Transport=tcp", ";lr", ";user=phone", ";x=%41", ";x=a",
                     ";maddr=1.2.3.4", ";ttl=1", ";method=MESSAGE", ";gr=urn:uuid:1"]), max_size=3
).map("".join)  # fmt: skip
uris = st.builds(
    lambda scheme, user, host, port, more: f"{scheme}:{user}@{host}{port}{more}",
    st.sampled_from(["sip", "sips", "SIP"]), users, hosts, ports, parameters,
)  # fmt: skip
names = st.sampled_from(["", "Bob ", '"B, <b>; \\" ob" ', '"Zoë 🍝" ', '"sip:x@y" '])
headers = st.sampled_from(["", ";tag=x", " ; TAG=x;y", ';q="0,5;<z>"', ";expires=60"])


@given(uris)
def test_a_uri_is_equal_to_itself(uri: str) -> None:
    assert same_uri(uri, uri)
    assert same_uri(uri, uri.replace("SIP:", "sip:"))


@given(uris, uris)
def test_equality_is_the_same_both_ways(a: str, b: str) -> None:
    assert same_uri(a, b) == same_uri(b, a)


@given(uris)
def test_a_uri_prints_back_equal(uri: str) -> None:
    parsed = parse_uri(uri)
    assert parse_uri(str(parsed)) == parsed
    assert same_uri(str(parsed), uri)


@given(uris)
def test_equal_uris_have_one_mailbox(uri: str) -> None:
    aor = aor_of(parse_uri(uri))
    assert aor is not None
    assert aor_of(parse_uri(aor.uri)) == aor
    assert Aor.parse(str(aor)) == aor


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), hosts)
def test_any_user_prints_back_equal(user: str, host: str) -> None:
    aor = Aor(user, host.lower().rstrip("."))
    assert Aor.parse(str(aor)) == aor
    assert not re.search(r"[\x00-\x20<>\"@]", aor.uri.partition(":")[2].rpartition("@")[0])


@given(names, uris, headers)
def test_an_address_is_split_and_prints_back_equal(name: str, uri: str, header: str) -> None:
    parsed = parse_address(f"{name}<{uri}>{header}")
    assert parsed.uri == uri
    assert parsed.text == f"{name}<{uri}>"
    again = parse_address(parsed.text)
    assert (again.text, again.uri, again.parameters) == (parsed.text, uri, ())


pieces = st.sampled_from(
    ['"', "<", ">", ";", ",", "=", "sip:", "SIP:a@b", "sip:a@b", "tel:1", "a", " ", "\\", "\r", "%"]
)
messy = st.lists(pieces, max_size=10).map("".join) | st.text(max_size=20)


@given(messy)
@example('sip:a@b;x="<"')
@example('sip:a@b;x="<c>"')
@example('"a" <garbage> "b" <sip:bob@y>')
def test_any_text_is_an_address_with_a_sound_uri_or_refused(text: str) -> None:
    try:
        parsed = parse_address(text)
    except BadRequest as error:
        assert error.status in (400, 416)  # noqa: PT017 (either outcome is fine)
        return
    assert parse_uri(parsed.uri) is not None
    assert parsed.text.endswith(f"<{parsed.uri}>") or parsed.text.endswith(">")
    assert parse_address(parsed.text).uri == parsed.uri


@given(messy)
def test_any_text_is_a_uri_or_refused(text: str) -> None:
    try:
        parsed = parse_uri(text)
    except BadRequest as error:
        assert error.status in (400, 416)  # noqa: PT017 (either outcome is fine)
        return
    assert parse_uri(str(parsed)) == parsed


@given(st.lists(st.sampled_from(["<sip:a@b>", '"x, y" <sip:a@b;p=1,2>', "*", "<sip:a@b>;q=1", '<sip:a@b>;m="A,B"'])))
def test_a_list_comes_apart_as_it_was_joined(items: list[str]) -> None:
    assert split_list(", ".join(items)) == items
    assert split_list(",".join(items)) == items


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_endpoint_prints_back_equal(address: object, port: int) -> None:
    host = str(address)
    assume("%" not in host)
    endpoint = Endpoint(host, port)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert is_literal(host)
