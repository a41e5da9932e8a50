"""Walls of memory protection keys: the foreign code runs in a domain of this process.

After M. Gülmez, T. Nyman, C. Baumann, J. T. Mühlberg: "Friend or Foe Inside?", SecDev 2023, and its
SDRaD; what a domain may and may not do is said in native/domain/domain.h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from backends import protection_keys
from backends.contract import Availability, Backend, ForeignFunction, Guarantees, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class ProtectionKeys(Backend):
    """A domain behind a protection key.

    Attributes:
        delivery: How data cross: `copy`: the input is read in place and the result copied out;
            `view`: results are memoryviews of the domain's memory; `serialised`: both are copied,
            laid out by the codec.
        optimisation: The level at which the codec is compiled; empty without one.
        allow_syscalls: Foreign code may make system calls: a weaker wall.
        strict: A library is refused (PermissionError) if it, or what it needs, has executable bytes
            that make a WRPKRU or XRSTOR, at whatever offset. Its own C library's is made a trap.
            Not closed: what else is executable in the process, which a domain can jump to: the
            process's libc and what it has loaded besides, and the dynamic loader.
    """

    delivery: Literal["copy", "view", "serialised"] = "copy"
    optimisation: Literal["", "O0", "O1", "O2", "O3"] = ""
    allow_syscalls: bool = False
    strict: bool = False
    wrpkru_per_call: ClassVar[int] = 2

    def availability(self) -> Availability:
        """Need a CPU that has protection keys and a kernel that uses them."""
        # Whether system calls are refused makes no difference to a call that makes none.
        # Not Figure 4's variants: it is about instructions, which are counted.
        usual = not self.allow_syscalls and self.optimisation in ("", "O2")
        modelled = usual and protection_keys.lacking()
        return replace(protection_keys.availability(), modelled=modelled)

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a domain and load the functions' libraries into it."""
        return self._open(functions, model=False)

    def open_model(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a domain that is no wall: as `open`, but without protection keys and WRPKRU."""
        return self._open(functions, model=True)

    def _open(self, functions: Sequence[ForeignFunction], *, model: bool) -> Sandbox:
        from backends import native

        mechanisms = {
            "copy": native.lib.mechanism_domain,
            "view": native.lib.mechanism_domain_view,
            "serialised": native.lib.mechanism_domain_serialised,
        }
        return native.NativeSandbox(
            mechanisms[self.delivery],
            functions,
            time_limit=self.guarantees.time_limit,
            views=self.delivery == "view",
            codec=f"{self.codec}-{self.optimisation}" if self.codec else "",
            allow_syscalls=self.allow_syscalls,
            strict=self.strict,
            model_keys=model,
        )


_REFUSED = Guarantees(
    heap=True,
    stack=True,
    static_data=True,
    machine_state=True,
    shared_memory=True,
    secrets=True,
    confidentiality=False,  # a domain reads what is not under a key of its own
    recovery=True,
    time_limit=True,
    syscalls=True,
    threads=True,
)
# What makes system calls can end the process, and block the signal of a time limit.
_ALLOWED = replace(_REFUSED, recovery=False, time_limit=False, syscalls=False)

_PLAIN = ProtectionKeys(
    name="mpk",
    summary="A domain behind a protection key; the input in place, the result copied out.",
    mechanism="mpk",
    native_loop=True,
    guarantees=_REFUSED,
    options={"result": "copy", "syscalls": "refused"},
)
_CODECS = ("bincode-v1", "bincode-v2", "abomonation-v1", "abomonation-v2")
_FIGURE_4 = frozenset(("snappy-compress", "snappy-uncompress"))
_LEVELS: tuple[Literal["O2", "O0", "O1", "O3"], ...] = ("O2", "O0", "O1", "O3")


def _serialised() -> Iterator[ProtectionKeys]:
    """SDRaD-FFI's way, by each of its codecs; levels other than -O2 are the paper's Figure 4."""
    for level in _LEVELS:
        for codec in _CODECS:
            compiled = "" if level == "O2" else f", compiled at -{level}"
            yield replace(
                _PLAIN,
                name=f"mpk-{codec}" + ("" if level == "O2" else f"-{level}"),
                summary=f"SDRaD-FFI's way: a domain; arguments and result by {codec}{compiled}.",
                codec=codec,
                options={"result": "serialised", "syscalls": "refused", "optimisation": level},
                workloads=None if level == "O2" else _FIGURE_4,
                standard=None if level == "O2" or codec.startswith("abomonation") else frozenset(),
                delivery="serialised",
                optimisation=level,
            )


BACKENDS = (
    _PLAIN,
    replace(
        _PLAIN,
        name="mpk-view",
        summary="A domain behind a protection key; no copies: the result is a view of its memory.",
        options={"result": "view", "syscalls": "refused"},
        delivery="view",
    ),
    replace(
        _PLAIN,
        name="mpk-nosud",
        summary="As mpk, but foreign code may make system calls: what refusing them costs.",
        guarantees=_ALLOWED,
        options={"result": "copy", "syscalls": "allowed"},
        allow_syscalls=True,
    ),
    replace(
        _PLAIN,
        name="mpk-strict",
        summary="As mpk, and libraries with code that could lift the wall from within are refused.",
        options={"result": "copy", "syscalls": "refused", "gadgets": "refused"},
        guarantees=replace(_REFUSED, strict=True),
        standard=frozenset({"switch"}),  # there is nothing else that it does otherwise than mpk
        strict=True,
    ),
    *_serialised(),
)
