"""Memory of the caller's under a protection key, which foreign code is not to reach."""

from __future__ import annotations

import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from backends import _native, faults
from backends.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backends.contract import BytesLike

ffi = _native.ffi
lib = _native.lib


class _ProtectedMemory:
    """Memory that is opened and given back, one thread at a time. A context manager.

    Args:
        what: What it is, for errors.
        handle: Where opening puts the native structure, which has `memory` and `length`.
        opening: The native function that opens it.
        closing: The native function that gives it back.
        length: Bytes; as many as make whole pages are there.

    Raises:
        OSError: There are no protection keys, or all are taken (EAGAIN).
    """

    def __init__(
        self,
        what: str,
        handle: Any,
        opening: Callable[..., int],
        closing: Callable[[Any], None],
        length: int,
    ) -> None:
        self._handle: Any = None
        self._what = what
        self._closing = closing
        self._turns = Turns(what)
        fault = ffi.new("struct iso_fault *")
        faults.require_open(opening(length, handle, fault), fault)
        self._handle = handle[0]

    def __len__(self) -> int:
        """Return its length in bytes."""
        with self.use() as handle:
            return int(handle.length)

    @property
    def address(self) -> int:
        """Where it lies, as foreign code would be told."""
        with self.use() as handle:
            return int(ffi.cast("uintptr_t", handle.memory))

    @contextmanager
    def use(self) -> Iterator[Any]:
        """Give the native structure, which nobody closes within the `with` block.

        Raises:
            ValueError: It is closed.
            SandboxBusyError: A signal handler uses it and has interrupted another use.
        """
        with self._turns.take():
            if self._handle is None:
                raise ValueError(f"the {self._what} is closed")
            yield self._handle

    def close(self) -> None:
        """Give the memory back, after who is using it. Closing twice is fine.

        Raises:
            SandboxBusyError: A signal handler closes it and has interrupted a use.
        """
        with self._turns.take():
            self._require_unused()
            handle, self._handle = self._handle, None
            if handle is not None:
                self._closing(handle)

    def _require_unused(self) -> None:
        """Refuse to close what must stay; here nothing must."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Close what was forgotten, and say so."""
        if getattr(self, "_handle", None) is not None:
            warnings.warn(f"unclosed {self._what} {self!r}", ResourceWarning, 2, source=self)
            self.close()


class DataDomain(_ProtectedMemory):
    """Memory under a protection key of its own, for secrets that foreign code is not to read.

    Domains (backends `mpk…`) have no rights to it but those that `grant` of a sandbox gives; other
    walls know nothing of it. What was granted ends when it is closed. A context manager.

    Args:
        length: Bytes; as many as make whole pages are there.

    Raises:
        OSError: There are no protection keys, or all are taken (EAGAIN).
    """

    def __init__(self, length: int) -> None:
        self._lent: Callable[[], object] = lambda: None
        handle = ffi.new("struct iso_data **")
        super().__init__("data domain", handle, lib.iso_data_open, lib.iso_data_close, length)

    @property
    def memory(self) -> memoryview:
        """The memory, writable. It cannot be closed before what was made of it is dropped.

        Raises:
            ValueError: It is closed.
        """
        with self.use() as handle:
            # A pointer that lives as long as the views, and keeps this object as long.
            lent = self._lent()
            if lent is None:
                lent = ffi.gc(handle.memory, self._returned)
                self._lent = weakref.ref(lent)
            return memoryview(ffi.buffer(lent, handle.length))

    def close(self) -> None:
        """Give memory and key back; what was granted ends. Closing twice is fine.

        Raises:
            BufferError: There are views of its memory.
            SandboxBusyError: A signal handler closes it and has interrupted a use.
        """
        super().close()

    def _require_unused(self) -> None:
        if self._lent() is not None:
            raise BufferError(
                "views of the data domain's memory are in use: drop or release them, then close it"
            )

    def _returned(self, _: object) -> None:
        """Do nothing: that a view refers to this is what keeps the memory."""


class TrustedHeap(_ProtectedMemory):
    """Memory that functions behind PKRU-Safe's gate (backend `pkru-safe`) cannot read or write.

    All of it in a process is under one protection key, which every such call closes. A context
    manager.

    Args:
        length: Bytes; as many as make whole pages are there.

    Raises:
        OSError: There are no protection keys, or all are taken (EAGAIN).
    """

    def __init__(self, length: int) -> None:
        handle = ffi.new("struct iso_trusted **")
        super().__init__(
            "trusted heap", handle, lib.iso_trusted_open, lib.iso_trusted_close, length
        )

    def write(self, offset: int, data: BytesLike) -> None:
        """Copy bytes in.

        Raises:
            ValueError: They do not lie within it, or it is closed.
        """
        with self.use() as handle, ffi.from_buffer(data) as view:
            _require_within(handle, offset, len(view))
            lib.iso_trusted_write(handle, offset, view, len(view))

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out.

        Raises:
            ValueError: They do not lie within it, or it is closed.
        """
        with self.use() as handle:
            _require_within(handle, offset, length)
            data = ffi.new("uint8_t[]", max(length, 1))
            lib.iso_trusted_read(handle, offset, data, length)
            return bytes(ffi.buffer(data, length))


def _require_within(handle: Any, offset: int, length: int) -> None:
    if offset < 0 or not 0 <= length <= handle.length - offset:
        raise ValueError(f"{length} bytes at {offset} are not within its {handle.length}")
