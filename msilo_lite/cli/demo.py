"""`msilo-lite demo`: a real daemon in a process of its own and two scripted phones, on loopback, told as a story."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..box.inbox import Inbox
from ..errors import SipError
from ..sip.address import Endpoint
from .phone import Phone

TEXTS = ("Are you there?", "Dinner at eight 🍝", "Bring the keys.")
WAIT = 8.0
"Seconds the daemon may take to start or to end."


def program() -> list[str]:
    """How to start this program again, also from a single-file executable."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "msilo_lite"]


@contextmanager
def _silo(folder: Path) -> Iterator[Endpoint]:
    """A daemon on a free port and a fresh file; ended at the end. Raises SipError when it does not start."""
    command = [*program(), "serve", "--bind", "udp:127.0.0.1:0", "--settle", "0.3"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MSILO_")}
    (folder / "config.toml").write_text(
        "add_date = 0\n", encoding="utf-8"
    )  # whatever the user has configured stays out of this
    command += ["--config", str(folder / "config.toml"), "--db-url", f"sqlite:///{folder}/silo.sqlite"]
    silo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert silo.stdout is not None
    try:
        for line in silo.stdout:
            if line.startswith("ready "):
                yield Endpoint.parse(line.split()[1])
                return
        raise SipError("the silo did not start; `msilo-lite serve` says why")
    finally:
        silo.terminate()
        silo.wait(WAIT)
        silo.stdout.close()


def run(tell: Callable[[str, str], None]) -> None:
    """Play the story, one line at a time through `tell(who, text)`. Raises SipError when it does not come true."""
    with tempfile.TemporaryDirectory(prefix="msilo-lite-") as name, _silo(Path(name)) as silo:
        tell("silo", f"listens on {silo}, its file is empty")
        alice, bob = Phone("alice", (silo.host, silo.port)), Phone("bob", (silo.host, silo.port))
        try:
            tell("bob", "is switched off")
            for text in TEXTS:
                code = alice.write("bob", text)
                tell("alice", f"writes to bob: {text}")
                _expect(code == 202, f"the silo answered {code}")
                tell("silo", "202 Accepted: it is on disk")
            tell("bob", f"comes back and registers from port {bob.port}")
            _expect(bob.register() == 200, "the silo did not take the REGISTER")
            bob.take(len(TEXTS), WAIT)
            for message in bob.received:
                tell("bob", f"receives: {message.body.decode()}   (written {message.headers['Date']})")
            _expect(
                [m.body.decode() for m in bob.received] == list(TEXTS), "not what alice wrote, or not in that order"
            )
            _expect(_emptied(Path(name) / "silo.sqlite"), "the box is not empty")
            tell("silo", "every message arrived, in order, and left the box at bob's 200")
            tell("silo", "next: put it beside your PBX, `msilo-lite init --pbx KIND` says how")
        finally:
            alice.close()
            bob.close()


def _emptied(file: Path) -> bool:
    """Whether the box becomes empty: deliveries are written down a moment after the phone's 200."""
    inbox, deadline = Inbox(file), time.monotonic() + WAIT
    try:
        while inbox.count() and time.monotonic() < deadline:
            time.sleep(0.02)
        return inbox.count() == 0
    finally:
        inbox.close()


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise SipError(f"the demo failed: {otherwise}")
