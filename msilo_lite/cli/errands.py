"""What the commands do that write messages: one function each, from a configuration to what happened."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..api import SLACK, Box
from ..box.due import zone_of
from ..box.inbox import Inbox
from ..box.schema import Names
from ..box.store import Store
from ..daemon import USER_AGENT
from ..errors import BadRequest, ConfigError, MsiloError
from ..outbound.bindings import USUAL_CONTACT
from ..settings.config import Config
from ..settings.terms import dress_of
from ..sip.address import Aor
from .choice import Choice
from .deeds import Progress, selected
from .transfer import Fit, Moved, exported, imported
from .words import when as in_words


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as a person gives it."""

    owner: str
    body: bytes
    src: str
    "From; empty: the owner himself."
    to: str
    dst: str
    "m_store_addrs: where it goes; empty: m_store."
    ctype: str
    headers: tuple[str, ...]
    "`Name: value` each."
    due: int = 0
    "UTC seconds; 0: no reminder."


def put(config: Config, letter: Letter) -> str:
    """Store it; returns the owner's AoR. Raises BadRequest for what no request could carry, and StoreError."""
    headers = [_header(line) for line in letter.headers]
    owner = _at_home(config, letter.owner)
    src = letter.src or f"sip:{Aor.parse(owner)}"
    src = f"sip:{src}" if "@" in src and ":" not in src else src
    dress = dress_of(config, USER_AGENT)
    room = 0 if config.outbound_proxy else USUAL_CONTACT
    with Box(
        config.db_file, names=config.names, expire_time=config.expire_time, dress=dress, room=room,
        max_messages=config.max_messages, caps=config.caps, min_free=config.min_free,
    ) as box:  # fmt: skip
        if letter.dst:
            return box.m_store_addrs(
                letter.body, owner=owner, srcaddr=src, dstaddr=letter.dst, ctype=letter.ctype, headers=headers,
                due=letter.due,
            )  # fmt: skip
        return box.m_store(
            letter.body, from_=src, owner=owner, to=letter.to, ctype=letter.ctype, headers=headers, due=letter.due
        )


def _at_home(config: Config, owner: str) -> str:
    """A user without a host is one of the first domain; raises ConfigError for one of a domain that is not ours."""
    whole = owner if "@" in owner or not config.domain else f"{owner}@{config.domain[0]}"
    host = Aor.parse(whole).host
    if config.domain and host not in config.domain:
        raise ConfigError(f"{host} is not a domain of ours ({', '.join(config.domain)}); nobody would ever fetch it")
    return whole


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise BadRequest(400, f"{line!r} is not of the form 'Name: value'")
    return name.strip(), value.strip()


def when(text: str, zone: str) -> int:
    """The UTC second that a person means. Raises ConfigError for words that name none."""
    now = int(time.time())
    try:
        due = in_words(text, now, zone_of(zone))
    except ValueError as error:
        raise ConfigError(f"--at: {error}") from error
    if due < now - SLACK:
        raise ConfigError(f"--at: {text!r} is already over")
    return due


def exported_to(config: Config, choice: Choice, output: Path | None, progress: Progress) -> int:
    """Write what waits as JSON Lines to a new file of this user alone, or to standard output; returns how many."""
    wanted = None if choice.coarse and choice.before is None else selected(config, [], choice)
    with closing(Inbox(config.db_file, config.names)) as inbox:
        total = inbox.count(choice.owner) if wanted is None else len(wanted)
    try:
        number = 1 if output is None else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{output} exists already; name another file") from None
    except OSError as error:
        raise MsiloError(f"cannot write {output}: {error.strerror}") from error
    try:
        return _export(config, choice, wanted, number, total, progress)
    except BrokenPipeError:
        raise
    except OSError as error:
        if output is not None:
            output.unlink()  # half a file would look like a whole one
        raise MsiloError(f"cannot write {output or 'the output'}: {error.strerror}") from error


def _export(
    config: Config, choice: Choice, wanted: list[int] | None, number: int, total: int, progress: Progress
) -> int:
    """Write the lines to an open file, which is closed unless it is standard output; returns how many."""
    count = 0
    sys.stdout.flush()
    with (
        open(number, "w", encoding="utf-8", closefd=number != 1) as file,
        progress(total, "exporting") as update,
    ):
        for count, record in enumerate(exported(config.db_file, config.names, choice.owner, wanted), 1):
            file.write(json.dumps(record) + "\n")
            update(count)
    return count


def import_from(config: Config, source: Path, columns: list[str], progress: Progress) -> Moved:
    """Take over messages; `columns` say what a Kamailio calls its table. Raises MsiloError and StoreError."""
    if source.resolve() == config.db_file.resolve():
        raise ConfigError(f"{source} is the file of this silo itself; `serve` uses a Kamailio's file where it is")
    dress = dress_of(config, USER_AGENT)
    with closing(Store(config.db_file, config.names)) as store, progress(None, "importing") as update:
        room = 0 if config.outbound_proxy else USUAL_CONTACT
        return imported(source, store, Fit(dress, room, config.expire_time), int(time.time()), _names(columns), update)


def _names(columns: list[str]) -> Names:
    chosen = dict(item.partition("=")[::2] for item in columns)
    unknown = [name for name, value in chosen.items() if name not in Names.__slots__ or not value]
    if unknown:
        raise ConfigError(f"--column {unknown[0]}: write db_table=NAME or one of the sc_... settings")
    names = Names(**chosen)
    found = [getattr(names, name) for name in Names.__slots__ if name != "db_table"]
    if len(set(found)) != len(found):
        raise ConfigError("--column: two of them name the same column")
    return names
