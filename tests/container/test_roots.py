"""The roots that the container files make: they serve, as a user without rights, and look after themselves."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Peer
from tests.waiting import until

from .image import Stage, argv, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Running:
    """The program of a root, as an engine starts it."""

    def __init__(self, stage: Stage, log: Path, *more: str, **env: str) -> None:
        self.stage, self.log = stage, log
        words = [*stage.entry, *(more or stage.command)]
        with log.open("wb") as out:
            command = argv(stage, words, user=stage.user, env=env)
            self.outer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def pid(self) -> int:
        """Process 1 of the container, as this machine sees it."""
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        return int(children[0])

    def address(self) -> tuple[str, int]:
        found = until(lambda: re.findall(r"^ready udp:([\d.]+):(\d+)", self.text, re.M), 60, f"ready\n{self.text}")
        return found[0][0], int(found[0][1])

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def ids(self) -> set[str]:
        """The users of process 1: real, effective, saved, of the file system."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return set(re.findall(r"^Uid:\s+(.*)$", status, re.M)[0].split())

    def stop(self, stage_signal: str = "SIGTERM") -> int:
        os.kill(self.pid, getattr(signal, stage_signal))
        return self.outer.wait(60)


@contextlib.contextmanager
def running(stage: Stage, log: Path, *more: str, **env: str) -> Iterator[Running]:
    one = Running(stage, log, *more, **env)
    try:
        yield one
    finally:
        one.outer.kill()
        one.outer.wait()


@pytest.fixture
def data(silo: Stage) -> Iterator[Path]:
    """The volume, empty again at the end."""
    yield silo.root / "data"
    _emptied(silo.root / "data")


def _emptied(folder: Path) -> None:
    for one in folder.iterdir():
        one.unlink()


def test_the_container_serves_as_nobody_of_importance(silo: Stage, data: Path, tmp_path: Path) -> None:
    assert (data.stat().st_uid, data.stat().st_mode & 0o777) == (5070, 0o700)
    with running(silo, tmp_path / "log", MSILO_BIND="udp:127.0.0.1:0") as one:
        with Peer("alice", one.address()) as alice:
            alice.write("bob", "into the volume")
        assert one.ids == {"5070"}
        healthy = run(silo, silo.health, user=silo.user)
        assert healthy.returncode == 0, healthy
        listed = run(silo, [*silo.entry, "list"], user=silo.user)
        assert "bob@home.lan" in listed.stdout
        assert one.stop(silo.stop) == 0, one.text
    database = data / "silo.sqlite"
    assert (database.stat().st_uid, database.stat().st_mode & 0o777) == (5070, 0o600)
    ill = run(silo, [*silo.entry, "health", "--wait", "0.2"], user=silo.user)
    assert ill.returncode == 1
    with running(silo, tmp_path / "again", MSILO_BIND="udp:127.0.0.1:0") as one:  # another container, the same volume
        one.address()
        assert "bob@home.lan" in run(silo, [*silo.entry, "list"], user=silo.user).stdout


def test_the_container_cannot_change_itself(silo: Stage) -> None:
    wanted = "touch /etc/x /usr/x /opt/msilo-lite/x /opt/msilo-lite/bin/x /x; find / -xdev -perm -4000 -user root"
    told = run(silo, ["/bin/sh", "-c", wanted], user=silo.user)
    assert told.stderr.count("Permission denied") >= 5
    assert run(silo, ["sh", "-c", "command -v gcc pip3"], user=silo.user).stdout == ""


def test_a_mistake_ends_the_container_with_a_sentence(silo: Stage, tmp_path: Path) -> None:
    with running(silo, tmp_path / "log", MSILO_BIND="tcp") as one:
        assert one.outer.wait(60) == 2
    assert one.text.count("\n") == 1
    assert "environment MSILO_BIND" in one.text


# -- the add-on --------------------------------------------------------------------------------------------------------
@pytest.fixture
def options(addon: Stage) -> Iterator[Path]:
    """Where Supervisor puts the options."""
    data = addon.root / "data"
    data.mkdir(exist_ok=True)
    yield data / "options.json"
    _emptied(data)


def test_the_add_on_takes_its_options_and_gives_up_root(addon: Stage, options: Path, tmp_path: Path) -> None:
    options.write_text(
        '{"bind": ["udp:127.0.0.1:0", "udp:127.0.0.2:0"], "trusted": ["127.0.0.0/8"], "domain": ["home.lan"],'
        ' "outbound_proxy": "", "user": null, "add_date": 0, "log_level": "info", "max_messages": 1}'
    )
    options.chmod(0o600)
    with running(addon, tmp_path / "log") as one:
        with Peer("alice", one.address()) as alice:
            alice.write("bob", "at home")
            assert alice.ask(alice.message("bob", "too many")).code == 480
        assert one.ids == {"5070"}
        assert "127.0.0.2" in one.text
        assert run(addon, addon.health, user="root").returncode == 0
        assert "bob@home.lan" in run(addon, ["python", "/run.py", "list"], user="root").stdout
        assert one.stop() == 0, one.text
    assert (options.parent / "silo.sqlite").stat().st_uid == 5070
    assert options.stat().st_mode & 0o777 == 0o600  # still for root alone


def test_the_add_on_reads_a_file_of_the_user_beside(addon: Stage, options: Path, tmp_path: Path) -> None:
    options.write_text('{"bind": ["udp:127.0.0.1:0"], "add_date": 0}')
    folder = addon.root / "config"
    folder.mkdir()
    (folder / "config.toml").write_text("max_messages = 1\n")
    try:
        with running(addon, tmp_path / "log") as one, Peer("alice", one.address()) as alice:
            alice.write("bob", "one")
            assert alice.ask(alice.message("bob", "two")).code == 480
    finally:
        shutil.rmtree(folder)


def test_a_wrong_option_is_told_in_the_log(addon: Stage, options: Path, tmp_path: Path) -> None:
    options.write_text('{"bind": ["udp:127.0.0.1:0"], "outbound_proxy": "192.168.1.1"}')
    with running(addon, tmp_path / "log") as one:
        assert one.outer.wait(60) == 2
    assert "outbound_proxy = '192.168.1.1' (from environment MSILO_OUTBOUND_PROXY)" in one.text


# -- compose -----------------------------------------------------------------------------------------------------------
def test_a_message_goes_through_both_images(silo: Stage, kamailio: Stage, data: Path, tmp_path: Path) -> None:
    """Kamailio's and the silo's roots on loopback addresses of their own: stored, registered, delivered."""
    proxy = ("127.0.0.42", 5060)
    env = {
        "MSILO_BIND": "udp:127.0.0.43:5070",
        "MSILO_DOMAIN": "home.lan",
        "MSILO_OUTBOUND_PROXY": f"sip:{proxy[0]}:{proxy[1]}",
        "MSILO_SETTLE": "0.1",
        "MSILO_ADD_DATE": "0",
    }
    defines = (f"LISTEN_ADDR={proxy[0]}", 'DOMAIN="home.lan"', 'SILO_ADDR="127.0.0.43"')
    words = [word for one in defines for word in ("-A", one)]
    with running(silo, tmp_path / "silo", **env) as one, running(kamailio, tmp_path / "kamailio", *words) as two:
        one.address()
        with Peer("alice", proxy) as alice, Peer("bob", proxy) as bob:
            until(lambda: _answers(alice) or two.outer.poll() is not None, 30, "Kamailio's answer")
            assert two.outer.poll() is None, two.text
            alice.write("bob", "through both")
            assert two.ids != {"0"}
            bob.register()
            assert [sip.body for sip in bob.take(1, 10)] == [b"through both"]


def _answers(peer: Peer) -> bool:
    peer.send(peer.request("OPTIONS", "home.lan"))
    return peer.glance(0.3) is not None
