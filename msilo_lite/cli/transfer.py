"""Moving house: messages out of a file as JSON Lines, and into one from those or from a Kamailio's own SQLite file.

What comes twice is taken once: every record names its message, and the ledger knows the names it has seen.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ..box.engine import check_table, has_table, open_engine, schema_of, translated
from ..box.inbox import Inbox
from ..box.message import Message, Turn, Waiting
from ..box.rows import bare, from_db, waiting_of
from ..box.schema import Names, silo_table
from ..box.store import Store
from ..errors import BadRequest, MsiloError, StoreError
from ..outbound.compose import LATEST, Dress, fits
from ..points import reach
from ..sip.address import Aor, parse_address, parse_uri
from ..sip.lines import octets
from ..sip.wire import bad_header, bad_type, kept_lines
from .views import encoded, utc

BATCH = 500
"Messages of one commit: a daemon waits for none of them long."
SQLITE = b"SQLite format 3\x00"
FORMAT = 1
"Number of this form of the lines."


@dataclass(slots=True)
class Moved:
    """How an import ended."""

    taken: int = 0
    known: int = 0
    "Messages that were imported before."
    over: int = 0
    "Messages whose time was over."
    unfit: int = 0
    "Messages that no request of ours could carry."


@dataclass(frozen=True, slots=True)
class Fit:
    """What a message must fit, so that the daemon can send it."""

    dress: Dress
    room: int
    "Bytes that a Contact may have."
    expire_time: int
    "Seconds that a reminder lives after its due time, where it brings no longer life."


class BadLine(MsiloError):
    """A line of an import that is no message."""


# -- out ---------------------------------------------------------------------------------------------------------------
def record(item: Waiting) -> dict[str, Any]:
    """One message as a line: everything that is needed to deliver it elsewhere."""
    message = item.message
    text = _text(message.body)
    return {
        "format": FORMAT,
        "id": item.silo_id,
        "owner": str(message.owner),
        "from": message.from_,
        "to": message.to,
        "src_addr": message.src,
        "dst_addr": message.dst,
        "target": message.target or None,
        "ctype": message.ctype,
        "headers": [f"{name}: {value}" for name, value in kept_lines(message.kept)],
        **({"body": text} if text is not None else {"body_base64": encoded(message.body)}),
        "arrived": utc(message.arrived),
        "expires": utc(message.expires),
        "due": utc(message.due or None),
        "call_id": message.call_id,
        "key": message.key.hex() or None,
    }


def _text(body: bytes) -> str | None:
    """A body as text where it comes back the same."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def exported(
    file: Path, names: Names, owner: Aor | None, wanted: Collection[int] | None = None
) -> Iterator[dict[str, Any]]:
    """Every message of a box, oldest first; `wanted`: those with these ids alone."""
    chosen = None if wanted is None else frozenset(wanted)
    with closing(Inbox(file, names)) as inbox:
        for item in inbox.waiting(owner):
            if chosen is None or item.silo_id in chosen:
                yield record(item)


# -- in ----------------------------------------------------------------------------------------------------------------
def imported(source: Path, into: Store, fit: Fit, now: int, names: Names, update: Callable[[int], None]) -> Moved:
    """Take over what `source` holds, in short commits; `names` are those of a Kamailio's file.

    Raises BadLine with its number, and StoreError; what was committed before stays, and a second run takes the rest.
    """
    moved, done = Moved(), 0
    into.repeats.know_all()
    messages = kamailio_messages(source, names, moved) if is_sqlite(source) else lines(source)
    while True:
        batch, problem = _batch(messages)
        if not batch and problem is None:
            return moved
        good = [one for one in (_living(one, fit) for one in batch) if _fits(one, fit, now, moved)]
        fresh = into.write(Turn(new=good), now) if good else frozenset[bytes]()
        moved.taken += len(fresh)
        moved.known += len(good) - len(fresh)
        done += len(batch)
        update(done)
        reach("importing")
        if problem:
            raise problem


def _batch(messages: Iterator[Message]) -> tuple[list[Message], BadLine | None]:
    """The next messages, and what ended them before their time."""
    batch: list[Message] = []
    try:
        batch.extend(islice(messages, BATCH))
    except BadLine as problem:
        return batch, problem
    return batch, None


def _living(message: Message, fit: Fit) -> Message:
    """A reminder lives on after its due time."""
    late = message.due > 0 and message.expires <= message.due
    return message.at(message.arrived, message.due + fit.expire_time, message.target) if late else message


def _fits(message: Message, fit: Fit, now: int, moved: Moved) -> bool:
    """Whether a message can still be delivered; counts those that cannot."""
    if message.expires <= now:
        moved.over += 1
        return False
    try:
        fits(message, fit.dress, fit.room)
    except BadRequest:
        moved.unfit += 1
        return False
    return True


def is_sqlite(source: Path) -> bool:
    """Whether a file is a database. Raises MsiloError when it cannot be read."""
    try:
        with source.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise MsiloError(f"cannot read {source}: {error.strerror}") from error


def kamailio_messages(source: Path, names: Names, moved: Moved) -> Iterator[Message]:
    """What waits in a Kamailio's file; what names no user is counted as unfit.

    Raises StoreError for a table that is not msilo's version 8.
    """
    silo = silo_table(names)
    with translated(f"cannot read {source}"):
        engine = open_engine(source, readonly=True)
        try:
            with engine.connect() as connection:
                if schema_of(connection):
                    raise StoreError(f"{source} is a file of msilo-lite; `export` there, and import what that gives")
                if not has_table(connection, silo.name):
                    raise StoreError(f"{source} has no table {silo.name}; --column db_table=NAME names msilo's")
                check_table(connection, silo)
                for row in connection.execute(bare(names)).mappings():
                    stranger = _stranger({str(key): value for key, value in row.items()}, moved)
                    if stranger:
                        yield _named(stranger, row["id"])
        finally:
            engine.dispose()


def _stranger(row: dict[str, Any], moved: Moved) -> Message | None:
    """A row without a ledger of ours; Kamailio wrote its owner as it came, escapes and capitals included."""
    try:
        owner = Aor.parse(f"{from_db(row['username'])}@{from_db(row['domain'])}")
    except BadRequest:
        moved.unfit += 1
        return None
    return waiting_of({**row, "username": owner.user, "domain": owner.host, "ledger_id": None}).message


def _named(message: Message, number: int) -> Message:
    """The message with a name made of what it is, so that a second import knows it."""
    parts = (number, str(message.owner), message.src, message.dst, message.arrived, message.call_id)
    digest = hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace") + b"\0" + message.body).digest()
    return message.named(digest[:16])


def lines(source: Path) -> Iterator[Message]:
    """The messages of a file of JSON Lines. Raises BadLine."""
    with source.open("r", encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _read_line(line, number)


def _read_line(line: str, number: int) -> Message:
    try:
        what = json.loads(line)
        return _message(what, line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadRequest) as error:
        raise BadLine(f"line {number} is no message as `export` writes it: {type(error).__name__} {error}") from error


def _message(what: dict[str, Any], line: str) -> Message:
    if what.get("format", FORMAT) != FORMAT:
        raise ValueError(f"format {what['format']} is not known")
    texts = [what[name] for name in ("from", "to", "ctype", "call_id", "owner")] + [what.get("target") or ""]
    for value in (*texts, *what["headers"]):
        octets(value)
    text = what.get("body")
    body = base64.b64decode(what["body_base64"], validate=True) if text is None else octets(text)
    key = bytes.fromhex(what["key"]) if what.get("key") else hashlib.sha256(line.strip().encode()).digest()[:16]
    from_, to = parse_address(what["from"], tel=True), parse_address(what["to"], tel=True)
    pairs = [header.partition(":")[::2] for header in what["headers"]]
    if bad_type(what["ctype"], body) or any(bad_header(name, value.strip()) for name, value in pairs):
        raise ValueError("a header that cannot be kept")
    if what.get("target"):
        parse_uri(what["target"])
    return Message(
        owner=Aor.parse(what["owner"]),
        src=from_.uri,
        dst=to.uri,
        from_=from_.text,
        to=to.text,
        ctype=what["ctype"],
        body=body,
        kept="".join(f"{name}: {value.strip()}\r\n" for name, value in pairs),
        arrived=_seconds(what["arrived"]),
        expires=_seconds(what["expires"]),
        call_id=what["call_id"],
        key=key,
        due=_seconds(what["due"]) if what.get("due") else 0,
        target=what.get("target") or "",
    )


def _seconds(text: str) -> int:
    at = int(datetime.fromisoformat(text).timestamp())
    if not 0 <= at <= LATEST:
        raise ValueError(f"{text} is no time that a message can have")
    return at
