"""A configuration that was read again: what comes into force, what waits, and that all parts take it or none."""

from __future__ import annotations

from typing import ClassVar

import pytest

from msilo_lite.daemon import Daemon
from msilo_lite.errors import ConfigError
from msilo_lite.reception import Reception
from msilo_lite.rules import Part, Rules, apply_all, live
from msilo_lite.service import Volume
from msilo_lite.settings.change import change
from msilo_lite.settings.config import Config
from msilo_lite.upkeep import Upkeep

PARTS: tuple[type[Part], ...] = (Daemon, Rules, Reception, Upkeep, Volume)
LIVE = frozenset(name for part in PARTS for name in part.live)


def config(**values: object) -> Config:
    return Config.model_validate({"db_url": "sqlite:///silo.sqlite", **values})


def test_every_live_setting_is_one() -> None:
    assert LIVE - set(Config.model_fields) == set()


@pytest.mark.parametrize("name", ["trusted", "peer", "domain", "max_messages", "expire_time", "log_level", "settle"])
def test_peers_limits_and_the_log_level_are_live(name: str) -> None:
    assert name in LIVE


@pytest.mark.parametrize("name", ["bind", "db_url", "db_table", "sc_body", "registrar", "outbound_proxy", "send_time"])
def test_what_is_bound_or_opened_waits_for_a_restart(name: str) -> None:
    assert name not in LIVE


def test_the_same_configuration_changes_nothing() -> None:
    made = change(config(), config(), LIVE)
    assert (made.taken, made.kept) == ((), ())
    assert made.config == config()


def test_a_live_setting_is_taken_and_another_one_stays() -> None:
    old = config(bind="udp:127.0.0.1:5070", max_messages=5)
    made = change(old, config(bind="udp:127.0.0.1:5080", max_messages=6), LIVE)
    assert (made.taken, made.kept) == (("max_messages",), ("bind",))
    assert made.config.bind == ("udp:127.0.0.1:5070",)
    assert made.config.max_messages == 6


def test_what_stays_is_compared_with_what_is_in_force_not_with_the_last_file() -> None:
    old, wanted = config(send_time=0), config(send_time=10)
    again = change(change(old, wanted, LIVE).config, wanted, LIVE)
    assert again.kept == ("send_time",)


def test_secrets_and_paths_survive() -> None:
    old = config(user="silo", password="open sesame", registrar="sip:127.0.0.1")
    made = change(old, config(user="silo", password="open sesame", registrar="sip:127.0.0.1", settle=2), LIVE)
    assert made.config.secret == "open sesame"
    assert made.taken == ("settle",)


def test_a_mixture_that_does_not_go_together_is_refused() -> None:
    """The way out stays, so a setting that needs the new one cannot come alone."""
    old = config()
    wanted = config(watch="presence", outbound_proxy="sip:127.0.0.1:5060")
    with pytest.raises(
        ConfigError, match=r"watch needs an outbound_proxy.*; outbound_proxy can only change at a restart"
    ):
        change(old, wanted, LIVE | {"watch"})


class Taker:
    """A part that takes what it is given, unless there is more mail to allow than it likes."""

    live: ClassVar[frozenset[str]] = frozenset({"max_messages"})

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: list[int] = []

    def apply(self, config: Config) -> None:
        if config.max_messages > self.most:
            raise ConfigError(f"max_messages is over {self.most}")
        self.taken.append(config.max_messages)


def test_all_parts_take_it_in_order() -> None:
    parts = [Taker(10), Taker(10)]
    apply_all(parts, config(max_messages=1), config(max_messages=7))
    assert [part.taken for part in parts] == [[7], [7]]
    assert live(parts) == {"max_messages"}


def test_where_one_part_cannot_the_others_go_back() -> None:
    parts = [Taker(10), Taker(5), Taker(10)]
    with pytest.raises(ConfigError, match="over 5"):
        apply_all(parts, config(max_messages=1), config(max_messages=7))
    assert [part.taken for part in parts] == [[7, 1], [], []]
