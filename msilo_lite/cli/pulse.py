"""Whether a daemon takes messages, asked of the file alone: for a container's health check and for scripts.

A lock shows that its process lives. That its loop turns and can write is shown by a wish that it grants.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from ..box.inbox import Inbox
from ..box.lock import is_served
from ..errors import MsiloError, NotFound, StoreError
from ..settings.config import Config
from ..sip.address import Aor

NOBODY = Aor("health", "localhost")
"Whose wish it is: a ping is about no owner."
POLL = 0.05
"Seconds between two looks."


def look(config: Config, wait: float) -> dict[str, Any]:
    """What the daemon says of itself, once it has answered; `wait`: seconds it may take for that.

    Raises MsiloError with the reason when it has not.
    """
    deadline = time.monotonic() + wait
    problem = ""
    while not problem or time.monotonic() < deadline:
        problem = "" if is_served(config.db_file) else f"no daemon serves {config.db_file}"
        if not problem:
            try:
                return _answer(config, deadline)
            except NotFound:  # it has the lock and makes the file
                problem = "the daemon is starting"
            except StoreError as error:  # it takes over a file of an older version, or somebody else holds it
                problem = str(error)
        time.sleep(POLL)
    raise MsiloError(f"{problem}; `msilo-lite serve` starts one" if "no daemon" in problem else problem)


def _answer(config: Config, deadline: float) -> dict[str, Any]:
    with closing(Inbox(config.db_file, config.names)) as inbox:
        number = inbox.ask("ping", NOBODY, int(time.time()))
        while inbox.granted(number) is None:
            if not is_served(config.db_file):
                raise MsiloError("the daemon went away while it was asked")
            if time.monotonic() > deadline:
                raise MsiloError("the daemon holds the file and does not answer; `msilo-lite status` tells more")
            time.sleep(POLL)
        facts = inbox.daemon()
    return {"healthy": True, **{key: facts.get(key) for key in ("pid", "version", "listening", "alarm")}}
