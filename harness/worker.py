"""Measures one cell: pyperf's manager of that cell, and each of the workers that it starts.

`python -m harness.worker --cell '{"backend": …}' --inputs FOLDER --output FILE [OPTIONS OF PYPERF]`
"""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyperf

from backends import registry
from backends.contract import Modelled
from harness import inputs, timing, workloads, wrpkru
from harness.plan import Cell

if TYPE_CHECKING:
    from backends.contract import Backend, Sandbox

#: What a line on standard error begins with that says why a cell failed.
FAILED = "cell failed: "

_PR_SET_PDEATHSIG = 1


class _Runner(pyperf.Runner):  # type: ignore[misc] # pyperf is untyped
    """pyperf's runner, which places a worker on its CPUs before the sandbox is opened.

    pyperf itself does so (--affinity, isolated CPUs) when it is about to measure: too late for a
    sandbox that has placed itself and its caller by then.
    """

    _placed = False

    def _cpu_affinity(self) -> None:
        if not self._placed:
            self._placed = True
            super()._cpu_affinity()

    def place(self) -> None:
        """Place this process."""
        self._cpu_affinity()


def main() -> None:
    """Measure the cell that the command line names."""
    _die_with_parent()
    runner = _Runner(program_args=("-m", "harness.worker"), add_cmdline_args=_pass_cell_on)
    runner.argparser.add_argument("--cell", required=True)
    runner.argparser.add_argument("--inputs", required=True)
    arguments = runner.parse_args()
    cell = msgspec.json.decode(arguments.cell, type=Cell)
    try:
        backend = registry.find(cell.backend)
        if not arguments.worker:
            runner.bench_time_func(cell.name, _never)
            return
        runner.place()
        inputs.load(Path(arguments.inputs))
        _measure(runner, cell, backend)
    except Exception as error:  # noqa: BLE001 - the manager of the run reports it
        # Of several, the first counts: a worker's own, and not its manager's that it failed.
        sys.stderr.write(f"{FAILED}{type(error).__name__}: {error}\n")
        sys.exit(1)


def _measure(runner: Any, cell: Cell, backend: Backend) -> None:
    if not backend.default_allocator:
        _keep_buffers_mapped()
    workload = workloads.find(cell.workload)
    call = workload.call(cell.content, cell.size)
    with _opened(backend, cell, workload) as sandbox:
        expected = workload.checked_result(sandbox, call)
        runner.bench_time_func(
            cell.name,
            timing.timed_calls(cell, sandbox, call, expected),
            metadata=timing.metadata(cell, backend, sandbox, call) | _model(backend, cell),
        )


def _opened(backend: Backend, cell: Cell, workload: workloads.Workload) -> Sandbox:
    if cell.provenance != "modelled":
        return backend.open(workload.functions())
    if not isinstance(backend, Modelled):
        raise TypeError(f"backend {cell.backend} promises a model and has none")
    return backend.open_model(workload.functions())


def _model(backend: Backend, cell: Cell) -> dict[str, float | int]:
    """State what a reader of the results needs to complete a modelled number."""
    if cell.provenance != "modelled" or not isinstance(backend, Modelled):
        return {}
    return {"wrpkru_per_call": backend.wrpkru_per_call, "clock_hz": wrpkru.clock_hz()}


def _never(_loops: int) -> float:
    raise AssertionError("only workers measure")


def _keep_buffers_mapped() -> None:
    from backends import native

    if not native.keep_buffers_mapped():
        raise OSError("this C library cannot keep large buffers mapped; use none-default-malloc")


def _pass_cell_on(command: list[str], arguments: Any) -> None:
    command.extend(("--cell", arguments.cell, "--inputs", arguments.inputs))


def _die_with_parent() -> None:
    """End with the process that started this one, even if that is killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


if __name__ == "__main__":
    main()
