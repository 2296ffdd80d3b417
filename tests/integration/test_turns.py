"""What the loop costs, in counts and never in seconds: commits a turn, statements a message, rows looked at, memory."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import harness

FEW, MANY = 100, 10_000
"Rows of others in the box."


def scene(folder: Path, name: str, rows: int, each: int = 0) -> dict[str, Any]:
    """What a scene of `turns` counted."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.integration.turns", name, str(folder), str(rows), str(each)]
    ended = subprocess.run(
        command, cwd=harness.ROOT, env=harness.environment(folder), capture_output=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def of_kind(turns: list[dict[str, Any]], *words: str) -> int:
    return sum(one.startswith(words) for turn in turns for one in turn["statements"])


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_a_turn_of_new_messages_is_one_commit(tmp_path: Path, rows: int) -> None:
    found = scene(tmp_path / "s", "store", rows)
    turns = found["turns"]
    assert found["answers"] == 320
    assert max(turn["commits"] for turn in turns) == 1
    assert sum(turn["commits"] for turn in turns) <= 10  # 64 arrive together and share one, or two when they are torn
    assert of_kind(turns, "INSERT INTO msilo_ledger") + of_kind(turns, "INSERT INTO silo") == 2 * (320 - 5)
    rest = sum(len(turn["statements"]) for turn in turns) - 2 * 315
    assert rest <= 12 * len(turns)  # whatever else there is belongs to the turn, not to the message


@pytest.mark.parametrize("name", ["store", "register"])
def test_no_statement_looks_at_more_rows_when_more_wait(tmp_path: Path, name: str) -> None:
    few, many = (scene(tmp_path / str(rows), name, rows)["turns"][1:] for rows in (FEW, MANY))
    middle = [statistics.median(turn["steps"] for turn in turns) for turns in (few, many)]
    assert middle[1] <= 1.1 * middle[0]


def test_a_register_of_somebody_without_mail_is_one_look_up(tmp_path: Path) -> None:
    turns = scene(tmp_path / "s", "register", MANY)["turns"]
    assert of_kind(turns, "SELECT silo.id \nFROM") == 39
    for turn in turns:
        if len(turn["statements"]) == 1:  # the others met a tick of the clock, or wrote a binding
            assert turn["statements"][0].startswith("SELECT silo.id")
            assert turn["steps"] <= 40


def test_a_replayed_message_is_three_statements(tmp_path: Path) -> None:
    found = scene(tmp_path / "s", "replay", FEW, 320)
    turns = found["turns"]
    assert found["delivered"] == 320
    assert max(turn["commits"] for turn in turns) == 1
    ends = of_kind(turns, "UPDATE msilo_ledger SET silo_id=NULL")
    claims = of_kind(turns, "UPDATE msilo_ledger SET silo_id=") - ends
    assert (claims, ends, of_kind(turns, "DELETE FROM silo")) == (320, 320, 320)
    pages = of_kind(turns, "SELECT silo.id AS id")
    assert pages <= 320 / 64 + 4  # and a look for what is over


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_inbox_of_any_size_takes_the_same_memory(tmp_path: Path) -> None:
    small, large = (scene(tmp_path / str(each), "memory", 0, each)["peak"] for each in (1000, 20_000))
    assert large <= small + 2_000_000
