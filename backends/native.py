"""Sandboxes of the mechanisms in native/, behind the contract of `backends.contract`."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import _native, faults
from backends.contract import (
    Batch,
    BytesLike,
    ForeignError,
    ForeignFunction,
    Rights,
    Sandbox,
    SandboxBusyError,
    SandboxClosedError,
    SandboxDeadError,
    UnsupportedError,
    ViolationError,
    Violations,
    require_timeout,
)
from backends.placement import Pin, Placement
from backends.protected_memory import DataDomain
from backends.turns import Turns
from backends.views import Views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ffi = _native.ffi
lib = _native.lib

# Compiled files lie beside the extension, which in an editable install is not beside this file.
COMPILED = Path(_native.__file__).parent
WORKLOADS = COMPILED / "libforeign_workloads.so"
PNG = COMPILED / "libforeign_png.so"
BENIGN = COMPILED / "libforeign_benign.so"
HOSTILE = COMPILED / "libforeign_hostile.so"
ATTACK_GADGETS = COMPILED / "libattack_gadgets.so"
DISPATCH = COMPILED / "libforeign_dispatch.so"
STANDALONE = COMPILED / "standalone"

#: The longest result that a process sandbox may send, in bytes, unless told otherwise.
MAX_OUTPUT_LENGTH = 1 << 30

_RIGHTS = {
    "none": lib.ISO_RIGHTS_NONE,
    "read": lib.ISO_RIGHTS_READ,
    "write": lib.ISO_RIGHTS_WRITE,
}


def resolve(function: ForeignFunction) -> Any:
    """Find a foreign function in this process.

    Raises:
        OSError: The library cannot be loaded or lacks the symbol.
    """
    path = os.fsencode(function.library)
    library = lib.dlopen(path, lib.RTLD_NOW | lib.RTLD_LOCAL)
    if library == ffi.NULL:
        raise OSError(f"cannot load {function.library}: {_dlerror()}")
    address = lib.dlsym(library, function.symbol.encode())
    if address == ffi.NULL:
        raise OSError(f"no function {function.symbol} in {function.library}: {_dlerror()}")
    return ffi.cast("iso_function *", address)


def _dlerror() -> str:
    message = lib.dlerror()
    return "unknown reason" if message == ffi.NULL else ffi.string(message).decode(errors="replace")


def paper_bytes(length: int) -> bytes:
    """Generate the first `length` bytes of the paper's input: uniform in [0, 255)."""
    buffer = ffi.new("uint8_t[]", max(length, 1))
    lib.iso_paper_bytes(buffer, length)
    return bytes(ffi.buffer(buffer, length))


def paper_draws(count: int) -> bytes:
    """Generate `count` 32-bit draws of the paper's generator, in the machine's byte order."""
    buffer = ffi.new("uint32_t[]", max(count, 1))
    lib.iso_paper_draws(buffer, count)
    return bytes(ffi.buffer(buffer, 4 * count))


def paper_sizes(count: int) -> bytes:
    """Generate `count` sizes of blocks, uniform in [0, 4096): u16 in the machine's byte order."""
    buffer = ffi.new("uint16_t[]", max(count, 1))
    lib.iso_paper_sizes(buffer, count)
    return bytes(ffi.buffer(buffer, 2 * count))


def keep_buffers_mapped() -> bool:
    """Make malloc keep large buffers, in the whole process. False where it has no such switch."""
    return bool(lib.iso_keep_buffers_mapped())


class _Names:
    """Functions by name, as struct iso_symbol wants them."""

    def __init__(self, functions: Sequence[ForeignFunction]) -> None:
        self._texts = [
            (ffi.new("char[]", os.fsencode(f.library)), ffi.new("char[]", f.symbol.encode()))
            for f in functions
        ]
        self.table = ffi.new("struct iso_symbol[]", self._texts)


class NativeSandbox(Sandbox):
    """A sandbox of a native mechanism.

    Args:
        mechanism: A `struct iso_mechanism *` of native/include/isolation.h.
        functions: The functions that may be called.
        placement: Where the caller and its sandbox run.
        time_limit: Whether the mechanism can limit a call in time.
        respawn: Whether the next call after a violation starts afresh.
        max_output_length: A longer result, in bytes, is a violation.
        views: Results are read-only memoryviews of the sandbox's memory. A result is released with
            its last view; the sandbox, when closed, lasts until then.
        codec: What arguments and results are laid out by, with its level, where the mechanism takes
            one.
        allow_syscalls: Foreign code may make system calls, where the mechanism can refuse them.
        strict: Libraries with code that could lift the wall from within are refused, where the
            mechanism loads libraries.
        audit: A `struct iso_audit *`: where outside writes are noted instead of refused.
        model_keys: No wall: domains without protection keys, for timing all but WRPKRU.
        hardened: The sandbox's process gives up all that it does not need, where it has one.
        address_space: What that process may have of it, in bytes, with what it has from its parent
            (`VmSize` in /proc/self/status); None: as its parent.

    Raises:
        OSError: The system refused, a library or symbol is not there, or (EPERM) `strict` refused a
            library: which, and the instruction with its place.
    """

    def __init__(  # noqa: PLR0913 - the options of struct iso_options
        self,
        mechanism: Any,
        functions: Sequence[ForeignFunction],
        *,
        placement: Placement = "anywhere",
        time_limit: bool = False,
        respawn: bool = True,
        max_output_length: int = MAX_OUTPUT_LENGTH,
        views: bool = False,
        codec: str = "",
        allow_syscalls: bool = False,
        strict: bool = False,
        audit: Any = ffi.NULL,
        model_keys: bool = False,
        hardened: bool = False,
        address_space: int | None = None,
    ) -> None:
        self._sandbox: Any = None
        self._views = Views(mechanism) if views else None
        self._turns = Turns("sandbox")
        self._mechanism = mechanism
        self._time_limit = time_limit
        self._index = {function: i for i, function in enumerate(functions)}
        names = _Names(functions)
        table = (
            ffi.NULL
            if mechanism.loads_libraries
            else ffi.new("iso_function *[]", [resolve(function) for function in functions])
        )
        self._pin = Pin(placement)
        codec_name = ffi.new("char[]", codec.encode()) if codec else ffi.NULL
        options = ffi.new(
            "struct iso_options *",
            {
                "functions": table,
                "symbols": names.table,
                "function_count": len(functions),
                "codec": codec_name,
                "allow_syscalls": allow_syscalls,
                "strict": strict,
                "audit": audit,
                "model_keys": model_keys,
                "sandbox_cpu": -1 if self._pin.sandbox_cpu is None else self._pin.sandbox_cpu,
                "respawn": respawn,
                "max_output_length": max_output_length,
                "hardened": hardened,
                "address_space": address_space or 0,
            },
        )
        result = ffi.new("struct iso_sandbox **")
        fault = ffi.new("struct iso_fault *")
        try:
            faults.require_open(mechanism.open(options, result, fault), fault)
        except BaseException:  # a signal handler may raise after a successful open
            if result[0] != ffi.NULL:
                mechanism.close(result[0])
            self._pin.release()
            raise
        self._sandbox = result[0]

    def call(
        self, function: ForeignFunction, data: BytesLike = b"", *, timeout: float | None = None
    ) -> bytes | memoryview:
        """Run a foreign function; see `Sandbox.call`."""
        require_timeout(timeout)
        if timeout is not None and not self._time_limit:
            raise UnsupportedError("this backend cannot limit a call in time; call without timeout")
        # At least a nanosecond: zero means no limit.
        nanoseconds = 0 if timeout is None else max(1, int(min(timeout, 1e9) * 1e9))
        reply = ffi.new("struct iso_reply *")
        with self._turns.take(), ffi.from_buffer(data) as view:
            request = self._request(function, view, nanoseconds)
            if self._views is not None:
                self._views.release_dropped(self._sandbox)
            status = self._run(request, reply)
            if status == lib.ISO_OK and self._views is not None:
                return self._views.view(reply.output)
            return self._result(function, status, reply)

    def timed_loop(self, function: ForeignFunction, data: BytesLike, loops: int) -> Batch:
        """Make `loops` calls in native code and time them together; see `TimedLoop`."""
        batch = ffi.new("struct iso_batch *", {"loops": loops})
        with self._turns.take(), ffi.from_buffer(data) as view:
            request = self._request(function, view, 0)
            # An interrupted loop cannot go on; the next call cancels what it left.
            status = self._mechanism.loop(self._sandbox, request, batch)
            if status == lib.ISO_INTERRUPTED:
                raise InterruptedError(errno.EINTR, "a signal interrupted the timed loop")
            last = self._result(function, status, ffi.addressof(batch, "last"))
        return Batch(batch.elapsed_ns / 1e9, last)

    def timed_violations(
        self, function: ForeignFunction, data: BytesLike, loops: int
    ) -> Violations:
        """Make `loops` calls that end in violations and time them; see `TimedViolations`."""
        batch = ffi.new("struct iso_batch *", {"loops": loops})
        with self._turns.take(), ffi.from_buffer(data) as view:
            request = self._request(function, view, 0)
            status = lib.iso_timed_violations(self._mechanism, self._sandbox, request, batch)
            if status == lib.ISO_VIOLATION:
                return Violations(batch.elapsed_ns / 1e9, faults.violation(batch.last.fault))
            if status == lib.ISO_INTERRUPTED:
                raise InterruptedError(errno.EINTR, "a signal interrupted the timed loop")
            self._result(function, status, ffi.addressof(batch, "last"))
        raise ValueError(f"{function.symbol} returned, and only violations are timed here")

    def process(self) -> int | None:
        """Return the id of the sandbox's process, if it has one now."""
        with self._turns.lock:
            if self._sandbox is None or self._mechanism.process == ffi.NULL:
                return None
            return int(self._mechanism.process(self._sandbox)) or None

    def address_of(self, function: ForeignFunction) -> int:
        """Tell where a function lies in the sandbox; see `Sandbox.address_of`."""
        with self._turns.take():
            index = self._require(function)
            if self._mechanism.address == ffi.NULL:
                return super().address_of(function)
            return int(ffi.cast("uintptr_t", self._mechanism.address(self._sandbox, index)))

    def grant(self, data: DataDomain, rights: Rights) -> None:
        """Say what foreign code may do with a data domain; see `Sandbox.grant`."""
        if not self._mechanism.loads_libraries:
            super().grant(data, rights)
        if not isinstance(data, DataDomain):
            raise TypeError(f"rights are granted to a DataDomain, not to {data!r}")
        if rights not in _RIGHTS:
            raise ValueError(f"rights are one of {', '.join(_RIGHTS)}, not {rights!r}")
        with self._turns.take(), data.use() as handle:
            self._require_open()
            lib.iso_data_grant(self._sandbox, handle, _RIGHTS[rights])

    def placement(self) -> Mapping[str, str]:
        """Tell the CPUs of caller and sandbox; see `Sandbox.placement`."""
        if self._pin.caller_cpu is None:
            return {}
        return {"caller_cpu": str(self._pin.caller_cpu), "sandbox_cpu": str(self._pin.sandbox_cpu)}

    def close(self) -> None:
        """End the sandbox. Closing twice is fine."""
        with self._turns.take():
            sandbox, self._sandbox = self._sandbox, None
            if sandbox is not None:
                self._pin.release()
                if self._views is None:
                    self._mechanism.close(sandbox)
                else:
                    self._views.close(sandbox)

    def __del__(self) -> None:
        """Close what was forgotten, and say so."""
        if getattr(self, "_sandbox", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def _run(self, request: Any, reply: Any) -> int:
        """Make a call. While it is interrupted Python runs its signal handlers; one may raise."""
        try:
            status = self._mechanism.call(self._sandbox, request, reply)
            while status == lib.ISO_INTERRUPTED:
                status = self._mechanism.resume(self._sandbox, reply)
        except BaseException:
            if self._mechanism.cancel != ffi.NULL:
                self._mechanism.cancel(self._sandbox)
            self._mechanism.release(self._sandbox, ffi.addressof(reply, "output"))
            raise
        return int(status)

    def _require_open(self) -> None:
        if self._sandbox is None:
            raise SandboxClosedError("the sandbox is closed")

    def _require(self, function: ForeignFunction) -> int:
        """Return a function's index."""
        self._require_open()
        if not isinstance(function, ForeignFunction):
            raise TypeError(f"a sandbox calls a ForeignFunction(library, symbol), not {function!r}")
        if function not in self._index:
            known = ", ".join(known.symbol for known in self._index)
            raise ValueError(f"{function.symbol} is not among the sandbox's functions ({known})")
        return self._index[function]

    def _request(self, function: ForeignFunction, view: Any, timeout_ns: int) -> Any:
        return ffi.new(
            "struct iso_request *",
            {
                "function": self._require(function),
                "input": ffi.cast("uint8_t *", view),
                "input_length": len(view),
                "timeout_ns": timeout_ns,
            },
        )

    def _result(self, function: ForeignFunction, status: int, reply: Any) -> bytes:
        """Take the output out of a reply, or raise what its status stands for."""
        if status == lib.ISO_OK:
            try:
                return bytes(ffi.buffer(reply.output.data, reply.output.length))
            finally:
                self._mechanism.release(self._sandbox, ffi.addressof(reply, "output"))
        if status == lib.ISO_FOREIGN_ERROR:
            raise ForeignError(function.symbol, reply.foreign_code)
        if status == lib.ISO_VIOLATION:
            raise ViolationError(function.symbol, faults.violation(reply.fault))
        if status == lib.ISO_BUSY:
            raise SandboxBusyError("the sandbox, or another of this thread's, is in a call")
        if status == lib.ISO_DEAD:
            raise SandboxDeadError("a violation ended this sandbox, and it must not start again")
        if status == lib.ISO_SYSTEM_ERROR:
            raise faults.system_error(reply.fault)
        raise ValueError("no call to go on with: the process was forked while it was under way")
