"""What is measured: calls of foreign functions, their inputs, and how results are checked."""

from __future__ import annotations

import signal
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from backends import names, native
from backends.contract import Fault, ForeignFunction, ViolationError, ViolationKind
from harness import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backends.contract import BytesLike, Sandbox

#: Sizes of the published artifact, in bytes.
PAPER_SIZES = (1, *(1 << power for power in (3, 6, 8, 9, 10, 12, 14, 15, 16, 18, 21)))


class WrongResultError(Exception):
    """A cell's result is not what it must be: an error, not a number."""


@dataclass(frozen=True, slots=True)
class Call:
    """The call that a cell repeats.

    Attributes:
        function: The foreign function.
        data: Its input.
        expected: What it must return, where that is known beforehand.
        operations: How many operations one call makes, by which its cost is to be divided.
        violates: It ends in a violation, each time.
    """

    function: ForeignFunction
    data: bytes = b""
    expected: BytesLike | None = None
    operations: int = 1
    violates: bool = False


class Workload(ABC):
    """What is measured.

    Attributes:
        name: As in results and figures.
        summary: One sentence.
        contents: What the input can be made of; empty where there is no choice.
        sized: Whether content can be had in any size.
        violates: Whether a backend has to go on after violations.
        modelled: Whether a call is so short that what WRPKRU costs may matter.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    contents: ClassVar[tuple[str, ...]] = ()
    sized: ClassVar[bool] = False
    violates: ClassVar[bool] = False
    modelled: ClassVar[bool] = False

    @abstractmethod
    def functions(self) -> Sequence[ForeignFunction]:
        """List the functions that a sandbox for this workload is opened with."""

    @abstractmethod
    def call(self, content: str = "", size: int = 0) -> Call:
        """Make the call that is timed.

        Args:
            content: One of `contents`, where there are any.
            size: Bytes of it, where `sized`.
        """

    @abstractmethod
    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes | Fault:
        """Make the call once in the sandbox and check its result by other ways.

        Returns:
            The result, which the timed calls must return as well; or the fault, if it violates.

        Raises:
            WrongResultError: It is wrong.
        """

    def size(self, content: str) -> int:
        """Tell the bytes of a content that comes in one size; 0 where there is no input."""
        return len(self.call(content).data) if self.contents and not self.sized else 0


class Switch(Workload):
    """The cost of crossing the wall and coming back."""

    name = "switch"
    summary = "One call of an empty function."
    modelled = True

    def functions(self) -> Sequence[ForeignFunction]:
        """List the empty function."""
        return [_foreign("empty")]

    def call(self, content: str = "", size: int = 0) -> Call:  # noqa: ARG002 - there is no input
        """Make an empty call."""
        return Call(_foreign("empty"), expected=b"")

    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes:
        """Require nothing."""
        return _expected_result(sandbox, call)


class _Snappy(Workload):
    contents = inputs.CONTENTS
    sized = True
    modelled = True

    def functions(self) -> Sequence[ForeignFunction]:
        """List libsnappy's functions, those of the check included."""
        return [_foreign(name) for name in ("compress", "uncompress", "validate")]

    def _check(self, sandbox: Sandbox, compressed: bytes, plain: bytes) -> None:
        """Check by snappy's own validation, the round trip, and an independent library."""
        import snappy

        with native.NativeSandbox(native.lib.mechanism_direct, self.functions()) as direct:
            direct.call(_foreign("validate"), compressed)
            unwalled = direct.call(_foreign("uncompress"), compressed)
        _require(unwalled == plain, "the result outside the wall differs")
        _require(sandbox.call(_foreign("uncompress"), compressed) == plain, "no round trip")
        _require(snappy.uncompress(compressed) == plain, "python-snappy finds other bytes")


class SnappyCompress(_Snappy):
    """Figure 3 (a)."""

    name = "snappy-compress"
    summary = "Compress with libsnappy."

    def call(self, content: str = "", size: int = 0) -> Call:
        """Make the call that compresses content of a size."""
        return Call(_foreign("compress"), inputs.content(content, size))

    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes:
        """Require that the result uncompresses to the input."""
        result = bytes(sandbox.call(call.function, call.data))
        self._check(sandbox, result, call.data)
        return result


class SnappyUncompress(_Snappy):
    """Figure 3 (b)."""

    name = "snappy-uncompress"
    summary = "Uncompress with libsnappy; sizes are those of the uncompressed content."

    def call(self, content: str = "", size: int = 0) -> Call:
        """Make the call that uncompresses to content of a size."""
        plain = inputs.content(content, size)
        with native.NativeSandbox(native.lib.mechanism_direct, self.functions()) as direct:
            return Call(_foreign("uncompress"), bytes(direct.call(_foreign("compress"), plain)))

    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes:
        """Require that the input uncompresses to the result."""
        result = bytes(sandbox.call(call.function, call.data))
        self._check(sandbox, call.data, result)
        return result


class PngDecode(Workload):
    """Table I."""

    name = "png-decode"
    summary = "Decode a PNG to rows of 8-bit RGB with libpng; sizes are those of the files."
    contents = (*inputs.PAPER_IMAGES, *inputs.SHIPPED_IMAGES)

    def functions(self) -> Sequence[ForeignFunction]:
        """List libpng's functions."""
        return [_png("decode_png"), _png("is_png")]

    def call(self, content: str = "", size: int = 0) -> Call:  # noqa: ARG002 - the image has one
        """Make the call that decodes an image."""
        image = inputs.image(content)
        return Call(_png("decode_png"), bytes(image.file), memoryview(image.rows))

    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes:
        """Require the rows that Pillow finds, which has a decoder of its own."""
        is_png = sandbox.call(_png("is_png"), call.data[:8])
        _require(is_png == b"\1", "an image is not recognised")
        return _expected_result(sandbox, call)


class Malloc(Workload):
    """Section V-A: the sandbox's own heap."""

    name = "malloc"
    summary = "Pairs of malloc and free of the paper's sizes, thousands in a call."
    contents = ("pairs", "live-1000")

    # A call's own cost vanishes among so many. The blocks that are there at the start and at the
    # end are pairs as well: one in 21 has fewer than a thousand others beside it.
    _PAIRS, _LIVE, _STEPS = 1000, 1000, 20_000

    def functions(self) -> Sequence[ForeignFunction]:
        """List the allocating functions."""
        return [_foreign("allocate_pairs"), _foreign("allocate_live")]

    def call(self, content: str = "", size: int = 0) -> Call:  # noqa: ARG002 - sizes are the blocks'
        """Make the call: `pairs` frees each block at once, `live-1000` has a thousand others."""
        if content == "pairs":
            name, operations = "allocate_pairs", self._PAIRS
            data = inputs.allocations(self._PAIRS)
            sizes = data
        else:
            name, operations = "allocate_live", self._LIVE + self._STEPS
            data, sizes = inputs.replacements(self._LIVE, self._STEPS)
        # Each block holds the low byte of its size.
        checksum = sum(size + (size & 0xFF) for size in memoryview(sizes).cast("H"))
        return Call(_foreign(name), data, struct.pack("=Q", checksum), operations)

    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes:
        """Require the checksum over all blocks."""
        return _expected_result(sandbox, call)


class Rewind(Workload):
    """From fault to error: `fault` less `return`, which is the same call without the fault."""

    name = "rewind"
    summary = "Use 64 KiB of heap, then write to address 0 (or return); up to the caller's error."
    contents = ("fault", "return")
    violates = True

    def functions(self) -> Sequence[ForeignFunction]:
        """List the faulting function."""
        return [_foreign("fault")]

    def call(self, content: str = "", size: int = 0) -> Call:  # noqa: ARG002 - there is no input
        """Make a call that faults or returns."""
        violates = content == "fault"
        return Call(_foreign("fault"), b"!" if violates else b"", violates=violates)

    def checked_result(self, sandbox: Sandbox, call: Call) -> bytes | Fault:
        """Require the fault, and that a call works after it."""
        fault = None
        try:
            result = bytes(sandbox.call(call.function, call.data))
        except ViolationError as violation:
            fault = violation.fault
            result = bytes(sandbox.call(call.function))
        _require(result == b"", "the function returned bytes")
        _require((fault is not None) == call.violates, f"violation: {fault or 'none'}")
        if fault is None:
            return result
        seen = (fault.kind, fault.signal)
        _require(seen == (ViolationKind.SIGNAL, signal.SIGSEGV), f"it {fault}")
        return fault

    def size(self, content: str) -> int:  # noqa: ARG002 - its byte of input stands for nothing
        """Tell that there is no input."""
        return 0


def _expected_result(sandbox: Sandbox, call: Call) -> bytes:
    result = bytes(sandbox.call(call.function, call.data))
    _require(result == call.expected, "it is not what was expected")
    return result


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 - a condition is its one subject
    if not holds:
        raise WrongResultError(f"wrong result: {what}")


def _foreign(name: str) -> ForeignFunction:
    return ForeignFunction(native.WORKLOADS, f"foreign_{name}")


def _png(name: str) -> ForeignFunction:
    return ForeignFunction(native.PNG, f"foreign_{name}")


WORKLOADS: tuple[Workload, ...] = (
    Switch(),
    SnappyCompress(),
    SnappyUncompress(),
    PngDecode(),
    Malloc(),
    Rewind(),
)

#: Contents of all workloads.
CONTENTS = tuple(dict.fromkeys(name for workload in WORKLOADS for name in workload.contents))


def find(name: str) -> Workload:
    """Find a workload by its name.

    Raises:
        LookupError: There is none; the message says which one may have been meant.
    """
    for workload in WORKLOADS:
        if workload.name == name:
            return workload
    known = [workload.name for workload in WORKLOADS]
    raise LookupError(names.unknown("workload", name, known))
