"""The benchmark measures what it says, in the smallest size: each kind of case, the table and the picture of it."""

import json
import xml.etree.ElementTree as ET

import pytest

from bench import picture, report, runner
from bench.load import LoadResult
from bench.phone import PhoneResult
from bench.plan import Plan, RateCase, RegisterCase, ReplayCase, StoreCase
from bench.targets import LITE, TUNED

pytestmark = pytest.mark.sip

CASES = (
    StoreCase(16, 200, 50, waiting=300),
    RateCase(200, 0.5),
    RegisterCase(16, 100, 20),
    ReplayCase(1, 40, waiting=300, targets=(LITE, TUNED)),
)


@pytest.fixture(scope="module")
def run() -> runner.Run:
    plan = Plan(CASES, (), 1, (LITE,), 0.2, 20, 50, limit=30, patience=5)
    return runner.carry_out(plan, lambda _: None)


def results(run: runner.Run, number: int, key: str) -> LoadResult | PhoneResult:
    return run.samples[CASES[number].key, key][0].result


def test_ours_stores_and_delivers_all_of_it(run: runner.Run) -> None:
    assert LITE.key not in run.missing
    for number, count in enumerate((200, 100, 100)):
        result = results(run, number, LITE.key)
        assert isinstance(result, LoadResult)
        assert (result.accepted, result.refused, result.unanswered) == (count, {}, 0)
    assert run.samples[CASES[0].key, LITE.key][0].rows == 200
    replayed = results(run, 3, LITE.key)
    assert isinstance(replayed, PhoneResult)
    assert (replayed.delivered, replayed.disordered, replayed.duplicates) == (40, 0, 0)
    assert all(sample.exit_code == 0 for samples in run.samples.values() for sample in samples if len(samples) == 1)


def test_the_original_is_measured_beside_it(run: runner.Run) -> None:
    if TUNED.key in run.missing:
        pytest.skip(run.missing[TUNED.key])
    assert results(run, 0, TUNED.key).rate > 0
    assert results(run, 3, TUNED.key).rate > 0
    assert report.ratio(run, CASES[0], LITE, TUNED)


def test_table_picture_and_document_show_every_case(run: runner.Run) -> None:
    text = report.markdown(run)
    for case in CASES:
        assert case.title in text
    assert "ready after" in text
    document = json.loads(json.dumps(report.document(run)))
    assert set(document["cases"]) == {case.key for case in CASES}
    drawn = ET.fromstring(picture.draw(run))
    assert drawn.tag.endswith("svg")
