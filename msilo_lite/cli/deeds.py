"""What the commands do to messages: one function each, from a configuration to what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from ..box.delivery import State
from ..box.due import LATEST
from ..box.holds import Hold, Kind, peer_name
from ..box.inbox import BATCH, Inbox
from ..box.lock import is_served, sole_user
from ..box.message import Waiting
from ..box.recorder import Recorder
from ..daemon import USER_AGENT, Daemon
from ..errors import BadRequest, ConfigError, InUse, MsiloError, NotFound
from ..outbound.bindings import USUAL_CONTACT
from ..outbound.compose import fits
from ..points import reach
from ..settings.config import Config
from ..settings.terms import dress_of
from ..sip.address import Aor
from .choice import Choice
from .records import chosen

PATIENCE = 45.0
"Seconds without any progress after which `dump` no longer waits for the daemon: a phone may take 32 to time out."
POLL = 0.05
Progress = Callable[[int | None, str], AbstractContextManager[Callable[[int], None]]]


def selected(config: Config, numbers: list[int], choice: Choice) -> list[int]:
    """Ids of waiting messages that are meant; raises NotFound for an id that does not wait."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        if numbers:
            return [inbox.message(number).silo_id for number in dict.fromkeys(numbers)]
        if choice.coarse:
            return inbox.ids(choice.owner, choice.before)
        return [item.silo_id for item in chosen(inbox, config, choice)]


def retrying(config: Config, ids: list[int], update: Callable[[int], None]) -> int:
    """Let messages be sent again that were parked or handed over; returns how many were."""
    done = 0
    with closing(Inbox(config.db_file, config.names)) as inbox:
        for at in range(0, len(ids), BATCH):
            done += inbox.retry(ids[at : at + BATCH], int(time.time()))
            update(min(at + BATCH, len(ids)))
    return done


def retriable(config: Config, ids: list[int]) -> int:
    """How many of these `retry` would take."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return sum(item.state in (State.PARKED, State.HANDED) for item in _there(inbox, ids))


def _there(inbox: Inbox, ids: list[int]) -> Iterator[Waiting]:
    """Those of these messages that have not left the box since they were chosen."""
    for number in ids:
        with suppress(NotFound):
            yield inbox.message(number)


def purging(config: Config, ids: list[int], update: Callable[[int], None]) -> tuple[int, int]:
    """Purge in short commits, so that a daemon waits for none of them long.

    Returns how many were there, and how many of them may still arrive because they were on their way.
    """
    gone, late = 0, 0
    with closing(Inbox(config.db_file, config.names)) as inbox:
        for start in range(0, len(ids), BATCH):
            taken, sending = inbox.purge(ids[start : start + BATCH], int(time.time()))
            gone, late = gone + taken, late + sending
            reach("purging")
            update(min(start + BATCH, len(ids)))
        inbox.scrub()
    return gone, late


# -- times -------------------------------------------------------------------------------------------------------------
def scheduling(
    config: Config, ids: list[int], due: int, update: Callable[[int], None], *, dry: bool
) -> tuple[int, int]:
    """Make waiting messages due at a UTC second; their lifetimes count from then.

    Returns how many are, and how many were left alone: on their way, parked, or handed over. Raises BadRequest (513)
    for one that could not be sent with what a reminder has on it; then nothing of its batch is changed.
    """
    done, left = 0, 0
    with closing(Inbox(config.db_file, config.names)) as inbox:
        for start in range(0, len(ids), BATCH):
            items = list(_there(inbox, ids[start : start + BATCH]))
            free = [item for item in items if item.state is State.PENDING]
            times = {item.silo_id: _times(config, item, due) for item in free}
            moved = len(times) if dry else inbox.schedule(times)
            done, left = done + moved, left + len(items) - moved
            update(min(start + BATCH, len(ids)))
    return done, left


def _times(config: Config, item: Waiting, due: int) -> tuple[int, int]:
    """The new due time and end of a message."""
    message = item.message
    life = max(1, message.expires - (message.due or message.arrived))
    end = min(due + life, LATEST)
    room = 0 if config.outbound_proxy else USUAL_CONTACT
    try:
        fits(replace(message, due=due, expires=end), dress_of(config, USER_AGENT), room)
    except BadRequest as error:
        raise BadRequest(513, f"message {item.silo_id} cannot become a reminder: {error}") from error
    return due, end


# -- holds -------------------------------------------------------------------------------------------------------------
def hold_named(to: str | None, peer: str | None, *, everything: bool, now: int) -> Hold:
    """The hold that a person names. Raises ConfigError unless it is one, and BadRequest for a bad address."""
    if sum((bool(to), bool(peer), everything)) != 1:
        raise ConfigError("say what is held: --to USER, --peer HOST, or --all: one of them")
    if to:
        return Hold(Kind.USER, str(Aor.parse(to)), now)
    if peer:
        try:
            return Hold(Kind.PEER, peer_name(peer), now)
        except ValueError as error:
            raise ConfigError(f"--peer: {error}") from error
    return Hold(Kind.ALL, "", now)


def hold(config: Config, one: Hold) -> bool:
    """Hold mail back; whether that is new."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return inbox.hold(one)


def unhold(config: Config, kind: Kind | None, name: str = "") -> tuple[list[Hold], bool]:
    """Let it go; returns which holds ended, and whether a daemon runs that will now send. Raises NotFound for none."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        ended = inbox.unhold(kind, name)
        if not ended:
            rest = ", ".join(one.option for one in inbox.holds()) or "nothing is held"
            raise NotFound(f"there is no such hold; in force: {rest}")
    return ended, is_served(config.db_file)


def holds(config: Config) -> list[Hold]:
    """What is held."""
    with closing(Inbox(config.db_file, config.names)) as inbox:
        return inbox.holds()


# -- delivering --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Delivery:
    """How a `dump` ended."""

    waiting: int
    "Messages that waited before."
    delivered: int
    reason: str
    "Why some are still there; empty when none is."


def deliver(config: Config, owner: Aor, most: int, progress: Progress) -> Delivery:
    """Deliver what waits for one owner, `most` messages at the most (0: all), through the daemon or in its place.

    Raises NotFound without a database and MsiloError when the daemon does not react.
    """
    with closing(Inbox(config.db_file, config.names)) as inbox:
        waiting = inbox.count(owner, ripe_at=int(time.time()))
        if not waiting:
            return Delivery(0, 0, "")
        number = inbox.ask("dump", owner, int(time.time()), most)
        reach("wishing")
        with progress(waiting, f"delivering to {owner}") as update:

            def done() -> bool:
                update(waiting - inbox.count(owner, ripe_at=int(time.time())))
                return inbox.granted(number) is not None

            try:
                with sole_user(config.db_file) as recorder:
                    _in_its_place(config, inbox, done, recorder)
            except InUse:
                _through_daemon(inbox, owner, done)
        return _outcome(inbox, owner, waiting, most, inbox.granted(number) or {})


def _in_its_place(config: Config, inbox: Inbox, done: Callable[[], bool], recorder: Recorder) -> None:
    """Be the daemon for as long as it takes, on free ports and with the way out that the last one had."""
    changes: dict[str, Any] = {"bind": tuple(one.rpartition(":")[0] + ":0" for one in config.bind)}
    if config.outbound_proxy is None:
        changes["outbound_proxy"] = inbox.daemon().get("outbound_proxy")
    daemon = Daemon(config.model_copy(update=changes), serving=False, recorder=recorder)
    try:
        daemon.work_until(done)
    finally:
        daemon.close()


def _through_daemon(inbox: Inbox, owner: Aor, done: Callable[[], bool]) -> None:
    left, deadline = inbox.count(owner), time.monotonic() + PATIENCE
    while not done():
        if inbox.count(owner) != left:
            left, deadline = inbox.count(owner), time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise MsiloError(f"the daemon made no progress for {PATIENCE:.0f} s; `msilo-lite status` tells more")
        time.sleep(POLL)


def _outcome(inbox: Inbox, owner: Aor, waiting: int, most: int, result: dict[str, Any]) -> Delivery:
    """What the daemon says it delivered; what left the box in another way is named, not counted."""
    left = inbox.count(owner, ripe_at=int(time.time()))
    delivered = min(int(result.get("delivered", 0)), max(0, waiting - left))  # what came back is not delivered
    gone = waiting - delivered - left
    words = []
    if left and not (most and delivered >= most):
        first = next(inbox.waiting(owner), None)
        reason = result.get("reason") or (first.reason if first else None) or "it is not reachable"
        words.append(f"{left} stay{'s' if left == 1 else ''}: {reason}")
    if gone > 0:
        words.append(f"{gone} left the box in another way; `msilo-lite list --all` tells")
    return Delivery(waiting, delivered, "; ".join(words))
