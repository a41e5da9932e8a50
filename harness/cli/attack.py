"""`isobench attack`: hostile functions against every wall."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.table import Table

from backends import registry
from backends.command import as_typed
from harness.attacks import catalogue
from harness.cli import bad_input, cannot_write, failed
from harness.cli.progress import bar
from harness.storage import StorageError
from harness.wording import duration, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backends.contract import Backend
    from harness.attacks.catalogue import Entry
    from harness.attacks.matrix import Plan
    from harness.attacks.model import Absent, Matrix, Verdict
    from harness.results import Run

_KERNELS = ("6.12", "6.1")


@click.command(
    "attack",
    epilog="""\b
Examples:
  isobench attack                            all attacks on all walls, about 10 minutes
  isobench attack --list                     what there is to attack with
  isobench attack --backend sandcrust-pipe   one wall, beside no wall
  isobench attack --attack ptrace --attack io-uring
  isobench attack --from results/NAME        print and draw a matrix again""",
)
@click.option("--backend", "names", multiple=True, metavar="NAME", help="A wall. Repeatable.")
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="An attack. Repeatable.")
@click.option("--list", "listing", is_flag=True, help="List the attacks, and attack nothing.")
@click.option("--no-emulate", is_flag=True, help="Leave the emulated machine out.")
@click.option(
    "--kernel",
    "kernels",
    type=click.Choice(_KERNELS),
    multiple=True,
    help="Of the emulated machine; by default all. Repeatable.",
)
@click.option(
    "--calls",
    type=click.IntRange(2),
    default=10_000,
    show_default=True,
    help="How many calls alternate between good and bad, as a benign control.",
)
@click.option(
    "--cost",
    "cost_run",
    type=click.Path(path_type=Path),
    help="A run that says what a call costs behind each wall; by default the one that --from "
    "names, else the latest, or the reference run.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where the matrix's folder is made.",
)
@click.option("--name", default="", help="The folder's name; by default the time.")
@click.option(
    "--from", "old", type=click.Path(path_type=Path), help="A folder with a matrix: attack nothing."
)
def command(  # noqa: PLR0913 - a command's options
    *,
    names: tuple[str, ...],
    attacks: tuple[str, ...],
    listing: bool,
    no_emulate: bool,
    kernels: tuple[str, ...],
    calls: int,
    cost_run: Path | None,
    results: Path,
    name: str,
    old: Path | None,
) -> None:
    """Call hostile functions behind every wall, and see what they do to the caller.

    Each is called in a process of its own that is full of canaries. What happened is decided by
    what is found there, never by what a wall claims; then claims are held against it. Where there
    is no wall (`none`) every attack must do harm, or it proves nothing.

    Exit code: 0, 1 when a claim was refuted, an attack proved nothing, a machine failed or the
    matrix that --from names is not complete, 2 for bad input, 130 after Ctrl-C. What was finished
    is stored.
    """
    console = Console()
    if no_emulate and kernels:
        bad_input("--kernel is of the emulated machine, which --no-emulate leaves out")
    chosen, backends = _chosen(attacks), _walls(names)
    if listing:
        _list(chosen, console)
        return
    from harness.attacks import model

    run = _cost(cost_run, results, old)
    if old is not None:
        try:
            matrix, folder = model.load(old), old
        except StorageError as error:
            bad_input(error)
    else:
        plan = _plan(backends, chosen, () if no_emulate else kernels or _KERNELS, calls)
        matrix, folder = _attack(plan, results, name, console)
    if matrix.failures and old is None:
        texts = [f"attacks on machine {name!r} failed: {t}" for name, t in matrix.failures.items()]
        failed("\n".join([*texts, f"What was finished: isobench attack --from {folder}"]))
    if not matrix.complete and old is None:
        click.echo(
            as_typed(f"Stopped. What was finished: isobench attack --from {folder}"), err=True
        )
        sys.exit(130)
    _show(matrix, folder, run, console)
    if matrix.refuted() or matrix.failed_controls() or not matrix.complete:
        sys.exit(1)


def _chosen(names: Sequence[str]) -> Sequence[Entry]:
    try:
        return [catalogue.find(name) for name in dict.fromkeys(names)] or catalogue.entries()
    except LookupError as error:
        bad_input(error)


def _walls(names: Sequence[str]) -> list[Backend]:
    try:
        backends = [registry.find(name) for name in names]
    except LookupError as error:
        bad_input(error)
    for backend in backends:
        if backend.kind == "reference":
            bad_input(
                f"--backend {backend.name}: a reference, which runs no foreign function; see "
                "`isobench list` for the walls"
            )
    return backends


def _list(entries: Sequence[Entry], console: Console) -> None:
    table = Table("attack", "by", "what it does", caption_justify="left")
    group = ""
    for entry in entries:
        attack = entry.attack
        if attack.group != group:
            group = attack.group
            table.add_section()
            table.add_row(f"[bold]{group}[/]")
        table.add_row(attack.name, attack.means, attack.summary)
    console.print(table)


def _plan(
    backends: list[Backend], attacks: Sequence[Entry], kernels: Sequence[str], calls: int
) -> Plan:
    """Plan what is attacked where; without walls, all that are usual."""
    from harness import emulated
    from harness.attacks import matrix

    others: list[Absent] = []
    named = bool(backends)
    if not backends:
        backends, others = matrix.standard(registry.all_backends())
    obstacle = ""
    if kernels and any(_is_emulated(backend) for backend in backends):
        obstacle = emulated.obstacle()
    plan = matrix.plan(backends, attacks, kernels=() if obstacle else kernels, calls=calls)
    plan.absent.extend(others)
    if obstacle:
        click.echo(f"Nothing is emulated: {obstacle}", err=True)
    reasons = "; ".join(f"{one.backend}: {one.reason}. {one.remedy}" for one in plan.absent)
    if not plan.parts:
        bad_input(f"there is nothing to attack here. {reasons}")
    if named and plan.absent:  # without it the matrix would pass for one of all that was named
        bad_input(f"not all that --backend names can be attacked here. {reasons}")
    return plan


def _is_emulated(backend: Backend) -> bool:
    availability = backend.availability()
    return availability.emulated and not availability.available


def _attack(plan: Plan, results: Path, name: str, console: Console) -> tuple[Matrix, Path]:
    from harness.attacks import matrix, model

    if "/" in name or name in {".", ".."}:
        bad_input(f"--name {name!r}: a folder's name, without slashes; --results says where")
    try:
        folder = matrix.new_folder(results, name)
    except FileExistsError:
        bad_input(f"{results / name} exists; choose another --name")
    except OSError as error:
        cannot_write(error, results, "--results")
    walls = ", ".join(f"{len(part.backends)} on {part.machine}" for part in plan.parts)
    console.print(f"{number(len(plan.attacks), 'attack')}; walls: {walls}", highlight=False)
    try:
        with _Shown(console, plan.total) as shown:
            done = matrix.run(plan, shown.verdict)
        model.save(done, folder)
    except OSError as error:
        failed(f"{error.strerror or error}: {error.filename or folder}")
    return done, folder


def _cost(given: Path | None, parent: Path, old: Path | None) -> Run | None:
    """Find the run whose costs are shown beside the matrix, of which `old` is the folder."""
    from harness import results
    from harness.storage import RUN_FILE

    if given is not None:
        try:
            return results.load(given)
        except StorageError as error:
            bad_input(error)
    runs = sorted(parent.glob(f"*/{RUN_FILE}"), key=lambda file: -file.stat().st_mtime)
    if old is not None and (old / RUN_FILE).exists():
        runs.insert(0, old / RUN_FILE)
    for file in runs:
        try:
            run = results.load(file.parent)
        except StorageError:
            continue
        if run.finished and (run.table["workload"] == "switch").any():
            return run
    return None


def _show(matrix: Matrix, folder: Path, run: Run | None, console: Console) -> None:
    from harness.attacks import cost, report

    report.print_matrix(matrix, console, None if run is None else cost.of(run))
    try:
        files = report.write_all(matrix, run, folder)
    except OSError as error:
        failed(f"cannot write {error.filename or folder}: {error.strerror}")
    console.print(f"Matrix:  {folder}", markup=False, highlight=False)
    for file in files:
        if file.suffix in {".png", ".md"}:
            console.print(f"  {file}", markup=False, highlight=False, soft_wrap=True)


class _Shown:
    """Shows how far it is: a bar on a terminal, a line a wall elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._bar = bar(console)
        self._task = self._bar.add_task("", total=total, left="")
        self._began = time.monotonic()
        self._done = 0
        self._walls: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def verdict(self, verdict: Verdict) -> None:
        """Show that one more is there."""
        self._done += 1
        left = (time.monotonic() - self._began) * (self._total / self._done - 1)
        self._bar.update(
            self._task,
            advance=1,
            description=f"{verdict.backend} {verdict.attack}",
            left=f"{duration(left)} left",
        )
        if verdict.refuted:
            self._console.print(
                f"refuted: {verdict.backend} on {verdict.machine}: {', '.join(verdict.refuted)}, "
                f"by {verdict.attack}",
                style="red",
                markup=False,
            )
        wall = verdict.backend
        if not self._console.is_terminal and self._walls.get(verdict.machine) != wall:
            click.echo(f"{verdict.machine}: {wall} ({duration(left)} left)")
        self._walls[verdict.machine] = wall
