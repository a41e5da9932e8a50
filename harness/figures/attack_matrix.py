"""Attacks against walls as a map: a row an attack, a column a wall, coloured by how it ended.

Above the columns stands what an empty call costs, so that one sees what protection is paid with.
What cells look like is in attack_cells.py. All of it is set in inches, y down from the figure's
upper edge, on one pair of axes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from harness import comparison
from harness.attacks import cost as costing
from harness.attacks import grid as laying
from harness.figures import attack_cells as drawing
from harness.figures import style

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from harness.attacks.cost import Costs
    from harness.attacks.grid import Column, Grid, Row
    from harness.attacks.model import Matrix

# Inches.
_MOST = 0.26  # from column to column
_BETWEEN_WALLS, _BETWEEN_FAMILIES = 0.03, 0.09
_NAMES = 2.05  # of rows, at most
_MEANS = 0.26
_HEADING = 0.2  # of a group

_MACHINE = "machine"
_NAMED = 3  # walls that were not attacked, at most
_ROWS = 32  # what a page has room for, with all that stands around them


@dataclass(frozen=True)
class _Line:
    """A row of the map: its name, broken into lines, and a cell a column."""

    name: Sequence[str]
    means: str
    cells: Sequence[drawing.Drawn | None]

    @property
    def height(self) -> float:
        """Inches."""
        lines = max(len(self.name), *(len(cell.lines) for cell in self.cells if cell), 1)
        return drawing.PITCH + (lines - 1) * style.LINE


@dataclass(frozen=True)
class _Map:
    """What is drawn: lines under headings, columns, and what stands around them."""

    title: str
    columns: Sequence[Column]
    lines: Mapping[str, Sequence[_Line]]  # by heading
    costs: Costs | None
    notes: Sequence[str]


def draw(
    matrix: Matrix, costs: Costs | None = None, group: str | None = None, part: int = 0
) -> Figure:
    """Draw all of a matrix, or as much of one group of its attacks as goes on a page.

    All of it is for a screen: a hundred rows do not go on a page.

    Args:
        matrix: The attacks and how they ended; an empty one gives a figure that says so.
        costs: Of an empty call, if they are known.
        group: One of the attacks' groups; None for all.
        part: Which of the group's `parts`, from 0.
    """
    grid = laying.lay_out(matrix)
    title = "Attacks on walls, and how they ended"
    if group is None:
        lines = {name: [_line(grid, row) for row in rows] for name, rows in grid.groups.items()}
    else:
        split = parts(grid.groups[group])
        lines = {"": [_line(grid, row) for row in split[part]]}
        title += f": {group}" + (f", {part + 1} of {len(split)}" if len(split) > 1 else "")
    return _styled(_map(matrix, grid, title, lines, costs))


def parts(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Split the rows of a group into what goes on a page, as even as can be."""
    count = -(-len(rows) // _ROWS)
    return [
        rows[len(rows) * number // count : len(rows) * (number + 1) // count]
        for number in range(count)
    ]


def draw_summary(matrix: Matrix, costs: Costs | None = None) -> Figure:
    """Draw the worst that each group of attacks came to, and how many of its rows did."""
    grid = laying.lay_out(matrix)
    lines = []
    for group, rows in grid.groups.items():
        cells = []
        for column in grid.columns:
            tally = grid.tally(group, column)
            worst = next(iter(tally), None)
            cells.append(drawing.Drawn(worst, [worst.mark, str(tally[worst])]) if worst else None)
        count = f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}"
        lines.append(_Line([group, count], "", cells))
    note = "Under a letter: how many of the group's rows came to that, the worst of all."
    title = "Attacks on walls: the worst of each group"
    drawn = _map(matrix, grid, title, {"": lines} if lines else {}, costs)
    return _styled(replace(drawn, notes=[note, *drawn.notes]))


def draw_all(matrix: Matrix, costs: Costs | None, folder: Path) -> list[Path]:
    """Draw the summary, all, and the groups, each as PNG (300 dpi), SVG and PDF.

    A group that does not go on a page has several figures.

    Args:
        matrix: The attacks and how they ended.
        costs: Of an empty call, if they are known.
        folder: Where to; made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = style.save(draw_summary(matrix, costs), folder, "attacks-summary")
    paths += style.save(draw(matrix, costs), folder, "attacks-all")
    for group, rows in laying.lay_out(matrix).groups.items():
        name = f"attacks-{_file_name(group)}"
        split = parts(rows)
        for part in range(len(split)):
            number = f"-{part + 1}" if len(split) > 1 else ""
            paths += style.save(draw(matrix, costs, group, part), folder, name + number)
    return paths


def _file_name(group: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", group).strip("-") or "unnamed"


def _line(grid: Grid, row: Row) -> _Line:
    cells = [grid.cells.get((row, column)) for column in grid.columns]
    drawn = [drawing.Drawn(cell, [cell.mark]) if cell else None for cell in cells]
    return _Line(style.wrap(row.label, _NAMES), row.means, drawn)


def _map(
    matrix: Matrix,
    grid: Grid,
    title: str,
    lines: Mapping[str, Sequence[_Line]],
    costs: Costs | None,
) -> _Map:
    means = any(line.means for group in lines.values() for line in group)
    notes = " ".join(_notes(matrix, grid, costs, means=means))
    return _Map(title, grid.columns, lines, costs, [notes])


def _notes(matrix: Matrix, grid: Grid, costs: Costs | None, *, means: bool) -> Iterator[str]:
    if not grid.cells:
        yield "No attack was tried."
    else:
        yield from (laying.MEANS_WORDS,) if means else ()
        yield laying.ADMITTED_WORDS
    if any(row.uncontrolled for row in grid.rows):
        yield laying.NO_CONTROL_WORDS
    if any(attack.benign for attack in matrix.attacks):
        yield laying.BENIGN_WORDS
    yield from laying.places(matrix, grid)
    if matrix.absent:
        names = [absent.backend for absent in matrix.absent]
        some = names if len(names) <= _NAMED else [names[0], f"{len(names) - 1} more"]
        yield f"Not attacked: {', '.join(some)} (tables/attacks-absent)."
    yield from () if costs is None else costs.sources()


# ---- drawing ----


def _styled(drawn: _Map) -> Figure:
    with style.styled():
        figure = _draw(drawn)
        figure.draw_without_rendering()
    return figure


def _draw(drawn: _Map) -> Figure:
    lines = [line for group in drawn.lines.values() for line in group]
    names = max((style.text_width(text) for line in lines for text in line.name), default=0.0)
    names = max(names, *map(style.text_width, _cost_headings(drawn)), 0.0)
    means = _MEANS if any(line.means for line in lines) else 0.0
    left = style.MARGIN + names + means + drawing.PAD
    pitch, width = _widths(drawn, left)
    title = style.wrap(drawn.title, width - 2 * style.MARGIN)
    used = {cell.cell.outcome for line in lines for cell in line.cells if cell}
    legend = drawing.legend(width, used) if lines else []
    room = min(width, style.PAGE) - 2 * style.MARGIN
    notes = [text for note in drawn.notes for text in style.wrap(note, room)]

    top = style.MARGIN + style.LINE * len(title) + drawing.PAD
    head = _head_height(drawn)
    body = sum(line.height for line in lines) + _HEADING * sum(bool(name) for name in drawn.lines)
    below = top + head + body + 2 * drawing.PAD
    height = (
        below
        + sum(row_height for _, row_height in legend)
        + style.LINE * len(notes)
        + 2 * style.MARGIN
    )
    figure = Figure(figsize=(width, height))
    style.write_lines(figure, title, style.MARGIN, weight="bold")
    axes = style.add_axes(figure, 0, 0, width, height)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.axis("off")
    lefts = _lefts(drawn.columns, left, pitch)
    _draw_head(axes, drawn, lefts, pitch, top + head)
    _draw_body(axes, drawn, lefts, pitch, top + head)
    drawing.draw_legend(axes, legend, below)
    below += sum(row_height for _, row_height in legend)
    style.write_lines(figure, notes, below + style.MARGIN, color="0.25")
    return figure


def _widths(drawn: _Map, left: float) -> tuple[float, float]:
    """Return the width of a column and of the figure: a column of a page, a page, or more."""
    count = len(drawn.columns)
    gaps = sum(_gaps(drawn.columns))
    for width in (style.COLUMN, style.PAGE):
        pitch = (width - left - gaps - style.MARGIN) / max(count, 1)
        if pitch >= drawing.LEAST:
            return min(pitch, _MOST), width
    return drawing.LEAST, left + gaps + count * drawing.LEAST + style.MARGIN


def _gaps(columns: Sequence[Column]) -> list[float]:
    """Return what each column is apart from the one before."""
    gaps = [0.0]
    for one, other in pairwise(columns):
        if one.backend == other.backend:
            gaps.append(0.0)
        elif laying.family_of(one.backend) == laying.family_of(other.backend):
            gaps.append(_BETWEEN_WALLS)
        else:
            gaps.append(_BETWEEN_FAMILIES)
    return gaps[: len(columns)]


def _lefts(columns: Sequence[Column], left: float, pitch: float) -> list[float]:
    lefts = []
    for gap in _gaps(columns):
        left += gap
        lefts.append(left)
        left += pitch
    return lefts


def _bands(drawn: _Map) -> list[tuple[str, dict[Column, str]]]:
    """List the bands over the columns from below: machines, costs; each with a heading."""
    bands = []
    machines = {column: column.machine for column in drawn.columns if column.named}
    if machines:
        bands.append((_MACHINE, machines))
    if drawn.costs is not None and drawn.columns:
        for provenance in reversed(_provenances(drawn.costs)):
            texts = {c: drawn.costs.text(provenance, c.backend) for c in _firsts(drawn.columns)}
            bands.append((costing.HEADINGS[provenance], texts))
    return bands


def _cost_headings(drawn: _Map) -> list[str]:
    return [heading for heading, _ in _bands(drawn)]


def _provenances(costs: Costs) -> list[str]:
    return [provenance for provenance in costing.HEADINGS if costs.means.get(provenance)]


def _firsts(columns: Sequence[Column]) -> list[Column]:
    """List the first column of each wall."""
    return [next(group) for _, group in groupby(columns, key=lambda column: column.backend)]


def _band_height(texts: Mapping[Column, str]) -> float:
    return max(map(style.text_width, texts.values()), default=0.0) + 2 * drawing.PAD


def _head_height(drawn: _Map) -> float:
    names = [style.text_width(column.backend, weight="bold") for column in drawn.columns]
    return (
        max(names, default=0.0)
        + 2 * drawing.PAD
        + sum(_band_height(texts) for _, texts in _bands(drawn))
    )


def _draw_head(
    axes: Axes, drawn: _Map, lefts: Sequence[float], pitch: float, bottom: float
) -> None:
    """Write over each column its machine, and over each wall what it costs and its name."""
    spans: dict[str, tuple[float, float]] = {}
    for column, left in zip(drawn.columns, lefts, strict=True):
        start, _ = spans.get(column.backend, (left, left))
        spans[column.backend] = (start, left + pitch)
    ends = (lefts[0], lefts[-1] + pitch) if lefts else (0.0, 0.0)
    for heading, texts in _bands(drawn):
        height = _band_height(texts)
        axes.text(
            ends[0] - drawing.PAD, bottom - height / 2, heading, ha="right", va="center_baseline",
            color="0.25",
        )  # fmt: skip
        for column, left in zip(drawn.columns, lefts, strict=True):
            if column in texts:
                of_wall = heading != _MACHINE
                start, end = spans[column.backend] if of_wall else (left, left + pitch)
                _upright(axes, (start + end) / 2, bottom, height, texts[column])
        bottom -= height
        axes.plot(ends, (bottom, bottom), color="0.6", linewidth=0.4)
    for backend, (start, end) in spans.items():
        _upright(axes, (start + end) / 2, bottom, 0, backend, weight="bold")


def _upright(
    axes: Axes, x: float, bottom: float, height: float, text: str, **properties: Any
) -> None:
    """Write upwards; a dash that says that there is nothing stays level, amid the height."""
    if text == comparison.NOTHING:
        axes.text(x, bottom - height / 2, "–", ha="center", va="center_baseline")
    else:
        axes.text(
            x, bottom - drawing.PAD, text, rotation=90, ha="center", va="bottom", **properties
        )


def _draw_body(axes: Axes, drawn: _Map, lefts: Sequence[float], pitch: float, top: float) -> None:
    boxes = []
    for heading, lines in drawn.lines.items():
        if heading:
            axes.text(
                style.MARGIN, top + _HEADING - drawing.PAD, heading, va="baseline", weight="bold"
            )
            top += _HEADING
        for line in lines:
            middle = top + line.height / 2 - (len(line.name) - 1) * style.LINE / 2
            for number, text in enumerate(line.name):
                y = middle + number * style.LINE
                axes.text(style.MARGIN, y, text, va="center_baseline")
            if line.means and lefts:
                x, y = lefts[0] - 2 * drawing.PAD, top + line.height / 2
                axes.text(x, y, line.means, ha="right", va="center_baseline", color="0.35")
            boxes += [
                (left, top, pitch, line.height, cell)
                for left, cell in zip(lefts, line.cells, strict=True)
                if cell is not None
            ]
            top += line.height
    drawing.draw(axes, boxes)
