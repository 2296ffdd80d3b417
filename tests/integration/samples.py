"""Messages and boxes with defaults, for tests that look at the file from inside and from outside."""

from dataclasses import replace
from typing import Any

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Message, Settled, Turn, Waiting
from msilo_lite.box.rows import body_hash
from msilo_lite.box.store import Store
from msilo_lite.sip.address import Aor

NOW = 4_000_000_000
"An arrival in the future: no cleaner takes these messages while a test looks at them."
BOB = Aor("bob", "home.lan")


def message(body: str | bytes, owner: Aor = BOB, **more: Any) -> Message:
    """A message from alice that came now and lives for an hour."""
    raw = body.encode() if isinstance(body, str) else body
    plain = Message(
        owner=owner,
        src="sip:alice@home.lan",
        dst=f"sip:{owner}",
        from_="<sip:alice@home.lan>",
        to=f"<sip:{owner}>",
        ctype="text/plain",
        body=raw,
        kept="",
        arrived=NOW,
        expires=NOW + 3600,
        call_id="call-1",
        key=body_hash(raw + str(owner).encode()),
    )
    return replace(plain, **more)


def stored(store: Store, *bodies: str, owner: Aor = BOB) -> list[Waiting]:
    """Messages of one owner, written and read back."""
    store.write(Turn(new=[message(body, owner) for body in bodies]), NOW)
    return store.pending(owner, 0, 100, NOW)


def delivered(*items: Waiting) -> Turn:
    return Turn(settled=[Settled(item, State.DELIVERED, NOW, 200, "200 OK", 1) for item in items])


def texts(items: list[Waiting]) -> list[str]:
    return [item.message.body.decode() for item in items]
