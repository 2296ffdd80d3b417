"""Fixtures of tests that read settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """An environment without settings, and with a home of its own; put back afterwards."""
    before = dict(os.environ)
    for name in [name for name in before if name.upper().startswith("MSILO_")]:
        del os.environ[name]
    home = tmp_path / "home"
    os.environ |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")}
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "silo.toml"
