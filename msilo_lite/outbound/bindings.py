"""Where phones can be reached, in memory; every change is staged for disk, so that it survives a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..box.message import Contact, Turn
from ..errors import BadRequest
from ..pbx.registration import Registration
from ..sip.address import Aor, same_uri

LONGEST_CONTACT = 2000
"Bytes of a Contact with its Path that can still become a Request-URI; longer ones wake, but are not remembered."
USUAL_CONTACT = 400
"Bytes of a Contact with its Path for which every accepted message leaves room: one with push parameters (RFC 8599)."


class Bindings:
    """The Contacts of every user, by AoR and URI."""

    def __init__(self, known: Iterable[Contact]) -> None:
        self._of: dict[Aor, dict[str, Contact]] = {}
        for one in known:
            self._of.setdefault(one.aor, {})[one.uri] = one

    def apply(self, change: Registration, now: float, turn: Turn) -> bool:
        """Take a REGISTER over; whether something of it has to be on disk before it is answered.

        Raises BadRequest (500) when a later REGISTER of the same phone came first (RFC 3261 10.3 step 7).
        """
        mine = self._of.setdefault(change.aor, {})
        for uri in mine if change.clear else [_written(mine, one.uri) for one in change.contacts]:
            old = mine.get(uri)
            if old and old.call_id == change.order[0] and old.cseq > change.order[1]:
                raise BadRequest(500, "a later REGISTER of this Call-ID was already taken")
        gone = [_written(mine, one.uri) for one in change.contacts if one.expires <= now]
        ended = list(mine) if change.clear else gone
        staged = [self._remove(change.aor, uri, turn) for uri in ended]
        staged += [self._set(mine, one, turn) for one in change.contacts if one.expires > now]
        if not mine:
            self._of.pop(change.aor, None)
        return any(staged)

    def _set(self, mine: dict[str, Contact], one: Contact, turn: Turn) -> bool:
        """Remember a binding; the phone need not wait until a refresh that tells nothing new is on disk."""
        if len(one.uri) + sum(map(len, one.path)) > LONGEST_CONTACT:
            return False
        written = _written(mine, one.uri)
        if written != one.uri:  # the same binding in other words
            self._remove(one.aor, written, turn)
        old, mine[one.uri] = mine.get(one.uri), one
        waiting = (one.aor, one.uri) in turn.contacts  # an earlier one is not on disk yet
        turn.contacts[one.aor, one.uri] = one
        return waiting or old is None or (old.path, old.takes_message) != (one.path, one.takes_message)

    def _remove(self, aor: Aor, uri: str, turn: Turn) -> bool:
        if self._of.get(aor, {}).pop(uri, None) is None:
            return False
        turn.contacts[aor, uri] = None
        return True

    def owners(self) -> list[Aor]:
        """Everybody who has a binding."""
        return list(self._of)

    def of_all(self, now: float) -> dict[Aor, Contact]:
        """The newest living binding of everybody who has one."""
        found = {owner: self.newest(owner, now) for owner in self._of}
        return {owner: one for owner, one in found.items() if one}

    def newest(self, aor: Aor, now: float) -> Contact | None:
        """The binding set last that is alive and takes MESSAGE."""
        mine = self._of.get(aor)
        if not mine:
            return None
        alive = [one for one in mine.values() if one.expires > now and one.takes_message]
        return max(alive, key=lambda one: one.updated, default=None)

    def clock_moved(self, by: int, turn: Turn) -> None:
        """The clock was set: bindings last as long as they would have."""
        for mine in self._of.values():
            for uri, one in mine.items():
                mine[uri] = replace(one, expires=one.expires + by, updated=one.updated + by)
                turn.contacts[one.aor, uri] = mine[uri]

    def prune(self, now: float, turn: Turn) -> None:
        """Forget bindings that have run out."""
        for aor, mine in list(self._of.items()):
            for uri, one in list(mine.items()):
                if one.expires <= now:
                    self._remove(aor, uri, turn)
            if not mine:
                del self._of[aor]


def _written(mine: dict[str, Contact], uri: str) -> str:
    """How a binding was written when it was set: Contacts are compared as URIs, not as text (RFC 3261 10.3 step 7)."""
    return uri if uri in mine else next((old for old in mine if same_uri(old, uri)), uri)
