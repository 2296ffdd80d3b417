"""A real OpenSIPS with the example configuration. No Debian has it: the tests run where somebody has installed it.

`MSILO_OPENSIPS` names the program where it is not on the path, and `MSILO_OPENSIPS_MODULES` the folder of its modules.
"""

import os
import re
import shutil
import signal
from pathlib import Path

from .peers import ROOT
from .phone import Address, answers_options
from .process import Process, free_port, missing

EXAMPLE = ROOT / "examples" / "opensips" / "opensips.cfg"


def program() -> str:
    found = shutil.which(os.environ.get("MSILO_OPENSIPS", "opensips"), path=f"{os.environ['PATH']}:/usr/sbin")
    return found or missing("opensips is not installed", required=False)


class OpenSips:
    """OpenSIPS with the example: addresses and the places of files are filled in, no more."""

    def __init__(self, folder: Path, silo: Address, text: str = "") -> None:
        self._program = program()
        self._folder = folder
        self._process: Process | None = None
        self.address: Address = ("127.0.0.1", free_port())
        text = text or EXAMPLE.read_text()
        values = [("127.0.0.1:5060", "{}:{}".format(*self.address)), ("home.lan:5060", f"home.lan:{self.address[1]}")]
        values += [("sip:127.0.0.1:5070", "sip:{}:{}".format(*silo)), ("!= 5070", f"!= {silo[1]}")]
        values += [("/tmp/opensips_fifo", str(folder / "fifo"))]
        modules = os.environ.get("MSILO_OPENSIPS_MODULES")
        for old, new in values:
            assert old in text, f"opensips.cfg has no {old}"
            text = text.replace(old, new)
        if modules:
            text = re.sub(r'(?m)^mpath=".*"$', f'mpath="{modules}/"', text)
        (folder / "opensips.cfg").write_text(text)

    def start(self) -> "OpenSips":
        argv = [self._program, "-F", "-m", "32", "-f", str(self._folder / "opensips.cfg"), "-w", str(self._folder)]
        self._process = Process(argv, self._folder, "opensips")
        self._process.ready(self._answers, 15, "OpenSIPS answers OPTIONS")
        return self

    def _answers(self) -> bool:
        return answers_options(self.address, 200)

    def close(self) -> None:
        if self._process:
            self._process.stop(signal.SIGTERM, 5)
