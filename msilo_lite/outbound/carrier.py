"""Performs what the lanes decided: dresses each message and hands it to the edge; a failure to start is an outcome."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ..box.recorder import Recorder
from ..errors import SipError
from ..points import reach
from ..seeing.logs import logger
from ..sip.address import next_hop, next_host
from ..sip.asker import Asker
from .compose import Dress, replay
from .lanes import Send
from .replay import Replay

log = logger(__name__)


class Carrier:
    """Sends replays."""

    def __init__(
        self,
        asker: Asker,
        lanes: Replay,
        dress: Dress,
        trusts: Callable[[str], bool],
        clock: Callable[[], float],
        recorder: Recorder | None,
    ) -> None:
        """`trusts`: whether a host, an address or a name, may see identity claims (RFC 3325 5)."""
        self._asker = asker
        self._lanes = lanes
        self._dress = dress
        self._trusts = trusts
        self._clock = clock
        self._recorder = recorder

    def perform(self, sends: list[Send]) -> None:
        """Send these, and what follows at once from those that could not start."""
        waiting = list(sends)
        while waiting:
            send = waiting.pop(0)
            try:
                self._send(send)
            except SipError as error:
                log.info("message.not_sent", message=send.item.msilo_id, error=str(error))
                waiting += self._lanes.failed(send.token, error, int(self._clock()))
            except Exception as error:  # our fault: this message stays, the others go
                log.exception("message.broken", message=send.item.msilo_id)
                wrong = SipError(f"internal error ({type(error).__name__})", permanent=True)
                waiting += self._lanes.failed(send.token, wrong, int(self._clock()))

    def _send(self, send: Send) -> None:
        way = send.way
        host = next_host(next_hop(way.routes[0]) if way.routes else way.target)
        # a Call-ID of its own for each attempt: some agents never answer one that they have answered already
        call_id = f"{secrets.token_hex(12)}@msilo-lite"
        outgoing = replay(
            send.item, way.target, way.routes, self._dress, call_id=call_id, trusted=self._trusts(host),
            now=int(self._clock()), extra=way.extra,
        )  # fmt: skip
        try:
            if self._recorder:  # should PJSIP abort on it, the next run knows which it was
                self._recorder.sending(send.item.ledger_id)
            reach("sending", send.item.msilo_id)
            self._asker.send(send.token, outgoing)
        finally:
            if self._recorder:
                self._recorder.sending(0)
        reach("sent")
