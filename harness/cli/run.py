"""`isobench run`: measure."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console
from rich.table import Table

from backends.command import as_typed
from harness import run as running
from harness import storage
from harness.cli import bad_input, cannot_write, failed, planning
from harness.cli.progress import bar
from harness.wording import duration, number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from rich.console import JustifyMethod

    from harness.plan import Cell, Plan
    from harness.results import Run

_LATEST = "latest"
_RESULTS = Path("results")


def _obstacle() -> str:
    from harness import emulated

    return emulated.obstacle()


@click.command(
    "run",
    cls=planning.PlanCommand,
    epilog="""\b
Examples:
  isobench run                              every figure, a few sizes, a few minutes
  isobench run --preset smoke               does it work? about two minutes
  isobench run --preset paper               all sizes of the paper, rigorously
  isobench run --backend none --backend sandcrust-pipe --workload switch
  isobench run -- --rigorous --affinity=1   options of pyperf
  isobench run --emulate --backend none --backend mpk    count instructions
  isobench run --resume                     go on with the latest unfinished run
  isobench run --resume results/RUN         go on with that one""",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=_RESULTS,
    show_default=True,
    help="Folder in which the run's folder is made.",
)
@click.option("--name", default="", help="Name of the run's folder; by default time and preset.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_LATEST,
    metavar="[RUN]",
    help="Go on with an unfinished run: the cells that are missing or failed.",
)
@click.option("--no-figures", is_flag=True, help="Draw no figures and tables at the end.")
@planning.planned(obstacle=_obstacle)
def command(plan: Plan, *, results: Path, name: str, resume: str | None, no_figures: bool) -> None:
    """Measure a plan: each cell in processes of its own, stored as soon as it is there.

    What comes after -- goes to pyperf (--rigorous, --fast, --affinity=1, …).

    Exit code: 0, 1 when a cell failed (the others are stored), 2 for bad input, 130 after Ctrl-C
    (what was finished is stored; `isobench run --resume` goes on).
    """
    console = Console()
    folder = results
    _check_choice(name, resume, results)
    try:
        folder = _folder(plan, results, name, resume, console)
        signal.signal(signal.SIGTERM, _stop)
        with _Shown(console) as shown:
            record = running.run(folder, shown)
    except storage.StorageError as error:
        bad_input(error)
    except OSError as error:
        failed(
            f"cannot write {error.filename or folder}: {error.strerror or error}. Finished cells "
            f"are kept; once it can be written: isobench run --resume {shlex.quote(str(folder))}"
        )
    except KeyboardInterrupt:
        if folder != results:
            go_on = as_typed(f"isobench run --resume {shlex.quote(str(folder))}")
            click.echo(f"\nStopped. Finished cells are in {folder}; go on: {go_on}")
        sys.exit(130)
    drawn = True if no_figures else _draw(folder, console)
    for failure in record.failures:
        click.echo(f"failed: {failure.cell}: {failure.error}", err=True)
    console.print(f"Results: {folder}", markup=False, highlight=False)
    if record.failures:
        failed(
            f"{len(record.failures)} of {number(len(record.plan.cells), 'cell')} failed; once the "
            f"cause is gone: isobench run --resume {shlex.quote(str(folder))}"
        )
    if not drawn:
        sys.exit(1)


def _check_choice(name: str, resume: str | None, results: Path) -> None:
    if "/" in name or name in {".", ".."}:
        bad_input(f"--name {name!r}: a folder's name, without slashes; --results says where")
    if resume is not None and name:
        bad_input("--resume goes on with a run that has its name; leave out --name")
    if resume is not None and planning.given():
        bad_input(f"--resume goes on with the stored plan; leave out {', '.join(planning.given())}")
    if resume not in (None, _LATEST) and results != _RESULTS:
        bad_input(f"--resume {resume} is where the run is; leave out --results")


def _folder(plan: Plan, results: Path, name: str, resume: str | None, console: Console) -> Path:
    """Make the run's folder, or find the one to go on with."""
    if resume is None:
        planning.show(plan, console)
        try:
            folder = running.new_run(plan, results, name)
        except FileExistsError as error:
            if name and Path(error.filename) == results / name:
                bad_input(f"{results / name} exists; choose another --name, or go on with --resume")
            cannot_write(error, results, "--results")
        except OSError as error:
            cannot_write(error, results, "--results")
    else:
        folder = storage.latest_unfinished(results) if resume == _LATEST else Path(resume)
    record = storage.read_record(folder)
    if resume is not None:
        console.print(f"Going on with {folder}", markup=False, highlight=False)
    for warning in record.warnings:
        console.print(f"Noise: {warning}", style="yellow", markup=False, highlight=False)
    return folder


def _draw(folder: Path, console: Console) -> bool:
    from harness import figures, results, tables

    try:
        run = results.load(folder)
        drawn = figures.draw_all(run, folder / "figures")
        written = tables.write_all(run, folder / "tables") + results.write_table(run, folder)
    except OSError as error:
        again = as_typed(f"isobench figures {shlex.quote(str(folder))}")
        click.echo(
            f"cannot write {error.filename or folder}: {error.strerror}. The numbers are kept; "
            f"once it can be written: {again}",
            err=True,
        )
        return False
    _summarise(run, console)
    console.print(f"Tables:  {folder / 'tables'} ({number(len(written), 'file')})", highlight=False)
    console.print(f"Figures: {folder / 'figures'}", markup=False, highlight=False)
    for path in drawn:
        if path.suffix == ".png":
            console.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
    return True


def _summarise(run: Run, console: Console) -> None:
    """Print what a call of an empty function costs, if that was measured."""
    from harness import tables

    figure2 = tables.figure2_table(run)
    _, cells = figure2.parts[0]
    if figure2.rows.empty:
        return
    summary = Table(title="An empty call", title_justify="left")
    columns = [cells.columns[0], "provenance", "mean", "95 % low", "95 % high", cells.columns[-3]]
    for column in columns:
        justify: JustifyMethod = "left" if column in columns[:2] else "right"
        summary.add_column(column, justify=justify, overflow="fold")
    for row in cells[columns].itertuples(index=False):
        summary.add_row(*map(str, row))
    console.print(summary)
    for line in tables.noise(run, run.table):
        console.print(line, style="yellow", markup=False, highlight=False)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Shown:
    """Shows how far a run is: a bar on a terminal, a line a cell elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = bar(console)
        self._task = self._bar.add_task("", total=0, left="")
        self._expected: dict[str, float] = {}
        self._done_seconds = 0.0
        self._began = time.monotonic()
        self._number = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, cells: Sequence[Cell], seconds: Sequence[float]) -> None:
        self._expected = {cell.name: s for cell, s in zip(cells, seconds, strict=True)}
        self._began = time.monotonic()
        self._bar.update(self._task, total=len(cells), left=f"{duration(sum(seconds))} left")

    def cell_begins(self, cell: Cell) -> None:
        self._bar.update(self._task, description=cell.name)

    def cell_ends(self, cell: Cell, benchmark: Any | None, error: str | None) -> None:
        self._number += 1
        self._done_seconds += self._expected[cell.name]
        rest = sum(self._expected.values()) - self._done_seconds
        # What is left takes as much longer or less than expected as what is done did.
        left = rest * (time.monotonic() - self._began) / self._done_seconds
        self._bar.update(self._task, advance=1, left=f"{duration(left)} left")
        if error is not None:
            self._console.print(f"failed: {cell.name}: {error}", style="red", markup=False)
        elif not self._console.is_terminal and benchmark is not None:
            value = benchmark.format_value(benchmark.mean())
            if cell.provenance == "emulated":
                value = f"{benchmark.mean():,.0f} instructions"
            count = f"[{self._number}/{len(self._expected)}]"
            click.echo(f"{count} {cell.name}: {value} ({duration(left)} left)")
