"""Tables of a run, as Markdown, LaTeX and CSV, and the notes that go under tables and figures.

A file a table of the paper. Everything here is a function of a run's results; nothing measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.storage import replacing
from harness.tables.against_size import (
    FIGURE_3,
    figure3_rows,
    figure3_tables,
    figure4_backends,
    figure4_label,
    figure4_left_out,
    figure4_rows,
    figure4_tables,
)
from harness.tables.figure2 import FIGURE_2, figure2_rows, figure2_table
from harness.tables.findings import findings_table
from harness.tables.notes import common_sizes_note, noise, notes
from harness.tables.render import csv, latex, markdown
from harness.tables.rewind import REWIND, rewind_table
from harness.tables.section5a import SECTION_5A, section5a_table
from harness.tables.table import Table
from harness.tables.table1 import TABLE_1, table1_tables

if TYPE_CHECKING:
    from pathlib import Path

    from harness.results import Run

__all__ = [
    "FIGURE_2",
    "FIGURE_3",
    "REWIND",
    "SECTION_5A",
    "TABLE_1",
    "Table",
    "all_tables",
    "common_sizes_note",
    "csv",
    "figure2_rows",
    "figure2_table",
    "figure3_rows",
    "figure3_tables",
    "figure4_backends",
    "figure4_label",
    "figure4_left_out",
    "figure4_rows",
    "figure4_tables",
    "findings_table",
    "latex",
    "markdown",
    "noise",
    "notes",
    "rewind_table",
    "section5a_table",
    "table1_tables",
    "write_all",
]


def all_tables(run: Run) -> list[Table]:
    """Make every table that the run's data allow, in the paper's order.

    A run without any result gives the table of Figure 2, empty, with the reasons under it.
    """
    has_switch = run.table["workload"].isin(FIGURE_2).any()
    some = [section5a_table(run), rewind_table(run)]
    return [
        *([figure2_table(run)] if has_switch or run.table.empty else ()),
        *figure3_tables(run),
        *figure4_tables(run),
        *table1_tables(run),
        *(table for table in some if table is not None),
        *(() if run.table.empty else [findings_table(run)]),
    ]


def write_all(run: Run, folder: Path) -> list[Path]:
    """Write every table that the run's data allow, each as `.md`, `.tex` and `.csv`.

    Args:
        run: The run.
        folder: Where to; made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in all_tables(run):
        for suffix, render in ((".md", markdown), (".tex", latex), (".csv", csv)):
            path = folder / f"{table.name}{suffix}"
            with replacing(path) as temporary:
                temporary.write_text(render(table), encoding="utf-8")
            paths.append(path)
    return paths
