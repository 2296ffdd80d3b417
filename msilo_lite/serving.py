"""`serve`: the lock, the logging, the signals and the first words, around the daemon."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from types import FrameType

from .box.lock import sole_user
from .cli.views import serving
from .daemon import Daemon
from .seeing.logs import begin, logger
from .settings.sources import Loaded

log = logger(__name__)


def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT. Raises InUse, SipError or StoreError when it cannot start."""
    config = loaded.config
    begin(config.log_level, config.log_format)
    with sole_user(config.db_file):
        daemon = Daemon(config)
        _obey_signals(daemon)
        try:
            _announce(daemon, loaded)
            log.info("daemon.ready", listening=[str(one) for one in daemon.listening], pid=os.getpid())
            daemon.run()
            log.info("daemon.stopped")
        finally:
            daemon.close()


def _obey_signals(daemon: Daemon) -> None:
    """The first signal asks for an orderly end, the second ends at once; what is on disk is safe either way."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if daemon.stopping:
            os._exit(128 + number)  # an exception could surface inside a callback of PJSIP and be lost there
        daemon.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _announce(daemon: Daemon, loaded: Loaded) -> None:
    config = loaded.config
    details = {
        "trusts": ", ".join(config.trusted),
        "domains": ", ".join(config.domain) or "every host counts",
        "way out": config.outbound_proxy or "straight to the Contact that registered last",
        "settings": str(loaded.file) if loaded.file else "defaults (no configuration file)",
    }
    if daemon.monitor.url:
        details["health"] = f"{daemon.monitor.url}/readyz, metrics at /metrics"
    if daemon.foreign:
        details["table"] = (
            f"{config.db_table}, which Kamailio made; the file is in WAL mode now, Kamailio can use it too"
        )
    started = "python -m msilo_lite" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    me = "msilo-lite" if shutil.which("msilo-lite") else started
    steps = (
        f"{me} demo    see it work without a PBX",
        f"{me} list    what waits, and why",
        f"{me} init --pbx KIND    what your PBX needs, to send it messages",
    )
    serving([str(one) for one in daemon.listening], str(config.db_file), details, steps)
