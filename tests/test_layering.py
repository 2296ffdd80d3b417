"""Who may import whom: every import of the package, read with ast, against the order of the story."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "msilo_lite"
# A module imports lower ranks only; within a rank nobody knows another.
RANKS: tuple[tuple[str, ...], ...] = (
    ("__init__", "errors", "logs", "points", "drift", "supervise", "value"),
    # values, and the rules about them
    (
        "address",
        "delivery",
        "due",
        "schema",
        "pjsip",
        "fragments",
        "kamailio",
        "health",
        "watching",
        "pace",
        "pacing",
        "systemd",
        "bucket",
        "space",
        "privacy",
        "recorder",
        "blame",
        "lines",
        "leash",
    ),
    (
        "lock",
        "policy",
        "words",
        "message",
        "scheduler",
        "views",
        "digest",
        "holds",
        "framing",
        "window",
        "threshold",
        "rdata",
        "binding",
        "transaction",
    ),
    # text of a request, rows of a file, words for a person
    ("wire", "rows", "engine", "hook", "presence", "journal", "panels", "verifier", "connection", "certificates"),
    ("response",),
    # what a request asks for, what a replay looks like; the edges
    ("phone", "verdicts", "echoes", "inward", "outward", "txdata"),
    (
        "pseudo",
        "control",
        "compose",
        "registration",
        "statements",
        "dialog",
        "extension",
        "metrics",
        "lookup",
        "access",
        "limits",
        "usage",
        "ground",
        "sockets",
        "datagram",
    ),
    # the file as the daemon sees it, and as the commands do
    (
        "parameters",
        "bindings",
        "inbox",
        "subscription",
        "gauges",
        "web",
        "repair",
        "door",
        "udp",
        "archive",
        "told",
        "checkpoint",
        "repeats",
        "numbers",
        "shelf",
    ),
    ("store", "notice", "watch", "feed", "copies", "doorway", "transports"),
    # the box
    ("agent", "config", "transfer", "ways", "quota"),
    ("asker", "silo", "api", "sources", "lanes", "reasons", "change", "pulse"),
    ("terms", "liaison", "replay", "choice"),
    ("recipe", "enquiry", "options", "monitor", "records", "overview", "follow", "unit", "carrier"),
    ("setup", "online", "demo", "live", "rules", "gatekeeper", "allowance"),
    # the parts meet
    ("reception", "checks", "governed"),
    ("courier", "upkeep"),
    ("daemon", "looking"),
    ("deeds", "service"),
    ("serving", "errands", "safe", "running"),
    ("intake", "keeping", "steering", "account"),
    ("app",),
    ("__main__",),
)
RANK = {name: number for number, names in enumerate(RANKS) for name in names}
FOREIGN = {
    "ctypes": {"agent", "doorway", "pjsip", "rdata", "txdata"},
    "pjsua2": {"binding"},
    "sqlalchemy": {"copies", "engine", "feed", "inbox", "rows", "schema", "statements"},
    "rich": {"panels", "views"},
    "typer": {"account", "app", "intake", "keeping", "looking", "options", "running", "steering"},
    "structlog": {"logs"},
    "prometheus_client": {"metrics"},
    "dateparser": {"words"},
    "sipmessage": {"address", "phone"},
    "pydantic": {"access", "change", "config", "limits", "pacing", "parameters", "sources", "transports", "watching"},
    "pydantic_settings": {"access", "config", "sources"},
    "platformdirs": {"config"},
}
NOT_PURE = {"asyncio", "fcntl", "logging", "os", "random", "secrets", "select", "signal", "socket", "sqlite3",
            "subprocess", "tempfile", "threading", "time"}  # fmt: skip
CORE = (
    "address",
    "delivery",
    "due",
    "message",
    "policy",
    "lines",
    "wire",
    "response",
    "pseudo",
    "control",
    "compose",
    "registration",
    "bindings",
    "reasons",
    "pace",
    "scheduler",
    "silo",
    "notice",
    "ways",
    "lanes",
    "replay",
    "terms",
    "kamailio",
    "digest",
    "presence",
    "dialog",
    "subscription",
    "watch",
    "extension",
    "holds",
    "choice",
    "health",
    "echoes",
    "verifier",
    "bucket",
    "quota",
    "privacy",
    "framing",
    "window",
    "threshold",
    "datagram",
    "transaction",
)
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent == PACKAGE or file.stem != "__init__")
FILE = {file.stem: file for file in MODULES}
FOLDERS = frozenset(file.parent.name for file in MODULES)


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Each imported module with whether it is one of ours; those inside functions and TYPE_CHECKING as well."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                yield (rest.partition(".")[0] or "__init__", True) if top == PACKAGE.name else (top, False)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(node)


def _from(node: ast.ImportFrom) -> Iterator[tuple[str, bool]]:
    top, _, rest = (node.module or "").partition(".")
    if node.level == 0 and top != PACKAGE.name:
        yield top, False
        return
    module = ((node.module if node.level else rest) or "").rpartition(".")[2]
    for alias in node.names:  # `from ..sip import wire` names a module, `from . import __version__` does not
        named = alias.name if alias.name in RANK else "__init__"
        yield named if module in FOLDERS or not module else module, True


def test_every_module_has_a_rank() -> None:
    assert sorted(RANK) == sorted(file.stem for file in MODULES)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_a_module_imports_lower_ranks_only(file: Path) -> None:
    mine = RANK[file.stem]
    upward = [name for name, own in imports(file) if own and RANK[name] >= mine]
    assert upward == []


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_a_foreign_library_lives_where_it_may(file: Path) -> None:
    for name, own in imports(file):
        if own or name in FOREIGN:
            assert own or file.stem in FOREIGN[name], f"{file.stem} imports {name}"
        else:
            assert name in sys.stdlib_module_names, f"{file.stem} imports {name}, which nobody listed"


def test_every_foreign_library_is_used_where_it_may_be() -> None:
    found = {name: {file.stem for file in MODULES if (name, False) in imports(file)} for name in FOREIGN}
    assert found == FOREIGN


@pytest.mark.parametrize("name", CORE)
def test_the_core_takes_now_and_does_no_input_or_output(name: str) -> None:
    used = {module for module, own in imports(FILE[name]) if not own}
    assert used & NOT_PURE == set()


def test_only_views_prints_and_only_the_edge_logs() -> None:
    printing = {file.stem for file in MODULES for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                if isinstance(node, ast.Name) and node.id == "print"}  # fmt: skip
    logging = {file.stem for file in MODULES if ("logs", True) in imports(file)}
    assert printing == set()
    assert logging == {
        "agent",
        "binding",
        "carrier",
        "courier",
        "daemon",
        "door",
        "gatekeeper",
        "governed",
        "hook",
        "journal",
        "liaison",
        "outward",
        "reception",
        "service",
        "serving",
        "sockets",
        "systemd",
        "upkeep",
        "web",
    }
    assert {file.stem for file in MODULES if ("logging", False) in imports(file)} == {"binding", "logs"}


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_a_module_stays_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
