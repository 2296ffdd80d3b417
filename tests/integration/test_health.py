"""`health`: whether a daemon takes messages, by the file alone."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from . import harness
from .harness import Serve, run


def test_a_daemon_that_works_is_healthy(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo:
        ran = run(tmp_path, "health", *harness.on(silo.file))
        assert ran.code == 0, ran
        host, port = silo.address
        assert ran.out == f"It takes messages: process {silo.pid} on udp:{host}:{port}.\n"
        record = run(tmp_path, "health", "--json", *harness.on(silo.file)).json()
        assert (record["healthy"], record["pid"]) == (True, silo.pid)
        assert harness.query(silo.file, "SELECT DISTINCT verb, done FROM msilo_wish") == [("ping", 1)]
        silo.stop()
        ran = run(tmp_path, "health", "--wait", "0.2", *harness.on(silo.file))
        assert (ran.code, ran.out) == (1, "")
        assert ran.sentence.startswith(f"msilo-lite: no daemon serves {silo.file}")


def test_a_loop_that_hangs_is_not_healthy(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo:
        silo.signal(signal.SIGSTOP)
        ran = run(tmp_path, "health", "--wait", "0.5", "--json", *harness.on(silo.file))
        silo.signal(signal.SIGCONT)
    assert ran.code == 1
    assert '"healthy": false' in ran.out
    assert "does not answer" in ran.out


def test_a_file_that_nobody_can_write_is_not_healthy(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo, harness.locked(silo.file):
        ran = run(tmp_path, "health", *harness.on(silo.file))
    assert ran.code == 1
    assert "locked" in ran.sentence


def test_it_waits_for_a_daemon_that_comes(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    words = [*harness.COMMAND, "health", "--wait", "20", *harness.on(file)]
    waiting = subprocess.Popen(words, cwd=tmp_path, env=harness.environment(tmp_path), stdout=subprocess.PIPE)
    try:
        with Serve(tmp_path) as silo:
            out, _ = waiting.communicate(timeout=25)
            assert waiting.returncode == 0
            assert f"process {silo.pid}".encode() in out
    finally:
        waiting.kill()
        waiting.wait()


@pytest.mark.parametrize("wait", ["0", "-1", "soon"])
def test_a_wait_that_is_none(tmp_path: Path, wait: str) -> None:
    assert run(tmp_path, "health", "--wait", wait).code == 2


def test_no_file_at_all(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = run(tmp_path, "health", "--wait", "0.3", *harness.on(tmp_path / "none.sqlite"))
    assert ran.code == 1
    assert "no daemon serves" in ran.sentence
    assert time.monotonic() - began < 10
    assert list(tmp_path.iterdir()) == []  # a look leaves nothing behind
