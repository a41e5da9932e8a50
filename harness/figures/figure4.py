"""Figure 4: the abomonation codecs by level of optimisation, against the size of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import literature, tables
from harness.figures import against_size, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.results import Run


_LABELS = (
    "v1 visits a byte string element by element, v2 copies it whole; the number is the compiler's "
    "level of optimisation, -O0 to -O3."
)


def contents(run: Run) -> list[str]:
    """List the contents that there is a Figure 4 of."""
    return sorted(set(tables.figure4_rows(run)["content"]))


def draw(run: Run, content: str) -> Figure:
    """Draw Figure 4 for one content, labelled as the paper does."""
    rows = tables.figure4_rows(run)
    rows = rows[rows["content"] == content]
    backends = tables.figure4_backends()
    shown = style.drawable(rows)
    return against_size.draw(
        against_size.Plot(
            title=f"Abomonation by level of optimisation, {content or 'unstated'} content: "
            "cost of one call against size",
            rows=rows,
            marks={name: style.level_mark(name) for name in backends},
            names={name: tables.figure4_label(name) for name in backends},
            quoted=literature.counts(()),
            notes=[
                _LABELS,
                *tables.figure4_left_out(run, content),
                " ".join(tables.notes(run, shown, tables.FIGURE_3, expected=backends)),
            ],
        )
    )
