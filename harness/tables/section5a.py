"""Section V-A: a pair of malloc and free in a domain's heap against glibc's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison, literature
from harness.tables import table
from harness.tables.notes import notes

if TYPE_CHECKING:
    from harness.results import Run

SECTION_5A = ("malloc",)

_PER_OPERATION = ["median", "mean", "std", "low", "high"]


def per_operation(rows: pd.DataFrame) -> pd.DataFrame:
    """Divide the numbers of calls by the operations that a call makes."""
    divided = rows.copy()
    divided[_PER_OPERATION] = rows[_PER_OPERATION].div(rows["operations"], axis="index")
    return divided.assign(operations=1)


def section5a_table(run: Run) -> table.Table | None:
    """Tabulate a pair of malloc and free; None if the run has no such cell."""
    mine = comparison.usual_optimisation(run.table[run.table["workload"].isin(SECTION_5A)])
    if mine.empty:
        return None
    rows = comparison.with_ratios(per_operation(mine))
    rows = pd.concat(
        [
            comparison.by_latency(group)
            for _, panel in comparison.panels(rows)
            for _, group in panel.groupby("content", sort=False)
        ]
    )
    records = rows.to_dict("records")
    counts = [literature.counterpart(row) for row in records]
    ratios = [literature.counterpart_ratio(row) for row in records]
    cells = {
        "backend": table.labels(rows),
        "content": rows["content"].tolist(),
        "provenance": rows["provenance"].tolist(),
        "quantity": ["time" if unit == "ns" else unit for unit in rows["unit"]],
        "mean of a pair": table.quantities(rows, "mean"),
        "std, % of mean": table.percents(rows),
        f"{comparison.TIMES} none": table.ratios(rows["ratio_to_none"]),
        "upstream (quoted)": [comparison.format_quantity(v, "instructions") for v in counts],
        f"{comparison.TIMES} none, upstream (quoted)": table.ratios(ratios),
    }
    quoted = any(map(math.isfinite, ratios))
    return table.Table(
        name="section-5a",
        title="A pair of malloc and free of 0 to 4,095 bytes, in the heap behind each wall",
        parts=[("Mean of a pair, relative deviation and ratio", pd.DataFrame(cells))],
        rows=rows,
        notes=[
            *table.explained(rows),
            *(["Upstream's ratios are of instructions."] if quoted else ()),
            *(literature.sources(literature.counts(SECTION_5A)) if quoted else ()),
            *notes(run, rows, SECTION_5A, expected=()),
        ],
    )
