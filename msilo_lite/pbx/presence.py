"""What a NOTIFY says of a user: presence (RFC 3863) and registration (RFC 3680) documents as values; no I/O, no time.

Read with the standard library's parser. It never meets a DTD, because entities are all that could make it work long.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from ..box.policy import delta_seconds
from ..errors import BadRequest

PIDF = "urn:ietf:params:xml:ns:pidf"
REGINFO = "urn:ietf:params:xml:ns:reginfo"
LONGEST = 65536
"Bytes of a document that is read; what comes by UDP has less than 4,000."
MOST_CONTACTS = 256
"Contacts of one user that are remembered; whoever has more is asked for full state again."


@dataclass(frozen=True, slots=True)
class RegContact:
    """A contact element (RFC 3680 5.1): one binding."""

    id: str
    uri: str
    "As written; empty where there is none."
    state: str
    "`active` or `terminated`."
    event: str
    "What brought it there: registered, created, refreshed, expired, unregistered, ..."


@dataclass(frozen=True, slots=True)
class RegAor:
    """A registration element (RFC 3680 5.1): one address of record."""

    id: str
    aor: str
    state: str
    "`init`, `active` or `terminated`."
    contacts: tuple[RegContact, ...]


@dataclass(frozen=True, slots=True)
class RegInfo:
    """A reginfo document."""

    version: int
    full: bool
    "False where it tells changes only (`partial`)."
    registrations: tuple[RegAor, ...]


class RegTable:
    """What the documents of one subscription say together (RFC 3680 5.2)."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._active: set[tuple[str, str]] = set()
        "Ids of registrations with those of their active contacts."
        self._news = False

    @property
    def news(self) -> bool:
        """Whether the last document had a contact that was not active before: one more phone is back."""
        return self._news

    @property
    def open(self) -> bool:
        """Whether the user is registered anywhere."""
        return bool(self._active)

    def take(self, info: RegInfo) -> bool:
        """Take a document over; whether full state has to be asked for, because one before it is missing.

        A full one counts whatever its version is: Kamailio and OpenSIPS say 0 in each. NOTIFYs are in order by CSeq.
        """
        if not info.full and self._version is not None and info.version <= self._version:
            self._news = False
            return False
        before = set(self._active)
        missed = not info.full and (self._version is None or info.version > self._version + 1)
        if info.full:
            self._active.clear()
        for one in info.registrations:
            self._change(one)
        self._version, self._news = info.version, not self._active <= before
        if len(self._active) <= MOST_CONTACTS:
            return missed
        self._active, self._version = {next(iter(self._active))}, None
        return not info.full

    def _change(self, one: RegAor) -> None:
        if one.state != "active":
            self._active = {row for row in self._active if row[0] != one.id}
            return
        for contact in one.contacts:
            change = self._active.add if contact.state == "active" else self._active.discard
            change((one.id, contact.id))


def read_pidf(body: bytes) -> bool:
    """Whether a presence document has a tuple that is open. Raises BadRequest (400) when it is none."""
    root, space = _root(body, PIDF, "presence")
    return any(
        (basic.text or "").strip().lower() == "open"
        for basic in root.iterfind(f"{space}tuple/{space}status/{space}basic")
    )


def read_reginfo(body: bytes) -> RegInfo:
    """A reginfo document. Raises BadRequest (400) when it is none."""
    root, space = _root(body, REGINFO, "reginfo")
    version = delta_seconds(root.get("version"))
    if version is None:
        raise BadRequest(400, "a reginfo document needs a version")
    full = _one_of(root, "state", ("full", "partial")) == "full"
    return RegInfo(version, full, tuple(_registration(one, space) for one in root.iterfind(f"{space}registration")))


def _registration(element: ET.Element, space: str) -> RegAor:
    return RegAor(
        element.get("id", ""),
        element.get("aor", ""),
        _one_of(element, "state", ("init", "active", "terminated")),
        tuple(_contact(one, space) for one in element.iterfind(f"{space}contact")),
    )


def _contact(element: ET.Element, space: str) -> RegContact:
    uri = element.findtext(f"{space}uri", "").strip()
    state = _one_of(element, "state", ("active", "terminated"))
    return RegContact(element.get("id", "") or uri, uri, state, element.get("event", ""))


def _one_of(element: ET.Element, name: str, known: tuple[str, ...]) -> str:
    value = element.get(name, "").strip().lower()
    if value not in known:
        raise BadRequest(400, f"{name} in a reginfo document is none of {', '.join(known)}")
    return value


def _root(body: bytes, namespace: str, name: str) -> tuple[ET.Element, str]:
    """The root element, and how its namespace stands before names; one without any namespace passes as well."""
    text = body.strip()
    if len(text) > LONGEST:
        raise BadRequest(400, "the document is too long")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:  # UTF-16 would hide the others, and has NUL bytes
        raise BadRequest(400, "the document has a DTD or NUL bytes")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError, LookupError) as error:  # the last two: an encoding that Python does not have
        raise BadRequest(400, f"the document is not XML: {error}") from error
    for space in (f"{{{namespace}}}", ""):
        if root.tag == f"{space}{name}":
            return root, space
    raise BadRequest(400, f"the document is no {name} document")
