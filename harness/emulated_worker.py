"""Measures cells in the emulated machine, where a nanosecond is an instruction retired.

`python -m harness.emulated_worker FOLDER`, inside the machine: the folder holds the cells, in
cells.json, and inputs that take long to make. A line of JSON on standard output for each cell, as
soon as it is there. Each has a process of its own, forked from one that has loaded everything: a
cell that dies takes nothing with it, and nothing waits for a disk while it is timed (with QEMU's
sleep=off, idle time would count).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backends import native, registry
from harness import inputs, timing, workloads
from harness.plan import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many batches of calls are counted.
BATCHES = 3
# A batch is short enough that all is done in minutes (an emulated machine is slow), and that most
# batches fit between two interrupts of the timer.
_LEAST_INSTRUCTIONS = 400_000
_TIMER_PERIOD = 4_000_000  # instructions
_ATTEMPTS = 4


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """What one cell gave.

    Attributes:
        cell: Its name.
        values: Instructions a call, a value a batch; empty when it failed.
        metadata: About backend, work and machine.
        error: Why there is no number; empty otherwise.
    """

    cell: str
    values: tuple[float, ...] = ()
    metadata: dict[str, str | int] = {}
    error: str = ""


def main() -> None:
    """Measure the cells in the folder."""
    folder = Path(sys.argv[1])
    cells = msgspec.json.decode((folder / "cells.json").read_bytes(), type=list[Cell])
    inputs.load(folder)
    _load_everything(cells)
    for cell in cells:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _measure_and_exit(cell, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            line = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not line.endswith(b"\n"):
            died = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended: {status}"
            line = msgspec.json.encode(Count(cell=cell.name, error=f"its process {died}")) + b"\n"
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _load_everything(cells: list[Cell]) -> None:
    import snappy  # noqa: F401 - what the checks use

    registry.all_backends()
    for cell in cells:
        workload = workloads.find(cell.workload)
        if workload.sized:  # others load nothing, and would leave memory that forks have to copy
            workload.call(cell.content, min(cell.size, 64))


def _measure_and_exit(cell: Cell, writing: int) -> None:
    status = 1
    try:
        try:
            count = _measure(cell)
        except Exception as error:  # noqa: BLE001 - it is the cell's result
            count = Count(cell=cell.name, error=f"{type(error).__name__}: {error}")
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(msgspec.json.encode(count) + b"\n")
        status = 0
    finally:
        os._exit(status)


def _timer_interrupts() -> int:
    """Count the timer's interrupts so far, on the machine's one CPU."""
    lines = Path("/proc/interrupts").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.lstrip().startswith("LOC:"))


def _undisturbed(count: Callable[[], float], attempts: int) -> float:
    """Count until no timer interrupt, of some 13,000 instructions, comes in between.

    Where one always does, return the least of so many attempts.
    """
    values = []
    for _ in range(attempts):
        before = _timer_interrupts()
        values.append(count())
        if _timer_interrupts() == before:
            return values[-1]
    return min(values)


def _measure(cell: Cell) -> Count:
    backend = registry.find(cell.backend)
    native.keep_buffers_mapped()
    workload = workloads.find(cell.workload)
    call = workload.call(cell.content, cell.size)
    with backend.open(workload.functions()) as sandbox:
        seconds = timing.timed_calls(cell, sandbox, call, workload.checked_result(sandbox, call))
        one = seconds(1) * 1e9
        attempts = 1  # what is longer than the timer's period cannot avoid the timer
        if one < _TIMER_PERIOD:
            attempts = _ATTEMPTS
            seconds(3)  # pages and branches of the first calls
            one = seconds(1) * 1e9
        loops = max(1, int(_LEAST_INSTRUCTIONS / one))
        values = [
            _undisturbed(lambda: seconds(loops) * 1e9 / loops, attempts) for _ in range(BATCHES)
        ]
        metadata = {
            **timing.metadata(cell, backend, sandbox, call),
            "loops": loops,
            "emulated_kernel": os.uname().release,
        }
    return Count(cell=cell.name, values=tuple(values), metadata=metadata)


if __name__ == "__main__":
    main()
