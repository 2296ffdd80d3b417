"""How much may wait, put together: the rules, the file that counts, and the disk; and how new rules come into force."""

from __future__ import annotations

from typing import ClassVar

from .box.quota import Quota
from .box.space import Space
from .box.store import Store
from .errors import ConfigError, StoreError
from .settings.config import Config
from .settings.terms import policy_of


class Allowance:
    """The `quota` that the silo asks, and what it stands on."""

    live: ClassVar[frozenset[str]] = frozenset(
        {"max_messages", "max_bytes", "max_total_messages", "max_total_bytes", "min_free"}
    )
    "Settings that it takes over while we serve."

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._space = Space(config.db_file, config.min_free)
        self.quota = Quota(policy_of(config), store, self._space.is_short)

    def apply(self, config: Config) -> None:
        """Go by another configuration from now on. Raises ConfigError, and then nothing has changed."""
        try:
            self._store.count_usage(wanted=config.caps.counted)
        except StoreError as error:
            raise ConfigError(f"the limits cannot be counted: {error}") from error
        self._space.floor = config.min_free
        self.quota.obey(policy_of(config))
