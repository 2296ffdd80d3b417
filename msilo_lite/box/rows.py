"""Database rows to records and back; the only place that knows which column holds what."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from functools import cache
from typing import Any

import sqlalchemy as sa

from ..sip.address import Aor
from .delivery import State
from .holds import Hold, Kind
from .message import Contact, Message, Recipient, Waiting, Wish
from .schema import SHELVED, Names, ledger, silo_table

PATH_SEPARATOR = "\n"
"Between the Route values of a Contact; no header value can hold it."
AFTER_DUE = 259200
"Seconds that a reminder of Kamailio's lives after its due time, where its row ends before (msilo counts from arrival)."
DIGITS, DIGITS_AT_ONCE = 16, 4096
"Random hexadecimal digits of an X-MSilo-ID, and how many the system is asked for at once."
Row = Any
"A row by the names of its columns: SQLite's own, or one of SQLAlchemy's; neither has a type for its keys."


def by_name(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    """Rows by the names of their columns: SQLite's own Row compares every name at every look."""
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


@cache
def bare(names: Names) -> sa.Select[Any]:
    """Messages of a file that has no ledger, oldest first."""
    silo = silo_table(names)
    mine = [column.label(key) for key, column in silo.c.items() if key != "status"]
    return sa.select(*mine).order_by(silo.c.id)


@cache
def box(names: Names) -> sa.Select[Any]:
    """Messages in the box with what our ledger knows of them: the rows that `waiting_of` reads."""
    silo = silo_table(names)
    mine = [column.label(key) for key, column in silo.c.items() if key != "status"]
    known = ("id", "msilo_id", "dedupe", "body_hash", "from_hdr", "to_hdr", "arrived", "state", "attempts", "code",
             "reason", "target", "crashes")  # fmt: skip
    ours = [ledger.c[name].label(f"ledger_{name}") for name in known]
    return sa.select(*mine, *ours).select_from(silo.outerjoin(ledger, ledger.c.silo_id == silo.c.id))


def body_hash(body: bytes) -> bytes:
    """16 bytes that tell whether a ledger row still belongs to the row in the box."""
    return hashlib.sha256(body).digest()[:16]


class Marks:
    """Makes X-MSilo-IDs: the number finds the ledger row, 64 random bits keep strangers from naming it."""

    def __init__(self) -> None:
        self._random = ""
        "Digits for those to come: asking the system for each turn's takes longer than making them."

    def make(self, first: int, count: int) -> list[str]:
        """Fresh ones for so many rows, from a number on."""
        size = DIGITS * count
        if len(self._random) < size:
            self._random = secrets.token_hex(max(size, DIGITS_AT_ONCE) // 2)
        mine, self._random = self._random[:size], self._random[size:]
        return [f"{first + i:x}-{mine[DIGITS * i : DIGITS * (i + 1)]}" for i in range(count)]


def to_db(text: str) -> str | bytes:
    """Text for a column; bytes where it holds any that are not UTF-8, which SQLite's text could not carry."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def from_db(value: str | bytes | None) -> str:
    """Text of a column; Kamailio's db_sqlite binds extra_hdrs as a blob."""
    if isinstance(value, str):
        return value
    return value.decode("utf-8", "surrogateescape") if value else ""


def silo_row(silo_id: int, message: Message, status: int = SHELVED) -> tuple[Any, ...]:
    """What goes into msilo's table, in the order of its columns."""
    return (
        silo_id,
        to_db(message.src),
        to_db(message.dst),
        message.owner.user,
        message.owner.host,
        message.arrived,
        message.expires,
        message.due,
        to_db(message.ctype),
        message.body,
        to_db(message.kept),
        to_db(message.call_id),
        status,
    )


FRESH = (
    "id", "silo_id", "msilo_id", "dedupe", "body_hash", "username", "domain", "from_hdr", "to_hdr", "ctype", "size",
    "arrived", "expires", "state", "attempts", "target",
)  # fmt: skip
"Columns of the ledger that a new row has, in the order of `ledger_row`."


def ledger_row(ledger_id: int, silo_id: int, message: Message, msilo_id: str) -> tuple[Any, ...]:
    """What goes into the ledger for a message that just came."""
    return (
        ledger_id,
        silo_id,
        msilo_id,
        message.key or None,
        body_hash(message.body),
        message.owner.user,
        message.owner.host,
        to_db(message.from_),
        to_db(message.to),
        to_db(message.ctype),
        len(message.body),
        message.arrived,
        message.expires,
        int(State.PENDING),
        0,
        to_db(message.target) or None,
    )


def waiting_of(row: Row) -> Waiting:
    """A row of the box joined with its ledger.

    A ledger row counts only where arrival, sender and body agree: Kamailio's own table reuses ids. Without one the
    message is pending, `known` is False and the caller gives it an id.
    """
    body = _body(row["body"])
    src, dst = from_db(row["src_addr"]), from_db(row["dst_addr"])
    known = (
        row["ledger_id"] is not None
        and row["ledger_arrived"] == row["inc_time"]
        and bytes(row["ledger_body_hash"]) == body_hash(body)
        and src in from_db(row["ledger_from_hdr"])
    )
    message = Message(
        owner=Aor(from_db(row["username"]), from_db(row["domain"]).lower()),
        src=src,
        dst=dst,
        from_=from_db(row["ledger_from_hdr"]) if known else f"<{src}>",
        to=from_db(row["ledger_to_hdr"]) if known else f"<{dst}>",
        ctype=from_db(row["ctype"]),
        body=body,
        kept=from_db(row["extra_hdrs"]),
        arrived=row["inc_time"],
        expires=_end(row["exp_time"], row["snd_time"]),
        call_id=from_db(row["callid"]),
        key=bytes(row["ledger_dedupe"] or b"") if known else b"",
        due=row["snd_time"],
        target=from_db(row["ledger_target"]) if known else "",
    )
    if not known:
        return Waiting(row["id"], message, 0, "", State.PENDING, 0, None, None, known=False)
    return Waiting(
        silo_id=row["id"],
        message=message,
        ledger_id=row["ledger_id"],
        msilo_id=row["ledger_msilo_id"],
        state=State(row["ledger_state"]),
        attempts=row["ledger_attempts"],
        code=row["ledger_code"],
        reason=from_db(row["ledger_reason"]) or None,
        crashes=row["ledger_crashes"],
    )


def _end(expires: int, due: int) -> int:
    """When a life ends: msilo counts a reminder's from its arrival, so that it may end before it is due."""
    return due + AFTER_DUE if 0 < due >= expires else expires


def _body(value: bytes | str | None) -> bytes:
    """A body; others may have stored it as text."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value or b"")


def contact_row(one: Contact) -> dict[str, Any]:
    """What goes into the table of bindings."""
    return {
        "username": one.aor.user,
        "domain": one.aor.host,
        "uri": to_db(one.uri),
        "path": to_db(PATH_SEPARATOR.join(one.path)),
        "expires": one.expires,
        "takes_message": int(one.takes_message),
        "updated": one.updated,
        "call_id": to_db(one.call_id),
        "cseq": one.cseq,
        "extra": to_db(one.extra),
    }


def contact_of(row: Row) -> Contact:
    """A binding."""
    path = from_db(row["path"])
    return Contact(
        aor=Aor(row["username"], row["domain"]),
        uri=from_db(row["uri"]),
        path=tuple(path.split(PATH_SEPARATOR)) if path else (),
        expires=row["expires"],
        takes_message=bool(row["takes_message"]),
        updated=row["updated"],
        call_id=from_db(row["call_id"]),
        cseq=row["cseq"],
        extra=from_db(row["extra"]),
    )


def recipient_row(one: Recipient) -> dict[str, Any]:
    """What goes into the table of owners that could not be reached."""
    return {
        "username": one.owner.user,
        "domain": one.owner.host,
        "next_try": one.next_try,
        "tries": one.tries,
        "code": one.code,
        "reason": to_db(one.reason),
    }


def recipient_of(row: Row) -> Recipient:
    """What stands between an owner and the next attempt."""
    owner = Aor(row["username"], row["domain"])
    return Recipient(owner, row["next_try"], row["tries"], row["code"], from_db(row["reason"]))


def hold_of(row: Row) -> Hold:
    """What the operator holds back."""
    return Hold(Kind(row["kind"]), row["name"], row["since"])


def wish_of(row: Row) -> Wish:
    """What a command asks for."""
    return Wish(row["id"], row["verb"], Aor(row["username"], row["domain"]), int(row["detail"] or 0))


def wish_row(verb: str, owner: Aor, now: int, most: int = 0) -> dict[str, Any]:
    """What a command leaves for the daemon."""
    return {
        "verb": verb,
        "username": owner.user,
        "domain": owner.host,
        "detail": str(most or ""),
        "asked": now,
        "result": "",
        "done": 0,
    }
