"""The package whose busiest modules are machine code does what the other one does: the same tests pass on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.targets import COMPILED
from tests.integration.harness import ROOT, make

PARTS = ("tests/unit", "tests/property/test_lifecycle.py")
WHOLE = tuple(f"tests/integration/test_{name}.py" for name in ("daemon", "store", "transfer"))
KILLED = ("tests/integration/test_matrix.py",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def package() -> Path:
    """Its folder, built anew where a source has changed: two minutes, on a busy machine more."""
    make("compiled", lacking="no C compiler, or no headers of Python")
    return COMPILED


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has unpacked the wheel."""
    target = tmp_path_factory.mktemp("wheel")
    (wheel,) = (ROOT / "dist").glob(f"msilo_lite-*-cp3{sys.version_info.minor}-*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    return target


def python(path: Path, *words: str) -> str:
    """What Python says with a folder before all others, and without the one it is started in."""
    env = {**os.environ, "PYTHONPATH": str(path), "MSILO_CONFIG": os.devnull}
    ran = subprocess.run([sys.executable, "-P", *words], env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def passes(config: pytest.Config, package: Path, *files: str) -> None:
    """Whether tests of this project pass on the package, with as many second chances as this run gives."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"MSILO_PACKAGE": str(package)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", f"pythonpath={package} ."]
    command += [f"--reruns={config.getoption('reruns') or 0}"]
    command += [f"--only-rerun={words}" for words in config.getoption("only_rerun") or ()]
    ran = subprocess.run([*command, *files], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]


def test_the_wheel_is_whole_and_its_busy_modules_are_machine_code(installed: Path) -> None:
    """It finds the files that `init` prints, and the demo runs."""
    busy = "import msilo_lite.box.store as a, msilo_lite.sip.wire as b; print(a.__file__, b.__file__)"
    files = python(installed, "-c", busy).split()
    assert [(Path(one).suffix, installed in Path(one).parents) for one in files] == [(".so", True)] * 2
    assert "left the box at bob's 200" in python(installed, "-m", "msilo_lite", "demo")
    asked = ("init", "--pbx", "asterisk", "--pbx-addr", "192.168.1.10:5060", "--domain", "home.lan")
    assert "MessageSend" in python(installed, "-m", "msilo_lite", *asked)


def test_the_parts(pytestconfig: pytest.Config, package: Path) -> None:
    passes(pytestconfig, package, *PARTS)


def test_the_whole(pytestconfig: pytest.Config, package: Path) -> None:
    passes(pytestconfig, package, *WHOLE)


def test_nothing_is_lost_when_it_is_killed(pytestconfig: pytest.Config, package: Path) -> None:
    passes(pytestconfig, package, *KILLED)
