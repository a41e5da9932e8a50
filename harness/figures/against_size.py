"""Cost of Snappy against the size of its input: what Figures 3 and 4 have in common.

A row of panels for each provenance and unit: (a) compress, (b) uncompress. Both axes are
logarithmic, with a tick at each size that was measured. Quoted counts, if there are any, are small
open marks among our own counts, without a line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    NullFormatter,
    NullLocator,
)

from harness import comparison, tables
from harness.figures import style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

# Inches.
_LABEL = 0.32  # left of the vertical axis, besides its ticks' labels
_BETWEEN = 0.22
_HEADING = 0.24
_PLOT = 2.5
_AXIS = 0.56  # under the plot: two lines of ticks and the label
_TICK_GAP = 0.06  # between two ticks' labels, at least


@dataclass(frozen=True)
class Plot:
    """What is drawn.

    Attributes:
        title: Over all.
        rows: Of the tidy table: one content.
        marks: How each backend looks.
        names: What a backend is called, where that is not its name.
        quoted: Rows of `harness.literature`, shown among the counts; may be empty.
        notes: Sentences under it.
    """

    title: str
    rows: pd.DataFrame
    marks: Mapping[str, style.Mark]
    names: Mapping[str, str]
    quoted: pd.DataFrame
    notes: Sequence[str]


def draw(plot: Plot) -> Figure:
    """Draw cost against size."""
    with style.styled():
        figure = _draw(plot)
        figure.draw_without_rendering()  # makes the ticks while the style is in force
    return figure


def _draw(plot: Plot) -> Figure:
    shown = style.drawable(plot.rows)
    panels = comparison.panels(shown)

    inner = style.PAGE - 2 * style.MARGIN
    notes = [*comparison.model(shown), *style.undrawable(plot.rows), *plot.notes]
    lines = [line for note in notes for line in style.wrap(note, inner)]
    means = [style.wrap(_means_note(group), inner) for _, group in panels]
    legends = [_lines_legend(plot, panel, group) for panel, group in panels]
    kinds = style.Legend(_kinds(shown, plot.quoted), style.PAGE)

    top = style.MARGIN + style.LINE
    above = _HEADING + _PLOT + _AXIS
    body = sum(
        above + style.LINE * len(m) + legend.height
        for m, legend in zip(means, legends, strict=True)
    )
    body = body or 2 * style.LINE
    total = top + body + kinds.height + style.LINE * len(lines) + 2 * style.MARGIN
    figure = Figure(figsize=(style.PAGE, total))
    style.write_lines(figure, [plot.title], style.MARGIN, weight="bold")
    left = _LABEL + max(
        (_label_width(unit, _heights(plot, unit, group)) for (_, unit), group in panels),
        default=0.0,
    )
    for (panel, group), mean, legend in zip(panels, means, legends, strict=True):
        _draw_row(figure, (left, top + _HEADING), plot, panel, group)
        style.write_lines(figure, mean, top + above)
        legend.draw(figure, top + above + style.LINE * len(mean))
        top += above + style.LINE * len(mean) + legend.height
    kinds.draw(figure, top)
    style.write_lines(figure, lines, top + kinds.height + style.MARGIN, color="0.25")
    return figure


def _quoted(plot: Plot, unit: str) -> pd.DataFrame:
    return plot.quoted[plot.quoted["unit"] == unit]


def _heights(plot: Plot, unit: str, rows: pd.DataFrame) -> pd.Series[float]:
    """Return what the vertical axis must reach: means and the upper ends of their intervals."""
    upper = rows["high"].fillna(rows["mean"])
    heights: pd.Series[float] = pd.concat([rows["mean"], upper, _quoted(plot, unit)["mean"]])
    return heights


def _draw_row(
    figure: Figure,
    corner: tuple[float, float],
    plot: Plot,
    panel: comparison.Panel,
    rows: pd.DataFrame,
) -> None:
    provenance, unit = panel
    width = (style.PAGE - corner[0] - _BETWEEN) / 2 - style.MARGIN
    limits = _decades(_heights(plot, unit, rows) / _divisor(unit))
    for number, workload in enumerate(tables.FIGURE_3):
        left = corner[0] + number * (width + _BETWEEN)
        axes = style.add_axes(figure, left, corner[1], width, _PLOT)
        mine = rows[rows["workload"] == workload]
        axes.set_title(f"({'ab'[number]}) {workload}, {provenance}", loc="left", pad=4)
        _scale_sizes(axes, sorted(int(size) for size in set(rows["size"])), width)
        axes.set_yscale("log")
        axes.set_ylim(limits)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _tick(v, unit)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True)
        if number == 0:
            axes.set_ylabel("execution time (µs)" if unit == "ns" else f"{unit} retired")
        else:
            axes.tick_params(axis="y", labelleft=False)
        if mine.empty:
            axes.text(0.5, 0.5, f"no {provenance} result", ha="center", transform=axes.transAxes)
        for (backend, level), line in comparison.series(mine).items():
            _draw_line(axes, line.sort_values("size"), plot.marks[backend], level)
        quoted = _quoted(plot, unit)
        for _, line in quoted[quoted["workload"] == workload].groupby("backend"):
            means = line["mean"] / _divisor(unit)
            axes.plot(line["size"], means, clip_on=False, **style.quoted_style(line.iloc[0]))


def _draw_line(axes: Axes, rows: pd.DataFrame, mark: style.Mark, level: str) -> None:
    unit, provenance = str(rows["unit"].iloc[0]), str(rows["provenance"].iloc[0])
    scaled = rows[["mean", "low", "high"]] / _divisor(unit)
    label = comparison.series_label(str(rows["backend"].iloc[0]), level)
    # All lies within the limits, and marks at them are not to be cut.
    axes.plot(
        rows["size"], scaled["mean"], label=label, clip_on=False,
        **style.line_style(mark, provenance, level),
    )  # fmt: skip
    known = scaled["low"].notna() & scaled["high"].notna()
    bounded = scaled[known]
    # A bound below zero has no logarithm; the bar then goes down to the edge.
    low = bounded["low"].clip(lower=axes.get_ylim()[0])
    reach = [
        (bounded["mean"] - low).clip(lower=0),
        (bounded["high"] - bounded["mean"]).clip(lower=0),
    ]
    axes.errorbar(
        rows.loc[known, "size"], bounded["mean"], yerr=reach, fmt="none", ecolor=mark.colour,
        elinewidth=0.8, capsize=2.5, capthick=0.8,
    )  # fmt: skip


def _scale_sizes(axes: Axes, sizes: Sequence[int], width: float) -> None:
    axes.set_xscale("log", base=2)
    margin = (sizes[-1] / sizes[0]) ** 0.03 if len(sizes) > 1 else 2.0
    start, end = sizes[0] / margin, sizes[-1] * margin
    axes.set_xlim(start, end)
    inches = width / math.log2(end / start)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FixedFormatter(_size_labels(sizes, inches)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("size of the content")


def _size_labels(sizes: Sequence[int], octave: float) -> list[str]:
    """Label as many sizes as have room, an octave being so many inches; powers of 8 come first."""
    # The number stands over its unit, which takes half the width.
    labels = {size: comparison.format_size(size).replace(" ", "\n") for size in sizes}
    widths = {size: max(map(style.text_width, text.split("\n"))) for size, text in labels.items()}
    ends = {sizes[0], sizes[-1]}
    placed: list[int] = []
    for size in sorted(sizes, key=lambda s: (s not in ends, math.log2(s) % 3 != 0, s)):
        clear = (
            abs(math.log2(size / other)) * octave > (widths[size] + widths[other]) / 2 + _TICK_GAP
            for other in placed
        )
        if all(clear):
            placed.append(size)
    return [labels[size] if size in placed else "" for size in sizes]


def _decades(values: pd.Series[float]) -> tuple[float, float]:
    low = math.floor(math.log10(float(values.min()) * 0.95))
    high = math.ceil(math.log10(float(values.max()) * 1.05))
    return 10.0**low, 10.0**high


def _label_width(unit: str, heights: pd.Series[float]) -> float:
    low, high = (round(math.log10(limit)) for limit in _decades(heights / _divisor(unit)))
    return max(style.text_width(_tick(10.0**n, unit)) for n in range(low, high + 1))


def _divisor(unit: str) -> float:
    return 1000.0 if unit == "ns" else 1.0


def _tick(value: float, unit: str) -> str:
    return f"{value:,.10g}" if unit == "ns" else comparison.format_quantity(value, unit, 1)


# ---- legends ----


def _means_note(rows: pd.DataFrame) -> str:
    by_workload = [rows[rows["workload"] == workload] for workload in tables.FIGURE_3]
    sizes = [tables.common_sizes_note(mine) for mine in by_workload]
    where = sizes[0] if sizes[0] == sizes[1] else f"(a) {sizes[0]}; (b) {sizes[1]}"
    return f"After each name: geometric means of (a) | (b): {where}."


def _lines_legend(plot: Plot, panel: comparison.Panel, rows: pd.DataFrame) -> style.Legend:
    provenance, unit = panel
    handles = [
        Line2D(
            [],
            [],
            **style.line_style(plot.marks[backend], provenance, level),
            label=f"{comparison.series_label(plot.names.get(backend, backend), level)}: {means}",
        )
        for (backend, level), means in _means(rows, unit, rows).items()
    ]
    quoted = _quoted(plot, unit)
    means = _means(quoted, unit, rows)
    for (backend, _), line in comparison.series(quoted).items():
        label = f"{backend}: {means[backend, 'native']}"
        handles.append(Line2D([], [], **style.quoted_style(line.iloc[0]), label=label))
    return style.Legend(handles, style.PAGE, least_columns=2)


def _means(rows: pd.DataFrame, unit: str, ours: pd.DataFrame) -> dict[comparison.Series, str]:
    """Write the geometric means of each series, of (a) and of (b), over the sizes of our rows.

    Where not all of those are quoted, there is no mean to compare with ours.
    """
    means = []
    for workload in tables.FIGURE_3:
        sizes = comparison.common_sizes(ours[ours["workload"] == workload])
        mine = rows[rows["workload"] == workload]
        known = set(sizes) <= set(comparison.common_sizes(mine))
        means.append(comparison.geometric_means(mine, sizes) if known else {})
    return {
        key: " | ".join(comparison.format_quantity(m.get(key, math.nan), unit) for m in means)
        for key in comparison.series(rows)
    }


def _kinds(rows: pd.DataFrame, quoted: pd.DataFrame) -> list[Line2D]:
    panels = [panel for panel, _ in comparison.panels(rows)]
    provenances = dict.fromkeys(provenance for provenance, _ in panels)
    handles = [style.provenance_line(provenance) for provenance in provenances]
    if set(quoted["unit"]) & {unit for _, unit in panels}:
        handles.append(style.quoted_line())
    if (rows["level"] == "python").any():
        handles.append(
            Line2D(
                [], [], color="0.3", linewidth=1.0, linestyle=style.DOTTED,
                label="python level: binding included",
            )
        )  # fmt: skip
    if rows["low"].notna().any():
        handles.append(
            Line2D(
                [], [], color="0.3", linestyle="none", marker="|", markersize=6,
                label="vertical bar: 95 % interval of the mean",
            )
        )  # fmt: skip
    return handles
