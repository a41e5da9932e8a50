"""What is measured: a foreign function, its input, and how its result is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backends.contract import ForeignFunction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backends.contract import Sandbox

#: Sizes of the published artifact, in bytes.
PAPER_SIZES = (1, *(1 << power for power in (3, 6, 8, 9, 10, 12, 14, 15, 16, 18, 21)))


class WrongResultError(Exception):
    """A cell's result is not what it must be: an error, not a number."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured.

    Attributes:
        name: As in results and figures.
        summary: One sentence.
        sized: Whether it runs on content of a size; if not, on no input.
        operation: The foreign function without its prefix.
    """

    name: str
    summary: str
    sized: bool
    operation: Literal["empty", "compress", "uncompress"]

    def function(self) -> ForeignFunction:
        """Return the function that is called in the timed loop."""
        return _foreign(self.operation)

    def functions(self) -> Sequence[ForeignFunction]:
        """Return the functions that a sandbox for this workload is opened with."""
        if not self.sized:
            return [self.function()]
        return [_foreign(name) for name in ("compress", "uncompress", "validate")]

    def input(self, content: str, size: int) -> bytes:
        """Make the function's input: content of `size` bytes, compressed where it must be."""
        from backends import native
        from harness import inputs

        if not self.sized:
            return b""
        data = inputs.content(content, size)
        if self.operation == "compress":
            return data
        with native.NativeSandbox(native.lib.mechanism_direct, self.functions()) as direct:
            return bytes(direct.call(_foreign("compress"), data))

    def checked_result(self, sandbox: Sandbox, data: bytes) -> bytes:
        """Run the function once in the sandbox and check its result by other ways.

        Returns:
            The result, which the timed calls must return as well.

        Raises:
            WrongResultError: It is wrong.
        """
        result = bytes(sandbox.call(self.function(), data))
        if self.operation == "empty":
            _require(result == b"", "the empty function returned bytes")
            return result
        compressed, plain = (result, data) if self.operation == "compress" else (data, result)
        _check_snappy(sandbox, compressed, plain)
        return result


def _check_snappy(sandbox: Sandbox, compressed: bytes, plain: bytes) -> None:
    """Check a pair by snappy's own validation, the round trip, and an independent library."""
    import snappy

    from backends import native

    functions = [_foreign(name) for name in ("compress", "uncompress", "validate")]
    with native.NativeSandbox(native.lib.mechanism_direct, functions) as direct:
        direct.call(_foreign("validate"), compressed)
        unwalled = direct.call(_foreign("uncompress"), compressed)
    _require(unwalled == plain, "the result outside the wall differs")
    _require(sandbox.call(_foreign("uncompress"), compressed) == plain, "no round trip")
    _require(snappy.uncompress(compressed) == plain, "python-snappy finds other bytes")


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 - a condition is its one subject
    if not holds:
        raise WrongResultError(f"wrong result: {what}")


def _foreign(name: str) -> ForeignFunction:
    from backends import native

    return ForeignFunction(native.WORKLOADS, f"foreign_{name}")


WORKLOADS = (
    Workload("switch", "One call of an empty function.", sized=False, operation="empty"),
    Workload("snappy-compress", "Compress with libsnappy.", sized=True, operation="compress"),
    Workload(
        "snappy-uncompress",
        "Uncompress with libsnappy; sizes are those of the uncompressed content.",
        sized=True,
        operation="uncompress",
    ),
)


def find(name: str) -> Workload:
    """Find a workload by its name.

    Raises:
        LookupError: There is none; the message lists those there are.
    """
    for workload in WORKLOADS:
        if workload.name == name:
            return workload
    names = ", ".join(workload.name for workload in WORKLOADS)
    raise LookupError(f"no workload {name!r}; there are: {names}")
