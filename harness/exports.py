"""Which functions a library offers, as its file says: nothing of it is loaded or executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elftools.elf.dynamic import DynamicSegment

from harness import gadgets

if TYPE_CHECKING:
    from pathlib import Path

# STT_LOOS is GNU's STT_GNU_IFUNC; assembly often gives its functions no type.
_FUNCTIONS = ("STT_FUNC", "STT_LOOS", "STT_NOTYPE")


def functions(path: Path) -> set[str]:
    """List the functions that dlsym(3) finds in a library itself, not in what it loads.

    Raises:
        NotScannableError: It is not an x86-64 ELF file, is damaged, or cannot be read.
    """
    with gadgets.opened(path) as elf:
        return {
            symbol.name
            for segment in elf.iter_segments()
            if isinstance(segment, DynamicSegment)
            for symbol in segment.iter_symbols()
            if symbol["st_info"]["type"] in _FUNCTIONS
            and symbol["st_info"]["bind"] != "STB_LOCAL"
            and symbol["st_shndx"] != "SHN_UNDEF"
        }
