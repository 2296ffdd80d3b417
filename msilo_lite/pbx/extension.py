"""The silo as an extension of a PBX: it registers like a phone (RFC 3261 10.2). Pure: it sends nothing itself."""

from __future__ import annotations

from collections.abc import Callable

from ..box.policy import PBX_BACKOFF, delta_seconds
from ..errors import BadRequest
from ..sip.address import parse_address
from ..sip.response import response_headers, retry_after
from ..sip.wire import CSEQ_STEP, Answer, Outgoing

FIRST_TOKEN = 2**42
"Tokens of REGISTERs; nothing else has larger ones."
REFUSED_PAUSE = 300
"Seconds until the next try after a refusal: a password may have been mended."
NOT_TRIED = "not tried yet"
LONGEST = 86400
"Seconds of a Retry-After or of a registration that are believed."
PATIENCE = 40
"Seconds after which a REGISTER that was never answered is given up: PJSIP needs 32."


class Extension:
    """One registration at one registrar."""

    def __init__(
        self, registrar: str, aor: str, contact: str, routes: tuple[str, ...], expires: int, fresh: Callable[[], str]
    ) -> None:
        """`registrar` and `aor`: SIP URIs; `contact`: where we listen; `expires`: seconds; `fresh`: random text."""
        self._registrar, self._aor, self._contact, self._routes = registrar, aor, contact, routes
        self._asked_expires = expires
        self._call_id, self._tag, self._cseq, self._token = f"{fresh()}@msilo-lite", fresh(), 0, FIRST_TOKEN
        self._due = self._since = 0.0
        "When the next REGISTER goes, and when that was decided: a clock before that was set back."
        self._under_way = 0.0
        "When the REGISTER that is not answered yet was sent; 0: none."
        self._failures = 0
        self.until = 0.0
        "UTC second until which we are registered; 0: we are not."
        self.words = NOT_TRIED
        "The state, for a person."

    @property
    def token(self) -> int:
        """The token of the last REGISTER."""
        return self._token

    def tick(self, now: float) -> Outgoing | None:
        """The REGISTER to send now, or None."""
        if self._under_way and 0 <= now - self._under_way < PATIENCE:
            return None
        if self._since <= now < self._due:
            return None
        self._under_way = now
        if self.words == NOT_TRIED:
            self.words = "asked, no answer yet"
        return self._request(self._asked_expires)

    def leave(self) -> Outgoing | None:
        """The REGISTER that ends the registration, where there is one."""
        return self._request(0) if self.until else None

    def _request(self, expires: int) -> Outgoing:
        self._cseq += CSEQ_STEP
        self._token += 1
        headers = ((b"Contact", f"<{self._contact}>".encode()), (b"Expires", str(expires).encode()))
        who = f"<{self._aor}>"
        return Outgoing(
            self._registrar, who, who, self._call_id, headers, b"", b"", self._routes,
            method="REGISTER", cseq=self._cseq, from_tag=self._tag,
        )  # fmt: skip

    def answered(self, answer: Answer, now: float) -> None:
        """The registrar answered, or nobody did."""
        self._under_way = 0.0
        if 200 <= answer.code < 300:
            seconds = self._granted(answer)
            self._failures, self.until = 0, now + seconds
            self._wait(now, max(seconds * 0.6, 10))
            self.words = f"registered as {self._aor}"
            return
        if answer.code == 423:  # RFC 3261 10.2.8: too brief
            least = delta_seconds(next(iter(response_headers(answer, "min-expires")), None)) or 0
            if self._asked_expires < least <= 86400:
                self._asked_expires = least
                self._wait(now, 0)
                return
        refused = answer.code in (401, 403, 404, 407) and not answer.local
        pause = REFUSED_PAUSE if refused else PBX_BACKOFF[min(self._failures, len(PBX_BACKOFF) - 1)]
        self._failures += 1
        self._wait(now, max(pause, min(retry_after(answer) or 0, LONGEST)))
        self.until = self.until if now < self.until else 0.0
        said = "no answer" if answer.local else f"{answer.code} {answer.reason}"
        hint = "; is the password right?" if refused and answer.code in (401, 403, 407) else ""
        self.words = f"not registered: {said}{hint}"

    def _wait(self, now: float, seconds: float) -> None:
        self._since, self._due = now, now + min(seconds, LONGEST)

    def _granted(self, answer: Answer) -> int:
        """Seconds that the registrar gives our Contact (RFC 3261 10.3 step 8)."""
        for value in response_headers(answer, "contact"):
            try:
                one = parse_address(value)
            except BadRequest:
                continue
            if one.uri == self._contact and (seconds := delta_seconds(one.get("expires"))):
                return seconds
        return delta_seconds(next(iter(response_headers(answer, "expires")), None)) or self._asked_expires
