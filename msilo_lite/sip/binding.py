"""pjsua2 itself: how it is loaded, and where its log goes."""

from __future__ import annotations

import logging
from typing import Any

from ..errors import SipError
from ..seeing.logs import logger

log = logger(__name__)


def load_binding() -> tuple[Any, Any]:
    """pjsua2 and its extension module; imported late, because it costs 50 ms and 20 MB."""
    try:
        import pjsua2
        from pjsua2 import _pjsua2
    except ImportError as error:
        raise SipError(
            f"the pjsua2 binding cannot be loaded ({error}); it has wheels for Linux x86_64 and macOS, "
            "elsewhere build PJSIP 2.15.1's own SWIG binding"
        ) from error
    return pjsua2, _pjsua2


def log_writer(pj: Any) -> Any:
    """PJSIP's log into `logging`: the first line only, since what follows may be a whole request with its body."""

    class Writer(pj.LogWriter):  # type: ignore[misc]  # the binding has no types
        def write(self, entry: Any) -> None:
            levels = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO}
            said = entry.msg.partition("\n")[0].strip()
            log.log(levels.get(entry.level, logging.DEBUG), "pjsip.said", words=said)

    return Writer()
