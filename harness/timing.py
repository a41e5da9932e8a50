"""What a cell times and what is stated of it, on this machine and in the emulated one alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backends.contract import Fault, TimedLoop, TimedViolations, ViolationError
from harness.workloads import WrongResultError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.contract import Backend, Sandbox
    from harness.plan import Cell
    from harness.workloads import Call


def timed_calls(
    cell: Cell, sandbox: Sandbox, call: Call, expected: bytes | Fault
) -> Callable[[int], float]:
    """Make the function that makes a number of calls and returns the seconds for all of them.

    It raises WrongResultError if the last call did not end as expected.
    """
    time_batch = _in_c if cell.level == "native" else _in_python

    def seconds(loops: int) -> float:
        elapsed, last = time_batch(sandbox, call, loops)
        if last != expected:
            raise WrongResultError("wrong result: a timed call ended otherwise than the first")
        return elapsed

    return seconds


def _in_c(sandbox: Sandbox, call: Call, loops: int) -> tuple[float, bytes | Fault]:
    if call.violates and isinstance(sandbox, TimedViolations):
        return sandbox.timed_violations(call.function, call.data, loops)
    if not call.violates and isinstance(sandbox, TimedLoop):
        return sandbox.timed_loop(call.function, call.data, loops)
    raise TypeError(f"{type(sandbox).__name__} has no native loop for this; use --level python")


def _in_python(
    sandbox: Sandbox, call: Call, loops: int
) -> tuple[float, bytes | memoryview | Fault | None]:
    if call.violates:
        return _violations_in_python(sandbox, call, loops)
    function, data, make = call.function, call.data, sandbox.call
    last: bytes | memoryview = b""
    begin = time.perf_counter()
    for _ in range(loops):
        last = make(function, data)
    return time.perf_counter() - begin, last


def _violations_in_python(sandbox: Sandbox, call: Call, loops: int) -> tuple[float, Fault | None]:
    function, data, make = call.function, call.data, sandbox.call
    last: Fault | None = None
    begin = time.perf_counter()
    for _ in range(loops):
        last = None
        try:
            make(function, data)
        except ViolationError as violation:
            last = violation.fault
    return time.perf_counter() - begin, last


def metadata(cell: Cell, backend: Backend, sandbox: Sandbox, call: Call) -> dict[str, str | int]:
    """State what was measured, for pyperf's file."""
    stated: dict[str, str | int] = {
        "backend": backend.name,
        "mechanism": backend.mechanism,
        "codec": backend.codec,
        "kind": backend.kind,
        "workload": cell.workload,
        "content": cell.content,
        "size": cell.size,
        "operations": call.operations,
        "level": cell.level,
        "provenance": cell.provenance,
        **{f"option_{name}": value for name, value in backend.options.items()},
        **sandbox.placement(),
    }
    return {name: value for name, value in stated.items() if value != ""}  # pyperf takes no ""
