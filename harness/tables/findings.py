"""The paper's findings on a run, as a table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pandas as pd

from harness import findings as deciding
from harness.tables import table
from harness.tables.notes import notes

if TYPE_CHECKING:
    from harness.results import Run


_BRIEF = 2  # significant digits, where the table must be narrow
_INTERVALS = (
    "In parentheses after a number: the least and the most that the 95 % intervals of the means "
    "allow. A verdict needs all of it on one side of the threshold."
)


def findings_table(run: Run) -> table.Table:
    """Tabulate the paper's findings: what decides each, the numbers, the verdict."""
    found = deciding.decide(run.table)
    cells = {
        "finding": [f"{finding.number}. {finding.claim}" for finding in found],
        "test": [finding.test for finding in found],
        "numbers": [finding.numbers for finding in found],
        "verdict": [finding.verdict for finding in found],
    }
    brief = deciding.decide(run.table, digits=_BRIEF)
    narrow = {
        "finding": cells["finding"],
        "numbers": [finding.numbers for finding in brief],
        "verdict": cells["verdict"],
    }
    used = {finding.provenance for finding in found}
    rows = run.table[run.table["provenance"].isin(used)]
    return table.Table(
        name="findings",
        title="The paper's findings on this run",
        parts=[("Verdicts", pd.DataFrame(cells))],
        rows=pd.DataFrame([dataclasses.asdict(finding) for finding in found]),
        notes=[
            _INTERVALS,
            *table.provenances(rows),
            *notes(run, rows.iloc[:0], ("switch", "snappy-compress"), expected=()),
        ],
        markdown_parts=[("Verdicts", pd.DataFrame(narrow))],
        markdown_notes=[f"Test of {finding.number}: {finding.test}" for finding in found],
        prose={"finding": 0.2, "test": 0.3, "numbers": 0.3, "verdict": 0.1},
    )
