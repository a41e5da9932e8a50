"""Walls around native code, each behind one contract. See `backends.contract`.

For users there is `Sandbox`, a library behind a wall: docs/sandbox.md. What it needs is imported
when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.contract import ForeignError, UnsupportedError, ViolationError
    from backends.contract import ViolationError as DomainViolation
    from backends.marks import NULL, DeclarationError, Fixed, In, InOut, Out, Status
    from backends.protected_memory import DataDomain, TrustedHeap
    from backends.sandbox import Function, Sandbox

__all__ = [
    "NULL",
    "DataDomain",
    "DeclarationError",
    "DomainViolation",
    "Fixed",
    "ForeignError",
    "Function",
    "In",
    "InOut",
    "Out",
    "Sandbox",
    "Status",
    "TrustedHeap",
    "UnsupportedError",
    "ViolationError",
]

_HOMES = {
    "contract": ("ForeignError", "UnsupportedError", "ViolationError"),
    "marks": ("NULL", "DeclarationError", "Fixed", "In", "InOut", "Out", "Status"),
    "protected_memory": ("DataDomain", "TrustedHeap"),
    "sandbox": ("Function", "Sandbox"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    original = "ViolationError" if name == "DomainViolation" else name
    if original not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[original]}"), original)
