"""Messages as records that `views` shows as table or JSON; docs/json.md is their contract."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from ..box.holds import Holds
from ..box.inbox import History, Inbox
from ..box.lock import is_served
from ..box.message import Waiting
from ..errors import NotFound
from ..settings.config import Config
from ..sip.address import next_host
from .choice import PAST, Choice
from .reasons import Surroundings, span, state_name, state_of, why
from .views import utc


def surroundings(inbox: Inbox, config: Config, now: int) -> Surroundings:
    """What the reasons depend on besides a message."""
    facts = inbox.daemon()
    up = is_served(config.db_file)
    proxy = facts.get("outbound_proxy") if up else config.outbound_proxy
    host, holds = next_host(proxy) if proxy else "", Holds(inbox.holds())
    return Surroundings(inbox.recipients(), inbox.contacts(now), up, bool(proxy), host, holds)


def listing(config: Config, choice: Choice, *, history: bool) -> Iterator[dict[str, Any]]:
    """The waiting messages, oldest first, after what left the box where `history` asks for it, or a state does."""
    now = int(time.time())
    with closing(Inbox(config.db_file, config.names)) as inbox:
        if history or choice.states & set(PAST):
            yield from (_past(old, now) for old in inbox.history(choice.owner, choice.before) if choice.took(old))
        around = surroundings(inbox, config, now)
        for item in inbox.waiting(choice.owner, choice.before):
            if choice.takes(item, around, now):
                yield _present(item, around, now)


def chosen(inbox: Inbox, config: Config, choice: Choice) -> Iterator[Waiting]:
    """The same messages as they are."""
    now = int(time.time())
    around = surroundings(inbox, config, now)
    return (item for item in inbox.waiting(choice.owner, choice.before) if choice.takes(item, around, now))


def reminders(config: Config, choice: Choice) -> Iterator[dict[str, Any]]:
    """The reminders among them."""
    return (record for record in listing(config, choice, history=False) if record["due"])


def reminder_ids(config: Config, numbers: list[int]) -> list[int]:
    """The same ids. Raises NotFound for one that is no waiting reminder."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        for number in numbers:
            if not inbox.message(number).reminder:
                raise NotFound(f"{number} is no reminder; `msilo-lite purge {number}` takes any message away")
    return numbers


def _present(item: Waiting, around: Surroundings, now: int) -> dict[str, Any]:
    message = item.message
    return {
        "id": item.silo_id,
        "to": str(message.owner),
        "from": message.from_,
        "state": state_of(item, around, now),
        "arrived": utc(message.arrived),
        "age": span(now - message.arrived),
        "expires": utc(message.expires),
        "due": utc(message.due or None),
        "size": len(message.body),
        "ctype": message.ctype,
        "attempts": item.attempts,
        "last_code": item.code,
        "why": why(item, around, now),
    }


def _past(old: History, now: int) -> dict[str, Any]:
    return {
        "id": f"h{old.ledger_id}",
        "to": str(old.owner),
        "from": old.from_,
        "state": state_name(old.state),
        "arrived": utc(old.arrived),
        "age": span(now - old.arrived),
        "settled": utc(old.settled),
        "size": old.size,
        "ctype": old.ctype,
        "attempts": old.attempts,
        "last_code": old.code,
        "why": f"{state_name(old.state)} {span(now - old.settled)} ago{f' ({old.reason})' if old.reason else ''}",
    }


def detail(config: Config, number: int) -> tuple[dict[str, Any], str, bytes]:
    """One waiting message: its record, the headers it keeps, its body. Raises NotFound."""
    now = int(time.time())
    with closing(Inbox(config.db_file, config.names)) as inbox:
        item = inbox.message(number)
        record = _present(item, surroundings(inbox, config, now), now)
    more = {"message_id": item.msilo_id or None, "to_header": item.message.to, "call_id": item.message.call_id}
    return {**record, **more}, item.message.kept, item.message.body


def former(config: Config, number: int) -> dict[str, Any]:
    """One message that left the box, by its number in the history. Raises NotFound."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return _past(inbox.past(number), int(time.time()))
