"""Makes docs/parity.md out of docs/parity.toml and the settings themselves: `make docs`.

What the original does and which test shows ours is written in the TOML file; names, defaults and meanings of our
settings come from the program, so that the page cannot drift from it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msilo_lite.settings.config import Config

HERE = Path(__file__).parent
SOURCE, PAGE = HERE / "parity.toml", HERE / "parity.md"
HEAD = """\
<!-- Made by `make docs` from parity.toml: change that file, not this one. -->
# msilo and msilo-lite, point by point

The original is Kamailio's `msilo` as of August 2026 (`use_mode`, `m_store_addrs`, `sc_callid` and `sc_status` came
with 5.8; the tests run beside Debian's 5.6.3). Each row names the tests that show ours; those in `tests/sip/parity/`
run the same scenario against both.
"""


def source() -> dict[str, list[dict[str, Any]]]:
    """The rows as written."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def page() -> str:
    """The whole page."""
    rows = source()
    parts = [
        HEAD,
        "## Parameters\n\nNames and defaults are msilo's; only `db_url` differs, which is a file of its own here.\n",
        _table(("parameter", "default", "in the original", "here", "shown by"), map(_parameter, rows["parameter"])),
        "## Functions\n",
        _table(("function", "in the original", "here", "shown by"), map(_plain, rows["function"])),
        "## Weaknesses of the original, mended\n",
        _table(("", "in the original", "here", "shown by"), map(_plain, rows["weakness"])),
        "## What users of Kamailio and OpenSIPS asked for\n",
        _table(("thread", "asked", "here", "shown by"), map(_plain, rows["thread"])),
    ]
    return "\n".join(parts)


def _parameter(row: dict[str, Any]) -> tuple[str, ...]:
    field = Config.model_fields[row["name"]]
    default = row.get("default") or _shown(field.get_default(call_default_factory=True))
    ours = row.get("ours", "")
    return f"`{row['name']}`", default, row["original"], f"{field.description} {ours}".strip(), _tests(row)


def _plain(row: dict[str, Any]) -> tuple[str, ...]:
    return row["name"], row["original"], row["ours"], _tests(row)


def _shown(default: object) -> str:
    return "unset" if default is None else f"`{default}`"


def _tests(row: dict[str, Any]) -> str:
    """The names of the tests; the page links to their files."""
    found = []
    for test in row["tests"]:
        file, _, name = test.partition("::")
        found.append(f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/{file})")
    return ", ".join(found)


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
