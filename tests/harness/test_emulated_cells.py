"""Cells whose instructions are counted in the emulated machine."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pyperf
import pytest

from backends import registry
from backends.contract import Availability
from harness import emulated, emulated_cells, results, run, storage
from harness.plan import Cell, PlanError, make_plan
from small_runs import Silent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose CPU has no protection keys."""
    missing = Availability.no("no keys", "emulate them", emulated=True)
    monkeypatch.setattr("backends.mpk.ProtectionKeys.availability", lambda _: missing)


@pytest.mark.usefixtures("no_keys")
def test_what_works_only_there_is_counted_with_what_it_is_compared_with() -> None:
    plan = make_plan("quick")
    counted = {cell.backend for cell in plan.cells if cell.provenance == "emulated"}
    measured = {cell.backend for cell in plan.cells if cell.provenance == "measured"}
    only_there = {
        b.name
        for b in registry.all_backends()
        if b.standard != frozenset() and b.availability().emulated
    }
    assert {
        "mpk",
        "mpk-view",
        "mpk-nosud",
        "mpk-abomonation-v1",
        "mpk-abomonation-v1-O0",
    } <= only_there
    processes = {
        b.name
        for b in registry.all_backends()
        if b.mechanism.startswith("sandcrust-")
        and b.options["placement"] == "same-core"
        and b.availability().available
    }
    assert {"sandcrust-pipe", "sandcrust-fork"} <= processes
    assert counted == {"none"} | processes | only_there
    assert not any(name.startswith("mpk") for name in measured)
    assert "sandcrust-pipe-other-core" in measured
    nowhere = [missing.backend for missing in plan.unavailable if not missing.workload]
    assert not any(name.startswith("mpk") for name in nowhere)


@pytest.mark.usefixtures("no_keys")
def test_without_emulation_they_are_unavailable_with_the_reason() -> None:
    plan = make_plan("smoke", emulate=False)
    assert all(cell.provenance == "measured" for cell in plan.cells)
    assert {m.reason for m in plan.unavailable if m.backend.startswith("mpk")} == {"no keys"}
    plan = make_plan("smoke", obstacle=lambda: "QEMU is not here")
    reasons = [m.reason for m in plan.unavailable if m.backend == "mpk"]
    assert reasons == ["no keys; and QEMU is not here"]
    with pytest.raises(PlanError, match="QEMU is not here"):
        make_plan("smoke", emulate=True, obstacle=lambda: "QEMU is not here")


def test_where_nothing_needs_it_nothing_is_emulated() -> None:
    plan = make_plan("smoke", backends=["none", "sandcrust-pipe"])
    assert all(cell.provenance == "measured" for cell in plan.cells)
    plan = make_plan("smoke", backends=["none"], emulate=True)
    assert {cell.provenance for cell in plan.cells} == {"measured", "emulated"}
    assert len({cell.name for cell in plan.cells}) == len(plan.cells)


def test_a_machine_that_does_not_start_fails_its_cells_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(series: str) -> emulated.Kernel:
        raise emulated.EmulationError(f"no kernel {series}")

    monkeypatch.setattr(emulated, "kernel", broken)
    plan = make_plan("smoke", backends=["none"], workload_names=["switch"], emulate=True)
    folder = run.new_run(plan, tmp_path)
    record = run.run(folder, Silent())
    assert [(f.cell, f.error) for f in record.failures] == [
        ("switch/none@emulated", "no kernel 6.12")
    ]
    assert [b.get_name() for b in run.load_benchmarks(folder)] == ["switch/none"]


@pytest.mark.timeout(1200)
def test_instructions_are_counted_stored_and_the_same_the_next_time(tmp_path: Path) -> None:
    obstacle = emulated.obstacle()
    if obstacle:
        # Where the project itself is tested, nothing may be left out.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
    plan = make_plan(
        "smoke",
        backends=["none", "mpk", "mpk-view"],
        workload_names=["switch", "snappy-compress", "png-decode", "malloc", "rewind"],
        contents=["random", "matplotlib-logo", "pairs", "fault"],
        sizes=[64],
        emulate=True,
    )
    counted = [cell for cell in plan.cells if cell.provenance == "emulated"]
    broken = Cell(backend="no-such-backend", workload="switch", provenance="emulated")
    plan = msgspec.structs.replace(plan, cells=(counted[0], broken, *counted[1:]))
    folder = run.new_run(plan, tmp_path)
    record = run.run(folder, Silent())
    assert [failure.cell for failure in record.failures] == [broken.name]
    assert "no-such-backend" in record.failures[0].error

    table = results.load(folder).table
    assert set(table["provenance"]) == {"emulated"}
    assert set(table["unit"]) == {"instructions"}
    means = dict(
        zip(zip(table["workload"], table["backend"], strict=True), table["mean"], strict=True)
    )
    assert 10 < means["switch", "none"] < 30
    assert 50 < means["switch", "mpk"] - means["switch", "none"] < 76
    assert means["png-decode", "mpk-view"] < 1.1 * means["png-decode", "none"]
    assert means["malloc", "mpk"] < means["malloc", "none"]
    assert 4000 < means["rewind", "mpk"] < 40_000
    assert ("rewind", "none") not in means

    # The file is pyperf's. Without its first cell, the run goes on, and counts the same.
    suite = pyperf.BenchmarkSuite.load(str(folder / storage.BENCHMARKS_FILE))
    kept = suite.get_benchmarks()[1:]
    pyperf.BenchmarkSuite(kept).dump(str(folder / storage.BENCHMARKS_FILE), replace=True)
    silent = Silent()
    run.run(folder, silent)
    assert silent.begun == [counted[0].name, broken.name]
    again = results.load(folder).table
    assert len(again) == len(table)
    assert again["mean"].to_list() == pytest.approx(table["mean"].to_list(), rel=1e-3)


def test_lines_that_are_no_counts_are_passed_over() -> None:
    seen: list[bytes] = []
    lines = emulated_cells._Lines(seen.append)
    for part in (b"abc", b"\nd", b"ef\n", b"", b"rest"):
        lines.write(part)
    assert seen == [b"abc", b"def"]


@pytest.mark.parametrize(
    "forged",
    [
        {"values": []},
        {"values": [-1.0]},
        {"values": [0.0]},
        {"values": [1.5], "metadata": {"loops": "many"}},
    ],
)
def test_a_result_that_foreign_code_forged_fails_its_cell_and_not_the_run(
    forged: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(backend="none", workload="switch", provenance="emulated")

    def forging_machine(*arguments: object, stdout: Any, **options: object) -> int:
        stdout.write(b"[" * 100_000 + b"\n\xff\n" + json.dumps({"cell": 7}).encode() + b"\n")
        stdout.write(json.dumps({"cell": cell.name, **forged}).encode() + b"\n")
        return 0

    monkeypatch.setattr(emulated, "kernel", lambda series: None)
    monkeypatch.setattr(emulated, "run", forging_machine)
    ended: list[tuple[Any, str | None]] = []
    emulated_cells.measure([cell], 1.0, lambda _, *outcome: ended.append(outcome))
    [(benchmark, error)] = ended
    assert benchmark is None
    assert error is not None
    assert "malformed result" in error


def test_only_some_backends_can_be_emulated() -> None:
    available = {b.name: b.availability() for b in registry.all_backends()}
    for name, availability in available.items():
        assert not availability.emulated or name.startswith(("mpk", "pkru-safe"))
        assert dataclasses.asdict(availability)["emulated"] == availability.emulated
