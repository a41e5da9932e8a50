"""A process that shares a host's memory and outlives it: what the host was ends with it, otherwise.

It is no tracer, which the host would notice, and which attacks by `ptrace` could not get past.
"""

from __future__ import annotations

import ctypes
import mmap
import os

_CLONE_VM, _CLONE_PARENT = 0x100, 0x8000

#: Seconds after which it ends if nobody has ended it: longer than any attack's host runs.
_LIFE = 600

_STACK = 1 << 16  # bytes


def start() -> int:
    """Start a process that shares this one's memory, as a child of this one's parent.

    All it does is sleep. On Linux before 5.16 a signal that dumps core ends it with this process.

    Returns:
        Its id.

    Raises:
        OSError: The system refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    stack = libc.mmap(
        None, _STACK, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )  # stays for as long as the memory does
    if stack == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap of a witness's stack")
    process: int = libc.clone(
        ctypes.cast(libc.sleep, ctypes.c_void_p),
        ctypes.c_void_p(stack + _STACK),
        _CLONE_VM | _CLONE_PARENT,
        ctypes.c_void_p(_LIFE),
    )
    if process < 0:
        raise OSError(ctypes.get_errno(), "clone of a witness")
    return process


def changed(process: int, memory: dict[str, tuple[int, str]]) -> list[str] | None:
    """List what is not as it should be in the memory that a process shares.

    Args:
        process: What `start` returned.
        memory: By name, an address and what should be there, in hexadecimal.

    Returns:
        Names; None if the process is gone.
    """
    try:
        with open(f"/proc/{process}/mem", "rb", buffering=0) as file:  # noqa: PTH123 - of the system
            return [
                name
                for name, (address, content) in memory.items()
                if _read(file.fileno(), address, len(content) // 2).hex() != content
            ]
    except OSError:
        return None


def _read(file: int, address: int, length: int) -> bytes:
    try:
        return os.pread(file, length, address)
    except OSError:  # there is nothing any more
        return b""
