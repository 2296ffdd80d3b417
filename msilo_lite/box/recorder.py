"""The flight recorder: what a silo that died leaves in its lock file for the next one, so that it knows of what.

An orderly end leaves zeros. One that was killed leaves its number; one that crashed leaves in addition where Python
was (faulthandler writes that, also for an assertion inside PJSIP) and which message PJSIP was being handed just then.
No text of any message gets there.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import traceback
from dataclasses import dataclass

SIZE = 256
"Bytes that we write; what follows is faulthandler's."
SENDING, HEARD, END = 32, 64, 192
_FRAME = re.compile(r'File "(?:.*/)?([^"/]+)", line (\d+) in (\S+)')


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the silo before us ended."""

    pid: str = ""
    "Its process; empty where it ended in order, or where there was none."
    fault: str = ""
    "What it died of, in words; empty where somebody else killed it, or the power went."
    sending: int = 0
    "Ledger id of the message that was being handed to PJSIP just then; 0: none was."
    heard: str = ""
    "Where the last request before its end came from."

    @property
    def crashed(self) -> bool:
        """Whether a message may be at fault; a bus error is the disk's, under SQLite's or our own mapped file."""
        return bool(self.fault) and not self.fault.startswith("Bus error")

    def __str__(self) -> str:
        if not self.fault:
            return f"the last run (process {self.pid}) was killed, or the power went"
        doing = f", while it sent message h{self.sending}" if self.sending else ""
        heard = f"; its last request came from {self.heard}" if self.heard else ""
        return f"the last run (process {self.pid}) crashed: {self.fault}{doing}{heard}"


def last_run(raw: bytes) -> LastRun:
    """Read what a silo left behind."""
    pid = _word(raw[:SENDING])
    if not pid.isdigit():
        return LastRun()
    number = _word(raw[SENDING:HEARD])
    told = raw[SIZE:].decode(errors="replace").strip("\0 \n")
    return LastRun(pid, _fault(told), int(number) if number.isdigit() else 0, _word(raw[HEARD:END]))


def _word(raw: bytes) -> str:
    return raw.decode(errors="replace").strip("\0 \n")


def _fault(told: str) -> str:
    """The first line of faulthandler's report, and the innermost frame."""
    if not told:
        return ""
    frame = _FRAME.search(told)
    place = f" in {frame[3]} ({frame[1]}:{frame[2]})" if frame else ""
    return told.splitlines()[0].removeprefix("Fatal Python error: ") + place


class Recorder:
    """The record of this run, in an open file that somebody else closes. Writing to it costs no system call."""

    def __init__(self, number: int) -> None:
        """Raises OSError where the file cannot be written."""
        self.last = last_run(os.pread(number, 1 << 16, 0))
        os.pwrite(number, f"{os.getpid()}\n".encode().ljust(SIZE, b"\0"), 0)  # whole, so that no hole is mapped
        os.ftruncate(number, SIZE)
        os.lseek(number, SIZE, os.SEEK_SET)
        self._number = number
        self._map = mmap.mmap(number, SIZE)
        self._heard = ("", 0)

    def arm(self) -> None:
        """From now on a fatal signal is written down."""
        faulthandler.enable(self._number, all_threads=False)

    def fault(self, error: BaseException) -> None:
        """An error of ours ends the silo; its text may hold anything, so only its kind and place are written down."""
        places = traceback.extract_tb(error.__traceback__)
        frame = f'  File "{places[-1].filename}", line {places[-1].lineno} in {places[-1].name}\n' if places else ""
        os.write(self._number, f"{type(error).__name__}\n{frame}".encode(errors="replace"))

    def sending(self, ledger_id: int) -> None:
        """A message is handed to PJSIP; 0: it is back."""
        self._map[SENDING:HEARD] = b"%-32d" % ledger_id

    def heard(self, host: str, port: int) -> None:
        """A request came."""
        if (host, port) == self._heard:
            return
        self._heard = host, port
        self._map[HEARD:END] = f"{host}:{port}".encode()[: END - HEARD].ljust(END - HEARD)

    def close(self, *, orderly: bool) -> None:
        """The end of the record; after an orderly end nothing is left to tell."""
        faulthandler.disable()
        self._map.close()
        if orderly:  # the bytes stay ours: a full disk must not keep the next one from starting
            os.pwrite(self._number, bytes(SIZE), 0)
            os.ftruncate(self._number, SIZE)
