"""The daemon as a service: it reads its configuration again at SIGHUP, and tells systemd how it is.

Everything happens between two turns of the loop, on the daemon's one thread: a request is served wholly by the old
rules or wholly by the new ones, and systemd hears that we live only while the loop turns and the file can be read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from .daemon import Daemon
from .errors import ConfigError
from .seeing.logs import logger, loudness
from .settings.config import Config
from .settings.sources import Loaded
from .systemd import Notifier

log = logger(__name__)

LOOK = 2.0
"Seconds between two looks at what is to be told, at the most."


class Volume:
    """How much goes to the log."""

    live: ClassVar[frozenset[str]] = frozenset({"log_level"})

    def apply(self, config: Config) -> None:
        """From now on."""
        loudness(config.log_level)


class Service:
    """Stands between the daemon and whoever started it."""

    def __init__(
        self, daemon: Daemon, loaded: Loaded, notifier: Notifier, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock`: seconds that never go back."""
        self._daemon = daemon
        self._loaded = loaded
        self._notifier = notifier
        self._clock = clock
        self._pause = min(LOOK, notifier.watchdog / 3) if notifier.watchdog else LOOK
        self._next = 0.0
        self._told = ""
        self._ending = False
        self.reload_wanted = False
        "Set by the signal handler; obeyed at the end of the turn."
        daemon.parts.append(Volume())

    def begin(self) -> None:
        """Everything is bound and open: who waits for the service may go on."""
        self._told = self._words()
        self._notifier.ready(self._told)

    def between(self) -> None:
        """Called after each turn of the loop."""
        if self._daemon.stopping and not self._ending:
            self._ending = True
            self._told = self._words()
            self._notifier.stopping(self._told)
        if self.reload_wanted and not self._ending:
            self.reload_wanted = False
            self._reload()
        if self._notifier.heard and self._clock() >= self._next:
            self._next = self._clock() + self._pause
            self._tell()

    def _tell(self) -> None:
        if self._notifier.watchdog and self._daemon.works():
            self._notifier.alive()
        words = self._words()
        if words != self._told:
            self._told = words
            self._notifier.status(words)

    def _words(self) -> str:
        """What `systemctl status` shows."""
        doing = "stopping" if self._ending else "serving"
        under_way = f"{self._daemon.in_flight} under way"
        where = " ".join(str(one) for one in self._daemon.listening)
        return "; ".join(filter(None, (f"{doing} {where}", under_way, self._daemon.alarm, self._daemon.configured)))

    def _reload(self) -> None:
        self._notifier.reloading()
        self._daemon.note(self._take_over())
        self._told = self._words()
        self._notifier.ready(self._told)

    def _wanted(self, config: Config) -> Config:
        """The configuration of the file; `bind` as it is in force where the file says the same as at the start.

        After a crash the addresses of the run before stand in its place, so that a port 0 stays what it was.
        """
        same = config.bind == self._loaded.config.bind
        return config.model_copy(update={"bind": self._daemon.binds}) if same else config

    def _take_over(self) -> str:
        """Read everything again; returns what became of it, nothing where all is as the file says."""
        try:
            loaded = self._loaded.reread()
            made = self._daemon.reload(self._wanted(loaded.config))
        except ConfigError as error:
            log.error("configuration.refused", error=str(error), words="the old one stays in force")
            return f"refused, the old one stays in force: {error}"
        for warning in loaded.warnings:
            log.warning("configuration.doubtful", words=warning)
        if made.kept:
            log.warning("configuration.waits", settings=list(made.kept), words="only a restart can take over these")
        log.info("configuration.taken", settings=list(made.taken))
        return f"{', '.join(made.kept)} changed and waits for a restart" if made.kept else ""
