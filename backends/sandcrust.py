"""Sandcrust's walls: a forked process, persistent behind two pipes or forked for each call.

After B. Lamowski, C. Weinhold, A. Lackorzynski, H. Härtig: "Sandcrust: Automatic Sandboxing of
Unsafe Components in Rust", PLOS 2017.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from backends.contract import Availability, Backend, ForeignFunction, Guarantees, Sandbox
from backends.placement import Placement, placement_availability

if TYPE_CHECKING:
    from collections.abc import Sequence

_GUARANTEES = Guarantees(
    heap=True,
    stack=True,
    static_data=True,
    machine_state=True,
    shared_memory=False,  # a forked child has the same mappings
    confidentiality=False,  # a forked child has a copy of everything that was there before
    recovery=True,
    time_limit=True,
    syscalls=False,
    threads=True,
)

_NOT_HARDENED = {
    "ISO_HARDENING_NOT_BUILT": (
        "was built without libseccomp",
        "sudo apt-get install libseccomp-dev (Debian and Ubuntu), and build again: make clean venv",
    ),
    "ISO_HARDENING_NO_FILTERS": (
        "needs seccomp filters, and this kernel has none",
        "run it on a kernel built with CONFIG_SECCOMP_FILTER",
    ),
}
_NO_LANDLOCK = (
    "this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK and the boot option lsm=): "
    "the seccomp filter alone keeps foreign code from files"
)


@dataclass(frozen=True)
class Sandcrust(Backend):
    """A forked process; hardened, it gives up what it has from its parent before it runs anything.

    A hardened child has no descriptor but its pipes, may make none and no file, and has a Landlock
    domain without any right, where the kernel has that. A seccomp filter lets through, and nothing
    else:

    - `read` and `write` on its pipes; on the standard streams, which are closed, they, `fstat` and
      `ioctl` fail with EBADF, so that printing goes nowhere
    - `brk`, `munmap`, `madvise` with harmless advice; `mmap` of private memory without a
      descriptor, and `mprotect`, both without PROT_EXEC: code generators do not work; `mremap`,
      which could show more of a mapped file, fails with ENOMEM, and `realloc` copies
    - `futex` on private memory, `sched_yield`, clocks, `getrandom`, `sysinfo`, `getpid`, `getppid`,
      `gettid`, `sched_getaffinity` of itself
    - `exit`, `exit_group`; `kill`, `tkill`, `tgkill` of itself; signal masks, stacks and, below
      SIGSYS, handlers of its own

    All others (`open`, `socket`, `fork`, `clone`, `execve`, `ptrace`, `process_vm_writev`, `prctl`,
    `prlimit`, `io_uring_setup`, `userfaultfd`, signals to others, …) are violations with the system
    call's number; by the 32-bit and x32 ways in, without. What the caller had in memory at the fork
    can still be read, and what it shares with others (MAP_SHARED) also be written: what it maps
    read-only, too, where the file is open for writing.

    Attributes:
        transport: `pipe`: one persistent child; `fork`: a child for each call.
        placement: Where caller and child run.
        respawn: Whether the call after a violation starts a new child; if not, it is an error.
        max_output_length: A longer result, in bytes, is a violation.
        hardened: See above.
        address_space: Limit of a hardened child's address space in bytes, its parent's included;
            None: the parent's limit.
    """

    transport: Literal["pipe", "fork"] = "pipe"
    placement: Placement = "anywhere"
    respawn: bool = True
    max_output_length: int = 1 << 30
    hardened: bool = False
    address_space: int | None = None

    def availability(self) -> Availability:
        """Need Linux, two CPUs for the placement on another core, and what hardening is made of."""
        if sys.platform != "linux":
            return Availability.no(f"needs Linux, and this is {sys.platform}", "run it on Linux")
        placed = placement_availability(self.placement)
        return _hardening_availability() if self.hardened and placed.available else placed

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a sandbox; the persistent child starts at once."""
        from backends import native

        return native.NativeSandbox(
            getattr(native.lib, f"mechanism_{self.transport}"),
            functions,
            placement=self.placement,
            time_limit=True,
            respawn=self.respawn,
            max_output_length=self.max_output_length,
            hardened=self.hardened,
            address_space=self.address_space,
        )


def _hardening_availability() -> Availability:
    from backends import native

    here = native.lib.iso_hardening_here()
    for name, (reason, remedy) in _NOT_HARDENED.items():
        if here == getattr(native.lib, name):
            return Availability.no(reason, remedy)
    return Availability.yes("" if native.lib.iso_landlock_version() else _NO_LANDLOCK)


def _sandcrust(
    transport: Literal["pipe", "fork"], placement: Placement, *, hardened: bool = False
) -> Sandcrust:
    summary = {
        "pipe": "A persistent forked process behind two pipes",
        "fork": "A process forked for each call",
    }[transport]
    core = {"same-core": "on the caller's core", "other-core": "on another core"}[placement]
    name = f"sandcrust-{transport}" + ("" if placement == "same-core" else f"-{placement}")
    return Sandcrust(
        name=f"{name}-hardened" if hardened else name,
        summary=f"{summary}, {core}{', that can reach nothing else' if hardened else ''}.",
        mechanism=f"sandcrust-{transport}",
        native_loop=True,
        guarantees=replace(_GUARANTEES, syscalls=hardened),
        options={"transport": transport, "placement": placement}
        | ({"hardened": "yes"} if hardened else {}),
        transport=transport,
        placement=placement,
        hardened=hardened,
    )


BACKENDS = (
    _sandcrust("pipe", "same-core"),
    _sandcrust("pipe", "other-core"),
    _sandcrust("pipe", "same-core", hardened=True),
    _sandcrust("fork", "same-core"),
    _sandcrust("fork", "other-core"),
    _sandcrust("fork", "same-core", hardened=True),
)
