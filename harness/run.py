"""Runs a plan: a process a cell, each result stored as soon as it is there."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pyperf

from harness import emulated_cells, host, inputs, storage
from harness.plan import PlanError
from harness.pyperf_options import OptionError
from harness.storage import Failure, RunRecord
from harness.worker import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.plan import Cell, Plan

#: Facts that must be the same for numbers to go into one run.
_SAME_HOST = ("host", "cpu", "architecture", "kernel")

# What pyperf notes of a process that says where it ran and nothing of how fast.
_PRIVATE = ("command", "hostname", "python_executable", "python_cflags", "python_config_args")


class Progress(Protocol):
    """Whoever shows how far a run is."""

    def begin(self, cells: Sequence[Cell], seconds: Sequence[float]) -> None:
        """Show that cells are about to run, each expected to take so long."""

    def cell_begins(self, cell: Cell) -> None:
        """Show that a cell starts."""

    def cell_ends(self, cell: Cell, benchmark: Any | None, error: str | None) -> None:
        """Show that a cell has a result (a pyperf.Benchmark) or failed."""


class CellError(Exception):
    """A cell gave no number; the message says why."""


def new_run(plan: Plan, parent: Path, name: str = "") -> Path:
    """Make the folder of a run that is about to start, and describe plan and host in it.

    Args:
        plan: What it will do.
        parent: Where the folder is made.
        name: The folder's name, which must be free; by default the time and the preset.

    Raises:
        OSError: It cannot be made.
    """
    now = dt.datetime.now(dt.UTC)
    parent.mkdir(parents=True, exist_ok=True)
    if name:
        folder = parent / name
        folder.mkdir()
    else:
        folder = _unused(parent, f"{now:%Y%m%d-%H%M%S}-{plan.preset}")
    record = RunRecord(
        id=folder.name,
        plan=plan,
        host=host.facts(),
        warnings=host.noise_warnings(),
        started=_utc(now),
    )
    storage.write_record(folder, record)
    return folder


def _unused(parent: Path, name: str) -> Path:
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _utc(time: dt.datetime) -> str:
    return time.isoformat(timespec="seconds")


def run(folder: Path, progress: Progress) -> RunRecord:
    """Run the cells of a run that have no result yet. Ctrl-C keeps those that have.

    Returns:
        The record, with the cells that failed.

    Raises:
        StorageError: The folder's files are damaged, or it is another machine's run.
        OSError: A result cannot be stored; those before it are.
    """
    with storage.locked(folder):
        record = storage.read_record(folder)
        _require_same_host(folder, record)
        benchmarks = {bench.get_name(): bench for bench in load_benchmarks(folder)}
        missing = [cell for cell in record.plan.cells if cell.name not in benchmarks]
        try:
            seconds = {cell.name: record.plan.seconds(cell) for cell in missing}
        except (PlanError, OptionError) as error:
            file = folder / storage.RUN_FILE
            raise storage.StorageError(f"{file} is damaged: {error}") from error
        record.failures = []
        record.finished = ""
        storage.write_record(folder, record)
        progress.begin(missing, list(seconds.values()))

        def ends(cell: Cell, benchmark: Any | None, error: str | None) -> None:
            if error is not None:
                record.failures.append(Failure(cell.name, error))
                storage.write_record(folder, record)
            else:
                benchmarks[cell.name] = benchmark
                _store(
                    folder, [benchmarks[c.name] for c in record.plan.cells if c.name in benchmarks]
                )
            progress.cell_ends(cell, benchmark, error)

        for cell in missing:
            if cell.provenance == "emulated":
                continue
            progress.cell_begins(cell)
            try:
                benchmark = measure(cell, record.plan.pyperf)
            except CellError as error:
                ends(cell, None, str(error))
            else:
                ends(cell, benchmark, None)
        counted = [cell for cell in missing if cell.provenance == "emulated"]
        if counted:
            progress.cell_begins(counted[0])
            emulated_cells.measure(counted, sum(seconds[cell.name] for cell in counted), ends)
        record.finished = _utc(dt.datetime.now(dt.UTC))
        storage.write_record(folder, record)
    return record


def _require_same_host(folder: Path, record: RunRecord) -> None:
    here = host.facts()
    for fact in _SAME_HOST:
        if record.host.get(fact) != here.get(fact):
            raise storage.StorageError(
                f"{folder} is a run of another machine ({fact} {record.host.get(fact)!r}, here "
                f"{here.get(fact)!r}): numbers of two do not mix. Start a run of its own"
            )


# ---- one cell ----


def measure(cell: Cell, options: Sequence[str]) -> Any:
    """Measure one cell in processes of its own.

    Returns:
        A pyperf.Benchmark.

    Raises:
        CellError: It failed.
    """
    with tempfile.TemporaryDirectory(prefix="isobench-") as scratch:
        output = Path(scratch) / "cell.json"
        inputs.save(Path(scratch), [cell.content])
        command = [
            sys.executable,
            "-m",
            "harness.worker",
            "--cell",
            msgspec.json.encode(cell).decode(),
            "--inputs",
            scratch,
            "--output",
            str(output),
            "--quiet",
            *options,
        ]
        # A session of its own: Ctrl-C on the terminal is for this process to handle.
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate()
        finally:
            _end_session(process)
        if process.returncode != 0:
            raise CellError(_reason(said, process.returncode))
        try:
            suite = pyperf.BenchmarkSuite.load(str(output))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CellError(f"pyperf left no result: {error}") from error
        return _without_private_metadata(suite.get_benchmarks()[0])


def _end_session(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(said: str, code: int) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in lines:
        if FAILED in line:
            return line.split(FAILED, 1)[1]
    if code < 0:
        return f"its process died of {signal.Signals(-code).name}"
    return lines[-1] if lines else f"its process ended with status {code} and said nothing"


def _without_private_metadata(benchmark: Any) -> Any:
    runs = []
    for run_ in benchmark.get_runs():
        metadata = {k: v for k, v in run_.get_metadata().items() if k not in _PRIVATE}
        runs.append(
            pyperf.Run(
                run_.values,
                warmups=run_.warmups,
                metadata=metadata,
                collect_metadata=False,
            )
        )
    return pyperf.Benchmark(runs)


# ---- pyperf's file ----


def load_benchmarks(folder: Path) -> Iterable[Any]:
    """Load a run's benchmarks (pyperf.Benchmark); none when there is no file yet.

    Raises:
        StorageError: The file is truncated or not pyperf's.
    """
    path = folder / storage.BENCHMARKS_FILE
    if not path.exists():
        return []
    try:
        return list(pyperf.BenchmarkSuite.load(str(path)).get_benchmarks())
    # pyperf raises whatever its reading of a foreign file runs into.
    except Exception as error:
        raise storage.StorageError(
            f"{path} is truncated or not pyperf's ({type(error).__name__}: {error}). "
            "Restore it, or remove it and measure again with `isobench run --resume`"
        ) from error


def _store(folder: Path, benchmarks: Sequence[Any]) -> None:
    suite = pyperf.BenchmarkSuite(benchmarks)
    with storage.replacing(folder / storage.BENCHMARKS_FILE) as temporary:
        suite.dump(str(temporary), replace=True)
