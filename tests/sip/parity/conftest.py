"""Both sides as fixtures. What a test or a module started is ended with it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .both import Pair, Side, make_lite, make_original

PairOf = Callable[..., Pair]
Start = Callable[..., Side]


def started(ends: ExitStack, folder: Path, how: dict[str, Any]) -> Pair:
    """Both sides, started at the same time."""
    sides = [ends.enter_context(closing(make(folder, **how))) for make in (make_original, make_lite)]
    with ThreadPoolExecutor(2) as pool:
        return Pair(*pool.map(Side.start, sides))


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PairOf]:
    """The two sides with msilo's parameters, for example `pair_of(add_date=0)`; one pair of each kind in a module."""
    with ExitStack() as ends:

        @cache
        def pair(**how: Any) -> Pair:
            return started(ends, tmp_path_factory.mktemp("pair"), how)

        yield pair


@pytest.fixture(scope="module")
def pair(pair_of: PairOf) -> Pair:
    """The two sides with nothing set but the way out."""
    return pair_of()


@pytest.fixture
def fresh_pair(tmp_path: Path) -> Iterator[PairOf]:
    """The two sides for one test alone, for example `fresh_pair(check_time=1)`: it may restart them, and count."""
    with ExitStack() as ends:
        yield lambda **how: started(ends, tmp_path, how)


@pytest.fixture
def original(tmp_path: Path) -> Iterator[Start]:
    """Start a Kamailio for one test alone, for example `original(check_time=1)`."""
    with ExitStack() as ends:
        yield lambda **how: ends.enter_context(closing(make_original(tmp_path, **how))).start()


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Start]:
    """Start a silo for one test alone, for example `lite(check_time=1)`."""
    with ExitStack() as ends:
        yield lambda **how: ends.enter_context(closing(make_lite(tmp_path, **how))).start()
