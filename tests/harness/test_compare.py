from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import pyperf
import pytest
from click.testing import CliRunner, Result

from harness import storage
from harness.cli import main
from harness.plan import Cell, Plan
from harness.storage import RunRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIMED = (Cell(backend="none", workload="switch"), Cell(backend="sandcrust-pipe", workload="switch"))
COUNTED = tuple(msgspec.structs.replace(cell, provenance="emulated") for cell in TIMED)


def store(folder: Path, values: Mapping[Cell, Sequence[float]]) -> Path:
    plan = Plan(preset="quick", cells=tuple(values), unavailable=(), pyperf=())
    record = RunRecord(id=folder.name, plan=plan, host={}, warnings=[], started="")
    folder.mkdir(parents=True)
    storage.write_record(folder, record)
    benchmarks = []
    for cell, numbers in values.items():
        unit = "integer" if cell.provenance == "emulated" else "second"
        metadata = {"name": cell.name, "unit": unit}
        run = pyperf.Run(list(numbers), metadata=metadata, collect_metadata=False)
        benchmarks.append(pyperf.Benchmark([run]))
    pyperf.BenchmarkSuite(benchmarks).dump(str(folder / storage.BENCHMARKS_FILE))
    return folder


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def rows(output: str) -> dict[str, str]:
    cells = [line.split("|")[1:-1] for line in output.splitlines() if line.startswith("|")]
    return {f"{cell[0].strip()} {n}": cell[-1].strip() for n, cell in enumerate(cells)}


def times(factor: float, number: int = 4) -> dict[Cell, list[float]]:
    return {cell: [factor * (1 + n / 100) for n in range(number)] for cell in TIMED}


def counts(factor: int) -> dict[Cell, list[float]]:
    return {cell: [1000 * factor, 1000 * factor + 1] for cell in COUNTED}


def test_times_and_counts_have_a_geometric_mean_each(tmp_path: Path) -> None:
    one = store(tmp_path / "one", times(1.0) | counts(1))
    two = store(tmp_path / "two", times(2.0) | counts(8))
    done = compare(one, two)
    assert done.exit_code == 0, done.output
    means = [mean for name, mean in rows(done.output).items() if name.startswith("Geometric")]
    assert means == ["2.00x slower", "8.00x slower"]
    assert "time, measured: 2 cells" in done.output
    assert "instructions, emulated: 2 cells" in done.output


def test_columns_have_the_names_of_the_runs(tmp_path: Path) -> None:
    one, two = store(tmp_path / "one", times(1.0)), store(tmp_path / "two", times(2.0))
    heading = next(line for line in compare(one, two).output.splitlines() if "Benchmark" in line)
    assert [name.strip() for name in heading.split("|")[2:4]] == ["one", "two"]
    same = shutil.copytree(two, tmp_path / "elsewhere" / "one")
    heading = next(line for line in compare(one, same).output.splitlines() if "Benchmark" in line)
    assert [name.strip() for name in heading.split("|")[2:4]] == ["one (1)", "one (2)"]


@pytest.mark.parametrize(("mine", "other"), [(4, 6), (1, 1)])
def test_cells_that_cannot_be_tested_are_told(tmp_path: Path, mine: int, other: int) -> None:
    one = store(tmp_path / "one", times(1.0, mine))
    two = store(tmp_path / "two", times(1.0, other) | {TIMED[0]: times(1.0, mine)[TIMED[0]]})
    done = compare(one, two)
    assert done.exit_code == 0, done.output
    untested = "1 cell" if mine > 1 else "2 cells"
    assert f"Not tested for significance, and shown all the same: {untested}." in done.output
    assert f"{mine} and {other}" in done.output


def test_cells_that_can_be_tested_are_without_a_word(tmp_path: Path) -> None:
    one, two = store(tmp_path / "one", times(1.0)), store(tmp_path / "two", times(2.0))
    assert "Not tested" not in compare(one, two).output


def test_what_is_hidden_or_left_out_is_counted_and_not_listed(tmp_path: Path) -> None:
    rest = {
        Cell(backend="none", workload="malloc", content="pairs", size=n): [1.0, 2.0]
        for n in range(1, 40)
    }
    one = store(tmp_path / "one", times(1.0) | counts(1) | rest)
    two = store(tmp_path / "two", times(1.0))
    output = compare(one, two).output
    assert f"Only in {one}, left out: 41 cells: malloc 39, switch@emulated 2." in output
    assert "Not significant, hidden: 2 cells: switch 2." in output
    assert "malloc/pairs" not in output
    assert "switch/none" not in output


def test_options_of_pyperf_are_passed_on(tmp_path: Path) -> None:
    one, two = store(tmp_path / "one", times(1.0)), store(tmp_path / "two", times(2.0))
    assert "hidden: 2 cells" in compare(one, two, "--", "--min-speed=150").output
    assert compare(one, two, "--", "--frobnicate").exit_code == 2
