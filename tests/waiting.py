"""Waiting for a condition with a deadline, for every test that looks at another process."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
TICK = 0.02
"Seconds between two looks at a condition."


def until(look: Callable[[], T], seconds: float, what: str) -> T:
    """The first true value of `look()`; fails the test with `what` when the deadline has passed."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(TICK)
