"""How figures look: sizes, colours, marks, and text that is measured before it is placed.

A mechanism has a colour, a backend a marker and a line style, so that a figure reads in grey too.
Provenance is the filling: solid is measured, hatched is modelled or emulated, each its own way (or
half filled: the left half, the lower half), open is cited.
Dotted lines are of the Python level.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from matplotlib import style as styles
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

from harness import comparison
from harness.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLUMN = 3.5  # inches: one column of a two-column page
PAGE = 7.16  # inches: both columns
FONT_FAMILY = "DejaVu Sans"  # comes with matplotlib: the same on every machine
FONT = 7.0  # points: the least that is still read at these widths
LINE = 1.25 * FONT / 72  # inches from one line of text to the next
MARGIN = 0.08  # inches

_RC: Any = {
    "font.family": FONT_FAMILY,
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.7,
    "text.parse_math": False,  # a dollar in an error message is a dollar
    "pdf.fonttype": 42,  # publishers refuse Type 3
    "svg.hashsalt": "isobench",  # identifiers are random otherwise
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures look so, whatever the user's matplotlibrc says."""
    return styles.context(["default", _RC])


# ---- colours and marks ----

_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_BLUE, _VERMILLION, _PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY = "#8C8C8C"
VIOLATION = _VERMILLION

# M. Okabe, K. Ito: "Color Universal Design", 2008: colours that the colour-blind tell apart. Their
# yellow is left out: it does not show on white.
_COLOURS = {
    "none": _BLACK,
    "sandcrust-pipe": _BLUE,
    "sandcrust-fork": _SKY,
    "pipe-floor": GREY,
    "mpk": _VERMILLION,
    "pkru-safe": _PURPLE,
}
_SPARE_COLOURS = (_GREEN, _ORANGE)

_SOLID, _DASHED = (0.0, ()), (0.0, (4.0, 1.5))
_DASH_DOT, _LONG = (0.0, (5.0, 1.5, 1.0, 1.5)), (0.0, (9.0, 2.0))
DOTTED = (0.0, (1.0, 1.2))

_T = TypeVar("_T")

Dashes = tuple[float, tuple[float, ...]]

_SHAPES: dict[str, tuple[str, Dashes]] = {
    "none": ("o", _SOLID),
    "none-default-malloc": ("o", _DASHED),
    "sandcrust-pipe": ("^", _SOLID),
    "sandcrust-pipe-other-core": ("^", _DASHED),
    "sandcrust-pipe-hardened": ("p", _DASH_DOT),
    "sandcrust-fork": ("v", _SOLID),
    "sandcrust-fork-other-core": ("v", _DASHED),
    "sandcrust-fork-hardened": ("h", _DASH_DOT),
    "pipe-floor": ("d", _SOLID),
    "pipe-floor-other-core": ("d", _DASHED),
    "mpk": ("s", _SOLID),
    "mpk-view": ("s", _DASHED),
    "mpk-nosud": ("s", _DASH_DOT),
    "mpk-strict": ("s", _LONG),
    "mpk-bincode-v1": ("<", _SOLID),
    "mpk-bincode-v2": (">", _DASHED),
    "mpk-abomonation-v1": ("D", _SOLID),
    "mpk-abomonation-v2": ("X", _DASHED),
    "pkru-safe": ("P", _SOLID),
}
_SPARE_SHAPES = list(product("hp*PdH8", (_SOLID, _DASHED, _DASH_DOT, _LONG)))


@dataclass(frozen=True, slots=True)
class Mark:
    """How a backend is drawn."""

    colour: str
    marker: str
    dashes: Dashes


def family(mechanism: str, kind: str) -> str:
    """Name the group of mechanisms that share a colour."""
    if kind == "reference":
        return "reference"
    known = (name for name in _COLOURS if mechanism == name or mechanism.startswith(f"{name}-"))
    return max(known, key=len, default=mechanism)


def colours(table: pd.DataFrame) -> dict[str, str]:
    """Give each family of mechanisms in a table its colour.

    What the project knows has a fixed one. Others get a spare one by their name; while there are
    spare ones left, no two get the same.
    """
    names = {family(m, k) for m, k in zip(table["mechanism"], table["kind"], strict=True)}
    known = _COLOURS | {"reference": GREY}
    return known | _spread(sorted(names - set(known)), _SPARE_COLOURS)


def marks(table: pd.DataFrame) -> dict[str, Mark]:
    """Give each backend of a whole run's table its mark, the same in all of the run's figures."""
    unique = table.drop_duplicates("backend")
    by_family = colours(table)
    shapes = _SHAPES | _spread(sorted(set(unique["backend"]) - set(_SHAPES)), _SPARE_SHAPES)
    return {
        backend: Mark(by_family[family(mechanism, kind)], *shapes[backend])
        for backend, mechanism, kind in zip(
            unique["backend"], unique["mechanism"], unique["kind"], strict=True
        )
    }


# Levels of optimisation have a colour each, and the codec the marker and the line.
_LEVELS = (_VERMILLION, _ORANGE, _GREEN, _PURPLE)


def level_mark(backend: str) -> Mark:
    """Return the mark of a codec at a level of optimisation, where all are of one mechanism."""
    name, level = comparison.optimisation(backend)
    # Fast levels coincide: each next line leaves gaps through which the one under it is seen.
    return Mark(_LEVELS[level], *_SHAPES[name])


def _spread(names: Sequence[str], choices: Sequence[_T]) -> dict[str, _T]:
    """Choose by name, so that other names seldom matter; step aside where one is taken."""
    taken: list[int] = []
    for name in names:
        slot = zlib.crc32(name.encode()) % len(choices)
        if len(taken) < len(choices):
            while slot in taken:
                slot = (slot + 1) % len(choices)
        taken.append(slot)
    return {name: choices[slot] for name, slot in zip(names, taken, strict=True)}


# ---- provenance ----

_HATCHES = {"measured": "", "modelled": "////", "emulated": "\\\\\\\\"}
_FILLS: dict[str, Literal["full", "left", "bottom"]] = {
    "measured": "full",
    "modelled": "left",
    "emulated": "bottom",
}


def bar_style(colour: str, provenance: str) -> dict[str, Any]:
    """Return the properties of a bar or patch: solid, hatched in its colour, or outlined."""
    hatch = _HATCHES.get(provenance)
    style: dict[str, Any] = {"edgecolor": colour, "linewidth": 0.8}
    if hatch is None:
        return style | {"facecolor": "white"}
    return style | {"facecolor": "white" if hatch else colour, "hatch": hatch}


def line_style(mark: Mark, provenance: str, level: str) -> dict[str, Any]:
    """Return the properties of a line and its markers: full, half filled or open."""
    return {
        "color": mark.colour,
        "linestyle": DOTTED if level == "python" else mark.dashes,
        "linewidth": 1.0,
        "marker": mark.marker,
        "markersize": 4.0,
        "markeredgewidth": 0.6,
        "markerfacecoloralt": "white",
        "fillstyle": _FILLS.get(provenance, "none"),
    }


# Of upstream's mechanisms: the marker of ours that is most like each.
_QUOTED_MARKERS = {
    "none": "o",
    "sandcrust-pipe": "^",
    "sandcrust-fork": "v",
    "bincode-v1": "<",
    "bincode-v2": ">",
    "abomonation-v1": "D",
}


def quoted_style(row: Mapping[str, Any] | pd.Series[Any]) -> dict[str, Any]:
    """Return the properties of a quoted series: small open marks, which no line joins."""
    family_ = str(row["mechanism"])
    marker = _QUOTED_MARKERS.get(str(row["codec"]), _QUOTED_MARKERS.get(family_, "P"))
    return {
        "color": _COLOURS[family_],
        "linestyle": "none",
        "marker": marker,
        "markersize": 2.6,
        "markeredgewidth": 0.5,
        "fillstyle": "none",
        "alpha": 0.8,
    }


def quoted_line() -> Line2D:
    """Return a legend's entry for quoted series."""
    row = {"mechanism": "none", "codec": ""}
    return Line2D([], [], **quoted_style(row), label=comparison.explain("literature"))


def provenance_patch(provenance: str) -> Patch:
    """Return a legend's entry for bars."""
    return Patch(**bar_style("0.3", provenance), label=comparison.explain(provenance))


def provenance_line(provenance: str) -> Line2D:
    """Return a legend's entry for lines."""
    style = line_style(Mark("0.3", "o", _SOLID), provenance, "native") | {"linestyle": "none"}
    return Line2D([], [], **style, label=comparison.explain(provenance))


# ---- text ----


#: How much wider than designed a renderer sets a line whose letters it fits to pixels, at most.
_HINTED = 1.02


def text_width(text: str, size: float = FONT, weight: str = "normal") -> float:
    """Return how wide a text is set, in inches."""
    font = FontProperties(family=FONT_FAMILY, size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def wrap(text: str, width: float, *, separators: str = " ") -> list[str]:
    """Break a text into lines no wider than `width` inches, at separators where there are any."""
    width /= _HINTED
    lines, line, start = [], "", 0
    while start < len(text):
        end = next((i + 1 for i in range(start, len(text)) if text[i] in separators), len(text))
        piece = text[start:end]
        if line and text_width((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        while len(piece) > 1 and text_width(piece.rstrip()) > width:
            fits = next(
                n for n in range(len(piece), 0, -1) if n == 1 or text_width(piece[:n]) <= width
            )
            lines.append(piece[:fits])
            piece = piece[fits:]
        line += piece
        start = end
    return [*lines, line.rstrip()]


def write_lines(figure: Figure, lines: Iterable[str], top: float, **text: Any) -> None:
    """Write lines at the left margin, from `top` inches below the figure's upper edge.

    Other arguments are properties of `matplotlib.text.Text`.
    """
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        y = 1 - (top + number * LINE) / height
        figure.text(MARGIN / width, y, line, va="top", ha="left", **text)


# ---- layout ----


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes, placed in inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )


class Legend:
    """A legend across a figure, in as many columns as fit.

    Attributes:
        height: Inches.
    """

    def __init__(self, handles: Sequence[Artist], width: float, least_columns: int = 1) -> None:
        """Break labels such that so many columns fit `width` inches at least."""
        room = (width - 2 * MARGIN) / least_columns - 0.6
        self._handles = list(handles)
        self._labels = [
            "\n".join(wrap(str(handle.get_label()), room, separators=" -")) for handle in handles
        ]
        self._columns = min(len(self._handles), int(width))  # none is narrower than an inch
        self.height = 0.0
        while self._handles:
            extent = self._extent(width)
            self.height = extent.height
            if extent.width <= width - 2 * MARGIN or self._columns <= least_columns:
                break
            self._columns -= 1

    def draw(self, figure: Figure, top: float) -> None:
        """Draw it at the left margin, `top` inches below the figure's upper edge."""
        if self._handles:
            self._add(figure, top)

    def _add(self, figure: Figure, top: float) -> Artist:
        across, down = figure.get_size_inches()
        return figure.legend(
            self._handles,
            self._labels,
            ncols=self._columns,
            loc="upper left",
            bbox_to_anchor=(MARGIN / across, 1 - top / down),
            borderaxespad=0,
            borderpad=0.2,
            labelspacing=0.35,
            columnspacing=1.4,
            handletextpad=0.6,
            handlelength=2.6,
            frameon=False,
        )

    def _extent(self, width: float) -> Bbox:
        # A legend knows its size only in a figure; this one is thrown away.
        figure = Figure(figsize=(width, 1))
        pixels = self._add(figure, 0).get_window_extent()
        return Bbox(pixels.get_points() / figure.dpi)


# ---- which cells a logarithmic axis can show ----


def drawable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose mean has a logarithm."""
    return rows.loc[rows["mean"].gt(0) & rows["mean"].lt(math.inf)]


def undrawable(rows: pd.DataFrame) -> list[str]:
    """Say which rows have none, for the notes."""
    lost = rows.drop(drawable(rows).index)
    cells = zip(lost["workload"], lost["backend"], lost["mean"], lost["unit"], strict=True)
    listed = ", ".join(f"{work}/{name} ({mean:g} {unit})" for work, name, mean, unit in cells)
    return [f"Not on a logarithmic axis: {listed}."] if listed else []


# ---- files ----

# Without dates the same numbers give the same bytes.
_METADATA: Mapping[str, Mapping[str, None]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG (300 dpi), SVG and PDF; return the files."""
    paths = []
    with styled():
        for suffix, metadata in _METADATA.items():
            path = folder / f"{name}.{suffix}"
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=300, metadata=dict(metadata))
            paths.append(path)
    return paths
