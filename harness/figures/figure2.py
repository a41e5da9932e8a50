"""Figure 2: the latency of one call of an empty foreign function, a bar a backend.

A panel for each provenance and unit, one above the other; times share their scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from harness import geometric, tables
from harness.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from harness.results import Run

_NAMES = 1.32  # inches for names, at most
_ROW = 0.175  # inches from one bar to the next, where names take one line
_BAR = 0.105  # inches
_GAP = 0.03  # inches between a bar and its value
_HEADING = 0.2  # inches over the bars of a panel
_AXIS = 0.32  # inches under them
_TICK = 0.46  # inches that a tick's label needs

Limits = tuple[float, float, float]  # the axis's two ends; the last decade that has a tick


def draw(run: Run) -> Figure:
    """Draw Figure 2; a run without a cell of it gives a figure that says so and why."""
    with style.styled():
        return _draw(run)


def _draw(run: Run) -> Figure:
    rows = geometric.with_ratios(run.table[run.table["workload"].isin(tables.FIGURE_2)])
    drawable = style.drawable(rows)
    panels = [(panel, geometric.by_latency(group)) for panel, group in geometric.panels(drawable)]
    names = {panel: [_name(row) for row in _records(group)] for panel, group in panels}
    left = style.MARGIN + 0.06
    left += max((style.text_width(t) for n in names.values() for ls in n for t in ls), default=0.0)

    notes = style.wrap_all(
        [*style.undrawable(rows), *tables.notes(run, drawable, tables.FIGURE_2)], style.COLUMN
    )
    legend = style.Legend(_legend(drawable, run), style.COLUMN)
    title = style.wrap("Latency of one call of an empty foreign function", style.COLUMN)
    heights = [_HEADING + sum(_row_height(n) for n in names[p]) + _AXIS for p, _ in panels]
    head = style.MARGIN + len(title) * style.LINE
    body = head + (sum(heights) or 2 * _HEADING)
    total = body + legend.height + style.notes_height(notes)

    figure = Figure(figsize=(style.COLUMN, total))
    style.write_lines(figure, title, style.MARGIN, weight="bold")
    if not panels:
        style.write_lines(figure, ["No result of workload switch in this run."], head + 0.1)
    width = style.COLUMN - left - style.MARGIN
    top = head
    for (panel, group), height in zip(panels, heights, strict=True):
        inner = height - _HEADING - _AXIS
        axes = figure.add_axes(
            (
                left / style.COLUMN,
                1 - (top + _HEADING + inner) / total,
                width / style.COLUMN,
                inner / total,
            )
        )
        same_unit = [g for (_, unit), g in panels if unit == panel[1]]
        _draw_panel(axes, panel, group, names[panel], style.colours(run.table))
        _scale(axes, panel[1], _limits(same_unit, width), width)
        top += height
    legend.draw(figure, body)
    style.write_notes(figure, notes, body + legend.height)
    figure.draw_without_rendering()  # makes the ticks while the style is in force
    return figure
