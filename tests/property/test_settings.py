"""Any value for any setting is taken or refused by a sentence that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msilo_lite.errors import ConfigError
from msilo_lite.settings.config import Config
from msilo_lite.settings.sources import load

TEXTS = (
    "", "0", "-1", "1e9", "true", "udp:127.0.0.1:0", "udp:[::1]:5060", "udp:x:1", "sip:a@b", "sips:a", "$fu", "$hdr(",
    "10.0.0.0/8", "::/0", "home.lan", "a b", "X: $fu\\r\\n", "X: a\r\nY: b\r\n", "sqlite:///x", "sqlite://",
    "Europe/Rome", "\x00", "é", "[{}]", '[{"address": "::1"}]',
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(max_size=12)
values = (
    scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from(["address", "control", "x"]), scalars)
)


names = st.sampled_from(sorted(Config.model_fields))
pairs = st.tuples(names, st.sampled_from(TEXTS)).map("=".join)
pytestmark = pytest.mark.usefixtures("environment")
with_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
NOBODYS = Path("/dev/null")
"A configuration file without settings."


@with_fixture
@given(name=names, value=values | st.lists(values, max_size=2))
def test_any_value_is_taken_or_refused_by_name(name: str, value: Any) -> None:
    try:
        load(NOBODYS, {name: value})
    except ConfigError as error:
        words = str(error)
        assert name in words or "need" in words or " set" in words  # the latter: two that do not go together


@with_fixture
@given(item=pairs | st.text(max_size=20))
def test_any_set_option_is_taken_or_refused(item: str) -> None:
    try:
        load(NOBODYS, {}, [item])
    except ConfigError as error:
        assert str(error)  # noqa: PT017 (either outcome is fine)
