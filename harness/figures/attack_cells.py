"""Cells of the map of attacks: what each outcome looks like, and the legend that says so.

Light blues are walls that held, warm colours harm that no claim excludes, and black is a claim
refuted. A letter in each cell says the same without colours.

All of it is set in inches, y down from the figure's upper edge.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from harness.attacks import grid as laying
from harness.attacks.grid import Cell
from harness.attacks.model import Outcome
from harness.figures import style

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from matplotlib.axes import Axes
    from matplotlib.path import Path

# Tints and shades of Okabe and Ito's colours (see style.py), which the colour-blind tell apart.
# Both the blues and the warm ones get darker, in grey too, as it gets worse.
_FILLS = {
    Outcome.HARMLESS: "#FFFFFF",
    Outcome.RECOVERED: "#DDEFFA",
    Outcome.REFUSED: "#BFE0F5",
    Outcome.CONTAINED: "#93CCEF",
    Outcome.DISCLOSED: "#FBEDB4",
    Outcome.HUNG: "#F3CC55",
    Outcome.HOST_DIED: "#EFA92B",
    Outcome.ESCAPED: "#DE6A1A",
    Outcome.UNAVAILABLE: "#EEEEEE",
}
_REFUTED = "#000000"
_EDGE = "0.72"

# Inches.
PITCH = 0.138  # from row to row
LEAST = 0.145  # from column to column, at least
PAD = 0.05
_ENTRY = 3.3  # of the legend, at least

# Rows of entries (left, cell, lines of words), each with its height in inches.
Legend = list[tuple[list[tuple[float, "Drawn", list[str]]], float]]


@dataclass(frozen=True)
class Drawn:
    """A cell: what its colour is of, and a line or two in it."""

    cell: Cell
    lines: Sequence[str]


def draw(axes: Axes, boxes: Sequence[tuple[float, float, float, float, Drawn]]) -> None:
    """Draw cells (left, top, width, height, what)."""
    corners = [
        [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        for x, y, width, height, _ in boxes
    ]
    fills = [_fill(drawn.cell) for *_, drawn in boxes]
    axes.add_collection(
        PolyCollection(corners, facecolors=fills, edgecolors=_EDGE, linewidths=0.4),
        autolim=False,
    )
    # Thousands of texts take a minute to lay out; each is a shape that is drawn many times.
    places: dict[tuple[str, bool], list[tuple[float, float]]] = defaultdict(list)
    for x, y, width, height, drawn in boxes:
        first = y + height / 2 - (len(drawn.lines) - 1) * style.LINE / 2
        for number, text in enumerate(drawn.lines):
            middle = (x + width / 2, first + number * style.LINE)
            places[text, bool(drawn.cell.refuted)].append(middle)
    for (text, refuted), offsets in places.items():
        shapes = PathCollection(
            [_shape(text, "bold" if refuted else "normal")],
            offsets=offsets,
            offset_transform=axes.transData,
            facecolors="white" if refuted else "black",
            linewidths=0,
            label=text,
        )
        # Paths are in points, whatever the resolution.
        shapes.set_transform(Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
        axes.add_collection(shapes, autolim=False)


def _shape(text: str, weight: str) -> Path:
    """Return the outline of a text in points, centred as a line of capitals is."""
    font = FontProperties(family=style.FONT_FAMILY, weight=weight, size=style.FONT)
    outline = TextPath((0, 0), text, prop=font, usetex=False)
    box = outline.get_extents()
    capital = TextPath((0, 0), "E", prop=font, usetex=False).get_extents()
    return outline.transformed(
        Affine2D().translate(-(box.x0 + box.x1) / 2, -(capital.y0 + capital.y1) / 2)
    )


def _fill(cell: Cell) -> str:
    return _REFUTED if cell.refuted else _FILLS[cell.outcome]


def legend(width: float, used: Collection[Outcome]) -> Legend:
    """Lay the legend out for a figure so many inches wide: what occurs in it, and refutation.

    That nothing was refuted is seen only by who knows what it would look like.
    """
    entries = [
        (Drawn(Cell(outcome), [laying.LETTERS[outcome]]), laying.WORDS[outcome])
        for outcome in Outcome
        if outcome in used
    ]
    refuted = Drawn(Cell(Outcome.ESCAPED, ("any",)), [laying.REFUTED])
    entries.append((refuted, laying.REFUTED_WORDS))
    columns = max(1, int((width - 2 * style.MARGIN) / _ENTRY))
    room = (width - 2 * style.MARGIN) / columns
    rows = []
    depth = -(-len(entries) // columns)
    for number in range(depth):
        row = [
            (
                style.MARGIN + place * room,
                cell,
                style.wrap(words, room - LEAST - 3 * PAD),
            )
            for place, (cell, words) in enumerate(entries[number::depth])
        ]
        lines = max(len(words) for _, _, words in row)
        rows.append((row, PITCH + (lines - 1) * style.LINE + 0.02))
    return rows


def draw_legend(axes: Axes, legend: Legend, top: float) -> None:
    """Draw it, `top` inches below the figure's upper edge."""
    for row, height in legend:
        for left, cell, words in row:
            draw(axes, [(left, top, LEAST, PITCH, cell)])
            for number, text in enumerate(words):
                y = top + PITCH / 2 + number * style.LINE
                axes.text(left + LEAST + PAD, y, text, va="center_baseline")
        top += height
