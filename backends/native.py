"""Sandboxes of the mechanisms in native/, behind the contract of `backends.contract`."""

from __future__ import annotations

import errno
import os
import threading
import warnings
import weakref
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from backends import _native
from backends.contract import (
    Batch,
    BytesLike,
    Fault,
    ForeignError,
    ForeignFunction,
    Sandbox,
    SandboxBusyError,
    SandboxClosedError,
    SandboxDeadError,
    UnsupportedError,
    ViolationError,
    ViolationKind,
    Violations,
)
from backends.placement import Pin, Placement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ffi = _native.ffi
lib = _native.lib

# Compiled files lie beside the extension, which in an editable install is not beside this file.
COMPILED = Path(_native.__file__).parent
WORKLOADS = COMPILED / "libforeign_workloads.so"
PNG = COMPILED / "libforeign_png.so"
BENIGN = COMPILED / "libforeign_benign.so"
HOSTILE = COMPILED / "libforeign_hostile.so"
DISPATCH = COMPILED / "libforeign_dispatch.so"
STANDALONE = COMPILED / "standalone"

#: The longest result that a process sandbox may send, in bytes, unless told otherwise.
MAX_OUTPUT_LENGTH = 1 << 30

_KINDS = {
    lib.ISO_VIOLATION_SIGNAL: ViolationKind.SIGNAL,
    lib.ISO_VIOLATION_EXIT: ViolationKind.EXIT,
    lib.ISO_VIOLATION_TIMEOUT: ViolationKind.TIMEOUT,
    lib.ISO_VIOLATION_PROTOCOL: ViolationKind.PROTOCOL,
}
_ACCESSES: dict[int, Literal["read", "write", "execute"]] = {
    lib.ISO_ACCESS_READ: "read",
    lib.ISO_ACCESS_WRITE: "write",
    lib.ISO_ACCESS_EXECUTE: "execute",
}

# All open sandboxes, so that fork() in the user's program can give each a lock that is not held.
_open: weakref.WeakSet[NativeSandbox] = weakref.WeakSet()


def _after_fork() -> None:
    for sandbox in list(_open):
        sandbox.after_fork()


os.register_at_fork(after_in_child=_after_fork)


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


class _Views:
    """The results of a sandbox that are read where they lie.

    A view may be dropped in any thread and at any time, also in the middle of a call: it is only
    noted then, and released before the next call.
    """

    def __init__(self, mechanism: Any) -> None:
        self._mechanism = mechanism
        self._dropped: deque[Any] = deque()
        self._lock = threading.Lock()
        self._count = 0
        self._closing: Any = None

    def view(self, output: Any) -> memoryview:
        """Make a read-only view of a result, which is released with it."""
        if output.data == ffi.NULL:
            return memoryview(b"")
        kept = ffi.new("struct iso_bytes *", {"data": output.data, "length": output.length})
        self._count += 1
        owner = ffi.gc(output.data, lambda _: self._drop(kept))
        return memoryview(ffi.buffer(owner, output.length)).toreadonly()

    def _drop(self, output: Any) -> None:
        self._dropped.append(output)
        if self._closing is not None:
            self._finish()

    def release_dropped(self, sandbox: Any) -> None:
        """Release what was dropped. Between calls."""
        while True:
            try:
                output = self._dropped.popleft()
            except IndexError:
                return
            self._mechanism.release(sandbox, output)
            self._count -= 1

    def close(self, sandbox: Any) -> None:
        """Close the sandbox, now or with the last view."""
        self._closing = sandbox
        self._finish()

    def _finish(self) -> None:
        # Not blocking: whoever holds the lock sees what was dropped meanwhile.
        while self._closing is not None and len(self._dropped) == self._count:
            if not self._lock.acquire(blocking=False):
                return
            try:
                sandbox, self._closing = self._closing, None
                if sandbox is not None:
                    self.release_dropped(sandbox)
                    self._mechanism.close(sandbox)
            finally:
                self._lock.release()


_RIGHTS = {
    "none": lib.ISO_RIGHTS_NONE,
    "read": lib.ISO_RIGHTS_READ,
    "write": lib.ISO_RIGHTS_WRITE,
}


class DataDomain:
    """Memory under a protection key of its own, for secrets that foreign code is not to read.

    Domains (backends `mpk…`) have no rights to it but those that `NativeSandbox.grant` gives. A
    context manager.

    Args:
        length: Bytes; as many as make whole pages are there.

    Raises:
        OSError: There are no protection keys, or all are taken (EAGAIN).
    """

    def __init__(self, length: int) -> None:
        self.handle: Any = None
        handle, fault = ffi.new("struct iso_data **"), ffi.new("struct iso_fault *")
        _require_open(lib.iso_data_open(length, handle, fault), fault)
        self.handle = handle[0]
        self._buffer = ffi.buffer(self.handle.memory, self.handle.length)

    @property
    def memory(self) -> memoryview:
        """The memory, writable. Not to be used after close."""
        if self.handle is None:
            raise ValueError("the data domain is closed")
        return memoryview(self._buffer)

    @property
    def address(self) -> int:
        """Where it lies, as foreign code would be told."""
        return int(ffi.cast("uintptr_t", self.handle.memory))

    def close(self) -> None:
        """Give memory and key back; what was granted ends. Closing twice is fine."""
        handle, self.handle = self.handle, None
        if handle is not None:
            lib.iso_data_close(handle)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class TrustedHeap:
    """Memory that functions behind PKRU-Safe's gate (backend `pkru-safe`) cannot read or write.

    All of it in a process is under one protection key, which every such call closes. A context
    manager.

    Args:
        length: Bytes; as many as make whole pages are there.

    Raises:
        OSError: There are no protection keys, or all are taken (EAGAIN).
    """

    def __init__(self, length: int) -> None:
        self._handle: Any = None
        handle, fault = ffi.new("struct iso_trusted **"), ffi.new("struct iso_fault *")
        _require_open(lib.iso_trusted_open(length, handle, fault), fault)
        self._handle = handle[0]

    def __len__(self) -> int:
        """Return its length in bytes."""
        return int(self._open().length)

    @property
    def address(self) -> int:
        """Where it lies, as foreign code would be told."""
        return int(ffi.cast("uintptr_t", self._open().memory))

    def write(self, offset: int, data: BytesLike) -> None:
        """Copy bytes in.

        Raises:
            ValueError: They do not lie within it, or it is closed.
        """
        with ffi.from_buffer(data) as view:
            if offset < 0 or not lib.iso_trusted_write(self._open(), offset, view, len(view)):
                raise self._outside(offset, len(view))

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out.

        Raises:
            ValueError: They do not lie within it, or it is closed.
        """
        if offset < 0 or not 0 <= length <= len(self) - offset:
            raise self._outside(offset, length)
        data = ffi.new("uint8_t[]", max(length, 1))
        lib.iso_trusted_read(self._open(), offset, data, length)
        return bytes(ffi.buffer(data, length))

    def close(self) -> None:
        """Give the memory back. Closing twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            lib.iso_trusted_close(handle)

    def _open(self) -> Any:
        if self._handle is None:
            raise ValueError("the trusted heap is closed")
        return self._handle

    def _outside(self, offset: int, length: int) -> ValueError:
        return ValueError(f"{length} bytes at {offset} are not within its {len(self)}")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


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
        audit: A `struct iso_audit *`: where outside writes are noted instead of refused.
        model_keys: No wall: domains without protection keys, for timing all but WRPKRU.

    Raises:
        OSError: The system refused, or a library or symbol is not there.
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
        audit: Any = ffi.NULL,
        model_keys: bool = False,
    ) -> None:
        self._sandbox: Any = None
        self._views = _Views(mechanism) if views else None
        self._lock = threading.RLock()
        self._busy = False
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
                "audit": audit,
                "model_keys": model_keys,
                "sandbox_cpu": -1 if self._pin.sandbox_cpu is None else self._pin.sandbox_cpu,
                "respawn": respawn,
                "max_output_length": max_output_length,
            },
        )
        result = ffi.new("struct iso_sandbox **")
        fault = ffi.new("struct iso_fault *")
        try:
            _require_open(mechanism.open(options, result, fault), fault)
        except BaseException:  # a signal handler may raise after a successful open
            if result[0] != ffi.NULL:
                mechanism.close(result[0])
            self._pin.release()
            raise
        self._sandbox = result[0]
        _open.add(self)

    def call(
        self, function: ForeignFunction, data: BytesLike = b"", *, timeout: float | None = None
    ) -> bytes | memoryview:
        """Run a foreign function; see `Sandbox.call`."""
        if timeout is not None and not self._time_limit:
            raise UnsupportedError("this backend cannot limit a call in time; call without timeout")
        if timeout is not None and not timeout > 0:  # catches NaN too
            raise ValueError(f"timeout must be positive, in seconds, and is {timeout}")
        # At least a nanosecond: zero means no limit.
        nanoseconds = 0 if timeout is None else max(1, int(min(timeout, 1e9) * 1e9))
        reply = ffi.new("struct iso_reply *")
        with self._calling(), ffi.from_buffer(data) as view:
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
        with self._calling(), ffi.from_buffer(data) as view:
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
        with self._calling(), ffi.from_buffer(data) as view:
            request = self._request(function, view, 0)
            status = lib.iso_timed_violations(self._mechanism, self._sandbox, request, batch)
            if status == lib.ISO_VIOLATION:
                return Violations(batch.elapsed_ns / 1e9, _fault(batch.last.fault))
            if status == lib.ISO_INTERRUPTED:
                raise InterruptedError(errno.EINTR, "a signal interrupted the timed loop")
            self._result(function, status, ffi.addressof(batch, "last"))
        raise ValueError(f"{function.symbol} returned, and only violations are timed here")

    def after_fork(self) -> None:
        """Forget, in a process just forked, what the other threads of the old one were doing."""
        self._lock = threading.RLock()
        self._busy = False

    def process(self) -> int | None:
        """Return the id of the sandbox's process, if it has one now."""
        with self._lock:
            if self._sandbox is None or self._mechanism.process == ffi.NULL:
                return None
            return int(self._mechanism.process(self._sandbox)) or None

    def address_of(self, function: ForeignFunction) -> int:
        """Tell where a function lies in the sandbox; see `Sandbox.address_of`."""
        with self._calling():
            index = self._require(function)
            if self._mechanism.address == ffi.NULL:
                return super().address_of(function)
            return int(ffi.cast("uintptr_t", self._mechanism.address(self._sandbox, index)))

    def grant(self, data: DataDomain, rights: Literal["none", "read", "write"]) -> None:
        """Say what foreign code may do with a data domain, from the next call on.

        Raises:
            UnsupportedError: This sandbox is not made of protection keys.
        """
        if not self._mechanism.loads_libraries:
            raise UnsupportedError("only sandboxes of protection keys are granted data domains")
        with self._calling():
            if self._sandbox is None or data.handle is None:
                raise SandboxClosedError("the sandbox or the data domain is closed")
            lib.iso_data_grant(self._sandbox, data.handle, _RIGHTS[rights])

    def placement(self) -> Mapping[str, str]:
        """Tell the CPUs of caller and sandbox; see `Sandbox.placement`."""
        if self._pin.caller_cpu is None:
            return {}
        return {"caller_cpu": str(self._pin.caller_cpu), "sandbox_cpu": str(self._pin.sandbox_cpu)}

    def close(self) -> None:
        """End the sandbox. Closing twice is fine."""
        with self._calling():
            sandbox, self._sandbox = self._sandbox, None
            if sandbox is not None:
                _open.discard(self)
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

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Keep other threads out, and this thread's signal handlers, which no lock can hold back.

        Raises:
            SandboxBusyError: A signal handler used the sandbox whose call it interrupted.
        """
        with self._lock:
            if self._busy:
                raise SandboxBusyError("a signal handler used the sandbox that it interrupted")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

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

    def _require(self, function: ForeignFunction) -> int:
        """Return a function's index."""
        if self._sandbox is None:
            raise SandboxClosedError("the sandbox is closed")
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
            raise ViolationError(function.symbol, _fault(reply.fault))
        if status == lib.ISO_BUSY:
            raise SandboxBusyError("the sandbox, or another of this thread's, is in a call")
        if status == lib.ISO_DEAD:
            raise SandboxDeadError("a violation ended this sandbox, and it must not start again")
        if status == lib.ISO_SYSTEM_ERROR:
            raise _system_error(reply.fault)
        raise ValueError("no call to go on with: the process was forked while it was under way")


def _text(pointer: Any) -> str | None:
    return None if pointer == ffi.NULL else ffi.string(pointer).decode()


def _fault(fault: Any) -> Fault:
    return Fault(
        kind=_KINDS[fault.violation],
        signal=fault.signal or None,
        exit_code=fault.exit_code if fault.exit_code >= 0 else None,
        address=fault.address if fault.address_known else None,
        instruction=fault.instruction or None,
        access=_ACCESSES.get(fault.access),
        protection_key=fault.protection_key if fault.protection_key_known else None,
        system_call=fault.system_call if fault.system_call_known else None,
        symbol=symbol(fault.instruction),
        detail=_text(fault.what),
    )


def symbol(address: int) -> str | None:
    """Name the function that an address of this process lies in, as NAME+OFFSET in LIBRARY.

    The address is only looked up, in the tables of what is loaded: it may be anything.
    """
    info = ffi.new("Dl_info *")
    if address == 0 or not lib.dladdr(ffi.cast("void *", address), info):
        return None
    library = Path(os.fsdecode(ffi.string(info.dli_fname))).name if info.dli_fname else "?"
    if info.dli_sname == ffi.NULL:
        return f"{library}+{address - int(ffi.cast('uintptr_t', info.dli_fbase)):#x}"
    offset = address - int(ffi.cast("uintptr_t", info.dli_saddr))
    return f"{ffi.string(info.dli_sname).decode(errors='replace')}+{offset:#x} in {library}"


def _system_error(fault: Any) -> OSError:
    number = fault.system_errno
    return OSError(number, f"{_text(fault.what)}: {os.strerror(number)}")


def _require_open(status: int, fault: Any) -> None:
    if status != lib.ISO_OK:
        raise _system_error(fault)
