"""`serve` watched over: a small parent that starts the silo as its child, and again when it dies.

A child that cannot start is not started again: its sentence and its exit code are the operator's. Once it was ready it
is brought back, at once, and ever later when it keeps dying. Signals go to the child, its exit code comes back.
Standard output is the child's own; its log passes through here unless it goes to a terminal, so that the last words of
a child that died can be repeated where the reason is looked for. Only the standard library, and little of it: 12 MB.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

VARIABLE = "MSILO_SUPERVISED"
"How a child knows its supervisor: file descriptor of the word that it is ready, of the leash, and former addresses."
ALONE = "--no-supervise"
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENDS = (signal.SIGTERM, signal.SIGINT)
"Of these, which ask for an end."
AT_ONCE = 3
"Deaths in a row after which the child is started again without a pause."
STEADY = 60.0
"Seconds of life after which a death is the first one again."
LONGEST = 60.0
"Longest pause, in seconds."
TAIL = 2000
"Bytes of the child's log that are kept for its last words."
WORDS = 300
"Characters of them that are repeated."


def wanted(argv: Sequence[str]) -> bool:
    """Whether these arguments of the command ask for a supervised silo."""
    return list(argv[:1]) == ["serve"] and not {ALONE, "--help", "-h"} & set(argv)


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended."""

    code: int
    "Exit code; 0 where a signal ended it."
    signal: int = 0
    "Number of the signal that ended it; 0: none."

    @property
    def polite(self) -> bool:
        """Whether somebody asked it to end, and it did, or was told twice."""
        return self.signal in FORWARDED or (not self.signal and self.code in (0, *(128 + one for one in ENDS)))

    @property
    def passed_on(self) -> int:
        """The exit code by which a shell knows the same end."""
        return 128 + self.signal if self.signal else self.code

    def __str__(self) -> str:
        if not self.signal:
            return f"ended with exit code {self.code}"
        return f"died of {signal.Signals(self.signal).name} ({signal.strsignal(self.signal)})"


def is_over(end: End, *, asked: bool, was_ready: bool) -> bool:
    """Whether the silo stays down: on purpose, or because it never came up and says itself why not."""
    return asked or end.polite or not (was_ready or end.signal)


@dataclass(slots=True)
class Patience:
    """How long to wait before the next start."""

    deaths: int = 0
    "In a row."

    def after(self, lived: float) -> float:
        """Seconds to wait after a child that lived so many seconds."""
        self.deaths = 1 if lived >= STEADY else self.deaths + 1
        return 0.0 if self.deaths <= AT_ONCE else min(2.0 ** (self.deaths - AT_ONCE - 1), LONGEST)


class Child:
    """One run of the silo."""

    def __init__(self, command: Sequence[str], addresses: str, *, tapped: bool) -> None:
        """`tapped`: whether its log goes through us. `addresses`: those of the run before it, to be taken again."""
        self.born = time.monotonic()
        self.tail = b""
        self.ready = ""
        "Its addresses, once it serves."
        self.word, word = os.pipe()
        leash, self._leash = os.pipe()  # nobody writes here: its end tells the child of ours
        self.log, log = os.pipe() if tapped else (-1, -1)
        os.set_inheritable(word, True)
        os.set_inheritable(leash, True)
        environment = {**os.environ, VARIABLE: f"{word} {leash} {addresses}"}
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)  # a Ctrl-C is ours to pass on; the child would hear it twice
                if tapped:
                    os.dup2(log, 2)
                os.execve(command[0], list(command), environment)
            finally:
                os._exit(127)
        for number in (word, leash, *((log,) if tapped else ())):
            os.close(number)
        for number in (self.word, self.log):
            if number >= 0:
                os.set_blocking(number, False)

    def read(self) -> None:
        """Take what it says: its word, and its log, which goes on to our own."""
        if self.word >= 0 and (said := _read(self.word)) is not None:
            self.ready += said.decode(errors="replace")
            if not said:
                os.close(self.word)
                self.word = -1
        while self.log >= 0 and (said := _read(self.log)) is not None:
            if not said:
                os.close(self.log)
                self.log = -1
            _write(said)
            self.tail = (self.tail + said)[-TAIL:]

    def ended(self) -> End | None:
        """How it ended, or None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.read()
        code = os.waitstatus_to_exitcode(status)
        return End(max(code, 0), max(-code, 0))

    @property
    def last_words(self) -> str:
        """The end of its log, in one line."""
        lines = [line.strip() for line in self.tail.decode(errors="replace").splitlines() if line.strip()]
        words = " | ".join(lines[-2:])[-WORDS:]
        return "".join(one if one.isprintable() else "?" for one in words)

    def close(self) -> None:
        """Let go of what belonged to it."""
        for number in (self.word, self.log, self._leash):
            if number >= 0:
                os.close(number)


class Supervisor:
    """The parent."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._patience = Patience()
        self._addresses = ""
        self._asked = False
        self._child: Child | None = None
        self._wake, wake = os.pipe()
        for number in (self._wake, wake):
            os.set_blocking(number, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for forwarded in FORWARDED:
            signal.signal(forwarded, self._forward)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._asked |= number in ENDS
        if self._child:
            os.kill(self._child.pid, number)  # not waited for yet, so the number is still its own

    def run(self) -> int:
        """Until the silo is over; returns the exit code."""
        while True:
            self._child = child = Child(self._command, self._addresses, tapped=not os.isatty(2))
            end = self._watch(child)
            self._child = None
            lived, self._addresses = time.monotonic() - child.born, child.ready.strip() or self._addresses
            child.close()
            if is_over(end, asked=self._asked, was_ready=bool(self._addresses)):
                return end.passed_on
            pause = self._patience.after(lived)
            self._tell(child, end, lived, pause)
            self._until(lambda: self._asked, pause)
            if self._asked:
                return 0

    def _watch(self, child: Child) -> End:
        """Pass on what a child says until it has ended."""
        while True:
            self._listen(child, None)
            child.read()
            if end := child.ended():
                return end

    def _until(self, over: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not over() and (left := deadline - time.monotonic()) > 0:
            self._listen(None, left)

    def _listen(self, child: Child | None, seconds: float | None) -> None:
        """Sleep until a signal comes, or a child says something."""
        ears = [self._wake, *((one for one in (child.word, child.log) if one >= 0) if child else ())]
        if self._wake in select.select(ears, [], [], seconds)[0]:
            _read(self._wake)

    def _tell(self, child: Child, end: End, lived: float, pause: float) -> None:
        deaths = self._patience.deaths
        often = f", for the {deaths}th time in a row" if deaths > AT_ONCE else ""
        again = f"started again in {pause:.0f} s" if pause else "started again at once"
        words = f"; its last words: {child.last_words}" if child.last_words else ""
        now = time.time()
        stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{int(now * 1000) % 1000:03d}"
        told = f"the silo (process {child.pid}) {end} after {lived:.0f} s{often}; {again}{words}"
        _write(f"{stamp} ERROR {__name__}: {told}\n".encode(errors="replace"))


def _read(number: int) -> bytes | None:
    """What can be read now; empty at its end, None for nothing yet."""
    try:
        return os.read(number, 65536)
    except BlockingIOError:
        return None


def _write(said: bytes) -> None:
    """Say it on standard error; a log that nobody takes must not end the silo."""
    try:
        while said:
            said = said[os.write(2, said) :]
    except OSError:
        pass


def supervise(argv: Sequence[str]) -> int:
    """Run `msilo-lite serve` with these arguments under supervision; returns the exit code."""
    before = sys.orig_argv[1 : len(sys.orig_argv) - len(argv)]  # -m msilo_lite, or the installed command
    return Supervisor([sys.executable, *before, "serve", ALONE, *argv[1:]]).run()
