"""RFC 4475 against a running silo: each message gets the answer that docs/rfc4475.md says, and harms nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.figures import Figures
from tests.waiting import until

from . import torture
from .peers import ROOT, Silo
from .phone import Phone
from .torture import CASES, PLACE, Fate, Torture

pytestmark = pytest.mark.sip


@pytest.fixture(scope="module")
def silo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silo]:
    """One silo for all of them: what one leaves behind must not harm the next."""
    with closing(Silo(tmp_path_factory.mktemp("torture"), "--set", "check_time=1").start()) as started:
        yield started


def box(silo: Silo) -> list[tuple[str, bytes, str]]:
    with closing(sqlite3.connect(silo.database, timeout=5)) as connection:
        return connection.execute("SELECT callid, body, ctype FROM silo").fetchall()


def malformed(silo: Silo) -> int:
    with closing(sqlite3.connect(silo.database, timeout=5)) as connection:
        found = connection.execute("SELECT value FROM msilo_counter WHERE name = 'malformed'").fetchone()
    return int(found[0]) if found else 0


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_torture(silo: Silo, one: Torture, figures: Figures) -> None:
    before, dropped = box(silo), malformed(silo)
    with Phone("torturer") as phone:
        host, port = phone.address
        phone.send(one.raw.replace(PLACE, f"{host}:{port}".encode()), silo.address)
        if one.code:
            assert phone.receive().code == one.code
        # its answer comes after what the silo does with the other one: whatever was to come has come
        assert phone.ask(phone.request("OPTIONS", "home.lan"), silo.address).code == 200
        assert phone.glance(0.05) is None
    new = [row for row in box(silo) if row not in before]
    if one.fate is Fate.STORED:
        ((call_id, body, ctype),) = new
        assert call_id == one.call_id
        assert one.raw.endswith(body)
        assert f"{ctype}\r\n".encode() in one.raw
    else:
        assert new == []
    if one.fate is Fate.DROPPED:
        until(lambda: malformed(silo) == dropped + 1, 5, "it is counted as malformed")
    figures.add("bad inputs tried", torture_messages=1)


def test_the_page_says_what_was_tried() -> None:
    assert (ROOT / "docs" / "rfc4475.md").read_text(encoding="utf-8") == torture.page(), "run: make docs"


def test_every_message_of_the_rfc_is_there() -> None:
    """RFC 4475 has 49 of them: 13, 19, 1, 15 and 1 by section."""
    assert len({one.name for one in CASES}) == len(CASES) == 49
    sections = [one.section.rsplit(".", 1) for one in CASES]
    assert [sum(group == wanted for group, _ in sections) for wanted in ("3.1.1", "3.1.2", "3.2", "3.3", "3.4")] == [
        13, 19, 1, 15, 1,
    ]  # fmt: skip


def test_the_silo_lived_through_all_of_it(silo: Silo) -> None:
    assert silo.process.running
    assert Path(silo.folder / "silo.err").read_text(errors="replace").count("Traceback") == 0
