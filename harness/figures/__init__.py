"""Figures of a run, drawn from its tidy table and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import tables
from harness.figures import figure1, figure2, figure3, figure4, style

if TYPE_CHECKING:
    from pathlib import Path

    from harness.results import Run

__all__ = ["draw_all"]


def draw_all(run: Run, folder: Path) -> list[Path]:
    """Draw every figure that the run's data allow, each as PNG (300 dpi), SVG and PDF.

    Figure 1 shows no data: it is there in any case. A run without any result gives a Figure 2 that
    says so, and why. The same run and the same version of matplotlib give the same bytes.

    Args:
        run: The run.
        folder: Where to; made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = figure3.contents(run)
    paths = style.save(figure1.draw(), folder, "figure1")
    if run.table["workload"].isin(tables.FIGURE_2).any() or not contents:
        paths += style.save(figure2.draw(run), folder, "figure2")
    for content in contents:
        name = f"figure3-{content or 'no-content'}"
        paths += style.save(figure3.draw(run, content), folder, name)
    for content in figure4.contents(run):
        name = f"figure4-{content or 'no-content'}"
        paths += style.save(figure4.draw(run, content), folder, name)
    return paths
