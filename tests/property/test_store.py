"""What goes into the file comes out of it, whatever the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.box.delivery import State
from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Contact, Message, Recipient, Settled, Turn
from msilo_lite.box.store import Store
from msilo_lite.sip.address import Aor
from tests.unit.kit import BOB, NOW, message

_keys = count(1 << 64)
"Keys that `message` of the kit does not give: all tests here share one file."
wire_text = st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape")) | st.text(
    st.characters(codec="utf-8"), max_size=40
)
database_text = st.text(st.characters(codec="utf-8"), max_size=20)
owners = st.builds(Aor, database_text.filter(bool), st.sampled_from(["home.lan", "[::1]"]))
seconds = st.integers(0, 2**40)
messages = st.builds(
    Message,
    owner=owners,
    src=wire_text,
    dst=wire_text,
    from_=wire_text,
    to=wire_text,
    ctype=wire_text,
    body=st.binary(max_size=200),
    kept=wire_text,
    arrived=seconds,
    expires=seconds,
    call_id=wire_text,
    key=st.builds(lambda: next(_keys).to_bytes(16)),
).map(lambda one: replace(one, from_=f"{one.from_}<{one.src}>"))  # as `parse_address` makes it


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """One file for all examples: each looks at its own rows only."""
    with TemporaryDirectory() as folder, closing(Store(Path(folder) / "silo.sqlite", served=True)) as made:
        yield made


@given(one=messages)
def test_any_message_comes_out_as_it_went_in(store: Store, one: Message) -> None:
    store.write(Turn(new=[one]), NOW)
    with closing(Inbox(store.file)) as inbox:
        *_, item = inbox.waiting(one.owner)
    assert item.message == one
    assert (item.state, item.attempts, item.known) == (State.PENDING, 0, True)
    *_, same = store.pending(one.owner, item.silo_id - 1, 9, NOW)
    assert same == item
    assert store.by_msilo_id(item.msilo_id) == (State.PENDING, one.owner)
    assert store.has_mail(one.owner, NOW)
    done = Settled(item, State.DELIVERED, NOW, 200, "OK", 1)
    store.write(Turn(settled=[done]), NOW)
    assert store.pending(one.owner, item.silo_id - 1, 9, NOW) == []
    assert store.by_msilo_id(item.msilo_id) == (State.DELIVERED, one.owner)


@given(body=st.binary(max_size=300))
def test_bodies_differ_though_the_rest_is_equal(store: Store, body: bytes) -> None:
    pair = [message(BOB, body), message(BOB, body + b"x")]
    store.write(Turn(new=pair), NOW)
    with closing(Inbox(store.file)) as inbox:
        *_, first, second = inbox.waiting(BOB)
    assert [first.message, second.message] == pair


@given(reason=database_text.filter(bool), code=st.none() | st.integers(200, 699))
def test_any_reason_phrase_of_a_phone_can_be_written(store: Store, reason: str, code: int | None) -> None:
    store.write(Turn(new=[message()]), NOW)
    *_, item = store.pending(BOB, 0, 10**6, NOW)
    store.write(Turn(claimed=[item]), NOW)
    store.write(Turn(settled=[Settled(item, State.PENDING, NOW, code, reason, 1)]), NOW)
    (after,) = store.pending(BOB, item.silo_id - 1, 9, NOW)
    assert (after.code, after.reason, after.attempts) == (code, reason, 1)
    trouble = Recipient(BOB, NOW, 1, code, reason)
    store.write(Turn(recipients={BOB: trouble}), NOW)
    assert trouble in store.recipients()


contacts = st.builds(
    Contact,
    aor=owners,
    uri=database_text,  # `parse_uri` lets nothing but ASCII through
    path=st.lists(wire_text.filter(lambda text: bool(text) and "\n" not in text), max_size=3).map(tuple),
    expires=seconds,
    takes_message=st.booleans(),
    updated=seconds.map(float),
    call_id=wire_text,
    cseq=st.integers(0, 2**31),
)


@given(one=contacts)
def test_any_binding_comes_out_as_it_went_in(store: Store, one: Contact) -> None:
    store.write(Turn(contacts={(one.aor, one.uri): one}), NOW)
    assert one in store.contacts()
    store.write(Turn(contacts={(one.aor, one.uri): None}), NOW)
    assert one not in store.contacts()


@given(
    owner=owners, next_try=st.none() | seconds, tries=st.integers(0, 1000), code=st.none() | st.integers(200, 699),
    reason=database_text,
)  # fmt: skip
def test_any_trouble_comes_out_as_it_went_in(
    store: Store, owner: Aor, next_try: int | None, tries: int, code: int | None, reason: str
) -> None:
    one = Recipient(owner, next_try, tries, code, reason)
    store.write(Turn(recipients={owner: one}), NOW)
    assert one in store.recipients()
    due = next_try is not None and next_try <= NOW
    assert (owner in store.due(NOW, 10**6)) == due
    store.write(Turn(recipients={owner: None}), NOW)
    assert one not in store.recipients()


@pytest.mark.parametrize(
    "name", ["plain.db", "with space.db", "ä🍝.db", "100%41.db", "what?.db", "a#b.db", "a&mode=ro"]
)
def test_any_file_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with closing(Store(file)) as store:
        store.write(Turn(new=[message()]), NOW)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with closing(Inbox(file)) as inbox:
        assert inbox.count() == 1
