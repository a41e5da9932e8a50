"""A matrix of attacks, shown: figures and tables into a folder, a summary on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from harness.attacks import cost as costing
from harness.attacks import grid as laying
from harness.attacks.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from harness.attacks.cost import Costs
    from harness.attacks.grid import Cell, Column, Grid
    from harness.attacks.model import Matrix, Verdict
    from harness.results import Run

_COLOURS = {
    Outcome.HARMLESS: "default",
    Outcome.RECOVERED: "cyan",
    Outcome.REFUSED: "cyan",
    Outcome.CONTAINED: "blue",
    Outcome.DISCLOSED: "magenta",
    Outcome.HUNG: "yellow",
    Outcome.HOST_DIED: "yellow",
    Outcome.ESCAPED: "red",
    Outcome.UNAVAILABLE: "dim",
}
_REFUTED = "bold white on red"
_COSTS = {"measured": "time", "emulated": "instr."}
# Names of groups where there is no room for whole ones.
_BRIEF = {
    "control flow": "flow",
    "machine state": "state",
    "keys and kernel": "kernel",
    "environment": "env",
}
_WIDE = 110  # characters of a console


def write_all(matrix: Matrix, run: Run | None, folder: Path) -> list[Path]:
    """Write figures to `folder/figures` and tables to `folder/tables`.

    Args:
        matrix: The attacks and how they ended.
        run: Where the cost of an empty call is taken from; None leaves it out.
        folder: Where to; made if it is not there.

    Returns:
        The files.

    Raises:
        OSError: One cannot be written.
    """
    # These load matplotlib and pandas.
    from harness.figures import attack_matrix
    from harness.tables import attacks

    costs = None if run is None else costing.of(run)
    paths = attack_matrix.draw_all(matrix, costs, folder / "figures")
    return paths + attacks.write_all(matrix, costs, folder / "tables")


def print_matrix(matrix: Matrix, console: Console, costs: Costs | None = None) -> None:
    """Print a line a wall, how many rows of each group ended how; then what went wrong.

    Args:
        matrix: The attacks and how they ended.
        console: Where to.
        costs: Of an empty call behind each wall, if they are known.
    """
    grid = laying.lay_out(matrix)
    if grid.cells:
        console.print(_summary(grid, costs, brief=console.width < _WIDE))
        console.print(_legend(grid), highlight=False)
    else:
        console.print("No attack was tried.")
    notes = laying.places(matrix, grid)
    notes += laying.absences(matrix)
    notes += costs.sources() if costs else []
    for note in notes:
        console.print(note, markup=False, highlight=False)
    _print_verdicts(console, "Claims refuted", matrix.refuted())
    _print_verdicts(console, "Attacks that prove nothing", matrix.failed_controls())
    _print_verdicts(console, "Benign, and does not work", _broken(matrix))


def _summary(grid: Grid, costs: Costs | None, *, brief: bool) -> Table:
    shown = [provenance for provenance in _COSTS if costs and costs.means.get(provenance)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    lines = _lines(grid)
    table.add_column("wall", no_wrap=True)
    for provenance in shown:
        table.add_column(_COSTS[provenance], justify="right", no_wrap=True)
    for group, rows in grid.groups.items():
        name = _BRIEF.get(group, group) if brief else group
        table.add_column(
            f"{escape(name)} ({len(rows)})",
            overflow="fold",
            min_width=max(map(len, name.split()), default=0),
        )
    before = lines[0][1].backend
    for label, column in lines:
        if laying.family_of(column.backend) != laying.family_of(before):
            table.add_section()
        before = column.backend
        table.add_row(
            escape(label),
            *(costs.text(provenance, column.backend) if costs else "" for provenance in shown),
            *(_tallied(grid.tally(group, column)) for group in grid.groups),
        )
    return table


def _lines(grid: Grid) -> list[tuple[str, Column]]:
    """Name what a line is about: a wall, or a wall on a machine where machines differ."""
    by_wall: dict[str, list[Column]] = {}
    for column in grid.columns:
        by_wall.setdefault(column.backend, []).append(column)
    lines = []
    for wall, columns in by_wall.items():
        ends = {tuple(grid.cells.get((row, column)) for row in grid.rows) for column in columns}
        if len(ends) == 1:
            lines.append((wall, columns[0]))
        else:
            lines += [(f"{wall}\n  {column.machine}", column) for column in columns]
    return lines


def _tallied(tally: dict[Cell, int]) -> str:
    return " ".join(f"[{_style(cell)}]{count}{cell.mark}[/]" for cell, count in tally.items())


def _style(cell: Cell) -> str:
    return _REFUTED if cell.refuted else _COLOURS[cell.outcome]


def _legend(grid: Grid) -> str:
    used = {cell.outcome for cell in grid.cells.values()}
    words = [
        f"[{_COLOURS[outcome]}]{laying.LETTERS[outcome]}[/] {laying.WORDS[outcome]}"
        for outcome in Outcome
        if outcome in used
    ]
    return "\n".join(
        [
            "How many rows of each group ended how; machines are named where they differ:",
            *(f"  {text}" for text in words),
            f"  [{_REFUTED}]{laying.REFUTED}[/] {laying.REFUTED_WORDS}",
        ]
    )


def _broken(matrix: Matrix) -> list[Verdict]:
    benign = {attack.name for attack in matrix.attacks if attack.benign}
    fine = (Outcome.HARMLESS, Outcome.UNAVAILABLE)
    return [v for v in matrix.verdicts if v.attack in benign and v.outcome not in fine]


def _print_verdicts(console: Console, heading: str, verdicts: Sequence[Verdict]) -> None:
    """Say how many there are, also if none, and list them."""
    style = "bold red" if verdicts else "green"
    console.print(f"[{style}]{heading}: {len(verdicts) or 'none'}[/]", highlight=False)
    for verdict in verdicts:
        text = f"  {verdict.attack} on {verdict.backend}, {verdict.machine}: {verdict.outcome}"
        if verdict.refuted:
            text += f", against {', '.join(verdict.refuted)}"
        harms = "; ".join(harm.what for harm in verdict.harms)
        said = " ".join(verdict.said.split())
        text += "".join(f"; {part}" for part in (harms, said) if part)
        console.print(text, markup=False, highlight=False)
