"""The picture for the README: bars of messages a second, drawn as SVG that light and dark pages can show."""

from __future__ import annotations

from html import escape

from bench import report
from bench.plan import Case
from bench.runner import Run
from bench.targets import FAST, LITE, ORDERED, OURS, SHIPPED, STRAIGHT, TUNED, Target

WIDTH, BAR, GAP, NAMES, NUMBERS = 760, 16, 14, 190, 150
"Pixels: of the picture, a bar, the space between groups, and the columns left and right of the bars."
COLOURS = {
    LITE.key: "#2f7ed8",
    FAST.key: "#1b4f9c",
    TUNED.key: "#8a8f98",
    STRAIGHT.key: "#8a8f98",
    ORDERED.key: "#aab0b8",
    SHIPPED.key: "#c9ced6",
}
TEXT = "#7a808a"


def draw(run: Run) -> str:
    """A group of bars for each case that others took part in."""
    cases = [case for case in (*run.plan.cases, *run.plan.once) if len(_bars(run, case)) > 1 and _is_shown(case)]
    parts, y = [], 28
    for case in cases:
        parts.append(_text(0, y + 12, case.title, bold=True))
        y += 22
        bars = _bars(run, case)
        longest = max(rate for _, rate in bars)
        for target, rate in bars:
            length = max(1.0, (WIDTH - NAMES - NUMBERS) * rate / longest)
            parts.append(_text(8, y + 12, target.title))
            parts.append(
                f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{COLOURS[target.key]}"/>'
            )
            parts.append(_text(NAMES + length + 6, y + 12, f"{rate:,.0f} /s" + _times(bars, target, rate)))
            y += BAR + 3
        y += GAP
    head = _text(0, 14, "Messages a second, all measured in one run on one machine")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        f'font-family="sans-serif" font-size="12">\n' + "\n".join([head, *parts]) + "\n</svg>\n"
    )


def _is_shown(case: Case) -> bool:
    """Not those behind many rows or on a slow disk: a picture shows few things."""
    return not (getattr(case, "waiting", 0) or getattr(case, "slow_ms", 0) or case.key.startswith("rate-"))


def _bars(run: Run, case: Case) -> list[tuple[Target, float]]:
    """Who took part, and how fast; the null responder stays out."""
    found = [(target, run.samples.get((case.key, target.key))) for target in case.targets if target.key in COLOURS]
    return [(target, report.rate(samples)) for target, samples in found if samples]


def _times(bars: list[tuple[Target, float]], target: Target, rate: float) -> str:
    """How many times the fastest of the others."""
    others = max((other for one, other in bars if one not in OURS), default=0.0)
    return f", {rate / others:.1f} x" if target in OURS and others else ""


def _text(x: float, y: float, words: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y}" fill="{TEXT}"{weight}>{escape(words)}</text>'
