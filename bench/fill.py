"""Puts messages into a box before a measurement, without a daemon.

Started as ``python -m bench.fill KIND FILE USERS EACH BULK``: EACH messages for each of USERS recipients, as the load
generator would have sent them, behind BULK messages for people who never come. KIND is `lite` or `kamailio`. Ours go
through msilo-lite's own store, so that the ledger is what a daemon would have written.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from bench import wire

BATCH = 5000
OTHERS = 10_000
"Recipients that the bulk is spread over."
LIFE = 200_000
AGE = 3600
"Seconds that they have waited: a daemon knows again what came in the last minutes, and reads it all at its start."
Row = tuple[str, str, bytes, int]
"Recipient, From URI, body, number."


def rows(users: int, each: int, bulk: int) -> Iterator[Row]:
    """What is to be stored, oldest first."""
    for number in range(bulk):
        yield f"w{number * 7919 % OTHERS:05d}", _sender(number), b"Ring me when you are back.", number
    for number in range(users * each):
        user = number % users
        yield f"u{user:03d}", _sender(number), wire.body(number, user), bulk + number


def _sender(number: int) -> str:
    return f"sip:c{number % 97:02d}@{wire.DOMAIN}"


def fill_lite(file: Path, wanted: Iterator[Row], now: int) -> None:
    """Through msilo-lite's store, many in one commit."""
    from msilo_lite.box.message import Message, Turn
    from msilo_lite.box.store import Store
    from msilo_lite.sip.address import Aor

    def message(row: Row) -> Message:
        user, src, body, number = row
        to = f"sip:{user}@{wire.DOMAIN}"
        key = hashlib.sha256(b"%s %d" % (user.encode(), number)).digest()[:16]  # as scattered as those of requests
        return Message(
            Aor(user, wire.DOMAIN), src, to, f"<{src}>", f"<{to}>", "text/plain", body, "", now, now + LIFE,
            f"{number}.fill", key,
        )  # fmt: skip

    with closing(Store(file)) as store:
        while batch := list(islice(wanted, BATCH)):
            store.write(Turn(new=[message(row) for row in batch]), now)


def fill_kamailio(file: Path, wanted: Iterator[Row], now: int) -> None:
    """Into msilo's table, as m_store would."""
    insert = (
        "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, snd_time, ctype, body, extra_hdrs,"
        " callid, status) VALUES (?, ?, ?, ?, ?, ?, 0, 'text/plain', ?, '', ?, 0)"
    )
    with closing(sqlite3.connect(file)) as connection:
        while batch := list(islice(wanted, BATCH)):
            made = (
                (src, f"sip:{user}@{wire.DOMAIN}", user, wire.DOMAIN, now, now + LIFE, body, f"{number}.fill")
                for user, src, body, number in batch
            )
            connection.executemany(insert, made)
            connection.commit()


def main() -> None:
    """One file."""
    kind, file, *numbers = sys.argv[1:]
    users, each, bulk = map(int, numbers)
    fill = fill_lite if kind == "lite" else fill_kamailio
    fill(Path(file), rows(users, each, bulk), int(time.time()) - AGE)


if __name__ == "__main__":
    main()
