"""The side of the daemon that whoever runs it sees: how it is, and another configuration between two turns."""

from __future__ import annotations

import json
import os
from typing import ClassVar

from . import __version__
from .box.store import Store
from .errors import StoreError
from .outbound.replay import Replay
from .pbx.liaison import Liaison
from .rules import Part, apply_all, live
from .seeing.logs import logger
from .seeing.monitor import Monitor
from .settings.change import Change, change
from .settings.config import Config
from .sip.address import Endpoint
from .sip.agent import Agent

log = logger(__name__)


class Governed:
    """What the daemon inherits; its own constructor sets the attributes."""

    live: ClassVar[frozenset[str]] = frozenset({"trusted"})
    "Settings of its own that can change while it serves: `status` shows them; those of the parts come on top."
    parts: list[Part]
    "What takes over a configuration that was read again."
    configured = ""
    "What is to be said of the configuration that was read last; nothing where all of it is in force."
    agent: Agent
    monitor: Monitor
    _config: Config
    _store: Store
    _replay: Replay
    _liaison: Liaison
    _started: int
    _told = ""

    @property
    def foreign(self) -> bool:
        """Whether Kamailio made the table that this works on."""
        return self._store.foreign

    @property
    def listening(self) -> tuple[Endpoint, ...]:
        """The bound addresses, in the order of `bind`."""
        return self.agent.listening

    def _tell(self) -> None:
        """Leave word of ourselves in the file, for `status`, where it has changed. Raises StoreError."""
        facts = {
            "started": self._started,
            "alarm": self._replay.alarm,
            "pid": os.getpid(),
            "version": __version__,
            "listening": [str(one) for one in self.listening],
            "trusted": list(self._config.trusted),
            "outbound_proxy": self._config.outbound_proxy,
            "http": self.monitor.url,
            **({"streams": streams} if (streams := self.agent.facts()) else {}),
            "configuration": self.configured,
            **self._liaison.facts(),
        }
        words = json.dumps(facts)
        if words != self._told:
            self._store.tell("daemon", words)
            self._told = words

    @property
    def in_flight(self) -> int:
        """Replays that wait for their answer."""
        return self._replay.in_flight

    @property
    def alarm(self) -> str:
        """What the operator has to mend, in words; nothing where all is well."""
        return self._replay.alarm

    @property
    def binds(self) -> tuple[str, ...]:
        """The addresses it was told to listen on."""
        return self._config.bind

    def works(self) -> bool:
        """Whether the file can be read: without it the loop turns in vain."""
        try:
            return self._store.data_version() >= 0
        except StoreError as error:
            log.error("store.failed", error=str(error))
            return False

    def reload(self, wanted: Config) -> Change:
        """Work by another configuration from the next turn on, but for what only a restart can take over.

        Raises ConfigError where that cannot be; nothing has changed then.
        """
        made = change(self._config, wanted, live(self.parts))
        apply_all(self.parts, self._config, made.config)
        return made

    def apply(self, config: Config) -> None:
        """Its own share of it: what it says of itself."""
        self._config = config

    def note(self, words: str) -> None:
        """What `status` is to say of the configuration that was read last."""
        self.configured = words
        try:
            self._tell()
        except StoreError as error:
            log.error("store.failed", error=str(error))
