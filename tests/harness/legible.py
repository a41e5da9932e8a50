"""What tests of figures look at: their text, and whether it can be read."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def prose(figure: Figure) -> str:
    """All text, lines joined, as a reader reads it."""
    return " ".join(" ".join(texts(figure)).split())


def names_of_bars(axes: Axes) -> list[str]:
    labels = [label.get_text() for label in axes.get_yticklabels()]
    return [label.replace("-\n", "-").replace("\n", " ") for label in labels]


def placed_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    figure.draw_without_rendering()
    legends = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    ticks = [
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis._update_ticks()
        for label in (tick.label1,)
    ]
    other = [
        text
        for axes in figure.axes
        for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label, axes._left_title)
    ]
    shown = [*figure.texts, *legends, *ticks, *other]
    return [
        (text.get_text(), text.get_window_extent())
        for text in shown
        if text.get_visible() and text.get_text()
    ]


def assert_legible(figure: Figure) -> None:
    placed = placed_texts(figure)
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(Text))
    whole = Bbox.from_bounds(0, 0, figure.bbox.width, figure.bbox.height).padded(0.5)
    for text, box in placed:
        assert whole.contains(box.x0, box.y0), text
        assert whole.contains(box.x1, box.y1), text
    for (one, box), (other, other_box) in combinations(placed, 2):
        # Boxes of lines set one under the other touch; letters do not.
        common = Bbox.intersection(box, other_box)
        assert common is None or min(common.width, common.height) < 3, (one, other)
    for legend in figure.findobj(Legend):
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())
