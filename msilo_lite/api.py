"""msilo's functions for programs of your own: they write to the file, and the daemon delivers.

    from msilo_lite.api import Box

    with Box("/var/lib/msilo-lite/silo.sqlite") as box:
        box.m_store("Dinner is ready", from_="sip:alice@home.lan", owner="sip:bob@home.lan")
        box.m_dump("sip:bob@home.lan")

The daemon may run or not; what is written is on disk when the call returns. Times are UTC seconds since 1970.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from .box.inbox import Inbox
from .box.message import Message, Turn
from .box.policy import LAST_SECOND, Caps, Policy
from .box.quota import Quota
from .box.rows import wish_row
from .box.schema import Names
from .box.space import Space
from .box.store import Store
from .errors import BadRequest
from .outbound.bindings import USUAL_CONTACT
from .outbound.compose import Dress, fits
from .sip.address import Aor, parse_address
from .sip.lines import octets
from .sip.wire import bad_header, bad_type

TEXT = "text/plain;charset=utf-8"
SLACK = 2
"Seconds within which a due time is now: the daemon is told to try at once."


class Box:
    """A file of msilo-lite, made where there is none. Methods raise StoreError when the file cannot be written."""

    def __init__(
        self,
        file: str | Path,
        *,
        names: Names | None = None,
        expire_time: int = 259200,
        dress: Dress | None = None,
        room: int = USUAL_CONTACT,
        max_messages: int = 0,
        caps: Caps | None = None,
        min_free: int = 0,
    ) -> None:
        """`names`: msilo's table and columns where they are called otherwise. `expire_time`: seconds.

        `dress`: what the daemon adds to each message, and `room`: bytes that a Contact may have, so that none is taken
        that it could not send. `max_messages`: how many may wait for one user; 0: any number. `caps`: what else
        may wait. `min_free`: bytes of the disk that stay free.
        """
        self._file, self._names = Path(file), names or Names()
        self._policy = Policy(expire_time, max_messages, caps=caps or Caps())
        self._dress, self._room = dress or Dress("msilo-lite"), room
        self._store = Store(self._file, self._names, counted=self._policy.caps.counted)
        self._quota = Quota(self._policy, self._store, Space(self._file, min_free).is_short)

    def m_store(
        self,
        body: str | bytes,
        *,
        from_: str,
        owner: str,
        to: str = "",
        ctype: str = TEXT,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        due: int = 0,
    ) -> str:
        """Store a message for `owner`, as if a MESSAGE from `from_` had come; returns the owner's AoR.

        `to`: the To header, the owner where empty. `due`: when to send it at the earliest; 0 for a message that is no
        reminder. Raises BadRequest for an address or header that is none, and for more than a request can carry (513).
        """
        return self._put(_message(body, from_, owner, to, ctype, headers, due), target="")

    def m_store_addrs(
        self,
        body: str | bytes,
        *,
        owner: str,
        srcaddr: str,
        dstaddr: str,
        ctype: str = TEXT,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        due: int = 0,
    ) -> str:
        """Store a message in the box of `owner`, from `srcaddr`, that will be sent to `dstaddr` through the proxy.

        Returns and raises as `m_store` does.
        """
        made = _message(body, srcaddr, owner, dstaddr, ctype, headers, due)
        return self._put(made, target=made.dst)

    def m_dump(self, owner: str, most: int = 0) -> int:
        """Ask the daemon to deliver what waits for `owner` now, `most` messages at the most (0: all).

        Returns the number of the wish; with no daemon running it waits for one. Raises BadRequest for a bad address.
        """
        who = Aor.parse(owner)
        with closing(Inbox(self._file, self._names)) as inbox:
            return inbox.ask("dump", who, int(time.time()), most)

    def _put(self, message: Message, target: str) -> str:
        now = int(time.time())
        latest = LAST_SECOND - self._policy.expire_time
        if message.due and not now - SLACK <= message.due <= latest:
            raise BadRequest(400, "its time is already over, or after January 2038")
        expires = (message.due or now) + self._policy.expire_time
        whole = message.at(now, min(expires, LAST_SECOND), target)
        fits(whole, self._dress, self._room)
        self._quota.check(whole, [], now)
        verb = "try" if whole.due and whole.due <= now + SLACK else "look"
        self._store.write(Turn(new=[whole], asked=[wish_row(verb, whole.owner, now)]), now)
        return str(whole.owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._store.close()


def _message(
    body: str | bytes, src: str, owner: str, dst: str, ctype: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]], due: int,
) -> Message:  # fmt: skip
    """A message without its times. Raises BadRequest."""
    who = Aor.parse(owner)
    from_, to = parse_address(src), parse_address(dst or who.uri)
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    raw = octets(body) if isinstance(body, str) else body
    if bad_type(ctype, raw):
        raise BadRequest(400, f"{ctype!r} is not a Content-Type")
    for name, value in pairs:
        if bad_header(name, value):
            line = f"{name}: {value}"
            raise BadRequest(400, f"{line!r} is not a header that can be kept")
    return Message(
        owner=who,
        src=from_.uri,
        dst=to.uri,
        from_=from_.text,
        to=to.text,
        ctype=ctype,
        body=raw,
        kept="".join(f"{name}: {value}\r\n" for name, value in pairs),
        arrived=0,
        expires=0,
        call_id=f"{secrets.token_hex(12)}@msilo-lite",
        key=secrets.token_bytes(16),
        due=due,
    )
