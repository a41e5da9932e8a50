"""Tables of cost against size: the detailed ones behind Figures 3 and 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import comparison
from harness.tables import table
from harness.tables.notes import common_sizes_note, notes

if TYPE_CHECKING:
    import pandas as pd

    from harness.results import Run

#: The workloads of Figures 3 and 4: (a) and (b).
FIGURE_3 = ("snappy-compress", "snappy-uncompress")

#: Codecs of Figure 4, as the paper labels them.
FIGURE_4 = {"mpk-abomonation-v1": "v1", "mpk-abomonation-v2": "v2"}


def figure3_rows(run: Run) -> pd.DataFrame:
    """Pick what Figure 3 shows: every backend, codecs at the usual level of optimisation."""
    return comparison.usual_optimisation(run.table[run.table["workload"].isin(FIGURE_3)])


def figure4_rows(run: Run) -> pd.DataFrame:
    """Pick what Figure 4 shows: the two abomonation codecs at every level that was measured.

    Returns:
        Rows of the tidy table, without panels of one level only: there is nothing to compare in
        them, and Figure 3 shows the usual level.
    """
    mine, levels = _by_level(run)
    return mine[levels > 1]


def figure4_left_out(run: Run, content: str) -> list[str]:
    """Say which provenances of a content Figure 4 leaves out, for the notes."""
    mine, levels = _by_level(run)
    left = mine[(levels == 1) & (mine["content"] == content)]
    provenances = [provenance for (provenance, _), _ in comparison.panels(left)]
    listed = ", ".join(dict.fromkeys(provenances))
    return [f"Not shown, having one level of optimisation only: {listed}."] if listed else []


def _by_level(run: Run) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Return all rows of Figure 4's codecs, and how many levels the panel of each has."""
    rows = run.table[run.table["workload"].isin(FIGURE_3)]
    mine = rows[rows["backend"].isin(figure4_backends())]
    levels = mine["backend"].map(lambda backend: comparison.optimisation(backend)[1])
    panel = [mine[name] for name in ("content", "provenance", "unit")]
    return mine, levels.groupby(panel).transform("nunique")


def figure4_label(backend: str) -> str:
    """Name a codec and its level as the paper does: `v1_opt_0`."""
    name, level = comparison.optimisation(backend)
    return f"{FIGURE_4[name]}_opt_{level}"


def figure4_backends() -> list[str]:
    """List the backends of Figure 4, in its order."""
    return [
        name if level == comparison.OPTIMISATION else f"{name}-O{level}"
        for name in FIGURE_4
        for level in range(4)
    ]


@dataclass(frozen=True)
class _Figure:
    name: str
    title: str
    expected: list[str] | None = None


def figure3_tables(run: Run) -> list[table.Table]:
    """Tabulate time against size: a table for each workload, content, provenance and unit."""
    return _tables(run, figure3_rows(run), _Figure("figure3", "size"))


def figure4_tables(run: Run) -> list[table.Table]:
    """Tabulate codecs by level of optimisation likewise; none if one level was measured only."""
    rows = figure4_rows(run)
    return _tables(run, rows, _Figure("figure4", "level of optimisation", figure4_backends()))


def _tables(run: Run, rows: pd.DataFrame, figure: _Figure) -> list[table.Table]:
    # Ratios are to a baseline that is not among the rows of Figure 4.
    related = run.table[run.table["workload"].isin(FIGURE_3)]
    rated = comparison.with_ratios(related)
    shown = ["backend", "content", "provenance", "unit"]
    rated = rated.merge(rows[shown].drop_duplicates(), on=shown)
    return [
        _size_table(run, group, panel, figure)
        for workload in FIGURE_3
        for _, mine in rated[rated["workload"] == workload].groupby("content")
        for panel, group in comparison.panels(mine)
    ]


def _size_table(
    run: Run, rows: pd.DataFrame, panel: comparison.Panel, figure: _Figure
) -> table.Table:
    provenance, unit = panel
    workload, content = str(rows["workload"].iloc[0]), str(rows["content"].iloc[0])
    sizes = comparison.common_sizes(rows)
    means = comparison.geometric_means(rows, sizes)
    ratios = comparison.geometric_means(rows, sizes, "ratio_to_none")
    quantity = "execution time" if unit == "ns" else f"{unit} retired"
    parts = [
        (
            f"Mean {quantity} ({'ns, µs, ms, s' if unit == 'ns' else 'k: thousand, M: million'})",
            table.matrix(rows, "mean", lambda v: comparison.format_quantity(v, unit), means),
        ),
        (
            f"Standard deviation of {quantity} (% of the mean)",
            table.matrix(rows, "std_percent_of_mean", comparison.format_percent),
        ),
        (
            f"Ratio of mean {quantity} to that of none, a factor",
            table.matrix(rows, "ratio_to_none", comparison.format_ratio, ratios),
        ),
    ]
    if figure.expected is not None:
        for _, cells in parts:
            labels = [f"{figure4_label(name)} ({name})" for name in cells["backend"]]
            cells["backend"] = labels
    lines = [
        f"Geometric means: {common_sizes_note(rows)}.",
        *table.explained(rows),
        *notes(run, rows, (workload,), expected=figure.expected),
    ]
    against = f"against {figure.title}" if figure.expected is None else f"by {figure.title}"
    return table.Table(
        name=f"{figure.name}-{workload}-{content or 'no-content'}-{provenance}-{unit}",
        title=f"{workload}, {content or 'unstated'} content: {quantity} {against}, {provenance}",
        parts=parts,
        rows=rows,
        notes=lines,
    )
