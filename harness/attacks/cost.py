"""What an empty call costs behind each wall, to be shown beside what the wall holds against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.results import Run

_UNITS = {"measured": "ns", "emulated": "instructions"}
_DIGITS = {"measured": 2, "emulated": 3}  # counts repeat, times do not

#: What each kind of cost is, in the order in which they are shown.
HEADINGS = {
    "measured": "an empty call, measured",
    "emulated": "an empty call, instructions",
}


@dataclass(frozen=True)
class Costs:
    """Means of a run's workload `switch`.

    Attributes:
        run: Name of the run.
        host: Its CPU.
        means: By provenance (`measured`, in nanoseconds, or `emulated`, in instructions) and wall.
        python_level: Walls whose time includes the binding's.
    """

    run: str
    host: str
    means: Mapping[str, Mapping[str, float]]
    python_level: frozenset[str] = field(default=frozenset())

    def text(self, provenance: str, backend: str) -> str:
        """Write the cost of a wall; a dash where the run has none."""
        from harness import comparison

        mean = self.means.get(provenance, {}).get(backend, float("nan"))
        return comparison.format_quantity(mean, _UNITS[provenance], _DIGITS[provenance])

    def sources(self) -> list[str]:
        """Say where the numbers come from."""
        said = []
        if self.means.get("measured"):
            said.append(f"Time of an empty call: measured, wall clock on {self.host}")
        if self.means.get("emulated"):
            said.append("Instructions of an empty call: emulated, retired on the emulated machine")
        lines = [f"{line}; run {self.run}." for line in said]
        if self.python_level:
            names = ", ".join(sorted(self.python_level))
            lines.append(f"Timed from Python, the binding included: {names}.")
        return lines


def of(run: Run) -> Costs:
    """Take the costs out of a run: what was measured on its host, and counted in emulation.

    Models and quoted figures are left out. A wall that has no loop in C is timed from Python.
    """
    chosen: dict[tuple[str, str], tuple[str, float]] = {}
    switch = run.table[run.table["workload"] == "switch"]
    rows = zip(
        switch["provenance"], switch["backend"], switch["level"], switch["mean"], strict=True
    )
    for provenance, backend, level, mean in rows:
        if provenance in _UNITS and (level != "python" or (provenance, backend) not in chosen):
            chosen[provenance, backend] = level, float(mean)
    means: dict[str, dict[str, float]] = {provenance: {} for provenance in _UNITS}
    for (provenance, backend), (_, mean) in chosen.items():
        means[provenance][backend] = mean
    return Costs(
        run=run.id,
        host=run.host.get("cpu") or "a CPU that was not recorded",
        means=means,
        python_level=frozenset(b for (_, b), (level, _) in chosen.items() if level == "python"),
    )
