"""What a person sees: the commands on a terminal of their own."""

import json
import re
from pathlib import Path

import pytest

from msilo_lite.box.message import Turn
from msilo_lite.box.store import Store

from . import harness
from .harness import on, waiting
from .samples import NOW, message, stored


def test_a_person_sees_a_table(box: Path, tmp_path: Path) -> None:
    ran = harness.run_on_terminal(tmp_path, "list", *on(box))
    assert ran.code == 0
    assert "\x1b[33mpending" in ran.out
    plain = re.sub(r"\x1b\[[\d;]*m", "", ran.out)
    assert re.search(r"^ *id +to +from +state +age +bytes +tries +why", plain)
    assert re.search(
        r"^ *2 +bob@home\.lan +<sip:alice@home\.lan> +pending .* no daemon is running", plain, re.MULTILINE
    )


def test_a_person_sees_that_nothing_waits(box: Path, tmp_path: Path) -> None:
    ran = harness.run_on_terminal(tmp_path, "list", "nobody@home.lan", *on(box))
    assert (ran.code, ran.out.strip()) == (0, "No messages wait for nobody@home.lan.")


def test_a_person_sees_the_body_in_a_frame(box: Path, tmp_path: Path) -> None:
    ran = harness.run_on_terminal(tmp_path, "show", "2", *on(box))
    assert "│ grüße [bold]an[/] alle │" in ran.out
    assert "Subject: lunch [1]" in ran.out


def test_a_person_sees_settings_and_status(box: Path, tmp_path: Path) -> None:
    ran = harness.run_on_terminal(tmp_path, "config", "show")
    assert "\x1b[36msettle" in ran.out
    assert "Seconds between a REGISTER and the first replay." in " ".join(ran.out.split())
    ran = harness.run_on_terminal(tmp_path, "status", *on(box))
    assert re.search(r"\x1b\[36m *disk", ran.out)
    assert "3 messages for 2 users" in ran.out


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, [4]), ("n\n", 1, [2, 3, 4])])
def test_a_person_is_asked_before_a_purge(box: Path, tmp_path: Path, typed: str, code: int, left: list[int]) -> None:
    ran = harness.run_on_terminal(tmp_path, "purge", "--to", "bob@home.lan", *on(box), typed=typed)
    assert ran.code == code
    assert "Purge 2 messages for good?" in ran.out
    assert waiting(box) == left


def test_json_on_a_terminal_stays_json(box: Path, tmp_path: Path) -> None:
    ran = harness.run_on_terminal(tmp_path, "list", "--json", *on(box))
    assert len(json.loads(ran.out)) == 3


@pytest.mark.parametrize("columns", [60, 80, 100, 120])
def test_id_and_reason_are_there_on_every_terminal(tmp_path: Path, columns: int) -> None:
    file = tmp_path / "silo.sqlite"
    store = Store(file)
    name = '"Carol with a very long display name, esq." <sip:carol@home.lan>'
    stored(store, *(str(n) for n in range(3)))
    store.write(Turn(new=[message("x", from_=name)]), NOW)
    store.close()
    harness.change(file, "UPDATE silo SET id = id + 12340", "UPDATE msilo_ledger SET silo_id = silo_id + 12340")
    ran = harness.run_on_terminal(tmp_path, "list", *on(file), columns=columns)
    plain = re.sub(r"\x1b\[[\d;]*m", "", ran.out)
    assert all(len(line) <= columns for line in plain.splitlines())
    assert [number for number in range(12341, 12345) if str(number) in plain] == [12341, 12342, 12343, 12344]
    assert plain.count("no daemon is running") == 4


@pytest.mark.parametrize("columns", [60, 120])
def test_every_word_of_a_body_is_shown(tmp_path: Path, columns: int) -> None:
    file = tmp_path / "silo.sqlite"
    words = [f"word{n}" for n in range(80)]
    store = Store(file)
    stored(store, " ".join(words) + "\r\nand\ta tab")
    store.close()
    ran = harness.run_on_terminal(tmp_path, "show", "1", *on(file), columns=columns)
    assert [word for word in [*words, "tab"] if word not in ran.out] == []
