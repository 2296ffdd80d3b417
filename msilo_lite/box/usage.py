"""How much waits, for each owner and in all, counted by triggers on msilo's table.

Whoever writes into it, a Kamailio or a command, is counted in the same transaction, and a look costs one row however
full the box is. The triggers are there only where a limit needs them; when one is set later, they are made and
everything is counted once.
"""

from __future__ import annotations

import sqlite3

from .engine import atomic
from .schema import Names


def keep(connection: sqlite3.Connection, names: Names, *, wanted: bool, only_more: bool = False) -> None:
    """Make the triggers and count, or take them away; `only_more`: never take them away."""
    made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    ours = _triggers(names)
    there = made & ours.keys()
    if wanted and len(there) < len(ours):
        with atomic(connection):
            for name, text in ours.items():
                connection.execute(f"DROP TRIGGER IF EXISTS {_quoted(name)}")
                connection.execute(text)
            _count(connection, names)
    elif there and not wanted and not only_more:
        with atomic(connection):
            for name in there:
                connection.execute(f"DROP TRIGGER {_quoted(name)}")
            connection.execute("DELETE FROM msilo_usage")


def _count(connection: sqlite3.Connection, names: Names) -> None:
    """Count what is there; reads the whole table."""
    user, host, size = _owner(names)[0], _owner(names)[1], _size(names)
    table = _quoted(names.db_table)
    connection.execute("DELETE FROM msilo_usage")
    connection.execute(
        f"INSERT INTO msilo_usage SELECT {user}, {host}, count(*), sum({size}) FROM {table} WHERE {user} <> ''"
        f" GROUP BY 1, 2"
    )
    whole = f"SELECT '', '', count(*), coalesce(sum({size}), 0) FROM {table}"
    connection.execute(f"INSERT OR REPLACE INTO msilo_usage {whole}")


def _triggers(names: Names) -> dict[str, str]:
    """The statements that make them, by name. No UPSERT: the SQLite of another program may be too old to read it."""
    table = _quoted(names.db_table)
    watched = ", ".join(_quoted(one) for one in (names.sc_body, names.sc_stored_hdrs, names.sc_uri_user))
    when = {
        "insert": ("INSERT", _more(names)),
        "delete": ("DELETE", _less(names)),
        "update": (f"UPDATE OF {watched}, {_quoted(names.sc_uri_host)}", _less(names) + _more(names)),
    }
    made = {}
    for word, (event, steps) in when.items():
        name = f"msilo_usage_{names.db_table}_{word}"
        made[name] = f"CREATE TRIGGER {_quoted(name)} AFTER {event} ON {table} BEGIN {' '.join(steps)} END"
    return made


def _more(names: Names) -> list[str]:
    steps = []
    for user, host in (_owner(names, "NEW"), ("''", "''")):
        steps.append(f"INSERT OR IGNORE INTO msilo_usage VALUES ({user}, {host}, 0, 0);")
        steps.append(
            f"UPDATE msilo_usage SET messages = messages + 1, bytes = bytes + {_size(names, 'NEW')}"
            f" WHERE username = {user} AND domain = {host};"
        )
    return steps


def _less(names: Names) -> list[str]:
    user, host = _owner(names, "OLD")
    steps = [
        f"UPDATE msilo_usage SET messages = messages - 1, bytes = bytes - {_size(names, 'OLD')}"
        f" WHERE username = {one} AND domain = {other};"
        for one, other in ((user, host), ("''", "''"))
    ]
    return [*steps, f"DELETE FROM msilo_usage WHERE username = {user} AND domain = {host} AND messages <= 0;"]


def _owner(names: Names, row: str = "") -> tuple[str, str]:
    """User and host; hosts have no case, and others write them as they came."""
    before = f"{row}." if row else ""
    return f"{before}{_quoted(names.sc_uri_user)}", f"lower({before}{_quoted(names.sc_uri_host)})"


def _size(names: Names, row: str = "") -> str:
    """Bytes of body and kept headers, as `message.size_of` counts them."""
    before = f"{row}." if row else ""
    parts = (names.sc_body, names.sc_stored_hdrs)
    return "(" + " + ".join(f"coalesce(length(CAST({before}{_quoted(part)} AS BLOB)), 0)" for part in parts) + ")"


def _quoted(name: str) -> str:
    """An identifier; names of tables and columns are settings."""
    return '"' + name.replace('"', '""') + '"'
