"""What a backend is: the contract that walls are written to and that the harness knows them by.

A *backend* is a way to build a wall with its options fixed, under one name. It opens *sandboxes*;
a sandbox runs *foreign functions* on bytes and returns bytes, or raises one of the exceptions
below. `tests/conformance` is this contract as a test suite.
"""

from __future__ import annotations

import os
import signal as signals
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from backends.protected_memory import DataDomain

BytesLike = bytes | bytearray | memoryview

Kind = Literal["wall", "baseline", "reference"]

#: What foreign code may do with a data domain.
Rights = Literal["none", "read", "write"]


class ForeignFunction(NamedTuple):
    """A native function that is not trusted, named by its library and its symbol.

    Its C type is `int f(const uint8_t *input, size_t length, struct {uint8_t *data; size_t
    length;} *output)`: it returns 0 and leaves its result in `*output`, in memory from `malloc`,
    or returns an error code between 1 and 255 and leaves `*output`, which is zero on entry, alone.
    """

    library: Path
    symbol: str


# ---- what can go wrong ----


class IsolationError(Exception):
    """Anything that a sandbox reports."""


class SandboxClosedError(IsolationError):
    """The sandbox was used after it was closed."""


class SandboxBusyError(IsolationError):
    """The sandbox is in the middle of a call and was used by whoever interrupted it."""


class SandboxDeadError(IsolationError):
    """An earlier violation ended this sandbox, and it was opened not to start again."""


class UnsupportedError(IsolationError):
    """The call asks for something that this backend does not guarantee, such as a time limit."""


class ForeignError(IsolationError):
    """The foreign function itself returned an error code. The sandbox is as good as before.

    Attributes:
        function: The function's symbol.
        code: The code that it returned: 1 to 255, or what a declared `Status` takes for an error.
    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function} returned error code {code}")
        self.function = function
        self.code = code


class ViolationKind(Enum):
    """How a foreign call ended, if not by returning."""

    SIGNAL = "signal"
    EXIT = "exit"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is known of a violation; None is unknown.

    What a process wall says of address, instruction and access is what the sandboxed side said of
    itself and may be forged.

    Attributes:
        kind: How the call ended.
        signal: The signal's number.
        exit_code: The status that the code exited with.
        address: The address that was accessed.
        instruction: The address of the instruction that did it.
        access: What it did there.
        protection_key: The key that refused the access.
        system_call: The number of the system call that was refused.
        symbol: The function that the instruction lies in, with its offset and library.
        detail: More, in words.
    """

    kind: ViolationKind
    signal: int | None = None
    exit_code: int | None = None
    address: int | None = None
    instruction: int | None = None
    access: Literal["read", "write", "execute"] | None = None
    protection_key: int | None = None
    system_call: int | None = None
    symbol: str | None = None
    detail: str | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        if self.kind is ViolationKind.TIMEOUT:
            return "passed its time limit"
        if self.kind is ViolationKind.PROTOCOL:
            return f"gave a malformed answer: {self.detail}"
        if self.kind is ViolationKind.EXIT:
            status = "an unknown status" if self.exit_code is None else f"status {self.exit_code}"
            return f"ended its process with {status}"
        text = f"died of {_signal_name(self.signal)}"
        if self.detail is not None:
            text += f" ({self.detail})"
        if self.system_call is not None:
            text += f" by system call {self.system_call}"
        if self.address is not None:
            text += f" at {self.access or 'access'} of address {self.address:#x}"
        if self.protection_key is not None:
            text += f" behind protection key {self.protection_key}"
        if self.instruction is not None:
            text += f" (instruction {self.instruction:#x}"
            text += f", {self.symbol})" if self.symbol else ")"
        return text


class ViolationError(IsolationError):
    """The foreign function did something other than return; its sandbox's memory is discarded.

    Attributes:
        function: The function's symbol.
        fault: What is known of it.
    """

    def __init__(self, function: str, fault: Fault) -> None:
        super().__init__(f"{function} {fault}")
        self.function = function
        self.fault = fault

    @property
    def kind(self) -> ViolationKind:
        """How the call ended."""
        return self.fault.kind

    @property
    def address(self) -> int | None:
        """The address that was accessed, if known."""
        return self.fault.address

    @property
    def symbol(self) -> str | None:
        """The function that did it, if known: its name, offset and library."""
        return self.fault.symbol


def _signal_name(number: int | None) -> str:
    if number is None:
        return "an unknown signal"
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ---- what a backend says of itself ----


@dataclass(frozen=True, slots=True)
class Guarantees:
    """What a wall claims of *memory-unsafe* foreign code. Each claim is tested, none is believed.

    All but `syscalls` are about what foreign code does by itself, by loads, stores and jumps, with
    the instructions that were there when the sandbox was opened. What it has the system do for it
    is covered where `syscalls` is claimed, too; what it does by WRPKRU and XRSTOR of its own, where
    `strict` is.

    Attributes:
        heap: The caller's heap cannot be written.
        stack: The caller's stack cannot be written.
        static_data: Variables of the caller and of other libraries, also those of a thread, cannot
            be written.
        machine_state: The caller's registers, flags, floating-point modes and stack pointer are as
            it left them.
        shared_memory: What the caller shares with other processes (MAP_SHARED) cannot be written by
            loads and stores.
        secrets: What lies in memory that is set apart for it (a data domain, a trusted heap) can be
            neither written nor read.
        confidentiality: The caller's memory cannot be read.
        recovery: After a violation the caller gets an error and the next call works.
        time_limit: A call can be limited in time.
        syscalls: Foreign code cannot reach files, sockets, other processes or the caller by system
            calls. `mpk…` refuse all of them. `sandcrust-…-hardened` refuse all but those that
            concern the child itself: its memory (none of it executable, shared or of a file), its
            own signals, clocks, its pipes and its end.
        strict: Libraries with instructions that open the wall are not loaded.
        threads: A sandbox may be called from several threads.
    """

    heap: bool = False
    stack: bool = False
    static_data: bool = False
    machine_state: bool = False
    shared_memory: bool = False
    secrets: bool = False
    confidentiality: bool = False
    recovery: bool = False
    time_limit: bool = False
    syscalls: bool = False
    strict: bool = False
    threads: bool = False


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend works on this machine; if not, why, and what would make it.

    Attributes:
        available: It works.
        reason: Why not.
        remedy: What would make it.
        emulated: It works in the emulated machine (`isobench emulate`), which the harness may use.
        modelled: What it costs can be modelled here: see `Backend.open_model`.
        note: It works, and something of it is less than elsewhere: what.
    """

    available: bool
    reason: str = ""
    remedy: str = ""
    emulated: bool = False
    modelled: bool = False
    note: str = ""

    @classmethod
    def yes(cls, note: str = "") -> Availability:
        """Say that it does."""
        return cls(available=True, note=note)

    @classmethod
    def no(
        cls, reason: str, remedy: str, *, emulated: bool = False, modelled: bool = False
    ) -> Availability:
        """Say that it does not: a reason and a remedy that a person can act on."""
        return cls(
            available=False, reason=reason, remedy=remedy, emulated=emulated, modelled=modelled
        )


class Sandbox(ABC):
    """An open sandbox: a context manager; closing it gives everything back."""

    @abstractmethod
    def call(
        self, function: ForeignFunction, data: BytesLike = b"", *, timeout: float | None = None
    ) -> bytes | memoryview:
        """Run a foreign function.

        Args:
            function: One of those that the sandbox was opened with.
            data: Its input; any contiguous bytes-like object.
            timeout: Limit in seconds of wall-clock time; None for none.

        Returns:
            The function's output: bytes, or from backends that say so a read-only memoryview of
            the sandbox's own memory, which later calls of hostile code may change.

        Raises:
            ForeignError: The function returned an error code.
            ViolationError: It did something other than return.
            SandboxClosedError: The sandbox is closed.
            SandboxDeadError: An earlier violation ended it, and it must not start again.
            UnsupportedError: A time limit, where the backend does not guarantee any.
            ValueError: The function is not among those that the sandbox was opened with, or the
                time limit is not positive.
            TypeError: An argument is of another type.
            OSError: The system refused what the call needs.
        """

    @abstractmethod
    def close(self) -> None:
        """End the sandbox. Closing twice is fine."""

    def address_of(self, function: ForeignFunction) -> int:
        """Tell where a function lies in the memory that foreign code sees.

        Here: where it lies in this process, which holds for calls in it and for forked processes.
        A sandbox that loads libraries of its own overrides it.

        Args:
            function: One of those that the sandbox was opened with.

        Raises:
            OSError: The library or the symbol is not there.
        """
        from backends import native

        return int(native.ffi.cast("uintptr_t", native.resolve(function)))

    def grant(self, data: DataDomain, rights: Rights) -> None:  # noqa: ARG002 - here it is refused
        """Say what foreign code may do with a data domain, from the next call on.

        Args:
            data: Memory that foreign code in domains can neither read nor write, unless granted.
            rights: `none`, `read`, or `write`, which is reading, too.

        Raises:
            UnsupportedError: The wall is not made of protection keys. Here: it never is.
            SandboxClosedError: The sandbox is closed.
            ValueError: The data domain is closed, or there are no such rights.
        """
        raise UnsupportedError(
            "only walls of protection keys (mpk…) are granted data domains: to others it is memory "
            "like any other"
        )

    def placement(self) -> Mapping[str, str]:
        """Tell where the sandbox runs (CPUs of caller and sandbox), as stated in the results."""
        return {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


class Batch(NamedTuple):
    """A timed batch of calls: seconds for all of them, and what the last one returned."""

    seconds: float
    last: bytes


@runtime_checkable
class TimedLoop(Protocol):
    """A sandbox that can time its calls in native code (level `native`)."""

    def timed_loop(self, function: ForeignFunction, data: BytesLike, loops: int) -> Batch:
        """Make `loops` calls in native code and time them together."""
        ...


class Violations(NamedTuple):
    """A timed batch of calls that were violations: seconds for all, and the last one's fault."""

    seconds: float
    last: Fault


@runtime_checkable
class TimedViolations(Protocol):
    """A sandbox that can time, in native code, calls up to the error after a violation."""

    def timed_violations(
        self, function: ForeignFunction, data: BytesLike, loops: int
    ) -> Violations:
        """Make `loops` calls, each of which has to be a violation, and time them together.

        Raises:
            ValueError: A call returned.
        """
        ...


@dataclass(frozen=True)
class Backend(ABC):
    """A mechanism with its options fixed.

    Attributes:
        name: Unique; letters, digits and dashes.
        summary: One sentence.
        mechanism: How the wall is built; backends that share one share a colour in figures.
        codec: How arguments are laid out when they are copied across; empty: as they are.
        kind: A wall, the baseline (no wall), or a reference that runs no foreign function.
        guarantees: What the wall claims.
        options: What is fixed, for the results: placement, transport, …
        workloads: Names of the workloads that it can run; None: all of them.
        native_loop: Its sandboxes are `TimedLoop`s, and `TimedViolations` if recovery is claimed.
            Others are timed from Python, binding included (level `python`).
        default_allocator: Measure with the allocator's defaults instead of the harness's setting,
            which keeps large buffers mapped.
        standard: Names of the workloads that runs measure it in which name no backends; None: all
            that it can run.
    """

    name: str
    summary: str
    mechanism: str
    codec: str = ""
    kind: Kind = "wall"
    guarantees: Guarantees = field(default_factory=Guarantees)
    options: Mapping[str, str] = field(default_factory=dict)
    workloads: frozenset[str] | None = None
    native_loop: bool = False
    default_allocator: bool = False
    standard: frozenset[str] | None = None

    def availability(self) -> Availability:
        """Say whether this backend works on this machine. Quick: it is asked for every listing."""
        return Availability.yes()

    @abstractmethod
    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a sandbox in which these functions can be called.

        Raises:
            OSError: The system refused, or a library or symbol is not there.
        """


@runtime_checkable
class Modelled(Protocol):
    """A backend that can do all it does but for an instruction that this CPU lacks.

    Attributes:
        wrpkru_per_call: How many WRPKRU a call executes, and its model leaves out.
    """

    wrpkru_per_call: int

    def open_model(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a sandbox that is *no wall*, to time everything else. For the harness alone.

        Raises:
            OSError: The system refused, a library or symbol is not there, or the CPU has the
                instruction.
        """
        ...


def require_timeout(timeout: object) -> None:
    """Refuse what is neither a time limit in seconds nor None, for no limit.

    Raises:
        TypeError: It is no number.
        ValueError: It is not positive.
    """
    if timeout is None:
        return
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")
    if not timeout > 0:  # catches NaN too
        raise ValueError(f"timeout must be positive, in seconds, and is {timeout}")


def allowed_cpus() -> list[int]:
    """List the CPUs that this thread may run on, in ascending order."""
    return sorted(os.sched_getaffinity(0))
