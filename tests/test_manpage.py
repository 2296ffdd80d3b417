"""The manual page: current, clean, and where `man` finds it after an installation."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from flit_core.buildapi import build_wheel

from docs import manpage
from msilo_lite import __version__
from tests.sip.process import program


def test_it_is_what_the_command_line_says() -> None:
    assert manpage.PAGE.read_text(encoding="utf-8") == manpage.page(), "run: make docs"


def test_every_command_stands_in_it() -> None:
    text = manpage.PAGE.read_text(encoding="utf-8")
    for words in ("serve", "list", "purge", "dump", "remind add", "config show", "EXIT STATUS", "outbound_proxy"):
        assert words in text.replace("\\-", "-").replace("\\_", "_")


@pytest.mark.sip
def test_it_is_typeset_without_a_warning() -> None:
    argv = [program("groff", "groff-base"), "-man", "-ww", "-Tutf8", str(manpage.PAGE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    assert "an offline store for SIP MESSAGE requests" in done.stdout


def test_the_wheel_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(manpage.ROOT)  # where a build begins (PEP 517)
    wheel = tmp_path / build_wheel(str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    assert f"msilo_lite-{__version__}.data/data/share/man/man1/msilo-lite.1" in names
