"""Cells that are modelled: timed here without WRPKRU, whose published cost is added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backends import protection_keys
from harness import results, run, storage, wrpkru
from harness.plan import make_plan
from small_runs import FAST, Silent

if TYPE_CHECKING:
    from pathlib import Path

lacks_keys = pytest.mark.skipif(
    not protection_keys.lacking(), reason="models are for x86-64 CPUs without protection keys"
)


def plan(**arguments):
    return make_plan(
        "smoke",
        backends=["none", "mpk"],
        workload_names=["switch"],
        pyperf=FAST,
        emulate=False,
        **arguments,
    )


@lacks_keys
def test_a_backend_that_lacks_its_instruction_is_modelled_unless_told_otherwise() -> None:
    assert [cell.name for cell in plan().cells] == ["switch/none", "switch/mpk@modelled"]
    assert [cell.name for cell in plan(modelled=False).cells] == ["switch/none"]
    assert [cell.name for cell in plan(level="python").cells] == ["switch/none@python"]


@lacks_keys
def test_a_modelled_cell_is_a_measured_path_and_a_published_range(tmp_path: Path) -> None:
    folder = run.new_run(plan(), tmp_path)
    record = run.run(folder, Silent())
    assert record.failures == []
    rows = results.load(folder).table.set_index("backend")
    none, mpk = rows.loc["none"], rows.loc["mpk"]
    assert (none["provenance"], mpk["provenance"]) == ("measured", "modelled")
    assert mpk["unit"] == "ns"
    assert none["mean"] < mpk["low"] < mpk["mean"] < mpk["high"]
    (benchmark,) = (b for b in run.load_benchmarks(folder) if b.get_name() == "switch/mpk@modelled")
    metadata = benchmark.get_metadata()
    assert metadata["wrpkru_per_call"] == 2
    cycle = 1e9 / metadata["clock_hz"]
    path = benchmark.mean() * 1e9
    assert mpk["mean"] == pytest.approx(path + 2 * 23.3 * cycle)
    assert mpk["high"] >= path + 2 * 260 * cycle
    assert mpk["low"] <= path + 2 * 11 * cycle
    assert storage.read_record(folder).host["cpu_mhz"] > 0


def test_the_clock_is_the_mean_of_the_cpus(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("cpu MHz\t\t: 2000.000\nflags : x\ncpu MHz\t\t: 3000.000\n")
    assert wrpkru.clock_hz(file) == 2.5e9
    assert wrpkru.nanoseconds(250, 2.5e9) == 100
    file.write_text("BogoMIPS : 50\n")
    with pytest.raises(OSError, match="does not say"):
        wrpkru.clock_hz(file)
