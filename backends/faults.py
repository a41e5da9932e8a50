"""What native/ says of a failure, as the contract's exceptions say it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Literal

from backends import _native, protection_keys
from backends.contract import Fault, ViolationKind

ffi = _native.ffi
lib = _native.lib

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


def violation(fault: Any) -> Fault:
    """Tell what a `struct iso_fault` says of a violation."""
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


def system_error(fault: Any) -> OSError:
    """Make an exception of a `struct iso_fault` that comes with ISO_SYSTEM_ERROR."""
    number = fault.system_errno
    what = _text(fault.what) or "?"
    why = os.strerror(number)
    # Both texts that begin so, in native/domain and native/pkru_safe, mean that there are none.
    if number == errno.ENOSYS and what.startswith("protection keys"):
        here = protection_keys.availability()
        why = f"{here.reason}. {here.remedy}" if not here.available else why
    return OSError(number, f"{what}: {why}")


def require_open(status: int, fault: Any) -> None:
    """Go on if something was opened.

    Raises:
        OSError: It was not; the system's reason.
    """
    if status != lib.ISO_OK:
        raise system_error(fault)


def _text(pointer: Any) -> str | None:
    return None if pointer == ffi.NULL else ffi.string(pointer).decode(errors="replace")
