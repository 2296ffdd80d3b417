"""What each request means and what it is answered: MESSAGE stores, REGISTER wakes, OPTIONS says that we live.

A reply that promises something waits for the commit. Nothing is sent from here; what is to be told after the commit is
kept until `stored` asks for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, NamedTuple

from .box.message import Message
from .box.policy import retry_at
from .box.silo import Silo, Source
from .errors import BadRequest, Rejected, StoreError
from .gatekeeper import Gatekeeper
from .outbound.bindings import Bindings
from .outbound.notice import MARK, Notices
from .outbound.replay import Replay
from .outbound.scheduler import Scheduler
from .pbx.echoes import Echo, Echoes
from .pbx.registration import Registration, judge
from .seeing.logs import logger
from .settings.config import Config
from .settings.control import OWN_ID, Orders, obeyed, orders_of
from .settings.pseudo import Subject
from .settings.terms import extra_lines, extra_of, wording_of
from .sip import wire
from .sip.address import Aor, named_in
from .sip.agent import ALLOW
from .sip.wire import Incoming, Outgoing, Request

log = logger(__name__)

Headers = tuple[tuple[str, str], ...]
SECOND_CHANCE = "it came while its owner was registered"


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Headers = ()
    durable: bool = False
    "Whether it promises something that has to be on disk first."


class Stored(NamedTuple):
    """A message that was new, and what its sender is told."""

    message: Message
    notice: Outgoing | None


class Reception:
    """The front desk: one call for each request."""

    live: ClassVar[frozenset[str]] = frozenset({
        "contact_hdr", "content_type_hdr", "from_address", "notice_interval", "offline_message", "peer", "settle",
        "skip_notification_flag", "store_hook", "use_contact",
    })  # fmt: skip
    "Settings that can change while we serve."

    def __init__(
        self,
        config: Config,
        silo: Silo,
        bindings: Bindings,
        replay: Replay,
        scheduler: Scheduler,
        notified: Callable[[Request, float], tuple[int, Aor | None]],
        gate: Gatekeeper,
    ) -> None:
        """`notified` takes a NOTIFY and tells the status it gets, and who is to be woken."""
        self._config = config
        self._gate = gate
        self._notified = notified
        self._silo = silo
        self._bindings = bindings
        self._replay = replay
        self._scheduler = scheduler
        self._extra = extra_of(config)
        self._notices = Notices(wording_of(config), bindings, config.outbound_proxy)
        self._staged: list[Stored] = []
        self.echoes = Echoes()
        "What `check` sends through the PBX."
        self.heard: list[Echo] = []
        "Such messages that came, the last ones."

    def apply(self, config: Config) -> None:
        """Work by this configuration from the next request on."""
        self._config = config
        self._notices.word(wording_of(config))

    def stored(self, fresh: frozenset[bytes]) -> list[Stored]:
        """What was new in the turn that ended, each once; `fresh`: keys of what was stored."""
        staged, self._staged = {one.message.key: one for one in reversed(self._staged)}, []
        return [self._last_look(one) for key, one in reversed(staged.items()) if key in fresh]

    def _last_look(self, one: Stored) -> Stored:
        """Its notice leaves unless an earlier message of the same turn has told the sender."""
        mark = dict(one.notice.headers)[b"X-MSilo-ID"].decode() if one.notice else ""
        return one if not one.notice or self._notices.leaves(one.message, mark) else Stored(one.message, None)

    def take(self, incoming: Incoming, request: Request, now: float) -> Reply:
        """Decide one request. Raises Refused with the answer it gets, and StoreError."""
        request, source = self._gate.admit(incoming, request, now)
        if request.method == "MESSAGE":
            return self._message(request, source, now)
        if request.method == "REGISTER":
            return self._register(request, source, now)
        if request.method == "NOTIFY":
            return self._notify(request, now)
        return self._options(request, source, now)

    def _message(self, request: Request, source: Source, now: float) -> Reply:
        if echo := self.echoes.take(request, source.host, now):
            self.heard.append(echo)
            return Reply(200)
        if self._notices.returned(request):
            self._silo.turn.count("returned_messages")
            raise Rejected(480, "our own notice, its recipient is away")
        own_id = request.get(OWN_ID)
        if own_id and (owner := self._silo.owner_by(request)):
            self._replay.returned(own_id, owner, int(now))
        message = self._silo.accept(request, int(now), source)
        if message is None:
            return Reply(200)
        if self._config.offline_message or self._config.store_hook:
            self._staged.append(Stored(message, self._notice(message, request, source, now)))
        if not message.due:
            self.may_be_reached(message.owner, now)
        elif message.due <= now:  # the look for due reminders has passed it already
            self._replay.expect(message.owner, int(now), "a reminder is due")
        return Reply(202, durable=True)

    def may_be_reached(self, owner: Aor, now: float) -> None:
        """A message came for somebody who is registered: the PBX may have been a moment too early, or too late.

        Through a proxy we may never hear of a REGISTER, so that time alone has to do.
        """
        if self._replay.is_expected(owner):  # a back-off, or a Retry-After, is not cut short
            return
        if self._bindings.newest(owner, now):
            self._replay.expect(owner, retry_at(int(now), 1), SECOND_CHANCE)
        elif self._config.outbound_proxy:
            self._replay.expect(owner, retry_at(int(now), 1), "nobody saw its owner yet")

    def _notice(self, message: Message, request: Request, source: Source, now: float) -> Outgoing | None:
        heard = obeyed(request, control=source.control)
        subject = Subject(heard, source.host, source.port, int(now))
        looped = request.get(OWN_ID) is not None
        mark = f"{MARK}{secrets.token_hex(8)}"
        try:
            return None if looped else self._notices.about(message, subject, orders_of(heard), mark)
        except BadRequest as problem:
            log.info("notice.impossible", to=named_in(message.src), error=str(problem))
            self._silo.turn.count("failed_notices")
            return None

    def _register(self, request: Request, source: Source, now: float) -> Reply:
        wire.check(request)
        request = obeyed(request, control=source.control)
        orders = orders_of(request)
        change = judge(request, self._silo.places.aor, now, orders.owner)
        if self._extra:
            change = self._with_extra(change, Subject(request, source.host, source.port, int(now)))
        durable = self._bindings.apply(change, now, self._silo.turn)
        if change.wakes:
            durable |= self._wake(change.aor, now, "register", orders.most)
        return Reply(200, change.headers, durable)  # a restart must find the binding that this 200 confirms

    def _with_extra(self, change: Registration, subject: Subject) -> Registration:
        """Each Contact remembers what `extra_hdrs` says of the REGISTER that set it."""
        extra = extra_lines(self._extra, subject)
        return replace(change, contacts=tuple(replace(one, extra=extra) for one in change.contacts))

    def _may_have_mail(self, owner: Aor, now: int) -> bool:
        """Whether anything waits; a file that cannot be read now is no reason to lose a wake-up."""
        try:
            return self._silo.has_mail(owner, now)
        except StoreError as error:
            log.error("store.failed", error=str(error))
            return True

    def _notify(self, request: Request, now: float) -> Reply:
        wire.check(request)
        status, owner = self._notified(request, now)
        woken = owner is not None and self._wake(owner, now, "notify", crowd=True)
        return Reply(status, durable=woken)

    def _wake(self, owner: Aor, now: float, source: str, most: int = 0, *, crowd: bool = False) -> bool:
        """A phone is back: deliver after the settle delay; whether there is anything to deliver.

        `source`: by what it was seen; `crowd`: many may be at once.
        """
        if not self._may_have_mail(owner, int(now)):
            return False
        self._silo.turn.woke(owner, source)
        self._scheduler.phone_is_back(owner, now, most, crowd=crowd)
        self._replay.expect(owner, int(now + self._config.settle) + 2)  # should we die before
        return True

    def _options(self, request: Request, source: Source, now: float) -> Reply:
        """We live; from a peer with control, m_dump."""
        wire.check(request)
        orders = orders_of(obeyed(request, control=source.control))
        if orders.owner is not None:
            self._dump(orders, now)
        return Reply(200, (("Allow", ALLOW.decode()), ("Accept", "*/*")))

    def _dump(self, orders: Orders, now: float) -> None:
        owner = self._silo.places.aor(orders.owner or "")
        if owner is None:
            raise BadRequest(404, "X-MSilo-Owner names no user of ours")
        if self._silo.has_mail(owner, int(now)):
            self._silo.turn.woke(owner, "options")
            self._replay.wake(owner, most=orders.most)
