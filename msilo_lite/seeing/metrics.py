"""A snapshot as Prometheus reads it. Only this knows prometheus_client; docs/monitoring.md lists the names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .health import Snapshot
from .journal import DELAYS

PREFIX = "msilo_lite"
COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "stored_messages": ("Messages that were stored.", ("stored_messages",)),
    "delivered_messages": ("Messages and reminders that a phone has.", ("dumped_messages", "dumped_reminders")),
    "failed_attempts": ("Attempts that nobody took.", ("failed_messages", "failed_reminders")),
    "expired_messages": ("Messages whose time ran out.", ("expired_messages",)),
    "duplicate_messages": ("Repeats of messages that were stored already.", ("duplicate_messages",)),
    "returned_messages": ("Replays of ours that a PBX brought back.", ("returned_messages",)),
    "untrusted_requests": ("Requests from addresses outside of `trusted`.", ("untrusted",)),
    "malformed_requests": ("Datagrams that cannot be parsed.", ("malformed",)),
    "store_errors": ("Commits that the database refused.", ("store_errors",)),
    "internal_errors": ("Requests that failed inside the silo.", ("internal_errors",)),
}
"Name: meaning, and the counters of the file that are added up."
LABELLED: Mapping[str, tuple[str, str, str]] = {
    "refused_requests": ("Requests that were refused, by status code.", "code", r"refused_(\d+)"),
    "limited_requests": ("Requests that met a limit, by which.", "limit", r"refused_(\D.*)"),
    "wakeups": ("Users with mail who were seen or are tried again, by what.", "source", r"wakeups_(.+)"),
}
"Name: meaning, label, and the pattern of the counters of the file, whose group is the label."
GAUGES: Mapping[str, str] = {
    "waiting_messages": "Messages in the box.",
    "held_messages": "Those of them that the operator holds back.",
    "holds": "Holds in force.",
    "oldest_message_age_seconds": "Age of the oldest message in the box.",
    "in_flight_messages": "Messages under way.",
    "lanes": "Users who are being delivered to, or wait for it.",
    "registered_users": "Users with a living binding.",
    "alarm": "1 where the operator has to mend something; `status` says what.",
    "pbx_registered": "1 while the PBX takes our registration; only with `registrar`.",
    "database_bytes": "Size of the database file.",
    "wal_bytes": "Size of its write-ahead log.",
    "disk_free_bytes": "What the disk has left.",
    "start_time_seconds": "When it started, UTC seconds.",
}
SEEN = {name for _, names in COUNTERS.values() for name in names} | {"wakeups"}


class _Silo(Collector):
    """Turns one snapshot into metric families."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """All families."""
        now = self._snapshot
        yield InfoMetricFamily(f"{PREFIX}_build", "What runs.", value=dict(now.info))
        for name, (words, parts) in COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}_{name}", words, value=sum(now.counters.get(one, 0) for one in parts))
        rest = {key: value for key, value in now.counters.items() if key not in SEEN}
        for name, (words, label, pattern) in LABELLED.items():
            found = {key: match[1] for key in rest if (match := re.fullmatch(pattern, key))}
            yield _by(name, words, label, {found[key]: rest.pop(key) for key in found})
        yield _by("other_events", "Whatever else the file counts, by its name in `stats`.", "event", rest)
        yield _by("attempts", "Attempts that ended since the start, by status code.", "code", now.attempts)
        yield _by("ended_messages", "Messages that left the box since the start.", "how", now.ended)
        for name, words in GAUGES.items():
            if name in now.gauges:
                yield GaugeMetricFamily(f"{PREFIX}_{name}", words, value=now.gauges[name])
        yield _histogram(now)


def _by(name: str, words: str, label: str, found: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", words, labels=[label])
    for key, value in sorted(found.items()):
        family.add_metric([key], value)
    return family


def _histogram(now: Snapshot) -> Metric:
    words = "Seconds from arrival, or from a reminder's due time, to the phone's 2xx; since the start."
    total, buckets = 0, []
    ends = (*(str(float(one)) for one in DELAYS), "+Inf")
    for end, number in zip(ends, now.delays or (0,) * len(ends), strict=True):
        total += number
        buckets.append((end, float(total)))
    return HistogramMetricFamily(f"{PREFIX}_delivery_delay_seconds", words, buckets=buckets, sum_value=now.delay_sum)


def names() -> set[str]:
    """The name of every family of ours, as the documentation lists it."""
    families: Iterable[Metric] = _Silo(Snapshot(0, 0, (), "", 0, gauges=dict.fromkeys(GAUGES, 0.0))).collect()
    return {one.name for one in families}


def exposition(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The body and its Content-Type, in the form that the Accept header asks for."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Silo(snapshot))
    encode, ctype = choose_encoder(accept)
    return encode(registry), ctype
