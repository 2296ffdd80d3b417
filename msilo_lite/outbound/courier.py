"""After a message is on disk and answered: its sender is told, the operator's command runs. Neither is repeated."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import SipError
from ..reception import Stored
from ..seeing.logs import logger
from ..sip.address import named_in
from ..sip.asker import Asker
from ..sip.wire import Answer, Outgoing
from .hook import Hook

log = logger(__name__)

FIRST_TOKEN = 2**40
"Tokens above are those of notices; replays have smaller ones."
AT_ONCE = 64
"Notices under way at the most; further ones are not sent."


class Courier:
    """Sends notices and counts how they ended."""

    def __init__(self, asker: Asker, hook: Hook, count: Callable[[str], None]) -> None:
        self._asker = asker
        self._hook = hook
        self._count = count
        self._token = FIRST_TOKEN
        self._under_way: dict[int, Outgoing] = {}

    def stored(self, stored: list[Stored]) -> None:
        """These messages were new."""
        for message, notice in stored:
            self._hook.stored(message)
            if notice is not None:
                self._tell(notice)

    def _tell(self, notice: Outgoing) -> None:
        if len(self._under_way) >= AT_ONCE:
            self._count("failed_notices")
            return
        self._token += 1
        self._under_way[self._token] = notice
        try:
            self._asker.send(self._token, notice)
        except SipError as error:
            self.ended(self._token, Answer(503, str(error), local=True))
        except Exception as error:  # our fault: the message is safe, only its notice is not
            log.exception("notice.broken")
            self.ended(self._token, Answer(500, type(error).__name__, local=True))

    def ended(self, token: int, answer: Answer) -> bool:
        """The end of a request; whether it was a notice."""
        if token <= FIRST_TOKEN:
            return False
        notice = self._under_way.pop(token, None)
        if notice is not None:
            done = 200 <= answer.code < 300
            self._count("sent_notices" if done else "failed_notices")
            if not done:
                log.info("notice.failed", to=named_in(notice.target), code=answer.code, reason=answer.reason)
        return True
