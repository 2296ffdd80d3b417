"""`check`: what may be wrong with this installation, each finding with what to do about it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import datetime
from pathlib import Path
from typing import Any

from ..box.inbox import Inbox
from ..box.lock import is_served
from ..errors import ConfigError, MsiloError, NotFound, NotOurs, StoreError
from ..settings.config import Config
from ..settings.sources import Loaded
from .online import Round, online
from .verdicts import FINE, WARNING, WRONG, Finding


def findings(loaded: Loaded, round_: Round | None = None) -> Iterator[Finding]:
    """Everything worth saying, in the order of a message's way; `round_`: how to ask the network, None for not."""
    config = loaded.config
    yield Finding(FINE, "settings", str(loaded.file or "defaults, no configuration file"))
    for words in loaded.warnings:
        yield Finding(WARNING, "settings", words)
    yield from _traps(config)
    yield from _access(loaded)
    yield from _certificates(config)
    yield from _database(config)
    if round_:
        yield from online(config, round_)


def round_with(
    doing: Callable[[str], AbstractContextManager[Any]],
    loop: str | None,
    caller: str | None,
    password_file: Path | None,
    *,
    offline: bool,
) -> Round | None:
    """How the network is asked; None for `offline`. Raises ConfigError for options that do not go together."""
    if offline and loop:
        raise ConfigError("--loop asks the PBX, and --offline leaves it alone; take one of them")
    if (caller or password_file) and not loop:
        raise ConfigError("--as and --as-password-file say who sends the message of --loop USER, which is missing")
    password = None
    if password_file:
        try:
            password = password_file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--as-password-file {password_file} cannot be read: {error}") from error
    user = loop.removeprefix("sip:").partition("@")[0] if loop else None
    return None if offline else Round(doing, user, caller, password)


def _traps(config: Config) -> Iterator[Finding]:
    """Defaults and combinations of msilo's that do not do what one may think."""
    if config.add_date:
        zone = datetime.fromtimestamp(time.time()).astimezone().tzname()
        words = f"texts are changed: their first words tell when they were written, in this machine's time ({zone}), "
        yield Finding(WARNING, "add_date", words + "and no zone is named; add_date = 0 leaves them as they came")
    if config.snd_time_avp and not config.send_time:
        yield Finding(WRONG, "send_time", "0: requests with a send time are refused (400); set it to 10, say")
    if bool(config.from_address) != bool(config.offline_message):
        missing = "offline_message" if config.from_address else "from_address"
        yield Finding(WARNING, missing, "is not set, so no notices are sent")
    if config.add_contact:
        yield Finding(WARNING, "add_contact", "RFC 3428 4 forbids a Contact in a MESSAGE; some phones refuse it")
    if config.skip_notification_flag >= 0 and not any(peer.control for peer in config.peer):
        words = "no peer has control = true, so nobody can set a flag in X-MSilo-Flags"
        yield Finding(WARNING, "skip_notification_flag", words)


def _access(loaded: Loaded) -> Iterator[Finding]:
    """Who may come in, and how much of it is taken."""
    config = loaded.config
    limits = (config.max_messages, config.max_bytes, config.max_total_messages, config.max_total_bytes, config.min_free)
    if not any(limits):
        yield Finding(WARNING, "min_free", "no limit is set: anybody who may write to a user can fill the disk")
    if not config.has_accounts:
        return
    try:
        accounts = config.accounts()
        for name in accounts:
            config.aor_of_account(name)
        algorithms = config.algorithms(accounts)
    except ConfigError as error:
        yield Finding(WRONG, "accounts", str(error))
        return
    if loaded.file and config.account and loaded.file.stat().st_mode & 0o077:
        words = f"{loaded.file} holds passwords and can be read by others; chmod 600 {loaded.file}"
        yield Finding(WARNING, "accounts", words)
    yield Finding(FINE, "accounts", f"{len(accounts)} in the realm {config.realm_of_accounts}")
    if "SHA-256" in config.auth_algorithms and "SHA-256" not in algorithms:
        words = "one of them has no SHA-256, so all are asked for MD5; `msilo-lite account set NAME` makes both"
        yield Finding(WARNING, "accounts", words)


def _certificates(config: Config) -> Iterator[Finding]:
    """Whether TLS could begin, with files that this user may not be able to read."""
    files = config.door.tls
    if not files.named:
        return
    from ..sip.certificates import load  # ssl is slow to come, and seldom needed here

    try:
        load(files)
    except ConfigError as error:
        yield Finding(WRONG, "tls", str(error))
    else:
        yield Finding(FINE, "tls", ", ".join(map(str, files.named)))
    if not files.verify:
        yield Finding(WARNING, "tls_verify", "servers are not checked: anybody on the way can read and change messages")


def _database(config: Config) -> Iterator[Finding]:
    file = config.db_file
    try:
        with closing(Inbox(file, config.names)) as inbox:
            yield from _inside(config, inbox)
    except NotFound:
        yield Finding(*_may_be_made(file))
    except NotOurs as error:
        yield Finding(FINE, "database", f"{error}, which makes them and puts the file into WAL mode")
    except StoreError as error:
        yield Finding(WRONG, "database", f"{error}; `msilo-lite check` again after mending, nothing was changed")
    except MsiloError as error:
        yield Finding(WRONG, "database", str(error))


def _rescued(file: Path) -> Iterator[Finding]:
    """Copies of a file that was taken away under a daemon, which somebody has to decide about."""
    for copy in sorted(file.parent.glob(f"{file.name}.rescued-*")):
        words = (
            f"{copy} holds what was in a file that was taken away while it was served: `msilo-lite export` from it, "
        )
        yield Finding(WARNING, "database", words + "`import` what that gives, then delete it")


def _may_be_made(file: Path) -> tuple[str, str, str]:
    place = next(folder for folder in file.parents if folder.exists())
    if not place.is_dir():
        return WRONG, "database", f"{file} cannot be made: {place} is no folder"
    if os.access(place, os.W_OK | os.X_OK):
        return FINE, "database", f"{file} does not exist yet; `serve` makes it"
    return WRONG, "database", f"{file} cannot be made: {place} is not writable for this user"


def _inside(config: Config, inbox: Inbox) -> Iterator[Finding]:
    file = config.db_file
    problem = inbox.damage()
    if problem:
        words = f"{file} is damaged ({problem}); stop the daemon, keep a copy, then `sqlite3 FILE .recover`"
        yield Finding(WRONG, "database", words)
        return
    unwritable = [part for part in (file, file.parent) if not os.access(part, os.W_OK)]
    if unwritable:
        yield Finding(WRONG, "database", f"{unwritable[0]} is not writable for this user")
    served = "a daemon serves it" if is_served(file) else "no daemon serves it; `msilo-lite serve` does"
    yield Finding(FINE, "database", f"{file}, {inbox.count()} waiting, {served}")
    if inbox.foreign():
        words = "Kamailio made this table. The file is in WAL mode now, which Kamailio can use as well"
        yield Finding(FINE, "table", f"{config.db_table}: {words}")
    yield from _rescued(file)
    gone = inbox.vanished()
    if gone:
        words = f"{gone} left it by another hand: a Kamailio that delivers as well? Take m_dump out of its script, "
        yield Finding(WARNING, "table", words + "or messages arrive twice")
