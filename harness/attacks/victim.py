"""native/attack/victim.c by ctypes: canaries that only C can make, and the machine's state."""

from __future__ import annotations

import ctypes
import signal

from backends import native

LENGTH = 64  # bytes of a canary

_SIGNALS = 64


class State(ctypes.Structure):
    """`struct victim_state` of native/attack/victim.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("MXCSR", ctypes.c_uint64),
        ("x87 control word", ctypes.c_uint64),
        ("x87 stack", ctypes.c_uint64),
        ("FS base", ctypes.c_uint64),
        ("GS base", ctypes.c_uint64),
        ("PKRU", ctypes.c_uint64),
    )

    def values(self) -> dict[str, str]:
        """Return them as an observation has them."""
        return {name: hex(getattr(self, name)) for name, _ in self._fields_}


class _Handler(ctypes.Structure):
    """`struct victim_handler`."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("handler", "flags", "restorer", "mask"))


class Report(ctypes.Structure):
    """`struct victim_report`."""

    _fields_ = (
        ("before", State),
        ("after", State),
        ("stack", ctypes.c_uint8 * LENGTH),
        ("jumped", ctypes.c_uint64),
    )


def load() -> ctypes.CDLL:
    """Load the library, whose functions are named `victim_` and what they are."""
    library = ctypes.CDLL(str(native.COMPILED / "libvictim.so"))
    for name in (
        *("global", "thread_local", "heap", "heap_page", "page", "shared_page", "stack"),
        "jump_buffer",
    ):
        getattr(library, f"victim_{name}").restype = ctypes.c_void_p
    for name in ("wait", "run", "handlers"):
        getattr(library, f"victim_{name}").restype = ctypes.c_bool
    library.victim_thread_block.restype = ctypes.c_uint64
    library.victim_has_old_system_calls.restype = ctypes.c_bool
    return library


def handlers(library: ctypes.CDLL) -> str:
    """Tell what each signal does that does not do what it does by itself."""
    found = (_Handler * _SIGNALS)()
    if not library.victim_handlers(found):
        return "the system does not tell"
    told = []
    for number, handler in enumerate(found, 1):
        if handler.handler != int(signal.SIG_DFL):
            words = (getattr(handler, name) for name, *_ in _Handler._fields_)
            told.append(f"{number}: " + " ".join(f"{word:#x}" for word in words))
    return "; ".join(told)


def address(function: object) -> int:
    """Return where a function of a library is."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)  # type: ignore[arg-type]
