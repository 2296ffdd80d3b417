"""msilo-lite with msilo's parameters under msilo's names, and the same interface as `original.Original`."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..peers import Silo

COMMON = {"add_date": 1, "settle": 0, "notice_interval": 0, "peer": '[{"address": "127.0.0.0/8", "control": true}]'}
"Ours alone: no patience after a REGISTER, a notice each time as msilo sends it, and X-MSilo-* from everybody."


class Lite(Silo):
    """`msilo-lite serve`. A restart keeps file and port."""

    def __init__(self, folder: Path, parameters: Mapping[str, str | int], *, tz: str = "UTC") -> None:
        self.parameters = dict(parameters)
        options = [word for pair in (COMMON | self.parameters).items() for word in ("--set", "{}={}".format(*pair))]
        super().__init__(folder, *options)
        self._tz = tz

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"TZ": self._tz}

    def refuses(self) -> subprocess.CompletedProcess[str]:
        """How a start ends that has no ready line."""
        argv = [sys.executable, "-m", "msilo_lite", "serve", "--no-supervise", "--db-url", self.db_url, *self.options]
        return subprocess.run(argv, capture_output=True, text=True, env=self._environment(), timeout=20, check=False)

    def statistics(self) -> dict[str, int]:
        """The counters under msilo's names, and ours."""
        found: dict[str, Any] = self._json("stats")
        return {name: int(number) for name, number in found.items() if isinstance(number, int)}
