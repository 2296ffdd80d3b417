"""The dialog of a subscription, as its subscriber keeps it (RFC 3261 12, RFC 6665 4.4.1): SUBSCRIBEs out, NOTIFYs in.

Pure, and without time: when something is sent, and what follows from it, is decided in `watch`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadRequest
from ..sip.address import Aor, parse_address, split_list
from ..sip.response import response_headers
from ..sip.wire import CSEQ_STEP, Answer, Outgoing, Request, registrar_order

_TAG = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")


@dataclass(frozen=True, slots=True)
class Form:
    """What every SUBSCRIBE of ours says."""

    event: str
    accept: str
    "Media type of the NOTIFYs we read."
    me: str
    "Our SIP URI, for From."
    contact: str
    "The SIP URI under which NOTIFYs reach us."
    routes: tuple[str, ...]
    "The way to the PBX: Route values."


@dataclass(frozen=True, slots=True)
class Heard:
    """What a NOTIFY says about its dialog."""

    tag: str
    cseq: int
    target: str | None
    routes: tuple[str, ...]


class Dialog:
    """One dialog, from its first SUBSCRIBE on."""

    def __init__(self, form: Form, owner: Aor, fresh: Callable[[], str]) -> None:
        """`fresh`: random text, a token."""
        self._form, self._to = form, f"<{owner.uri}>"
        self._target = owner.uri
        self._routes: tuple[str, ...] = ()
        self._tag, self._cseq, self._heard = fresh(), 1 - CSEQ_STEP, -1
        self.call_id = f"{fresh()}@msilo-lite"
        self.peer_tag = ""
        "The tag of the other side; empty: not known yet."
        self.confirmed = False
        "Whether a NOTIFY came: it makes the dialog, a 2xx alone does not (RFC 6665 4.4.1)."

    def subscribe(self, expires: int) -> Outgoing:
        """The next SUBSCRIBE; 0 ends the subscription."""
        form = self._form
        self._cseq += CSEQ_STEP
        headers = (
            (b"Event", form.event.encode()),
            (b"Accept", form.accept.encode()),
            (b"Contact", f"<{form.contact}>".encode()),
            (b"Expires", str(expires).encode()),
        )
        # without a route set the way stays the configured one: what has our password, and needs no look-up of names
        return Outgoing(
            self._target, f"<{form.me}>", self._to, self.call_id, headers, b"", b"", self._routes or form.routes,
            method="SUBSCRIBE", cseq=self._cseq, from_tag=self._tag, to_tag=self.peer_tag,
        )  # fmt: skip

    def learn(self, answer: Answer) -> None:
        """Take over what a 2xx says. What cannot be read is left to the NOTIFY."""
        with contextlib.suppress(BadRequest):
            tag = _tag(_values(answer, "to"))
            contact = _values(answer, "contact")
            target = parse_address(contact[0]).uri if contact else self._target
            if self.confirmed:
                if tag == self.peer_tag:  # else another branch of a fork (RFC 6665 4.4.1)
                    self._target = target  # RFC 3261 12.2.1.2: the route set stays
            else:
                routes = tuple(_route(value) for value in reversed(_values(answer, "record-route")))  # 12.1.2
                self.peer_tag, self._target, self._routes = tag, target, routes

    def read(self, request: Request) -> Heard:
        """What a NOTIFY with our Call-ID says about the dialog. Changes nothing.

        The number of the last one may come again: it is a retransmission, which tells nothing new, or an Asterisk that
        was restarted. Raises BadRequest: 481 when it belongs to another dialog, 500 when a later one came first.
        """
        cseq = registrar_order(request)[1]
        if parse_address(request.get("to") or "").get("tag") != self._tag:
            raise BadRequest(481, "To has another tag")
        tag = _tag([request.get("from") or ""])
        if self.confirmed and tag != self.peer_tag:
            raise BadRequest(481, "From has another tag")
        if cseq < self._heard:
            raise BadRequest(500, "a later NOTIFY was already taken")  # RFC 3261 12.2.2
        contacts = request.all("contact")
        target = parse_address(contacts[0]).uri if contacts else None
        return Heard(tag, cseq, target, tuple(_route(value) for value in request.all("record-route")))

    def take(self, heard: Heard) -> None:
        """Take over what `read` found."""
        if not self.confirmed:
            self._routes = heard.routes  # in the order of the request: here we are the one who is called (12.1.1)
        self.confirmed, self.peer_tag, self._heard = True, heard.tag, heard.cseq
        self._target = heard.target or self._target


def _values(answer: Answer, name: str) -> list[str]:
    return [item for value in response_headers(answer, name) for item in split_list(value)]


def _tag(values: list[str]) -> str:
    """The tag of a From or To. Raises BadRequest (400) where there is none that can be sent back."""
    tag = parse_address(values[0]).get("tag") if values else None
    if not tag or not _TAG.fullmatch(tag):
        raise BadRequest(400, "From or To has no tag")
    return tag


def _route(value: str) -> str:
    return f"<{parse_address(value).uri}>"
