"""The log. Write `log.warning("area.what", field=value)`: a name of EVENTS first, then fields, never a body.

A line is for a person on a terminal and JSON elsewhere; the name is the same in both, and stays. Whoever adds a name
adds it here and to docs/operating.md: a test compares the three. What is logged from warnings on is kept in `RECENT` as
well, for `status`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

import structlog
from structlog.dev import BRIGHT, CYAN, DIM, RESET_ALL, Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, Processor

EVENTS: Mapping[str, str] = {
    "answer.not_sent": "An answer could not be sent to the peer that waits for it.",
    "clock.set": "Somebody set this machine's clock; what waits keeps its life.",
    "configuration.doubtful": "A configuration that was read again has something that may be meant otherwise.",
    "configuration.refused": "A configuration that was read again has a mistake; the old one stays in force.",
    "configuration.taken": "The configuration was read again; `settings` names what is different now.",
    "configuration.waits": "The configuration was read again; `settings` names what waits for a restart.",
    "daemon.ready": "It listens; `listening` names the addresses.",
    "daemon.stopped": "It has ended in good order.",
    "daemon.stopping": "A signal came; it waits for the answers that are due.",
    "door.broken": "Something failed inside the TCP and TLS door; `where` names it. A fault to report.",
    "door.failed": "The TCP and TLS door has ended; UDP goes on. A fault to report.",
    "door.few_descriptors": "The system lets us open too few files for `tcp_clients`.",
    "door.full": "A TCP or TLS connection could not be taken.",
    "file.back": "The database is at its path again.",
    "file.lost": "The database is not at its path any more; `copy` names where its content is now.",
    "holds.changed": "`hold` or `unhold` was used; `holds` names what is held now.",
    "hook.ended": "`store_hook` took too long and was ended.",
    "hook.not_started": "`store_hook` cannot be started.",
    "message.broken": "A replay failed inside the silo: this message stays, the others go on. A fault to report.",
    "message.delivered": "The phone has it.",
    "message.ended": "It left the box in another way; `state` names it.",
    "message.missed": "An attempt failed, and another one follows.",
    "message.not_sent": "A replay could not even leave.",
    "message.put_aside": "It is parked, or handed over unconfirmed; `state` names it.",
    "message.stored": "A new message is on disk.",
    "messages.parked": "Messages that were under way at a crash are parked; `count` says how many.",
    "notice.broken": "The notice to a sender failed inside the silo. A fault to report.",
    "notice.failed": "The notice to a sender was not taken.",
    "notice.impossible": "The notice to a sender cannot be written.",
    "pbx.not_registered": "The PBX does not take our registration.",
    "pbx.registered": "The PBX has taken our registration.",
    "pjsip.said": "A line of the SIP stack's own log, its first line only.",
    "reminders.late": "Reminders fell due while nobody looked; they go out now.",
    "request.broken": "A request failed inside the silo and was answered 500. A fault to report.",
    "request.challenged": "A request was asked for a password.",
    "request.malformed": "A datagram that the SIP stack cannot parse was dropped.",
    "request.refused": "A request got another answer than success.",
    "run.interrupted": "The run before this one did not end in good order; `words` tells how.",
    "store.failed": "The database could not be read or written.",
    "systemd.deaf": "systemd could not be told.",
    "tls.not_taken": "New certificates are no good; the old ones stay.",
    "tls.refused": "A TLS handshake with a client failed.",
    "tls.renewed": "New certificates are in use.",
    "transaction.broken": "The end of a transaction failed inside the silo. A fault to report.",
    "user.woken": "A user with mail was seen, or is tried again; `by` says by what.",
    "web.failed": "A request for health or metrics failed.",
}
"Every event that a line of this package can have, and what it means."
KEPT = 20
"Warnings and errors that are kept for `status`."


class Recent(logging.Handler):
    """The last warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.number = 0
        "How many there were."
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def resume(self, earlier: Iterable[dict[str, Any]]) -> None:
        """Go on where an earlier process ended, unless this one has said something already."""
        if not self.lines:
            self.lines.extend(earlier)
            self.number = self.lines[-1]["of"] if self.lines else self.number

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        said = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        skipped = ("event", "level", "logger", "time", "exc_info", "exception")
        words = " ".join(f"{key}={shown(value)}" for key, value in said.items() if key not in skipped)
        self.number += 1
        self.lines.append(
            {
                "of": self.number,
                "at": round(record.created, 3),
                "level": record.levelname.lower(),
                "event": str(said["event"]),
                "words": words,
            }
        )


RECENT = Recent()


def logger(name: str) -> BoundLogger:
    """The logger of a module, which gives its own name."""
    found: BoundLogger = structlog.stdlib.get_logger(name)
    return found


def is_logged() -> bool:
    """Whether lines of level info are wanted: those about single messages are not even made otherwise."""
    return logging.root.isEnabledFor(logging.INFO)


def begin(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (stderr): `form` is auto, human or json; auto is human on a terminal."""
    to = stream or sys.stderr
    human = form == "human" or (form == "auto" and to.isatty())
    last: list[Processor] = _human(colours=to.isatty()) if human else _machine()
    handler = logging.StreamHandler(to)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):  # an earlier call's
        if isinstance(old, Recent) or isinstance(old.formatter, ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.addHandler(RECENT)
    loudness(level)


def loudness(level: str) -> None:
    """From now on, log from this level on."""
    logging.getLogger().setLevel(level.upper())


def _machine() -> list[Processor]:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
    return [stamp, structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer(_dumped)]


def _in_order(_logger: object, _method: str, said: EventDict) -> EventDict:
    """Time, level and event first: that is what the eye looks for."""
    return {**{key: said[key] for key in ("time", "level", "event") if key in said}, **said}


def _dumped(value: Any, **_: Any) -> str:
    return json.dumps(value, default=str)


def _human(*, colours: bool) -> list[Processor]:
    stamp = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False, key="time")
    dim, bright, cyan, reset = (DIM, BRIGHT, CYAN, RESET_ALL) if colours else ("", "", "", "")

    def column(style: str, repr_: Callable[[object], str], key_style: str | None = None) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(key_style, style, reset, repr_)

    columns = [
        Column("time", column(dim, str)),
        Column("level", column("", str)),
        Column("event", column(bright, shown)),
        Column("", column("", shown, cyan)),
    ]
    return [stamp, ConsoleRenderer(columns=columns, exception_formatter=structlog.dev.plain_traceback)]


def shown(value: object) -> str:
    """A value on one line; text with blanks in quotes, control characters of a stranger as escapes."""
    text = str(value)
    return text if text.isprintable() and text and not set(text) & set(" '\"=") else repr(text)


structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
