"""A reference row: what two pipes and two processes cost with nothing around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.contract import Availability, Backend, ForeignFunction, Sandbox
from backends.placement import Placement, placement_availability

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class PipeFloor(Backend):
    """As many bytes as an empty call of Sandcrust's, there and back. Runs no foreign function."""

    placement: Placement = "same-core"

    def availability(self) -> Availability:
        """Need two CPUs for the placement on another core."""
        return placement_availability(self.placement)

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open the pipes; a call goes there and back whatever the function."""
        from backends import native

        return native.NativeSandbox(native.lib.mechanism_floor, functions, placement=self.placement)


BACKENDS = (
    PipeFloor(
        name="pipe-floor",
        summary="Bare pipe ping-pong of an empty call's bytes, on the caller's core: the floor.",
        mechanism="pipe-floor",
        native_loop=True,
        kind="reference",
        options={"placement": "same-core"},
        workloads=frozenset({"switch"}),
    ),
    PipeFloor(
        name="pipe-floor-other-core",
        summary="Bare pipe ping-pong of an empty call's bytes, on another core: the floor.",
        mechanism="pipe-floor",
        native_loop=True,
        kind="reference",
        options={"placement": "other-core"},
        workloads=frozenset({"switch"}),
        placement="other-core",
    ),
)
