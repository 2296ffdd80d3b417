"""`serve`: the lock, the logging, the signals and the first words, around the daemon."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
from types import FrameType

from .box.lock import sole_user
from .cli.views import serving
from .daemon import Daemon
from .errors import SipError
from .leash import Leash
from .seeing.logs import begin, logger
from .service import Service
from .settings.sources import Loaded
from .systemd import Notifier

DESCRIPTORS = 64
"Open files that are enough for a silo with its sockets, its database and a hook."

log = logger(__name__)


def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT. Raises InUse, SipError or StoreError when it cannot start."""
    config, leash = loaded.config, Leash()
    notifier = Notifier()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to read again yet
    begin(config.log_level, config.log_format)
    _need_descriptors()
    with sole_user(config.db_file) as recorder:
        recorder.arm()
        daemon = Daemon(config.model_copy(update={"bind": leash.again(config.bind)}), recorder=recorder)
        service = Service(daemon, loaded, notifier)
        _obey_signals(daemon, service)
        try:
            _announce(daemon, loaded)
            leash.ready([str(one) for one in daemon.listening])
            service.begin()
            gc.freeze()  # what is there now stays: the collector need not look at it again
            log.info("daemon.ready", listening=[str(one) for one in daemon.listening], pid=os.getpid())
            daemon.run(service.between)
            log.info("daemon.stopped")
        finally:
            daemon.close()


def _need_descriptors() -> None:
    """Raises SipError where the system lets us open too little: PJSIP would end the process later on."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < DESCRIPTORS:
        raise SipError(f"only {most} files may be open at once, and {DESCRIPTORS} are needed: `ulimit -n` raises that")


def _obey_signals(daemon: Daemon, service: Service) -> None:
    """The first signal asks for an orderly end, the second ends at once; what is on disk is safe either way.

    SIGHUP has the configuration read again, unless it says that the terminal we run on was closed.
    """
    on_terminal = sys.stdin is not None and sys.stdin.isatty()

    def stop(number: int, _frame: FrameType | None) -> None:
        if daemon.stopping:
            os._exit(128 + number)  # an exception could surface inside a callback of PJSIP and be lost there
        daemon.stopping = True

    def hang_up(number: int, frame: FrameType | None) -> None:
        if on_terminal and not _has_terminal():
            stop(number, frame)
        else:
            service.reload_wanted = True

    signal.signal(signal.SIGHUP, hang_up)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _has_terminal() -> bool:
    """Whether the terminal on standard input is still there."""
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except OSError:
        return False
    return True


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
