"""Shared by all tests: how many examples hypothesis tries, an empty environment, parts on a file, final figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import msilo_lite
from tests.figures import Figures, collected, joined, summary
from tests.unit.kit import Rig

settings.register_profile("quick", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))

if package := os.environ.get("MSILO_PACKAGE"):  # the compiled one: nobody wants to test the other by mistake
    assert Path(package) in Path(msilo_lite.__file__).parents, msilo_lite.__file__

OpenRig = Callable[..., Rig]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Where a test leaves the figures that are printed at the end of the run."""
    return Figures(request.config)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes hands its figures to the one that prints."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["figures"] = collected(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """And that one takes them over."""
    joined(node.config, getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures that tests left."""
    lines = summary(config)
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def open_rig(tmp_path: Path) -> Iterator[OpenRig]:
    """Open the parts on the test's file, for example `open_rig(proxy="sip:127.0.0.1")`; closed after the test."""
    with ExitStack() as stack:

        def opened(**options: object) -> Rig:
            return stack.enter_context(closing(Rig(tmp_path / "silo.sqlite", **options)))  # type: ignore[arg-type]  # any option by name

        yield opened


@pytest.fixture
def rig(open_rig: OpenRig) -> Rig:
    """The parts without a proxy; bob is registered at 127.0.0.1:5090."""
    made = open_rig()
    made.register("bob")
    return made


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
