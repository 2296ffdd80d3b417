"""Any datagrams at a whole daemon: it answers on, and nothing fails inside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.edge import Edge
from tests.sip.torture import CASES


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with tempfile.TemporaryDirectory() as folder:
        made = Edge(Path(folder) / "silo.sqlite")
        yield made
        made.close()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A torture message with pieces cut out, doubled or replaced."""
    data = draw(st.sampled_from(CASES)).raw
    for _ in range(draw(st.integers(0, 3))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        piece = draw(
            st.binary(max_size=20) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\0", b":", data[at : at + size]])
        )
        data = data[:at] + piece + data[at + size :]
    return data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(datagrams=st.lists(damaged() | st.binary(max_size=100), min_size=1, max_size=8))
def test_any_datagrams_are_survived(edge: Edge, datagrams: list[bytes]) -> None:
    for data in datagrams:
        edge.take(data)
    edge.is_alive()
