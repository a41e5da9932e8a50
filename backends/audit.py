"""Which writes outside of its domain a foreign function makes, each let through and noted.

A library that writes elsewhere cannot run behind a protection key as it is; this tells what it
would need.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backends import faults, native
from backends.contract import BytesLike, ForeignError, ForeignFunction, IsolationError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM = 4096  # different writes


class OutsideWrite(NamedTuple):
    """A write, by one instruction to one address.

    Attributes:
        instruction: Where the instruction lies: symbol, offset and library, or its address.
        target: What the address belongs to: a symbol, or what is mapped there.
        address: The address.
        times: How often it was written.
    """

    instruction: str
    target: str
    address: int
    times: int


class Report(NamedTuple):
    """What a call did.

    Attributes:
        writes: Outside writes, the most frequent first.
        lost: Writes that found no room in the record.
        ending: How the call ended if not by returning a result; empty otherwise.
        cut_short: It did not come to its end: what it would have written after that is not known.
        output: Length of its result in bytes.
    """

    writes: list[OutsideWrite]
    lost: int
    ending: str
    cut_short: bool
    output: int


def outside_writes(function: ForeignFunction, data: BytesLike) -> Report:
    """Call a foreign function in a domain that lets outside writes through, and note them.

    It can make system calls, and can harm this process: not for code that is hostile.

    Raises:
        OSError: There are no protection keys, or the library or the symbol is not there.
    """
    ffi, lib = native.ffi, native.lib
    writes = ffi.new("struct iso_outside_write[]", ROOM)
    audit = ffi.new("struct iso_audit *", {"writes": writes, "room": ROOM})
    ending, output, cut_short = "", 0, False
    with native.NativeSandbox(
        lib.mechanism_domain, [function], allow_syscalls=True, audit=audit
    ) as sandbox:
        try:
            output = len(sandbox.call(function, data))
        except IsolationError as error:
            ending, cut_short = str(error), not isinstance(error, ForeignError)
        maps = list(_maps())
        found = [
            OutsideWrite(
                faults.symbol(write.instruction) or f"{write.instruction:#x}",
                faults.symbol(write.address) or _mapping(write.address, maps),
                write.address,
                write.times,
            )
            for write in writes[0 : audit.count]
        ]
    found.sort(key=lambda write: -write.times)
    return Report(found, audit.lost, ending, cut_short, output)


def _maps() -> Iterator[tuple[int, int, str]]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        extent, _, _, _, _, *name = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in extent.split("-"))
        yield begin, end, name[0] if name else "anonymous memory"


def _mapping(address: int, maps: list[tuple[int, int, str]]) -> str:
    return next((name for begin, end, name in maps if begin <= address < end), "nothing")
