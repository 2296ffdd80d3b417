"""The single executable, in an empty environment and in a root that holds it and glibc alone."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import until

from .harness import Address, Peer

GLIBC = re.compile(r"(/\S+/(?:ld-linux\S*|lib(?:c|dl|m|pthread|rt|util|z)\.so\.\d+))")
"The loader, glibc's libraries and zlib, as ldd names them."
NEEDED = (
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libz.so.1",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run_binary(binary: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command of the executable, with no environment at all but a home."""
    env = {"HOME": str(folder)}
    return subprocess.run(
        [str(binary), *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


class Empty:
    """A root with the executable, the libraries it names itself, and /tmp."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.root = folder / "root"
        (self.root / "tmp").mkdir(parents=True)
        shutil.copy(binary, self.root / "msilo-lite")
        told = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
        found = {Path(one) for one in GLIBC.findall(told)}
        beside = next(one.parent for one in found if one.name == "libc.so.6")
        for library in found | {beside / name for name in NEEDED if (beside / name).exists()}:
            place = self.root / str(library).lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)

    def argv(self, *words: str) -> list[str]:
        chroot = shutil.which("chroot")
        assert chroot
        return [chroot, str(self.root), "/msilo-lite", *words]

    def run(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*words), env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )


def memory_maps() -> Iterator[str]:
    """The files that each process of this machine has in its memory, as far as we may know."""
    for one in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            yield one.read_text(errors="replace")


@pytest.fixture
def empty(tmp_path: Path, binary: Path) -> Empty:
    if os.geteuid() != 0:
        pytest.skip("only root may change the root")
    return Empty(tmp_path, binary)


@pytest.fixture
def served(empty: Empty) -> Iterator[Address]:
    """`serve` in the empty root; the address it listens on."""
    log = empty.root / "tmp" / "log"
    words = ("serve", "--bind", "udp:127.0.0.1:0", "--db-url", "sqlite:////tmp/silo.sqlite", "--settle", "0.1")
    with log.open("wb") as out:
        child = subprocess.Popen(empty.argv(*words), env={}, cwd="/", stdout=out, stderr=out)
    try:
        ready = until(lambda: re.findall(r"^ready udp:([\d.]+):(\d+)$", log.read_text(), re.M), 60, "the ready line")
        yield ready[0][0], int(ready[0][1])
        child.terminate()
        assert child.wait(30) == 0, log.read_text()
        assert list(empty.root.glob("tmp/_MEI*")) == []  # what it unpacked is gone
    finally:
        child.kill()
        child.wait()


def test_it_is_one_file_of_a_modest_size(binary: Path) -> None:
    assert binary.is_file()
    assert binary.stat().st_size < 45e6


def test_an_empty_environment(binary: Path, tmp_path: Path) -> None:
    told = run_binary(binary, tmp_path, "--version")
    assert re.fullmatch(r"msilo-lite \d+\.\d+\.\d+\n", told.stdout), told
    story = run_binary(binary, tmp_path, "demo")
    assert story.returncode == 0, story
    assert "every message arrived, in order" in story.stdout


def test_an_empty_root(empty: Empty) -> None:
    assert {one.name for one in empty.root.iterdir()} <= {"msilo-lite", "tmp", "lib", "lib64", "usr"}
    assert empty.run("--version").stdout.startswith("msilo-lite ")
    settings = empty.run("config", "show")  # there is neither a home nor a list of users
    assert settings.returncode == 0, settings
    assert "sqlite:////var/lib/msilo-lite/silo.sqlite" in settings.stdout
    story = empty.run("demo")
    assert story.returncode == 0, story
    assert "Dinner at eight 🍝" in story.stdout


def test_zones_and_dates_are_inside(empty: Empty) -> None:
    on = ("--db-url", "sqlite:////tmp/silo.sqlite")
    told = empty.run("remind", "bob@home.lan", "Call", "--at", "tomorrow 9:00", "--tz", "Europe/Rome", *on)
    assert re.search(r"bob@home.lan will be reminded at \w+ \d{4}-\d\d-\d\d 09:00:00 CES?T\.", told.stdout), told
    assert "bob@home.lan\t" in empty.run("list", *on).stdout
    wrong = empty.run("remind", "bob@home.lan", "Call", "--at", "tomorrow 9:00", "--tz", "Europe/Roma", *on)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_its_busy_modules_are_machine_code(empty: Empty, served: Address) -> None:
    (library,) = empty.root.glob("tmp/_MEI*/msilo_lite__mypyc.*.so")
    assert any(str(library) in maps for maps in memory_maps())


def test_it_serves_and_its_commands_look_on(empty: Empty, served: Address) -> None:
    on = ("--db-url", "sqlite:////tmp/silo.sqlite")
    with Peer("alice", served) as alice, Peer("bob", served) as bob:
        alice.write("bob", "out of one file")
        assert "bob@home.lan" in empty.run("list", *on).stdout
        assert empty.run("health", *on).returncode == 0
        bob.register()
        assert b"out of one file" in bob.take(1)[0].body
    until(lambda: empty.run("list", *on).stdout == "", 20, "an empty box")


def test_a_unit_for_it_lets_the_child_speak(binary: Path, tmp_path: Path) -> None:
    unit = run_binary(binary, tmp_path, "init", "--systemd")
    assert unit.returncode == 0, unit
    assert "\nNotifyAccess=all\n" in unit.stdout
    assert f"\nExecStart={binary} serve" in unit.stdout
