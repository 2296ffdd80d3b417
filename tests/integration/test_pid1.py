"""The unit under a real systemd, with the single executable: hardened as written, told, reloaded, watched, stopped."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

from .harness import Peer
from .pid1 import Systemd
from .test_binary import run_binary

CONFIG, UNIT, PROGRAM = (
    "/etc/msilo-lite/config.toml",
    "/etc/systemd/system/msilo-lite.service",
    "/usr/local/bin/msilo-lite",
)
DROP_IN = "/etc/systemd/system/msilo-lite.service.d/short.conf"


def lines(port: int, trusted: str) -> str:
    database = 'db_url = "sqlite:////var/lib/msilo-lite/silo.sqlite"'
    return f'bind = ["udp:127.0.0.1:{port}"]\n{database}\ntrusted = ["{trusted}"]\noutbound_proxy = "sip:127.0.0.1:9"\n'


@pytest.fixture
def port() -> int:
    """A free one: the unit is written for it before anything listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def systemd(tmp_path: Path, binary: Path, port: int) -> Iterator[Systemd]:
    """The unit that the executable itself writes, for a password of root's alone and a watchdog of two seconds."""
    config, password = tmp_path / "config.toml", tmp_path / "password"
    config.write_text(f'{lines(port, "127.0.0.0/8")}user = "silo"\npassword_file = "/etc/msilo-lite/password"\n')
    config.chmod(0o644)
    unit = run_binary(binary, tmp_path, "init", "--systemd", "--config", str(config)).stdout
    unit = unit.replace(str(config), CONFIG).replace(str(binary), PROGRAM)
    password.write_text("open sesame\n")
    files = {
        CONFIG: config.read_bytes(),
        UNIT: unit.encode(),
        PROGRAM: binary.read_bytes(),
        DROP_IN: b"[Service]\nWatchdogSec=2\n",
        "/etc/msilo-lite/password": password.read_bytes(),
    }
    with Systemd(tmp_path, files, {PROGRAM: 0o755, "/etc/msilo-lite/password": 0o600}) as one:
        until(lambda: one.show("ActiveState") == "active", 60, f"an active service\n{one.journal()}")
        yield one


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_life_under_systemd(systemd: Systemd, port: int) -> None:
    """One test, since a start of systemd and of the executable takes seconds: each step looks from outside."""
    alice = Peer("alice", ("127.0.0.1", port))
    with alice:
        alice.write("bob", "hello")  # through the filter of addresses and of system calls
        assert systemd.show("StatusText") == f"serving udp:127.0.0.1:{port}; 0 under way"
        _is_confined(systemd)
        _reloads(systemd, alice, port)
        _is_watched(systemd, alice)
        _stops(systemd)


def _is_confined(systemd: Systemd) -> None:
    """A user of its own, one folder of its own, and nothing of the rest."""
    main = systemd.show("MainPID")
    status = systemd.run("cat", f"/proc/{main}/status").stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert 61184 <= int(facts["Uid"].split()[0]) <= 65519, "no dynamic user"  # systemd.exec(5), DynamicUser
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    database = systemd.run("stat", "-c", "%a %u", "/var/lib/private/msilo-lite/silo.sqlite").stdout.split()
    assert database == ["600", facts["Uid"].split()[0]]
    inside = ["nsenter", "-t", main, "-m", "bash", "-c"]  # as the service's own mounts show it, even to root
    assert "Read-only" in systemd.run(*inside, "touch /etc/x /usr/x").stderr
    assert systemd.run(*inside, "ls -A /root /home").stdout.split() == ["/home:", "/root:"]
    denied = systemd.run("systemctl", "show", "-p", "IPAddressDeny", "msilo-lite").stdout.strip().partition("=")[2]
    assert sorted(denied.split()) == ["0.0.0.0/0", "::/0"]


def _reloads(systemd: Systemd, alice: Peer, port: int) -> None:
    rest = 'user = "silo"\npassword_file = "/etc/msilo-lite/password"'
    systemd.write(CONFIG, lines(port, "192.0.2.1/32") + rest)
    assert systemd.run("systemctl", "reload", "msilo-lite").returncode == 0, systemd.journal()
    until(lambda: alice.ask(alice.message("bob", "x")).code == 403, 10, "a 403 after the reload")
    systemd.write(CONFIG, "nonsense = [")
    refused = systemd.run("systemctl", "reload", "msilo-lite")
    assert refused.returncode != 0
    assert "cannot be read" in systemd.journal()
    assert systemd.show("ActiveState") == "active"
    systemd.write(CONFIG, lines(port, "127.0.0.0/8") + rest)
    assert systemd.run("systemctl", "reload", "msilo-lite").returncode == 0, systemd.journal()
    until(lambda: alice.ask(alice.message("bob", "x")).code == 202, 10, "a 202 after the reload")


def _is_watched(systemd: Systemd, alice: Peer) -> None:
    """A loop that hangs is ended and started again, and what it has stored is there."""
    assert systemd.show("NRestarts") == "0"  # so far it has fed the watchdog
    systemd.run("systemctl", "kill", "--kill-whom=all", "--signal=STOP", "msilo-lite")
    until(lambda: int(systemd.show("NRestarts") or 0) >= 1, 60, f"a restart\n{systemd.journal()}")
    assert "Watchdog timeout" in systemd.run("journalctl", "--no-pager", "-u", "msilo-lite").stdout
    until(lambda: systemd.show("ActiveState") == "active", 60, f"an active service\n{systemd.journal()}")
    alice.write("bob", "after the watchdog")
    told = systemd.run(PROGRAM, "list", seconds=30)
    assert told.returncode == 0, told
    assert len(told.stdout.splitlines()) == 3  # root's commands find the service's file by /etc/msilo-lite/config.toml


def _stops(systemd: Systemd) -> None:
    assert systemd.run(PROGRAM, "health", seconds=30).returncode == 0
    assert systemd.run("systemctl", "stop", "msilo-lite").returncode == 0
    assert (systemd.show("ActiveState"), systemd.show("Result")) == ("inactive", "success")
    assert systemd.run(PROGRAM, "health", "--wait", "0.2", seconds=30).returncode == 1
