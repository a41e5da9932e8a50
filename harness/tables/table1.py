"""Table I: decoding pictures with libpng."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison, literature
from harness.tables import table
from harness.tables.notes import notes

if TYPE_CHECKING:
    from harness.results import Run

TABLE_1 = ("png-decode",)


def table1_tables(run: Run) -> list[table.Table]:
    """Tabulate the decoding of pictures: a row a picture and backend, a table a provenance."""
    rows = comparison.with_ratios(
        comparison.usual_optimisation(run.table[run.table["workload"].isin(TABLE_1)])
    )
    return [_table(run, group, panel) for panel, group in comparison.panels(rows)]


def _table(run: Run, rows: pd.DataFrame, panel: comparison.Panel) -> table.Table:
    provenance, unit = panel
    # As the paper lists them: by their encoded size.
    pictures = rows.groupby(["size", "content"], sort=True)
    rows = pd.concat(
        [line for _, picture in pictures for line in comparison.series(picture).values()]
    )
    upstream = [literature.counterpart_ratio(row) for row in rows.to_dict("records")]
    cells = {
        "image": rows["content"].tolist(),
        "bytes": [f"{size:,}" for size in rows["size"]],
        "backend": table.labels(rows),
        "mean": table.quantities(rows, "mean"),
        "std, % of mean": table.percents(rows),
        f"{comparison.TIMES} none": table.ratios(rows["ratio_to_none"]),
        f"{comparison.TIMES} none, upstream (quoted)": table.ratios(upstream),
    }
    quoted = any(map(math.isfinite, upstream))
    quantity = "time" if unit == "ns" else unit
    return table.Table(
        name=f"table1-{provenance}-{unit}",
        title=f"Decoding a PNG into rows with libpng: {quantity}, {provenance}",
        parts=[("Mean, relative deviation and ratio", pd.DataFrame(cells))],
        rows=rows,
        notes=[
            *table.explained(rows),
            *([_UPSTREAM] if quoted else ()),
            *(literature.sources(literature.counts(TABLE_1)) if quoted else ()),
            *notes(run, rows, TABLE_1),
        ],
    )


_UPSTREAM = (
    "Upstream's ratios are of instructions and of its own pictures, of the same kinds and sizes in "
    "pixels as these; its counts are not comparable, and so not shown."
)
