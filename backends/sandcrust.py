"""Sandcrust's walls: a forked process, persistent behind two pipes or forked for each call.

After B. Lamowski, C. Weinhold, A. Lackorzynski, H. Härtig: "Sandcrust: Automatic Sandboxing of
Unsafe Components in Rust", PLOS 2017.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backends.contract import Availability, Backend, ForeignFunction, Guarantees, Sandbox
from backends.placement import Placement, placement_availability

if TYPE_CHECKING:
    from collections.abc import Sequence

_GUARANTEES = Guarantees(
    heap=True,
    stack=True,
    static_data=True,
    machine_state=True,
    confidentiality=False,  # a forked child has a copy of everything that was there before
    recovery=True,
    time_limit=True,
    syscalls=False,
    threads=True,
)


@dataclass(frozen=True)
class Sandcrust(Backend):
    """A forked process.

    Attributes:
        transport: `pipe`: one persistent child; `fork`: a child for each call.
        placement: Where caller and child run.
        respawn: Whether the call after a violation starts a new child; if not, it is an error.
        max_output_length: A longer result, in bytes, is a violation.
    """

    transport: Literal["pipe", "fork"] = "pipe"
    placement: Placement = "anywhere"
    respawn: bool = True
    max_output_length: int = 1 << 30

    def availability(self) -> Availability:
        """Need Linux, and two CPUs for the placement on another core."""
        if sys.platform != "linux":
            return Availability.no(f"needs Linux, and this is {sys.platform}", "run it on Linux")
        return placement_availability(self.placement)

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a sandbox; the persistent child starts at once."""
        from backends import native

        return native.NativeSandbox(
            getattr(native.lib, f"mechanism_{self.transport}"),
            functions,
            placement=self.placement,
            time_limit=True,
            respawn=self.respawn,
            max_output_length=self.max_output_length,
        )


def _sandcrust(transport: Literal["pipe", "fork"], placement: Placement) -> Sandcrust:
    summary = {
        "pipe": "A persistent forked process behind two pipes",
        "fork": "A process forked for each call",
    }[transport]
    core = {"same-core": "on the caller's core", "other-core": "on another core"}[placement]
    return Sandcrust(
        name=f"sandcrust-{transport}" + ("" if placement == "same-core" else f"-{placement}"),
        summary=f"{summary}, {core}.",
        mechanism=f"sandcrust-{transport}",
        native_loop=True,
        guarantees=_GUARANTEES,
        options={"transport": transport, "placement": placement},
        transport=transport,
        placement=placement,
    )


BACKENDS = (
    _sandcrust("pipe", "same-core"),
    _sandcrust("pipe", "other-core"),
    _sandcrust("fork", "same-core"),
    _sandcrust("fork", "other-core"),
)
