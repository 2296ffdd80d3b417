"""Filters, times, and taking away: what a command chooses, says and leaves behind."""

import re
import time
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Settled, Turn
from msilo_lite.box.store import Store
from msilo_lite.cli.deeds import selected
from msilo_lite.cli.options import choice_of
from msilo_lite.cli.records import listing
from msilo_lite.cli.views import counted
from msilo_lite.settings.config import Config
from msilo_lite.sip.address import Aor
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query, waiting
from .samples import BOB, message

CAROL = Aor("carol", "home.lan")
DAY = 86400


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """1 old for bob, 2 for carol from eve, 3 parked for bob, 4 a reminder for bob, 5 handed over for carol."""
    file, now = tmp_path / "silo.sqlite", int(time.time())
    far = now + 30 * DAY
    new = [
        message("old", arrived=now - 2 * DAY, expires=far),
        message("eve", CAROL, src="sip:eve@else.lan", from_="<sip:eve@else.lan>", arrived=now, expires=far),
        message("parked", arrived=now, expires=far),
        message("later", arrived=now, expires=far, due=now + DAY),
        message("handed", CAROL, arrived=now, expires=far),
    ]
    with closing(Store(file)) as store:
        store.write(Turn(new=new), now)
        parked = store.pending(BOB, 2, 1, now)[0]
        handed = store.pending(CAROL, 4, 1, now)[0]
        ends = [
            Settled(parked, State.PARKED, now, 415, "415 Type", 1),
            Settled(handed, State.HANDED, now, 202, "202", 1),
        ]
        store.write(Turn(settled=ends), now)
    return file


FILTERS = [
    ((), [1, 2, 3, 4, 5]),
    (("--to", "bob@home.lan"), [1, 3, 4]),
    (("--from", "eve@else.lan"), [2]),
    (("--from", "sip:eve@ELSE.lan"), [2]),
    (("--from", "home.lan"), [1, 3, 4, 5]),
    (("--state", "pending"), [1, 2]),
    (("--state", "scheduled"), [4]),
    (("--state", "parked,handed-over"), [3, 5]),
    (("--state", "parked", "--state", "handed"), [3, 5]),
    (("--older-than", "1d12h"), [1]),
    (("--to", "bob@home.lan", "--state", "pending", "--older-than", "1d"), [1]),
    (("--to", "carol@home.lan", "--older-than", "1d"), []),
]


@pytest.mark.parametrize(("words", "ids"), FILTERS)
def test_what_a_filter_chooses(mixed: Path, words: tuple[str, ...], ids: list[int]) -> None:
    given: dict[str, list[str]] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        given.setdefault(name, []).append(value)
    one = {name: values[-1] for name, values in given.items()}
    choice = choice_of(one.get("--to"), one.get("--from"), given.get("--state"), one.get("--older-than"))
    config = Config.model_validate({"db_url": f"sqlite:///{mixed}"})
    assert [record["id"] for record in listing(config, choice, history=False)] == ids
    assert selected(config, [], choice) == ids


@pytest.mark.parametrize(("words", "ids"), [FILTERS[0], FILTERS[-2]])
def test_the_filters_are_the_same_everywhere(
    mixed: Path, tmp_path: Path, words: tuple[str, ...], ids: list[int]
) -> None:
    listed = harness.run(tmp_path, "list", "--json", *words, *on(mixed)).json()
    assert [one["id"] for one in listed] == ids
    exported = harness.run(tmp_path, "export", *words, *on(mixed)).out.splitlines()
    assert [int(re.findall(r'"id": (\d+)', line)[0]) for line in exported] == ids
    chosen = words or ("--all",)
    told = harness.run(tmp_path, "purge", "--dry-run", *chosen, *on(mixed)).out
    assert told == f"Would purge {counted(len(ids))}.\n"
    told = harness.run(tmp_path, "retry", "--dry-run", *chosen, *on(mixed)).out
    assert told == f"Would send {counted(len({3, 5} & set(ids)))} again.\n"
    told = harness.run(tmp_path, "schedule", "--dry-run", "--at", "+1h", *chosen, *on(mixed)).out
    assert told.startswith(f"{counted(len({1, 2, 4} & set(ids)))} would go at ")
    assert waiting(mixed) == [1, 2, 3, 4, 5]
    assert query(mixed, "SELECT count(*) FROM msilo_ledger WHERE state = 0") == [(3,)]


def test_history_has_the_filters_too(mixed: Path, tmp_path: Path) -> None:
    assert harness.run(tmp_path, "drop", "2", "3", "--yes", *on(mixed)).out == "Purged 2 messages.\n"
    listed = harness.run(tmp_path, "list", "--state", "purged", "--from", "else.lan", "--json", *on(mixed)).json()
    assert [(one["state"], one["from"]) for one in listed] == [("purged", "<sip:eve@else.lan>")]


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("list", "--state", "gone"), 2, "there is no state 'gone'"),
        (("list", "--older-than", "yesterday"), 2, "is no length of time"),
        (("list", "bob@home.lan", "--to", "bob@home.lan"), 2, "one of them"),
        (("purge", "1", "--state", "parked", "--yes"), 2, "one of them"),
        (("retry",), 2, "one of them"),
        (("schedule", "1"), 2, "--at is missing"),
        (("schedule", "1", "--at", "yesterday 9:00"), 2, "--at"),
        (("schedule", "99", "--at", "+1h"), 3, "no message 99"),
        (("drop", "99", "--yes"), 3, "no message 99"),
        (("tail", "--since", "soon"), 2, "is no length of time"),
    ],
)
def test_wrong_words(mixed: Path, tmp_path: Path, words: tuple[str, ...], code: int, named: str) -> None:
    ran = harness.run(tmp_path, *words, *on(mixed))
    assert (ran.code, ran.out) == (code, ""), ran
    assert named in ran.sentence
    assert waiting(mixed) == [1, 2, 3, 4, 5]


# -- schedule ----------------------------------------------------------------------------------------------------------
def test_a_message_waits_for_its_new_time_and_lives_as_long_from_then(mixed: Path, tmp_path: Path) -> None:
    before = dict(query(mixed, "SELECT id, exp_time - max(snd_time, inc_time) FROM silo"))
    ran = harness.run(tmp_path, "schedule", "1", "4", "--at", "2031-01-01T12:00:00Z", "--tz", "UTC", *on(mixed))
    assert ran == Ran(0, "2 messages will go at Wednesday 2031-01-01 12:00:00 UTC.\n", "")
    rows = query(mixed, "SELECT id, snd_time, exp_time - snd_time FROM silo WHERE id IN (1, 4)")
    assert rows == [(1, 1925035200, before[1]), (4, 1925035200, before[4])]
    listed = harness.run(tmp_path, "remind", "list", "--json", *on(mixed)).json()
    assert [(one["id"], one["due"], one["state"]) for one in listed] == [
        (1, "2031-01-01T12:00:00Z", "scheduled"), (4, "2031-01-01T12:00:00Z", "scheduled"),
    ]  # fmt: skip


def test_what_is_parked_is_left_alone_and_said(mixed: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "schedule", "3", "5", "--at", "+1h", *on(mixed))
    assert ran.code == 1
    assert "0 messages will go at " in ran.out
    assert "2 messages on the way, parked or handed over are left alone." in ran.out
    assert query(mixed, "SELECT count(*) FROM silo WHERE snd_time > 0") == [(1,)]


def test_a_reminder_can_be_brought_forward_beside_a_daemon(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        harness.run(tmp_path, "remind", "bob@home.lan", "tea", "--at", "+2h", *on(silo.file))
        assert bob.glance(0.3) is None
        assert harness.run(tmp_path, "schedule", "--to", "bob@home.lan", "--at", "now", *on(silo.file)).code == 0
        assert [one.body for one in bob.take(1, 15)] == [b"tea"]


def test_a_message_that_is_put_off_is_not_sent_at_the_next_register(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0.1") as silo, Peer("bob", silo.address) as bob:
        bob.write("bob", "later")
        bob.write("bob", "now")
        assert harness.run(tmp_path, "schedule", "1", "--at", "+1h", *on(silo.file)).code == 0
        bob.register()
        assert [one.body for one in bob.take(1)] == [b"now"]
        until(lambda: waiting(silo.file) == [1], 5, "the other one gone")
        assert bob.glance(0.3) is None


# -- exit codes --------------------------------------------------------------------------------------------------------
def test_exit_codes_are_documented_where_people_look(tmp_path: Path) -> None:
    words = "0 done · 1 failed · 2 wrong usage or configuration · 3 not found · 130 interrupted"
    assert words in " ".join(harness.run(tmp_path, "--help").out.split())
    for page in ("README.md", "docs/operating.md"):
        assert words in " ".join((harness.ROOT / page).read_text(encoding="utf-8").split())


def test_drop_is_purge(tmp_path: Path, mixed: Path) -> None:
    assert harness.run(tmp_path, "drop", "--state", "parked", "--yes", *on(mixed)) == Ran(0, "Purged 1 message.\n", "")
    assert waiting(mixed) == [1, 2, 4, 5]


# -- progress ----------------------------------------------------------------------------------------------------------
def test_a_long_command_has_a_bar_on_a_terminal_and_silence_or_lines_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(str(n)) for n in range(3000)]), 0)
    shown = harness.run_on_terminal(tmp_path, "purge", "--to", "bob@home.lan", "--yes", *on(file)).out
    assert "purging" in shown
    assert "━" in shown
    assert "Purged 3000 messages." in shown
