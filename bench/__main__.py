"""``python -m bench``: options, progress, output."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import picture, plan, report, runner

NEEDED_WIDTH = 144
DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURE = "![Messages a second of msilo-lite and of Kamailio's msilo](bench.svg)"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
"Lines of docs/performance.md between which `--publish` writes."


class Only(StrEnum):
    """The halves of the benchmark."""

    STORE = "store"
    REPLAY = "replay"


def with_progress(console: Console, total: int, work: Callable[[runner.Say], runner.Run]) -> runner.Run:
    """A bar on a terminal, a line for each step elsewhere."""
    if not console.is_terminal:
        done = iter(range(1, total + 1))
        return work(lambda line: console.print(f"[{next(done)}/{total}] {line}", markup=False, soft_wrap=True))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=total)
        return work(lambda line: progress.update(task, advance=1, description=line))


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Few messages, one repeat: a look, not a measurement.")
    ] = False,
    repeat: Annotated[int | None, typer.Option(min=1, help="Repeats, of which medians are shown (3; quick 1).")] = None,
    only: Annotated[Only | None, typer.Option(help="Measure one half only.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here too.")
    ] = None,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Write docs/bench.json, docs/bench.svg and the table of docs/performance.md."),
    ] = False,
) -> None:
    """Measure store and replay rates of msilo-lite beside Kamailio's msilo and the load generator's own ceiling."""
    todo = plan.make(quick, repeat, only.value if only else None)
    progress = Console(stderr=True)
    run = with_progress(progress, runner.steps(todo), lambda say: runner.carry_out(todo, say))
    console = Console()
    # A figure cut off is worse than a line the terminal has to break.
    console.width = max(console.width, NEEDED_WIDTH)
    console.print(report.table(run))
    console.print("\n".join(report.footnotes(run)), markup=False, highlight=False, soft_wrap=True)
    if json_file:
        json_file.write_text(json.dumps(report.document(run), indent=2) + "\n")
    if publish:
        write_pages(run)


def write_pages(run: runner.Run) -> None:
    """What the documentation shows of a run."""
    (DOCS / "bench.json").write_text(json.dumps(report.document(run), indent=1) + "\n")
    (DOCS / "bench.svg").write_text(picture.draw(run))
    page = DOCS / "performance.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{PICTURE}\n\n{report.markdown(run)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
