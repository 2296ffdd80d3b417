"""How much is taken, as senders see it: each limit with its answer, and room again when something has left."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo
from .process import missing

pytestmark = pytest.mark.sip

BOB, CARL = "bob@home.lan", "carl@home.lan"


def settings(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.parametrize(
    ("name", "limit", "code", "again"),
    [("max_messages", 2, 480, "300"), ("max_bytes", 25, 480, "300"), ("max_total_messages", 2, 503, "60"),
     ("max_total_bytes", 25, 503, "60")],
)  # fmt: skip
def test_a_full_box_or_store(
    start_silo: StartSilo, phone: PickUp, name: str, limit: int, code: int, again: str
) -> None:
    silo, alice, bob = start_silo(*settings(**{name: limit})), phone("alice"), phone("bob")
    assert [alice.message(silo.address, BOB, b"0123456789").code for _ in range(2)] == [202, 202]
    refusal = alice.message(silo.address, BOB, b"0123456789")
    assert (refusal.code, refusal["Retry-After"]) == (code, again)
    assert alice.message(silo.address, CARL, b"0123456789").code == (202 if code == 480 else 503)
    full = silo.cli("store", BOB, "0123456789", *settings(**{name: limit}))
    assert (full.returncode, name in full.stderr) == (1, True), full.stderr
    assert bob.register(silo.address).code == 200
    for _ in range(2):
        bob.answer(bob.receive(), 200)
    silo.empties() if code == 503 else until(lambda: len(silo.list_json()) == 1, 10, "carl's alone is left")
    assert alice.message(silo.address, BOB, b"0123456789").code == 202
    assert name in silo.process.errors, "the log says which limit was met"
    assert "0123456789" not in silo.process.errors
    counters = silo.status_json()["counters"]
    assert counters["refused_full_box" if code == 480 else "refused_full_store"] == (1 if code == 480 else 2)


def test_a_sender_that_is_too_fast(start_silo: StartSilo, phone: PickUp) -> None:
    silo, alice, carl = start_silo(*settings(sender_rate=6, sender_burst=2)), phone("alice"), phone("carl")
    assert [alice.message(silo.address, BOB, b"hello").code for _ in range(2)] == [202, 202]
    refusal = alice.message(silo.address, BOB, b"hello")
    assert refusal.code == 480
    assert 1 <= int(refusal["Retry-After"]) <= 11
    assert carl.message(silo.address, BOB, b"hello").code == 202
    assert silo.status_json()["counters"]["refused_rate"] == 1


def test_requests_that_are_too_large(start_silo: StartSilo, phone: PickUp) -> None:
    silo, alice = start_silo(*settings(max_size=100, max_headers=20)), phone("alice")
    assert alice.message(silo.address, BOB, b"x" * 100).code == 202
    assert alice.message(silo.address, BOB, b"x" * 101).code == 413
    assert alice.message(silo.address, BOB, b"x", "text/plain", *["X-App: y"] * 20).code == 513
    assert alice.ask(alice.request("REGISTER", BOB, *["X-App: y"] * 20), silo.address).code == 513
    assert len(silo.list_json()) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    if os.geteuid() != 0:
        missing("only root can mount a small disk", required=False)
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        missing(f"no small disk here: {done.stderr.decode().strip()}", required=False)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_almost_full(small_disk: Path, phone: PickUp) -> None:
    """It refuses while there is still room to deliver and to mend, and takes messages again by itself."""
    with closing(Silo(small_disk)) as silo:
        silo.start()
        alice, bob = phone("alice"), phone("bob")
        assert alice.message(silo.address, BOB, b"hello").code == 202
        found = os.statvfs(small_disk)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(found.f_bavail * found.f_frsize - found.f_blocks * found.f_frsize // 25))
        taken = 0
        while (answer := alice.message(silo.address, BOB, b"more")).code == 202 and taken < 20:  # it looks now and then
            taken += 1
        assert (answer.code, answer["Retry-After"]) == (503, "60")  # by the limit: a disk that refuses says 5
        assert bob.register(silo.address).code == 200
        message = bob.receive()
        bob.answer(message, 200)
        assert "min_free" in silo.process.errors
        ballast.unlink()
        until(lambda: alice.message(silo.address, BOB, b"more").code == 202, 5, "there is room again")
