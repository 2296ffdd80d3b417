"""Parameters that cannot be (W19), and a table under other names (db_table, sc_...), also the other side's own file."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .both import Side, make_lite, make_original
from .conftest import PairOf
from .shown import Shown, shown

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
USAGE = 2


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def refused(folder: Path, ends: ExitStack, **parameters: Any) -> tuple[int, str]:
    """The exit code of ours at such a start, and what it says."""
    side = ends.enter_context(closing(make_lite(folder, **parameters)))
    done = side.silo.refuses()
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["check_time", "clean_period"])
def test_w19_a_timer_of_0(tmp_path: Path, ends: ExitStack, name: str) -> None:
    """The original starts and dies of a division by zero at the first run of its cleaner; ours does not start."""
    parameters: dict[str, Any] = {"check_time": 1, name: 0}
    side = ends.enter_context(closing(make_original(tmp_path, **parameters)))
    process = side.kamailio.start(answers=False).process
    assert process.wait(10) != 0
    assert "signal 8" in process.errors
    code, words = refused(tmp_path, ends, **parameters)
    assert code == USAGE
    assert name in words


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("content_type_hdr", {"from_address": "sip:silo@home.lan", "offline_message": "away"}),
        ("skip_notification_flag", {"skip_notification_flag": 32}),
        ("check_time", {"check_time": -1}),
    ],
)
def test_what_neither_starts_with(tmp_path: Path, ends: ExitStack, name: str, parameters: dict[str, Any]) -> None:
    side = ends.enter_context(closing(make_original(tmp_path, **parameters)))
    assert side.kamailio.start(answers=False).process.wait(10) != 0
    code, words = refused(tmp_path, ends, **parameters)
    assert code == USAGE
    assert name in words


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offline_message", "$avp(text) is away"),
        ("snd_time_avp", "$nonsense"),
        ("extra_hdrs", "no header line\r\n"),
        ("add_date", 2),
        ("expire_time", 0),
        ("expire_time", -1),
        ("outbound_proxy", "not a uri"),
        ("reminder", "clock"),
    ],
)
def test_what_ours_does_not_start_with(tmp_path: Path, ends: ExitStack, name: str, value: str | int) -> None:
    """Said at the start, with the name of the setting, and not message by message."""
    notice = {"from_address": "sip:silo@home.lan", "content_type_hdr": "Content-Type: text/plain\r\n"}
    code, words = refused(tmp_path, ends, **{**notice, name: value})
    assert code == USAGE
    assert name in words


# ---- the table -------------------------------------------------------------------------------------------------------

OTHER_NAMES: dict[str, Any] = {
    "db_table": "box",
    "sc_mid": "number",
    "sc_from": "writer",
    "sc_to": "reader",
    "sc_uri_user": "who",
    "sc_uri_host": "at",
    "sc_body": "words",
    "sc_ctype": "kind",
    "sc_exp_time": "ends",
    "sc_inc_time": "came",
    "sc_snd_time": "due",
    "sc_stored_hdrs": "lines",
}
SINCE_5_8: dict[str, Any] = {"sc_callid": "call", "sc_status": "state"}


def columns(side: Side) -> set[str]:
    with contextlib.closing(sqlite3.connect(side.store.database)) as connection:
        return {str(column[1]) for column in connection.execute("PRAGMA table_info(box)")}


def test_db_table_and_its_columns_under_other_names(pair_of: PairOf) -> None:
    def scenario(side: Side, bob: str) -> tuple[Shown, set[str]]:
        return shown(side.delivered(bob, b"hello", "X-Foo: 1")), columns(side)

    old, new = pair_of(**OTHER_NAMES).play(scenario)
    assert new == old
    assert new[1] == {*OTHER_NAMES.values(), "callid", "status"} - {"box"}


def test_columns_of_kamailio_5_8_under_other_names(tmp_path: Path, ends: ExitStack) -> None:
    side = ends.enter_context(closing(make_lite(tmp_path, **OTHER_NAMES, **SINCE_5_8))).start()
    side.delivered(BOB, b"hello")
    assert columns(side) == {*OTHER_NAMES.values(), *SINCE_5_8.values()} - {"box"}


def test_ours_takes_over_the_originals_file(tmp_path: Path, ends: ExitStack) -> None:
    """What the original stored, headers as blobs included, reaches the phone as the original would have sent it."""
    old = ends.enter_context(closing(make_original(tmp_path))).start()
    for owner in ("carl@home.lan", BOB):
        assert old.message(owner, b"hello", "X-Foo: 1", "Privacy: none").code == 202
    expected = shown(old.replayed("carl@home.lan"))
    old.store.stop()
    new = ends.enter_context(closing(make_lite(tmp_path)))
    new.store.database = old.store.database
    found = shown(new.start().replayed(BOB))
    assert found.without("to") == replace(expected.without("to"), uri=found.uri)
    assert found.all("To") == [f"<sip:{BOB}>"]


def test_the_original_takes_ours_back(tmp_path: Path, ends: ExitStack) -> None:
    """Our file is a Kamailio's file with more tables: the way back stays open."""
    new = ends.enter_context(closing(make_lite(tmp_path))).start()
    new.store_all(BOB, b"one")
    assert new.message(BOB, b"two", "X-Foo: 1").code == 202
    new.store.stop()
    old = ends.enter_context(closing(make_original(tmp_path)))
    old.store.database = new.store.database
    old.start()
    old.register(BOB)
    one, two = map(shown, old.sent())
    assert (one.prefix, one.body) == ("Offline", b"one")
    assert (two.prefix, two.body, two.all("X-Foo")) == ("Offline", b"two", ["1"])
