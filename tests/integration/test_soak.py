"""The soak in its short form, and that it would notice."""

from pathlib import Path

import pytest

from tests.figures import Figures

from .soak import Report, Soak
from .traffic import Tally


@pytest.mark.timeout(180)
def test_soak(tmp_path: Path, figures: Figures) -> None:
    report = Soak(tmp_path, 16).run()
    assert report.problems == [], report.lines()
    assert report.tally.accepted > 100
    tally = report.tally
    figures.add(
        "soak", seconds=report.seconds, accepted=tally.accepted, kills=report.kills, locks=report.locks,
        documented_repeats=tally.repeats, lost=len(tally.lost), doubled=len(tally.doubled),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(1, Tally(lost=["a"]), 0, 0, 0), "lost: 1"),
        (Report(1, Tally(doubled=["a"]), 0, 0, 0), "doubled: 1"),
        (Report(300, Tally(), 0, 0, 0, rss_kb=[50_000, 50_000, 60_000, 70_000, 80_000, 90_000]), "memory grew"),
        (Report(1, Tally(), 0, 0, 0, rss_kb=[50_000, 250_000]), "memory reached 250000 kB"),
        (Report(1, Tally(), 0, 0, 0, descriptors=[12, 12, 30]), "descriptors between 12 and 30"),
        (Report(1, Tally(), 0, 0, 0, drift={"stored": (5, 6)}), "stored: counted 5, there are 6"),
    ],
)
def test_what_a_soak_complains_of(report: Report, words: str) -> None:
    (problem,) = report.problems
    assert problem.startswith(words)
    assert report.lines()[-1] == f"WRONG: {problem}"


def test_what_is_flat_is_fine() -> None:
    samples = [50_000, 52_000, 52_500, 52_400, 52_600, 52_500, 52_700, 52_600]
    assert Report(300, Tally(), 0, 0, 0, rss_kb=samples, descriptors=[12, 13, 12]).problems == []
