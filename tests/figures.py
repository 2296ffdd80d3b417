"""Figures that tests want printed at the end of a run: load held, faults survived, messages lost and doubled."""

from typing import Any

import pytest

LINES = pytest.StashKey[dict[str, dict[str, Any]]]()


class Figures:
    """One table for the whole run; the terminal shows it after the last test."""

    def __init__(self, config: pytest.Config) -> None:
        self._lines = config.stash.setdefault(LINES, {})

    def add(self, title: str, **numbers: int | float) -> None:
        """Add numbers to a line; `_` in a name is a blank, and a name that begins with `per_` keeps the largest."""
        line = self._lines.setdefault(title, {})
        for name, number in numbers.items():
            line[name] = max(line.get(name, 0), number) if "per_" in name else line.get(name, 0) + number


def collected(config: pytest.Config) -> dict[str, dict[str, Any]]:
    """What one process has, for `joined` in another one."""
    return config.stash.get(LINES, {})


def joined(config: pytest.Config, other: dict[str, dict[str, Any]]) -> None:
    """Take over what another process of the same run has."""
    for title, line in other.items():
        Figures(config).add(title, **line)


def summary(config: pytest.Config) -> list[str]:
    """The lines to print."""
    lines = config.stash.get(LINES, {})
    width = max(map(len, lines), default=0)
    return [f"{title:<{width}}  " + ", ".join(_said(*pair) for pair in line.items()) for title, line in lines.items()]


def _said(name: str, number: float) -> str:
    return f"{name.replace('_', ' ')} {number:,.0f}"
