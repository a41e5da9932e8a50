"""Instructions that write PKRU, and so can lift a wall of protection keys, in ELF files.

x86 code can be entered at any byte, so that every occurrence in executable memory counts, whether
or not the compiler meant an instruction there. WRPKRU is 0F 01 EF. XRSTOR is 0F AE /5 with a memory
operand, and loads PKRU if its mask says so (Intel SDM volumes 2A and 2B). XRSTORS (0F C7 /3) needs
privilege.
"""

from __future__ import annotations

import bisect
import ctypes.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

if TYPE_CHECKING:
    from collections.abc import Iterator

# ModRM of XRSTOR: mod 0 to 2 (memory), reg 5. With mod 3 it is LFENCE.
_PATTERN = re.compile(rb"(?=(\x0f\x01\xef)|(\x0f\xae[\x28-\x2f\x68-\x6f\xa8-\xaf]))")


class NotScannableError(Exception):
    """A file cannot be scanned: which, and why."""


@dataclass(frozen=True, slots=True)
class Gadget:
    """An occurrence.

    Attributes:
        library: The file.
        kind: `WRPKRU` or `XRSTOR`.
        address: Its address in the file's own address space.
        symbol: The function that it lies in, as NAME+OFFSET, if the file says.
    """

    library: Path
    kind: str
    address: int
    symbol: str = ""


def scan(path: Path) -> list[Gadget]:
    """Find the gadgets of one file, in the order of their addresses.

    Raises:
        NotScannableError: It is not an x86-64 ELF file, is truncated, or cannot be read.
    """
    with _opened(path) as elf:
        try:
            names = _functions(elf)
            return [
                Gadget(path, kind, address, _symbol(names, address))
                for kind, address in _occurrences(elf, path)
            ]
        except NotScannableError:
            raise
        # pyelftools raises whatever a damaged file leads it to.
        except Exception as error:
            raise NotScannableError(f"{path}: damaged: {type(error).__name__}: {error}") from error


def closure(library: str) -> list[Path]:
    """Find a library, by path or by name, and all that is loaded with it.

    Raises:
        NotScannableError: One of them is not found or not an ELF file.
    """
    found: dict[str, Path] = {}
    waiting = [library]
    while waiting:
        name = waiting.pop(0)
        path = _find(name)
        key = str(path.resolve())
        if key in found:
            continue
        found[key] = path
        waiting += _needed(path)
    return list(found.values())


def _find(name: str) -> Path:
    if os.sep in name:
        return Path(name)
    short = re.sub(r"^lib(.+?)\.so.*$", r"\1", name)
    for place in _cached(name):
        return place
    known = ctypes.util.find_library(short)
    for place in _cached(known or ""):
        return place
    raise NotScannableError(f"{name}: the dynamic loader's cache has no such library")


def _cached(name: str) -> Iterator[Path]:
    """Look a name up in the dynamic loader's cache."""
    if not name:
        return
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    try:
        listed = subprocess.run(
            ["ldconfig", "-p"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": path},
        ).stdout
    except OSError:
        return
    for line in listed.splitlines():
        entry, _, place = line.strip().partition(" => ")
        if entry.split(" ")[0] == name and "x86-64" in entry:
            yield Path(place)


def _opened(path: Path) -> Any:
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotScannableError(f"{path}: {error.strerror}") from error
    try:
        elf = ELFFile(file)
        machine = elf.get_machine_arch()
    except Exception as error:
        file.close()
        reason = "not an ELF file" if isinstance(error, ELFError) else f"damaged: {error}"
        raise NotScannableError(f"{path}: {reason}") from error
    if machine != "x64":
        file.close()
        raise NotScannableError(f"{path}: for {machine}; protection keys are x86-64's")
    return elf


def _needed(path: Path) -> list[str]:
    with _opened(path) as elf:
        try:
            for segment in elf.iter_segments("PT_DYNAMIC"):
                return [tag.needed for tag in segment.iter_tags("DT_NEEDED")]
        except Exception as error:
            raise NotScannableError(f"{path}: damaged: {type(error).__name__}: {error}") from error
    return []


def _occurrences(elf: Any, path: Path) -> Iterator[tuple[str, int]]:
    size = path.stat().st_size
    executable = 1
    for segment in elf.iter_segments("PT_LOAD"):
        if not segment["p_flags"] & executable:
            continue
        if segment["p_offset"] + segment["p_filesz"] > size:
            raise NotScannableError(f"{path}: truncated: its code ends after the file does")
        code = segment.data()
        for match in _PATTERN.finditer(code):
            yield "WRPKRU" if match[1] else "XRSTOR", segment["p_vaddr"] + match.start()


def _functions(elf: Any) -> list[tuple[int, int, str]]:
    """List (address, size, name) of functions by address."""
    found = {
        (symbol["st_value"], symbol["st_size"], symbol.name)
        for section in elf.iter_sections()
        if isinstance(section, SymbolTableSection)
        for symbol in section.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_value"] != 0
    }
    return sorted(found)


def _symbol(functions: list[tuple[int, int, str]], address: int) -> str:
    place = bisect.bisect_right(functions, (address, 1 << 64, "")) - 1
    if place < 0:
        return ""
    begin, size, name = functions[place]
    return f"{name}+{address - begin:#x}" if address < begin + max(size, 1) else ""
