"""The comparison with the original is whole, true to the program, and every test it names exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs.parity import PAGE, page, source
from msilo_lite.settings.parameters import Parameters

TESTS = Path(__file__).parent
ROWS = [(kind, row) for kind, rows in source().items() for row in rows]
NAMES = [f"{kind} {row['name']}" for kind, row in ROWS]
FUNCTIONS = {"m_store", "m_store_addrs", "m_dump"}


def test_the_page_is_what_its_source_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


def test_every_parameter_of_msilo_has_its_row() -> None:
    assert {row["name"] for kind, row in ROWS if kind == "parameter"} == {"db_url", *Parameters.model_fields}


def test_every_function_has_its_row() -> None:
    assert {row["name"].strip("`").partition("(")[0] for kind, row in ROWS if kind == "function"} == FUNCTIONS


def test_every_weakness_has_its_row() -> None:
    assert [row["name"].split()[0] for kind, row in ROWS if kind == "weakness"] == [f"W{n}" for n in range(1, 20)]


def test_no_row_stands_there_twice() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=NAMES)
def test_a_row_is_shown_by_tests_that_exist(kind: str, row: dict[str, object]) -> None:
    tests = row["tests"]
    assert isinstance(tests, list)
    assert tests, f"{kind} {row['name']} is shown by no test"
    assert [one for one in tests if one not in existing(str(one).partition("::")[0])] == []


def existing(file: str) -> set[str]:
    """The tests of a file, methods of classes left out."""
    path = TESTS / file
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {f"{file}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}
