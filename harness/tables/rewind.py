"""What a violation costs: from the fault to the caller's error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison, literature
from harness.tables import table
from harness.tables.notes import notes

if TYPE_CHECKING:
    from harness.results import Run

REWIND = ("rewind",)

_FAULT, _RETURN = "fault", "return"


def rewind_table(run: Run) -> table.Table | None:
    """Tabulate a violation's cost, with upstream's under it; None if the run has no such cell."""
    mine = comparison.usual_optimisation(run.table[run.table["workload"].isin(REWIND)])
    if mine.empty:
        return None
    rows = mine
    if (mine["unit"] == "instructions").any():
        rows = pd.concat([mine, literature.counts(REWIND)], ignore_index=True)
    rows = comparison.with_ratios(rows)
    rows = pd.concat([comparison.by_latency(group) for _, group in comparison.panels(rows)])
    beyond = zip(_beyond_a_return(rows), rows["unit"], strict=True)
    cells = {
        "backend": table.labels(rows),
        "content": [content or comparison.NOTHING for content in rows["content"]],
        "provenance": rows["provenance"].tolist(),
        "quantity": ["time" if unit == "ns" else unit for unit in rows["unit"]],
        "mean": table.quantities(rows, "mean"),
        "95 % low": table.quantities(rows, "low"),
        "95 % high": table.quantities(rows, "high"),
        "std, % of mean": table.percents(rows),
        "beyond a return": [comparison.format_quantity(value, unit) for value, unit in beyond],
    }
    return table.Table(
        name="rewind",
        title="From a fault in foreign code to the caller's error, discard included",
        parts=[("Mean and 95 % interval", pd.DataFrame(cells))],
        rows=rows,
        notes=[
            "Beyond a return: less the mean of the same call where it returns instead.",
            *table.provenances(rows),
            *literature.sources(rows),
            *notes(run, rows, REWIND, expected=()),
        ],
    )


def _beyond_a_return(rows: pd.DataFrame) -> list[float]:
    """Subtract from each fault the call that returns; NaN where there is none."""
    key = ["backend", "level", "provenance", "unit"]
    returns = rows[rows["content"] == _RETURN].set_index(key)["mean"].to_dict()
    return [
        float(row["mean"]) - returns.get(tuple(row[name] for name in key), math.nan)
        if row["content"] == _FAULT
        else math.nan
        for row in rows.to_dict("records")
    ]
