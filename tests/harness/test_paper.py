from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from made_up_runs import make_row, make_run, whole_run

from harness import figures, paper, tables

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = [
    "Figure 1",
    "Figure 2",
    "Figure 3 (a)",
    "Figure 3 (b)",
    "Figure 4 (a)",
    "Figure 4 (b)",
    "Table I",
    "Section V-A",
    "Recovery",
    "Detailed tables, Figure 3",
    "Detailed tables, Figure 4",
    "Findings",
]


def test_a_whole_run_has_every_figure_and_table_of_the_paper() -> None:
    parts = paper.parts(whole_run())
    assert [part.number for part in parts] == NUMBERS
    assert all(part.there and part.files for part in parts)


def test_the_files_that_are_listed_are_those_that_are_written(tmp_path: Path) -> None:
    run = whole_run()
    written = figures.draw_all(run, tmp_path / "figures")
    written += tables.write_all(run, tmp_path / "tables")
    listed = {
        tmp_path / f"{name}{suffix}"
        for part in paper.parts(run)
        for name, suffixes in paper.files(part)
        for suffix in suffixes
    }
    assert listed == set(written)


@pytest.mark.parametrize(
    ("workload", "number"),
    [
        ("switch", "Figure 2"),
        ("snappy-uncompress", "Figure 3 (b)"),
        ("png-decode", "Table I"),
        ("malloc", "Section V-A"),
        ("rewind", "Recovery"),
    ],
)
def test_what_a_run_lacks_has_no_files_and_says_what_to_measure(workload, number) -> None:
    parts = {part.number: part for part in paper.parts(whole_run(without=(workload,)))}
    part = parts[number]
    assert not part.there
    assert part.files == ()
    assert part.data == f"none; measure {workload}"
    assert parts["Figure 1"].there


def test_findings_that_are_not_decided_are_counted() -> None:
    *_, last = paper.parts(make_run([make_row("none", 2.4)]))
    assert last.data == "4 not decidable here"
    assert not last.there
