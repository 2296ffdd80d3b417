"""Database rows to records and back; the only place that knows which column holds what."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import sqlalchemy as sa

from .address import Aor
from .delivery import State
from .message import Contact, Message, Recipient, Waiting
from .schema import contact, ledger, recipient, silo

BOX = sa.select(silo, ledger).select_from(silo.outerjoin(ledger, ledger.c.silo_id == silo.c.id))
"Messages in the box with what our ledger knows of them: the rows that `waiting_of` reads."
PATH_SEPARATOR = "\n"
"Between the Route values of a Contact; no header value can hold it."


def body_hash(body: bytes) -> bytes:
    """16 bytes that tell whether a ledger row still belongs to the row in the box."""
    return hashlib.sha256(body).digest()[:16]


def new_msilo_id(ledger_id: int) -> str:
    """A fresh X-MSilo-ID: the number finds the ledger row, 64 random bits keep strangers from naming it."""
    return f"{ledger_id:x}-{secrets.token_hex(8)}"


def to_db(text: str) -> str | bytes:
    """Text for a column; bytes where it holds any that are not UTF-8, which SQLite's text could not carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def from_db(value: str | bytes | None) -> str:
    """Text of a column; Kamailio's db_sqlite binds extra_hdrs as a blob."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value or ""


def silo_row(silo_id: int, message: Message) -> dict[str, Any]:
    """What goes into msilo's table."""
    return {
        "id": silo_id,
        "src_addr": to_db(message.src),
        "dst_addr": to_db(message.dst),
        "username": message.owner.user,
        "domain": message.owner.host,
        "inc_time": message.arrived,
        "exp_time": message.expires,
        "snd_time": 0,
        "ctype": to_db(message.ctype),
        "body": message.body,
        "extra_hdrs": to_db(message.kept),
        "callid": to_db(message.call_id),
        "status": 0,
    }


def ledger_row(ledger_id: int, silo_id: int, message: Message) -> dict[str, Any]:
    """What goes into the ledger for a message that just came."""
    return {
        "id": ledger_id,
        "silo_id": silo_id,
        "msilo_id": new_msilo_id(ledger_id),
        "dedupe": message.key or None,
        "body_hash": body_hash(message.body),
        "username": message.owner.user,
        "domain": message.owner.host,
        "from_hdr": to_db(message.from_),
        "to_hdr": to_db(message.to),
        "ctype": to_db(message.ctype),
        "size": len(message.body),
        "arrived": message.arrived,
        "expires": message.expires,
        "state": State.PENDING,
        "attempts": 0,
    }


def adopted_row(item: Waiting) -> dict[str, Any]:
    """The ledger row of a message that somebody else put into the box."""
    return {**ledger_row(item.ledger_id, item.silo_id, item.message), "msilo_id": item.msilo_id}


def waiting_of(row: sa.RowMapping) -> Waiting:
    """A row of the box joined with its ledger.

    A ledger row counts only where arrival, sender and body agree: Kamailio's own table reuses ids. Without one the
    message is pending, `known` is False and the caller gives it an id.
    """
    body = _body(row[silo.c.body])
    known = (
        row[ledger.c.id] is not None
        and row[ledger.c.arrived] == row[silo.c.inc_time]
        and bytes(row[ledger.c.body_hash]) == body_hash(body)
        and from_db(row[silo.c.src_addr]) in from_db(row[ledger.c.from_hdr])
    )
    src, dst = from_db(row[silo.c.src_addr]), from_db(row[silo.c.dst_addr])
    message = Message(
        owner=Aor(row[silo.c.username], row[silo.c.domain]),
        src=src,
        dst=dst,
        from_=from_db(row[ledger.c.from_hdr]) if known else f"<{src}>",
        to=from_db(row[ledger.c.to_hdr]) if known else f"<{dst}>",
        ctype=from_db(row[silo.c.ctype]),
        body=body,
        kept=from_db(row[silo.c.extra_hdrs]),
        arrived=row[silo.c.inc_time],
        expires=row[silo.c.exp_time],
        call_id=from_db(row[silo.c.callid]),
        key=bytes(row[ledger.c.dedupe] or b"") if known else b"",
    )
    if not known:
        return Waiting(row[silo.c.id], message, 0, "", State.PENDING, 0, None, None, known=False)
    return Waiting(
        silo_id=row[silo.c.id],
        message=message,
        ledger_id=row[ledger.c.id],
        msilo_id=row[ledger.c.msilo_id],
        state=State(row[ledger.c.state]),
        attempts=row[ledger.c.attempts],
        code=row[ledger.c.code],
        reason=from_db(row[ledger.c.reason]) or None,
    )


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
    }


def contact_of(row: sa.RowMapping) -> Contact:
    """A binding."""
    path = from_db(row[contact.c.path])
    return Contact(
        aor=Aor(row[contact.c.username], row[contact.c.domain]),
        uri=from_db(row[contact.c.uri]),
        path=tuple(path.split(PATH_SEPARATOR)) if path else (),
        expires=row[contact.c.expires],
        takes_message=bool(row[contact.c.takes_message]),
        updated=row[contact.c.updated],
        call_id=from_db(row[contact.c.call_id]),
        cseq=row[contact.c.cseq],
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


def recipient_of(row: sa.RowMapping) -> Recipient:
    """What stands between an owner and the next attempt."""
    owner = Aor(row[recipient.c.username], row[recipient.c.domain])
    return Recipient(owner, row["next_try"], row["tries"], row["code"], from_db(row["reason"]))
