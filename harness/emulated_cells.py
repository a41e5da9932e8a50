"""Cells that are measured in the emulated machine: all of them in one boot."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyperf

from harness import emulated, inputs
from harness.emulated_worker import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.plan import Cell

#: The kernel that cells are measured on.
KERNEL = "6.12"
_PATIENCE = 4.0  # times the expected duration, and a boot


class _Lines(io.RawIOBase):
    """Takes the worker's output and passes each whole line on."""

    def __init__(self, handle: Callable[[bytes], None]) -> None:
        self._rest = b""
        self._handle = handle

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            self._handle(line)
        return len(data)


def measure(
    cells: Sequence[Cell], seconds: float, done: Callable[[Cell, Any | None, str | None], None]
) -> None:
    """Measure cells in the emulated machine.

    Args:
        cells: At least one.
        seconds: How long that is expected to take.
        done: Called as soon as a cell has ended, with a pyperf.Benchmark or an error. Cells that
            the machine never got to have an error, too.
    """
    left = {cell.name: cell for cell in cells}

    def handle(line: bytes) -> None:
        try:
            count = msgspec.json.decode(line, type=Count)
        except msgspec.DecodeError:
            return  # something that a library printed
        cell = left.pop(count.cell, None)
        if cell is None:
            return
        failed = count.error or None
        benchmark = None
        if failed is None:
            try:
                benchmark = _benchmark(cell, count)
            # Foreign code in the machine writes to the same pipe, and may write what it likes.
            except (ValueError, TypeError, UnicodeError) as error:
                failed = f"the machine gave a malformed result: {error}"
        done(cell, benchmark, failed)

    problem = ""
    said = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="isobench-cells-") as name:
        folder = Path(name)
        (folder / "cells.json").write_bytes(msgspec.json.encode(list(cells)))
        inputs.save(folder, [cell.content for cell in cells])
        command = [sys.executable, "-m", "harness.emulated_worker", str(folder)]
        try:
            status = emulated.run(
                command,
                kernel=emulated.kernel(KERNEL),
                icount=True,
                timeout=300 + _PATIENCE * seconds,
                writable=[folder],
                stdout=_Lines(handle),  # type: ignore[arg-type] # all that is used of IO[bytes]
                stderr=said,
            )
            if left:
                last = said.getvalue().decode(errors="replace").strip().splitlines()
                problem = f"the worker ended with status {status}: {last[-1] if last else ''}"
        except (emulated.EmulationError, emulated.TimeLimitError) as error:
            problem = str(error)
    for cell in list(left.values()):
        done(cell, None, problem)


def _benchmark(cell: Cell, count: Count) -> Any:
    metadata = {
        **count.metadata,
        "name": cell.name,
        "unit": "integer",  # pyperf's word for what is not time; here: instructions
        "emulated_machine": "QEMU TCG with icount: an instruction retired is a nanosecond",
    }
    # pyperf wants whole numbers of this unit to be whole.
    run = pyperf.Run(list(count.values), metadata=metadata, collect_metadata=False)
    return pyperf.Benchmark([run])
