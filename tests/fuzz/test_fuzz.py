"""The fuzzers in short form; `make fuzz` gives them more time."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.figures import Figures
from tests.integration.harness import environment

from .targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 4
pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this platform")


def fuzz(folder: Path, target: str, seconds: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(seconds), "--findings", str(folder / "found")]
    return subprocess.run(
        argv, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=seconds + 60, check=False
    )


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_breaks(tmp_path: Path, target: str, figures: Figures) -> None:
    done = fuzz(tmp_path, target, SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    words = done.stdout.strip().splitlines()[-1]
    assert words.startswith(f"fuzz: {target}: ")
    figures.add("bad inputs tried", **{target: int(words.split()[2])})
    assert list((tmp_path / "found").iterdir()) == []


def test_a_fault_is_found_and_kept(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "canary", 45)
    assert done.returncode != 0
    assert "the canary was found" in done.stdout + done.stderr
    (kept,) = (tmp_path / "found").glob("canary-crash-*")
    assert b"twe" in kept.read_bytes()
