"""PKRU-Safe's wall: the foreign code shares stack and heap, and a trusted heap is closed to it.

After P. Kirth, M. Dickerson, S. Crane, P. Larsen, A. Dabrowski, D. Gens, Y. Na, S. Volckaert,
M. Franz: "PKRU-Safe: Automatically Locking Down the Heap Between Safe and Unsafe Languages",
EuroSys 2022. Of it this is the call gate. What belongs on the trusted heap PKRU-Safe's compiler
finds out; here it is what the program puts into a `backends.TrustedHeap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends import protection_keys
from backends.contract import Availability, Backend, ForeignFunction, Guarantees, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class PkruSafe(Backend):
    """A call gate that closes the trusted heap, by its protection key, for the time of a call.

    Of the guarantees it claims `secrets` and `threads` alone: foreign code reads and writes all
    that is not in a `backends.TrustedHeap`, its caller's stack and heap among it, and ends the
    process if it breaks. What is in one it can neither read nor write, nor write what says where
    that is and by which key it is closed, and dies trying, as long as it runs the instructions that
    it was built with and makes no system calls to the contrary: the addresses that it returns to
    lie on the shared stack, and system calls are not refused. Any thread may call.
    """

    def availability(self) -> Availability:
        """Need a CPU that has protection keys and a kernel that uses them."""
        return protection_keys.availability()

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a gate to the functions, which are loaded into this process as they are."""
        from backends import native

        return native.NativeSandbox(native.lib.mechanism_pkru_safe, functions)


BACKEND = PkruSafe(
    name="pkru-safe",
    summary="PKRU-Safe's call gate: shared stack and heap; a trusted heap is closed by its key.",
    mechanism="pkru-safe",
    native_loop=True,
    guarantees=Guarantees(secrets=True, threads=True),
)
