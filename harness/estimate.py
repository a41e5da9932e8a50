"""How long a cell takes: an estimate, made before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.plan import Cell

# Seconds of a call where it is not short against pyperf's least time of a value: all that is known
# before anything has been measured.
_SLOW_CALL = {"sandcrust-fork": 2e-3}  # by mechanism
_SLOW_CONTENT = {"live-1000": 3e-3, "fault": 2e-3}
_PER_BYTE_OF_PNG = 5e-8
_START = 0.25  # seconds for a worker process to start and check its result
_CALIBRATION = 6  # values' worth of time that finding the number of loops takes

# Emulated seconds of the host: a boot is shared; a cell forks, checks its result, counts batches.
_EMULATED_START = 0.4
_EMULATED_PER_BYTE = 1e-6
_EMULATED_PER_BYTE_OF_PNG = 4e-6


def seconds(cell: Cell, arguments: Any) -> float:
    """Estimate how long a cell takes on this host with these arguments of pyperf."""
    return _emulated(cell) if cell.provenance == "emulated" else _timed(cell, arguments)


def _emulated(cell: Cell) -> float:
    slow = 2.0 if cell.backend.startswith("sandcrust-fork") else 1.0
    is_png = cell.workload == "png-decode"
    per_byte = _EMULATED_PER_BYTE_OF_PNG if is_png else _EMULATED_PER_BYTE
    return _EMULATED_START + slow * per_byte * cell.size


def _timed(cell: Cell, arguments: Any) -> float:
    slow = next((t for prefix, t in _SLOW_CALL.items() if cell.backend.startswith(prefix)), 0.0)
    slow += _SLOW_CONTENT.get(cell.content, 0.0)
    if cell.workload == "png-decode":
        slow += _PER_BYTE_OF_PNG * cell.size
    # Loops double until a value takes the least time, so it takes 1.5 times that on average.
    value = max(1.5 * arguments.min_time, slow)
    warmups = 1 if arguments.warmups is None else arguments.warmups
    per_process = _START + value * (arguments.values + warmups)
    return float(_START * 2 + value * _CALIBRATION + arguments.processes * per_process)
