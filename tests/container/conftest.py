"""Roots that were built by the steps of a container file, each once in a run."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .image import DEBIAN, Stage, build

ROOT = Path(__file__).resolve().parents[2]


def needs_a_debian() -> None:
    """The steps take minutes and root: `make container-test` asks for them."""
    if os.environ.get("MSILO_CONTAINER_TESTS") != "1":
        pytest.skip("make container-test runs these")
    if os.geteuid() != 0 or not (DEBIAN / "etc/debian_version").exists():
        pytest.fail("tests/container/install-debian.sh has not made a Debian")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the roots are; they are large and go at the end."""
    made = tmp_path_factory.mktemp("roots")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def silo(place: Path) -> Stage:
    """The root of the Containerfile."""
    needs_a_debian()
    (place / "silo").mkdir()
    return build(ROOT / "Containerfile", ROOT, place / "silo", {})


@pytest.fixture(scope="session")
def addon(place: Path) -> Stage:
    """The root of the add-on, made from what `make addon` puts together."""
    needs_a_debian()
    subprocess.run(["make", "--silent", "addon"], cwd=ROOT, check=True, capture_output=True)
    folder = ROOT / "dist/home-assistant/msilo-lite"
    (place / "addon").mkdir()
    return build(folder / "Dockerfile", folder, place / "addon", {})


@pytest.fixture(scope="session")
def kamailio(place: Path) -> Stage:
    """The root of the Kamailio of the compose file."""
    needs_a_debian()
    folder = ROOT / "examples/docker-compose"
    (place / "kamailio").mkdir()
    stage = build(folder / "kamailio.Dockerfile", folder, place / "kamailio", {})
    shutil.copy(ROOT / "examples/kamailio/kamailio.cfg", stage.root / "etc/kamailio/silo.cfg")
    return stage
