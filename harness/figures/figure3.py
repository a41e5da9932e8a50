"""Figure 3: execution time of Snappy against the size of its input, a line a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import literature, tables
from harness.figures import against_size, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.results import Run


def contents(run: Run) -> list[str]:
    """List the contents that there is a Figure 3 of."""
    return sorted(set(tables.figure3_rows(run)["content"]))


def draw(run: Run, content: str) -> Figure:
    """Draw Figure 3 for one content, beside upstream's counts where those are of this content."""
    rows = tables.figure3_rows(run)
    rows = rows[rows["content"] == content]
    quoted = literature.counts(tables.FIGURE_3)
    shown = style.drawable(rows)
    counted = shown.loc[shown["unit"] == "instructions", "size"]
    # Upstream's other sizes would lie outside of the axis.
    beside = quoted["size"].between(counted.min(), counted.max())
    quoted = quoted[(quoted["content"] == content) & beside]
    return against_size.draw(
        against_size.Plot(
            title=f"Snappy on {content or 'unstated'} content: cost of one call against size",
            rows=rows,
            marks=style.marks(run.table),
            names={},
            quoted=quoted,
            notes=[
                *literature.sources(quoted),
                " ".join(tables.notes(run, shown, tables.FIGURE_3)),
            ],
        )
    )
