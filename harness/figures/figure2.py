"""Figure 2: the latency of one call of an empty foreign function, a bar a backend.

A panel for each provenance and unit. Panels of one unit stand one above the other on one axis;
times and counts of instructions, if there are both, side by side.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from harness import comparison, literature, tables
from harness.figures import style

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from harness.results import Run

# Inches.
_NAMES = 1.34  # for names, at most
_ROW = 0.07  # from one bar to the next, besides the lines of the name
_BAR = 0.11
_GAP = 0.04  # between a bar and its value
_HEADING = 0.22  # over the bars of a panel
_AXIS = 0.4  # under them
_TICK = 0.44  # for a tick's label

_STRIDES = (1, 2, 3, 6, 9)  # decades from tick to tick


@dataclass(frozen=True)
class _Bar:
    row: Mapping[Hashable, Any]
    name: Sequence[str]
    value: str
    height: float  # inches, with the space around it

    @property
    def end(self) -> float:
        """Where it ends, its interval included, in the row's unit."""
        high = float(self.row["high"])
        return max(high, self.row["mean"]) if math.isfinite(high) else float(self.row["mean"])


@dataclass(frozen=True)
class _Column:
    """Panels of one unit."""

    unit: str
    panels: Mapping[str, Sequence[_Bar]]  # by provenance

    @property
    def bars(self) -> list[_Bar]:
        return [bar for bars in self.panels.values() for bar in bars]

    @property
    def height(self) -> float:
        """Inches."""
        return sum(bar.height for bar in self.bars) + len(self.panels) * _HEADING + _AXIS


@dataclass(frozen=True)
class _Scale:
    start: float
    end: float
    last_tick: float
    width: float  # inches


def draw(run: Run) -> Figure:
    """Draw Figure 2; a run without a cell of it gives a figure that says so, and why."""
    with style.styled():
        figure = _draw(run)
        figure.draw_without_rendering()  # makes the ticks while the style is in force
    return figure


def _draw(run: Run) -> Figure:
    rows = tables.figure2_rows(run)
    if (rows["unit"] == "instructions").any():
        quoted = literature.counts(tables.FIGURE_2)
        rows = pd.concat([rows, comparison.with_ratios(quoted)], ignore_index=True)
    shown = style.drawable(rows)
    columns = _columns(shown)
    page = style.PAGE if len(columns) > 1 else style.COLUMN

    inner = page - 2 * style.MARGIN
    title = style.wrap("Latency of one call of an empty foreign function", inner)
    empty = "" if columns else f"No result of {' or '.join(tables.FIGURE_2)} in this run."
    notes = [
        *_explained(shown),
        *comparison.model(shown),
        *literature.sources(shown),
        *style.undrawable(rows),
        " ".join(tables.notes(run, shown, tables.FIGURE_2)),
    ]
    lines = [line for note in notes for line in style.wrap(note, inner)]
    legends = [style.Legend(_families(shown, run), page)]
    legends += [style.Legend([style.provenance_patch(str(p)) for p in _provenances(shown)], page)]

    top = style.MARGIN + style.LINE * len(title)
    body = max((column.height for column in columns), default=2 * style.LINE)
    below = sum(legend.height for legend in legends) + style.LINE * len(lines) + 2 * style.MARGIN
    figure = Figure(figsize=(page, top + body + below))
    style.write_lines(figure, title, style.MARGIN, weight="bold")
    style.write_lines(figure, [empty], top + style.LINE / 2)
    width = page / max(len(columns), 1)
    for number, column in enumerate(columns):
        _draw_column(figure, (number * width, top), width, column, style.colours(run.table))
    top += body
    for legend in legends:
        legend.draw(figure, top)
        top += legend.height
    style.write_lines(figure, lines, top + style.MARGIN, color="0.25")
    return figure


def _columns(rows: pd.DataFrame) -> list[_Column]:
    by_unit: dict[str, dict[str, list[_Bar]]] = defaultdict(dict)
    for (provenance, unit), group in comparison.panels(rows):
        by_unit[unit][provenance] = _bars(group, (provenance, unit))
    return [_Column(unit, panels) for unit, panels in by_unit.items()]


def _draw_column(
    figure: Figure,
    corner: tuple[float, float],
    width: float,
    column: _Column,
    colours: Mapping[str, str],
) -> None:
    """Draw panels one above the other, whose axis is under the last."""
    names = max(style.text_width(line) for bar in column.bars for line in bar.name)
    left, top = corner[0] + style.MARGIN + names + 0.06, corner[1]
    inner = width - names - 0.06 - 2 * style.MARGIN
    scale = _scale(column.bars, column.unit, inner)
    last = list(column.panels)[-1]
    for provenance, bars in column.panels.items():
        height = sum(bar.height for bar in bars)
        axes = style.add_axes(figure, left, top + _HEADING, inner, height)
        _draw_panel(axes, (provenance, column.unit), bars, scale, colours)
        if provenance != last:
            axes.set_xlabel("")
            axes.tick_params(axis="x", which="both", length=0, labelbottom=False)
            axes.spines["bottom"].set_visible(False)
        top += _HEADING + height


def _bars(rows: pd.DataFrame, panel: comparison.Panel) -> list[_Bar]:
    bars = []
    for row in comparison.by_latency(rows).to_dict("records"):
        name = _name(row["backend"], row["level"], row["kind"])
        # Counts repeat exactly, times do not.
        value = comparison.format_quantity(row["mean"], panel[1], 2 if panel[1] == "ns" else 3)
        if math.isfinite(row["ratio_to_none"]):
            value += f" ({comparison.format_ratio(row['ratio_to_none'], 2)})"
        bars.append(_Bar(row, name, value, _ROW + len(name) * style.LINE * 0.87))
    return bars


def _name(backend: str, level: str, kind: str) -> list[str]:
    lines = style.wrap(backend, _NAMES, separators=" " if " " in backend else "-")
    remarks = ["python level"] if level == "python" else []
    remarks += ["reference"] if kind == "reference" else []
    for remark in remarks:
        together = f"{lines[-1]} ({remark})"
        fits = style.text_width(together) <= _NAMES
        lines = [*lines[:-1], together] if fits else [*lines, f"({remark})"]
    return lines


def _scale(bars: Sequence[_Bar], unit: str, width: float) -> _Scale:
    """Find limits between which each bar, on `width` inches, has its value beside it."""
    least = min(float(bar.row["mean"]) for bar in bars)
    start = 10.0 ** math.floor(math.log10(0.8 * least))
    highest = math.ceil(math.log10(max(bar.end for bar in bars)))
    decades = max(
        math.log10(bar.end / start) * width / (width - _GAP - style.text_width(bar.value) - 0.02)
        for bar in bars
    )
    half_label = style.text_width(comparison.format_quantity(10.0**highest, unit, 1)) / 2
    to_last_tick = (highest - math.log10(start)) * width / (width - half_label)
    return _Scale(start, start * 10 ** max(decades, to_last_tick), 10.0**highest, width)


def _draw_panel(
    axes: Axes,
    panel: comparison.Panel,
    bars: Sequence[_Bar],
    scale: _Scale,
    colours: Mapping[str, str],
) -> None:
    provenance, unit = panel
    axes.set_xscale("log")
    axes.set_xlim(scale.start, scale.end)
    axes.grid(visible=True, axis="x")
    top, middles = 0.0, []
    for bar in bars:
        y = top + bar.height / 2
        colour = colours[style.family(bar.row["mechanism"], bar.row["kind"])]
        axes.barh(
            y,
            bar.row["mean"] - scale.start,
            left=scale.start,
            height=_BAR,
            **style.bar_style(colour, provenance),
        )
        _draw_interval(axes, bar, y, scale)
        axes.annotate(
            bar.value,
            (bar.end, y),
            xytext=(_GAP * 72, 0),
            textcoords="offset points",
            va="center_baseline",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
        middles.append(y)
        top += bar.height
    axes.set_ylim(top, 0)
    axes.set_yticks(middles, ["\n".join(bar.name) for bar in bars])
    axes.tick_params(axis="y", length=0, pad=3)
    _draw_scale(axes, unit, scale)
    what = "time" if unit == "ns" else unit
    axes.set_title(f"{provenance}, {what}", loc="left", pad=3, style="italic")
    axes.set_xlabel(f"{'latency' if unit == 'ns' else unit} of one call, logarithmic", loc="left")


def _draw_interval(axes: Axes, bar: _Bar, y: float, scale: _Scale) -> None:
    mean, low, high = (float(bar.row[name]) for name in ("mean", "low", "high"))
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    reach = [[mean - max(low, scale.start)], [high - mean]]
    # A white one under a dark one, to show on bars of any colour.
    for colour, stroke, cap in (("white", 1.9, 2.2), ("0.1", 0.7, 1.6)):
        axes.errorbar(
            mean, y, xerr=reach, fmt="none", ecolor=colour, elinewidth=stroke, capthick=stroke,
            capsize=cap,
        )  # fmt: skip


def _draw_scale(axes: Axes, unit: str, scale: _Scale) -> None:
    first, last = round(math.log10(scale.start)), round(math.log10(scale.last_tick))
    decade = scale.width / math.log10(scale.end / scale.start)
    stride = next((n for n in _STRIDES if n * decade >= _TICK), _STRIDES[-1])
    ticks = [10.0**n for n in range(first, last + 1)]
    axes.xaxis.set_major_locator(
        FixedLocator([10.0**n for n in range(first, last + 1) if n % stride == 0])
    )
    axes.xaxis.set_minor_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: comparison.format_quantity(value, unit, 1))
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines["bottom"].set_bounds(scale.start, scale.last_tick)


def _families(rows: pd.DataFrame, run: Run) -> list[Patch]:
    """Return the legend of colours; mechanisms that had to share one share an entry."""
    colours = style.colours(run.table)
    words = {"none": "no wall", "reference": "reference: runs no foreign function"}
    by_colour: dict[str, list[str]] = defaultdict(list)
    for group in comparison.series(rows).values():
        name = style.family(group["mechanism"].iloc[0], group["kind"].iloc[0])
        label = words.get(name, name)
        if label not in by_colour[colours[name]]:
            by_colour[colours[name]].append(label)
    return [
        Patch(**style.bar_style(colour, "measured"), label=", ".join(labels))
        for colour, labels in by_colour.items()
    ]


def _provenances(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(provenance for (provenance, _), _ in comparison.panels(rows)))


def _explained(rows: pd.DataFrame) -> Iterator[str]:
    if rows["ratio_to_none"].notna().any():
        yield "In parentheses: ratio to none of the same panel and level, if that is known."
    elif len(rows):
        yield "No ratios: the baseline, none, has no result."
