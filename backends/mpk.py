"""Walls of memory protection keys: the foreign code runs in a domain of this process.

After M. Gülmez, T. Nyman, C. Baumann, J. T. Mühlberg: "Friend or Foe Inside?", SecDev 2023, and its
SDRaD; what a domain may and may not do is said in native/domain/domain.h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backends import protection_keys
from backends.contract import Availability, Backend, ForeignFunction, Guarantees, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class ProtectionKeys(Backend):
    """A domain behind a protection key.

    Attributes:
        views: Results are memoryviews of the domain's memory instead of copies.
        allow_syscalls: Foreign code may make system calls: a weaker wall.
    """

    views: bool = False
    allow_syscalls: bool = False

    def availability(self) -> Availability:
        """Need a CPU that has protection keys and a kernel that uses them."""
        return protection_keys.availability()

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a domain and load the functions' libraries into it."""
        from backends import native

        mechanism = native.lib.mechanism_domain_view if self.views else native.lib.mechanism_domain
        return native.NativeSandbox(
            mechanism,
            functions,
            time_limit=self.guarantees.time_limit,
            views=self.views,
            allow_syscalls=self.allow_syscalls,
        )


_REFUSED = Guarantees(
    heap=True,
    stack=True,
    static_data=True,
    confidentiality=False,  # a domain reads what is not under a key of its own
    recovery=True,
    time_limit=True,
    syscalls=True,
    threads=True,
)
# What makes system calls can end the process, and block the signal of a time limit.
_ALLOWED = replace(_REFUSED, recovery=False, time_limit=False, syscalls=False)


def _mpk(
    name: str, summary: str, *, views: bool = False, allow_syscalls: bool = False
) -> ProtectionKeys:
    return ProtectionKeys(
        name=name,
        summary=summary,
        mechanism="mpk",
        native_loop=True,
        guarantees=_ALLOWED if allow_syscalls else _REFUSED,
        options={
            "result": "view" if views else "copy",
            "syscalls": "allowed" if allow_syscalls else "refused",
        },
        views=views,
        allow_syscalls=allow_syscalls,
    )


BACKENDS = (
    _mpk("mpk", "A domain behind a protection key; the input in place, the result copied out."),
    _mpk(
        "mpk-view",
        "A domain behind a protection key; no copies: the result is a view of its memory.",
        views=True,
    ),
    _mpk(
        "mpk-nosud",
        "As mpk, but foreign code may make system calls: what refusing them costs.",
        allow_syscalls=True,
    ),
)
