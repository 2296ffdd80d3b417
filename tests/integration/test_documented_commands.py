"""Every command of the documentation is run: each page in a home of its own, line by line, beside a running silo."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from msilo_lite.box.message import Message, Turn
from msilo_lite.box.store import Store
from msilo_lite.sip.address import Aor
from tests.waiting import until

from .harness import ROOT, Address, Peer, Serve, environment
from .samples import NOW, message
from .test_kamailio_file import kamailio_file

PAGES = [
    str(one.relative_to(ROOT))
    for one in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/README.md")))
]
ELSEWHERE = {
    r"make (test|check|serve|demo|bench|fuzz|soak|binary|compiled|crash|docs)\b": "by CI, or by a test of that target",
    r"make (addon|container-test)\b": "by the tests of the container files",
    r"(sudo )?(apt-get|systemctl|journalctl|docker|podman|ha) ": "on a machine of its own, not on the one that tests",
}
"Command lines that are not run here, and where they are."
BOB, CAROL = Aor("bob", "home.lan"), Aor("carol", "home.lan")


@dataclass
class Stage:
    """A home with a box of twenty messages, a configuration, a Kamailio's files, and a daemon that serves the box."""

    folder: Path
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def places(self) -> dict[str, str]:
        """What the pages call these, and where they are here."""
        folders = {name: f"{self.folder}{name}" for name in ("/etc/", "/var/lib/")}
        return {**folders, "192.168.1.": "127.0.0.", ":5070": ":0", "--http-listen 9464": "--http-listen 0"}

    def here(self, line: str) -> str:
        for name, place in self.places.items():
            line = line.replace(name, place)
        return line

    def run(self, line: str) -> None:
        """Run a line by the shell; `serve` and what else does not end by itself until it is ready."""
        env = environment(self.folder, PATH=f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if re.match(r"msilo-lite (serve|tail|top)\b", line):
            self._start(line, env)
            return
        if made := re.search(r" init .*(?:-o|--output) (\S+)", line):
            (self.folder / self.here(made[1])).unlink(missing_ok=True)  # the page makes its own
        done = subprocess.run(
            ["bash", "-c", self.here(line)], cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        allowed = {0, 1} if re.match(r"msilo-lite check\b", line) else {0}  # 1: warnings
        assert done.returncode in allowed, f"$ {line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr

    def _start(self, line: str, env: dict[str, str]) -> None:
        out = self.folder / f"out{len(self.background)}"
        with out.open("wb") as file:
            argv = ["bash", "-c", f"exec {self.here(line)}"]
            child = subprocess.Popen(
                argv, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
        self.background.append(child)
        if " serve" in line:
            until(lambda: "\nready " in out.read_text() or child.poll() is not None, 20, f"$ {line}: ready")
            assert child.poll() is None, f"$ {line}\n{out.read_text()}"

    def close(self) -> None:
        for child in self.background:
            child.terminate()
            child.wait(40)


def twenty() -> list[Message]:
    return [message(f"text {n}", CAROL if n % 5 == 0 else BOB) for n in range(1, 21)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    home = tmp_path / ".local/share/msilo-lite"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "msilo-lite"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m msilo_lite "$@"\n')
    program.chmod(0o755)
    for place in ("etc/kamailio", "var/lib/kamailio", "var/lib/msilo-lite", ".config/msilo-lite"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / ".config/msilo-lite/config.toml").write_text('bind = ["udp:127.0.0.1:0"]\ndomain = ["home.lan"]\n')
    (tmp_path / "silo.toml").write_text('bind = ["udp:127.0.0.1:0"]\ndomain = ["home.lan"]\n')
    shutil.copy(ROOT / "examples/kamailio/kamailio.cfg", tmp_path / "etc/kamailio")
    kamailio_file(tmp_path / "var/lib/kamailio/kamailio.sqlite")
    with closing(Store(home / "silo.sqlite")) as store:
        store.write(Turn(new=twenty()), NOW)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def phone(user: str, silo: Address) -> Iterator[None]:
    """A phone that is registered, and takes whatever comes."""
    over = threading.Event()
    with Peer(user, silo) as peer:
        peer.register()

        def answer() -> None:
            while not over.is_set():
                seen = peer.glance(0.1)
                if seen and not seen.code:
                    peer.reply(seen)

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            yield
        finally:
            over.set()
            answering.join()


def lines_of(page: str) -> list[str]:
    """The lines behind a prompt, those that go on joined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def is_run_elsewhere(line: str) -> bool:
    return any(re.match(pattern, line) for pattern in ELSEWHERE)


@pytest.mark.parametrize("page", [page for page in PAGES if lines_of(page)])
def test_the_commands_of_a_page(page: str, stage: Stage) -> None:
    todo = [line for line in lines_of(page) if not is_run_elsewhere(line)]
    box = f"sqlite:///{stage.folder}/.local/share/msilo-lite/silo.sqlite"
    with Serve(stage.folder, "--db-url", box, "--settle", "60") as silo, phone("bob", silo.address):
        for line in todo:
            stage.run(line)


def test_the_pages_are_found() -> None:
    assert len(lines_of("README.md")) > 8
