"""No wall: the baseline that every wall is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.contract import Backend, ForeignFunction, Guarantees, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class NoIsolation(Backend):
    """A call through a pointer that the compiler cannot see through."""

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a sandbox that is none."""
        from backends import native

        return native.NativeSandbox(native.lib.mechanism_direct, functions)


BACKENDS = (
    NoIsolation(
        name="none",
        summary="No wall: a direct call, large buffers kept mapped by the allocator.",
        mechanism="none",
        native_loop=True,
        kind="baseline",
        guarantees=Guarantees(threads=True),
        options={"allocator": "large buffers kept mapped"},
    ),
    NoIsolation(
        name="none-default-malloc",
        summary="No wall, and glibc's defaults, which may map and unmap a large buffer every call.",
        mechanism="none",
        native_loop=True,
        kind="baseline",
        guarantees=Guarantees(threads=True),
        options={"allocator": "glibc's defaults"},
        default_allocator=True,
    ),
)
