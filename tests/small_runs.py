"""Runs that take a second, for tests of what is done with runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.plan import Cell, Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence


class Silent:
    """Nobody watches."""

    def begin(self, cells, seconds) -> None:
        self.begun = [cell.name for cell in cells]

    def cell_begins(self, cell) -> None: ...

    def cell_ends(self, cell, benchmark, error) -> None: ...


FAST = ("--processes=2", "--values=2", "--warmups=1", "--min-time=0.0001")


def tiny_plan(backends: Sequence[str] = ("none", "sandcrust-pipe")) -> Plan:
    return make_plan(
        "smoke",
        backends=backends,
        workload_names=["switch", "snappy-compress"],
        sizes=[64],
        pyperf=FAST,
    )


def broken_plan() -> Plan:
    plan = tiny_plan()
    broken = Cell(backend="no-such-backend", workload="switch")
    return msgspec.structs.replace(plan, cells=(plan.cells[0], broken, plan.cells[1]))
