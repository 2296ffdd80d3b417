"""Alive and ready, decided from what the loop said last; and what Prometheus reads of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Settled, Turn
from msilo_lite.seeing.health import LATE, LEAST_SPACE, STILL, Snapshot, body, live, ready
from msilo_lite.seeing.journal import DELAYS, Journal, was_tried
from msilo_lite.seeing.metrics import exposition

from .kit import BOB, NOW, message, waiting

GOOD = Snapshot(NOW, 100.0, ("udp:127.0.0.1:5070",), "", 10**9)


def failing(snapshot: Snapshot | None, turned: float = 100.0, now: float = 100.5) -> set[str]:
    return {one.name for one in ready(snapshot, turned, now) if not one.fine}


def test_a_silo_that_works_is_ready() -> None:
    assert failing(GOOD) == set()
    assert body(ready(GOOD, 100.0, 100.5), verbose=False).splitlines() == [
        "ok", "loop ok", "scheduler ok", "sip ok", "database ok", "disk ok",
    ]  # fmt: skip
    assert "sip ok: listens on udp:127.0.0.1:5070\n" in body(ready(GOOD, 100.0, 100.5), verbose=True)


@pytest.mark.parametrize(
    ("snapshot", "turned", "now", "name"),
    [
        (replace(GOOD, listening=()), 100.0, 100.5, "sip"),
        (replace(GOOD, obstacle="database is locked"), 100.0, 100.5, "database"),
        (replace(GOOD, free=LEAST_SPACE - 1), 100.0, 100.5, "disk"),
        (GOOD, 100.0 + LATE, 100.0 + LATE, "scheduler"),
        (None, 100.0, 100.5, "scheduler"),
        (replace(GOOD, ticked=100 + STILL), 100.0, 100.0 + STILL, "loop"),
    ],
)
def test_each_check_can_fail_alone(snapshot: Snapshot | None, turned: float, now: float, name: str) -> None:
    assert failing(snapshot, turned, now) == {name}
    text = body(ready(snapshot, turned, now), verbose=False)
    assert text.startswith("failed\n")
    assert f"{name} failed: " in text


def test_alive_is_the_loop_alone() -> None:
    assert [(one.name, one.fine) for one in live(100.0, 100.0 + STILL - 0.1)] == [("loop", True)]
    assert [(one.name, one.fine) for one in live(100.0, 100.0 + STILL)] == [("loop", False)]


# -- the journal -------------------------------------------------------------------------------------------------------
def settled(state: State, after: int = 0, **more: object) -> Settled:
    item = waiting(message(arrived=NOW))
    values: dict[str, object] = {"code": 486, "reason": "486 Busy", "attempts": 1, **more}
    return Settled(item, state, NOW + after, **values)  # type: ignore[arg-type]  # any field by name


def test_the_journal_counts_and_keeps() -> None:
    journal, turn = Journal(), Turn()
    assert journal.words() is None
    turn.settled = [
        settled(State.PENDING),
        settled(State.PENDING, code=None, reason="no answer"),
        settled(State.PENDING, code=None, reason=None, attempts=0),  # claimed and given back
        settled(State.DELIVERED, 2, code=200, reason="200 OK"),
        settled(State.DELIVERED, 10**7, code=202, reason="202 Accepted"),
        settled(State.PARKED, code=415, reason="415 Type"),
        settled(State.FAILED, code=603, reason="603 Decline"),
        settled(State.EXPIRED, code=None, reason="its time ran out", attempts=0),
    ]
    turn.woke(BOB, "register")
    turn.woke(BOB, "timer")
    assert turn.counters == {"wakeups": 1, "wakeups_register": 1, "wakeups_timer": 1}
    journal.committed(turn, frozenset(), NOW)
    assert journal.attempts == {"486": 1, "none": 1, "200": 1, "202": 1, "415": 1, "603": 1}
    assert journal.ended == {"delivered": 2, "failed": 1, "expired": 1}
    assert (journal.delays[1], journal.delays[-1], sum(journal.delays)) == (1, 1, 2)
    words = journal.words()
    assert words is not None
    assert [word in words for word in ('"by": "register"', '"event": "parked"', "no answer")] == [True] * 3
    assert '"event": "delivered"' not in words  # the ledger has it
    again = Journal(json.loads(words))  # after a restart
    assert again.words() is None
    again.refused("10.0.0.1:5060", 403, "not a trusted peer", NOW)
    told = json.loads(again.words() or "")
    assert [one["of"] for one in told["wakeups"]] == [1, 2]
    assert [one["of"] for one in told["refusals"]] == [1]


def test_a_refusal_of_the_proxy_is_told_though_no_attempt_is_counted() -> None:
    one = settled(State.PENDING, code=401, reason="401 Unauthorized", attempts=0)
    assert was_tried(one)


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_metrics_can_be_read(accept: str) -> None:
    delays = tuple(range(len(DELAYS) + 1))
    snapshot = replace(
        GOOD, counters={"stored_messages": 7, "dumped_messages": 3, "dumped_reminders": 2, "refused_403": 4, "odd": 1,
                        "refused_full_box": 6, "wakeups": 9, "wakeups_register": 9},
        attempts={"486": 5}, gauges={"waiting_messages": 2},
        delays=delays, delay_sum=12.5, info={"version": "x"},
    )  # fmt: skip
    text, ctype = exposition(snapshot, accept)
    assert ctype.startswith("application/openmetrics-text" if "openmetrics" in accept else "text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode().replace("# EOF\n", ""))
        for sample in family.samples
    }
    assert found["msilo_lite_stored_messages_total",] == 7
    assert found["msilo_lite_delivered_messages_total",] == 5
    assert found["msilo_lite_refused_requests_total", "403"] == 4
    assert found["msilo_lite_limited_requests_total", "full_box"] == 6
    assert ("msilo_lite_refused_requests_total", "full_box") not in found
    assert found["msilo_lite_wakeups_total", "register"] == 9
    assert found["msilo_lite_attempts_total", "486"] == 5
    assert found["msilo_lite_other_events_total", "odd"] == 1
    assert ("msilo_lite_other_events_total", "wakeups") not in found
    assert found["msilo_lite_delivery_delay_seconds_bucket", "5.0"] == 1
    assert found["msilo_lite_delivery_delay_seconds_bucket", "+Inf"] == sum(delays)
    assert found["msilo_lite_delivery_delay_seconds_count",] == sum(delays)
    assert found["msilo_lite_delivery_delay_seconds_sum",] == 12.5
