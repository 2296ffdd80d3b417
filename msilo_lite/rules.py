"""Settings that can change while we serve, and how they reach the parts that know no configuration.

A part that takes settings at run time offers what `Part` says and stands in `Daemon.parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Protocol

from .box.silo import Places, Silo
from .errors import ConfigError
from .outbound.hook import Hook
from .outbound.replay import Replay
from .outbound.scheduler import Scheduler
from .outbound.ways import Ways
from .settings.config import Config
from .settings.terms import policy_of, reading_of
from .sip.agent import Agent


class Part(Protocol):
    """A part that can work by another configuration from the next turn on."""

    live: ClassVar[frozenset[str]]
    "The settings that it takes over; what no part names waits for a restart."

    def apply(self, config: Config) -> None:
        """Work by this configuration, also where nothing in it is new: a file that it names may be.

        Raises ConfigError where it cannot, and has changed nothing then.
        """


class Certificates:
    """What TLS shows and believes."""

    live: ClassVar[frozenset[str]] = frozenset(
        {"tls_certificate", "tls_key", "tls_client_ca", "tls_client_required", "tls_ca", "tls_verify"}
    )

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def apply(self, config: Config) -> None:
        """For connections to come; those that are open live on. Raises ConfigError, and keeps the old ones."""
        self._agent.reload(config.door)


class Rules:
    """The limits, times and hosts of the box and of the lanes."""

    live: ClassVar[frozenset[str]] = frozenset({
        "check_time", "clean_period", "domain", "expire_time", "extra_hdrs_avp", "ignored_types", "max_attempts",
        "max_body", "max_in_flight", "max_messages", "peer", "retry_rate", "settle", "snd_time_avp", "store_hook",
        "timezone", "trust_2xx", "wake_rate",
    })  # fmt: skip

    def __init__(self, silo: Silo, replay: Replay, ways: Ways, scheduler: Scheduler, hook: Hook) -> None:
        self._silo = silo
        self._replay = replay
        self._ways = ways
        self._scheduler = scheduler
        self._hook = hook

    def apply(self, config: Config) -> None:
        """Set them; nothing here can fail, each value was checked when it was read."""
        places = Places(config.domain, self._silo.places.own)
        self._silo.obey(policy_of(config), places, reading_of(config))
        self._replay.line.most, self._replay.max_attempts = config.max_in_flight, config.max_attempts
        self._ways.learn()
        self._scheduler.settle = config.settle
        self._scheduler.check_time = config.check_time
        self._scheduler.clean_period = config.clean_period
        self._scheduler.pace(config.retry_rate, config.wake_rate)
        self._hook.command = config.store_hook


def live(parts: Sequence[Part]) -> frozenset[str]:
    """What can change while these parts serve."""
    return frozenset(name for part in parts for name in part.live)


def apply_all(parts: Sequence[Part], old: Config, new: Config) -> None:
    """Have all parts work by a new configuration, or none. Raises ConfigError of the part that cannot."""
    done: list[Part] = []
    try:
        for part in parts:
            part.apply(new)
            done.append(part)
    except ConfigError:
        for part in done:
            with suppress(ConfigError):  # it worked by that one a moment ago
                part.apply(old)
        raise
