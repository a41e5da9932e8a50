"""The table of Figure 2: what an empty call costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison, literature
from harness.tables import table
from harness.tables.notes import notes

if TYPE_CHECKING:
    from harness.results import Run

FIGURE_2 = ("switch",)


def figure2_rows(run: Run) -> pd.DataFrame:
    """Pick the bars of Figure 2 out of a run, with PKRU-Safe's extrapolated one."""
    mine = comparison.usual_optimisation(run.table[run.table["workload"].isin(FIGURE_2)])
    quoted = literature.pkru_safe(run.table)
    if mine.empty or quoted.empty:
        return comparison.with_ratios(mine)
    return comparison.with_ratios(pd.concat([mine, quoted], ignore_index=True))


def figure2_table(run: Run) -> table.Table:
    """Tabulate the latency of a call of an empty function: a row a bar of Figure 2."""
    rows = figure2_rows(run)
    groups = [comparison.by_latency(group) for _, group in comparison.panels(rows)]
    rows = pd.concat(groups) if groups else rows
    upstream = [literature.counterpart(row) for row in rows.to_dict("records")]
    cells = {
        "backend": table.labels(rows),
        "kind": rows["kind"].tolist(),
        "provenance": rows["provenance"].tolist(),
        "quantity": ["time" if unit == "ns" else unit for unit in rows["unit"]],
        "mean": table.quantities(rows, "mean"),
        "95 % low": table.quantities(rows, "low"),
        "95 % high": table.quantities(rows, "high"),
        "std, % of mean": table.percents(rows),
        "upstream (quoted)": [comparison.format_quantity(v, "instructions") for v in upstream],
        f"{comparison.TIMES} none": table.ratios(rows["ratio_to_none"]),
        "values": [str(count) if count else comparison.NOTHING for count in rows["n"]],
        "processes": [str(count) if count else comparison.NOTHING for count in rows["processes"]],
    }
    beside = literature.counts(FIGURE_2) if any(map(math.isfinite, upstream)) else rows.iloc[:0]
    quoted = pd.concat([rows, beside])
    return table.Table(
        name="figure2",
        title="Latency of one call of an empty foreign function (workload switch)",
        parts=[("Mean and 95 % interval", pd.DataFrame(cells))],
        rows=rows,
        notes=[
            *table.explained(rows),
            *literature.sources(quoted),
            *notes(run, rows, FIGURE_2),
        ],
    )
