"""Which functions a library offers, as its file says: nothing of it is loaded or executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elftools.common.utils import parse_cstring_from_stream, struct_parse

from harness import gadgets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from elftools.elf.dynamic import DynamicSegment

# STT_LOOS is GNU's STT_GNU_IFUNC; assembly often gives its functions no type.
_FUNCTIONS = ("STT_FUNC", "STT_LOOS", "STT_NOTYPE")


def functions(path: Path) -> set[str]:
    """List the functions that dlsym(3) finds in a library itself, not in what it loads.

    Raises:
        NotScannableError: It is not an x86-64 ELF file, is damaged, or cannot be read.
    """
    with gadgets.opened(path) as elf:
        return {
            name
            for segment in elf.iter_segments("PT_DYNAMIC")
            for name, symbol in _symbols(elf, segment)
            if symbol["st_info"]["type"] in _FUNCTIONS
            and symbol["st_info"]["bind"] != "STB_LOCAL"
            and symbol["st_shndx"] != "SHN_UNDEF"
        }


def _symbols(elf: Any, segment: DynamicSegment) -> Iterator[tuple[str, Any]]:
    """Read what `segment.iter_symbols()` does, which looks the tables up anew for each symbol."""
    _, table = segment.get_table_offset("DT_SYMTAB")
    _, strings = segment.get_table_offset("DT_STRTAB")
    size = elf.structs.Elf_Sym.sizeof()
    for number in range(segment.num_symbols()):
        symbol = struct_parse(elf.structs.Elf_Sym, elf.stream, table + number * size)
        name = parse_cstring_from_stream(elf.stream, strings + symbol["st_name"])
        yield (name or b"").decode("utf-8", errors="replace"), symbol
