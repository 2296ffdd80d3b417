"""The log: every event has a name that is listed, and a line in both forms."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from msilo_lite.seeing.logs import EVENTS, RECENT, begin, logger

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def named() -> dict[str, str]:
    """Every event that the package logs, and where."""
    found: dict[str, str] = {}
    for file in (ROOT / "msilo_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "log"):
                continue
            if node.func.attr in (*LEVELS, "log"):
                first = node.args[node.func.attr == "log"]
                assert isinstance(first, ast.Constant), f"{file.name}:{node.lineno}: the event is no plain word"
                found[str(first.value)] = f"{file.name}:{node.lineno}"
    return found


def test_every_event_is_listed_and_every_listed_one_is_logged() -> None:
    assert {event: place for event, place in named().items() if event not in EVENTS} == {}
    assert set(EVENTS) - set(named()) == set()


def test_every_event_stands_in_the_documentation() -> None:
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows == EVENTS


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        yield io.StringIO()
    finally:
        root.handlers[:], root.level = before, level


def test_a_line_for_a_machine(stream: io.StringIO) -> None:
    begin("info", "auto", stream)
    log = logger("msilo_lite.test")
    log.info("request.refused", peer="10.0.0.1:5060", code=403, reason='a "Jos\udce9" \x1b[31m')
    log.debug("request.refused", code=1)
    try:
        raise ValueError("the cause")
    except ValueError:
        log.exception("request.broken", where="silo")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert list(first)[:3] == ["time", "level", "event"]
    assert (first["level"], first["event"], first["code"]) == ("info", "request.refused", 403)
    assert first["reason"] == 'a "Jos\udce9" \x1b[31m'
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", first["time"])
    assert "ValueError: the cause" in second["exception"]


def test_a_line_for_a_person(stream: io.StringIO) -> None:
    begin("warning", "human", stream)
    log = logger("msilo_lite.test")
    log.warning("store.failed", error="cannot write: \x1b[31m locked", seconds=2)
    log.info("request.refused", code=1)
    (line,) = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d warning store\.failed error='cannot write: \\x1b\[31m locked' seconds=2", line
    )


def test_lines_of_other_libraries_have_the_same_form(stream: io.StringIO) -> None:
    begin("warning", "json", stream)
    logging.getLogger("somebody.else").warning("plain %s", "words")
    said = json.loads(stream.getvalue())
    assert (said["level"], said["event"]) == ("warning", "plain words")


def test_warnings_are_kept_for_status(stream: io.StringIO) -> None:
    begin("warning", "json", stream)
    number = RECENT.number
    logger("msilo_lite.test").error("hook.not_started", error="no such file")
    assert RECENT.number == number + 1
    assert RECENT.lines[-1]["event"] == "hook.not_started"
    assert RECENT.lines[-1]["words"] == "error='no such file'"
    begin("warning", "json", stream)  # a second call replaces the first
    logger("msilo_lite.test").error("hook.not_started", error="again")
    assert RECENT.number == number + 2
    assert len(stream.getvalue().splitlines()) == 2
