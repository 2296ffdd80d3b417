"""Completion: what a shell is told when somebody presses Tab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import run


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("msilo-lite se", "serve"), ("msilo-lite remind ca", "cancel"), ("msilo-lite list --js", "--json")],
)
def test_what_bash_is_offered(tmp_path: Path, typed: str, offered: str) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    told = run(tmp_path, env={"_MSILO_LITE_COMPLETE": "complete_bash", **words})
    assert offered in told.out.split()


def test_bash_itself_completes(tmp_path: Path) -> None:
    """The script that `--show-completion` gives, in a bash that presses Tab for us."""
    bash = shutil.which("bash")
    assert bash
    (tmp_path / "msilo-lite").write_text(f'#!/bin/sh\nexec {sys.executable} -m msilo_lite "$@"\n')
    (tmp_path / "msilo-lite").chmod(0o755)
    script = run(tmp_path, env={"_MSILO_LITE_COMPLETE": "source_bash"}).out
    assert "complete -o default -F" in script
    ask = f"""
        PATH={tmp_path}:$PATH
        {script}
        COMP_WORDS=(msilo-lite pur) COMP_CWORD=1
        $(complete -p msilo-lite | sed 's/.*-F \\([^ ]*\\).*/\\1/') msilo-lite pur msilo-lite
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, timeout=30, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "purge"
