"""A real FreeSWITCH with the example configuration. No Debian has it: the tests run where somebody has installed it.

`MSILO_FREESWITCH` names the program where it is not on the path.
"""

import os
import shutil
import signal
from pathlib import Path

from .peers import ROOT
from .phone import Address, answers_options
from .process import Process, free_port, missing

EXAMPLE = ROOT / "examples" / "freeswitch" / "freeswitch.xml"
PLACES = (
    "log",
    "db",
    "run",
    "temp",
    "storage",
    "recordings",
    "cache",
    "certs",
    "sounds",
    "grammar",
    "scripts",
    "htdocs",
)


def program() -> str:
    found = shutil.which(os.environ.get("MSILO_FREESWITCH", "freeswitch"))
    return found or missing("freeswitch is not installed", required=False)


class FreeSwitch:
    """FreeSWITCH with the example: addresses are filled in, no more."""

    def __init__(self, folder: Path, silo: Address) -> None:
        self._program = program()
        self._folder = folder / "freeswitch"
        self._process: Process | None = None
        self.address: Address = ("127.0.0.1", free_port())
        for name in ("conf", *PLACES):
            (self._folder / name).mkdir(parents=True)
        text = EXAMPLE.read_text()
        here = f"{silo[0]}:{silo[1]}"
        for old, new in (
            ('"sip-port" value="5060"', f'"sip-port" value="{self.address[1]}"'),
            ("127.0.0.1:5070", here),
        ):
            assert old in text, f"freeswitch.xml has no {old}"
            text = text.replace(old, new)
        (self._folder / "conf" / "freeswitch.xml").write_text(text)

    def start(self) -> "FreeSwitch":
        argv = [self._program, "-nf", "-c", "-nonat", "-nort", "-nocal", "-conf", str(self._folder / "conf")]
        for name in PLACES:
            argv += [f"-{name}", str(self._folder / name)]
        self._process = Process(argv, self._folder, "freeswitch")
        self._process.ready(self._answers, 30, "FreeSWITCH answers OPTIONS")
        process = self._process  # it answers half a second before it takes messages
        process.ready(lambda: "Loaded [mod_sofia]" in process.output, 30, "FreeSWITCH takes messages")
        return self

    def _answers(self) -> bool:
        return answers_options(self.address, 200)

    def close(self) -> None:
        if self._process:
            self._process.stop(signal.SIGTERM, 10)
