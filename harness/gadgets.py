"""Instructions that write PKRU, and so can lift a wall of protection keys, in ELF files.

x86 code can be entered at any byte, so that every occurrence in executable memory counts, whether
or not the compiler meant an instruction there. WRPKRU is 0F 01 EF. XRSTOR is 0F AE /5 with a memory
operand, and loads PKRU if its mask says so (Intel SDM volumes 2A and 2B). XRSTORS (0F C7 /3) needs
privilege and is left out. A prefix such as XRSTOR64's REX.W comes before these bytes: the address
is that of the 0F, which can be jumped to as well. APX's REX2 (D5) stands for the 0F too, by the
highest bit of its second byte; XRSTOR cannot have it. native/domain/gadgets.c looks for the same.

What is scanned is the files. Not seen: what a library loads later (`dlopen`), code made at run
time, and relocations within code.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

if TYPE_CHECKING:
    from collections.abc import Iterator

# ModRM of XRSTOR: mod 0 to 2 (memory), reg 5. With mod 3 it is LFENCE.
_PATTERN = re.compile(
    rb"(?=((?:\x0f|\xd5[\x80-\xff])\x01\xef)|(\x0f\xae[\x28-\x2f\x68-\x6f\xa8-\xaf]))"
)

# Bytes: what x86-64 maps at least, whatever a segment's alignment says.
_PAGE = 4096

# How much may be read of a file: so many times its size and 16 KiB. Linkers' files take up to 3,
# small ones 5; tables that overlap, or lie about their length, could take all day.
_READ_MAX = 8
# Bytes: what each read counts besides.
_READ_COST = 16
_SIZE_MAX = 4 << 30
_MAGIC = b"\x7fELF"

# Where the dynamic loader looks last; Debian's multiarch folders are built into its own.
_DEFAULT_FOLDERS = tuple(
    map(Path, ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"))
)


class NotScannableError(Exception):
    """A file cannot be scanned: which, and why."""


@dataclass(frozen=True, slots=True)
class Gadget:
    """An occurrence.

    Attributes:
        library: The file.
        kind: `WRPKRU` or `XRSTOR`.
        offset: Where in the file, in bytes.
        address: Its address in the file's own address space.
        symbol: The function that it lies in, as NAME+OFFSET, if the file says.
    """

    library: Path
    kind: str
    offset: int
    address: int
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class _Linking:
    """What a file asks of the dynamic loader."""

    soname: str
    needed: tuple[str, ...]
    rpath: tuple[Path, ...]  # searched for what its dependencies need too
    runpath: tuple[Path, ...]


class _Rationed:
    """A file whose reader is stopped when it has read far more than there is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = _READ_MAX * (size + (1 << 14))
        self.seek, self.tell = file.seek, file.tell

    def read(self, length: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            EOFError: That is enough.
        """
        data = self._file.read(min(length, self._size))
        self._left -= len(data) + _READ_COST
        if self._left < 0:
            raise EOFError("its tables overlap, or are longer than the file")
        return data


def scan(path: Path) -> list[Gadget]:
    """Find the gadgets of one file, in the order of their addresses.

    Raises:
        NotScannableError: It is not an x86-64 ELF file, is truncated, or cannot be read.
    """
    with opened(path) as elf:
        occurrences = list(_occurrences(elf, path))
        # Reading symbols takes most of the time, and most files have no gadget.
        functions = _functions(elf) if occurrences else []
        return [
            Gadget(path, kind, offset, address, _symbol(functions, address))
            for kind, offset, address in occurrences
        ]


def find(library: str) -> Path:
    """Find a library, by path or by the name that the dynamic loader knows it by.

    Raises:
        NotScannableError: The dynamic loader would not find it either.
    """
    return _find(library, _cache(), (), ())


def closure(library: str) -> list[Path]:
    """Find a library, as `find`, and all that the dynamic loader loads with it.

    It looks as ld.so(8) says: DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, the cache, default folders.
    Of a library that the cache has for several CPUs (hwcaps), the first listed is taken.

    Raises:
        NotScannableError: One of them is not found or not an x86-64 ELF file.
    """
    cache = _cache()
    found: dict[Path, Path] = {}
    names: set[str] = set()  # that are loaded: a soname is not looked for twice
    waiting = [(library, _Linking("", (), (), ()), "")]
    while waiting:
        name, parent, needed_by = waiting.pop(0)
        if name in names:
            continue
        # DT_RUNPATH makes the loader ignore DT_RPATH, also that of those further up.
        rpath = () if parent.runpath else parent.rpath
        path = _find(name, cache, rpath, parent.runpath, needed_by)
        linking = _linking(path, parent.rpath)
        names.update({name, linking.soname} - {""})
        if path.resolve() in found:
            continue
        found[path.resolve()] = path
        waiting += [(need, linking, f", which {path} needs") for need in linking.needed]
    return list(found.values())


def _find(
    name: str,
    cache: dict[str, Path],
    rpath: tuple[Path, ...],
    runpath: tuple[Path, ...],
    needed_by: str = "",
) -> Path:
    if "/" in name:
        return Path(name)
    listed = os.environ.get("LD_LIBRARY_PATH", "")
    environment = [Path(folder) for folder in re.split("[:;]", listed)] if listed else []
    candidates = [folder / name for folder in (*rpath, *environment, *runpath)]
    if name in cache:
        candidates.append(cache[name])
    candidates += [folder / name for folder in _DEFAULT_FOLDERS]
    for path in candidates:
        # Unlike Path.is_file, no error for a name that is too long, as damaged files have.
        if os.path.isfile(path):  # noqa: PTH113
            return path
    here = f"; the file in this folder is ./{name}" if os.path.isfile(name) else ""  # noqa: PTH113
    raise NotScannableError(f"{name}{needed_by}: the dynamic loader finds no such library{here}")


def _cache() -> dict[str, Path]:
    """List the dynamic loader's cache; empty where the system has none."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    try:
        listed = subprocess.run(
            ["ldconfig", "-p"],  # noqa: S607
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            env={**os.environ, "PATH": path},
        ).stdout
    except OSError:
        return {}
    entries = [line.strip().partition(" => ") for line in listed.splitlines() if " => " in line]
    # Other architectures come last: a library that only they have gets an error that says so.
    entries.sort(key=lambda entry: "x86-64" not in entry[0])
    cache: dict[str, Path] = {}
    for entry, _, place in entries:
        cache.setdefault(entry.split(" ")[0], Path(place))
    return cache


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an x86-64 ELF file; whatever it leads the reader to is a NotScannableError."""
    try:
        _check_kind(path)
        content = _content(path)
        yield _elf(_Rationed(io.BytesIO(content), len(content)), path)
    except NotScannableError:
        raise
    except OSError as error:
        raise NotScannableError(f"{path}: {error.strerror or error}") from error
    # pyelftools raises whatever a damaged file leads it to.
    except Exception as error:
        raise NotScannableError(f"{path}: damaged: {type(error).__name__}: {error}") from error


def _check_kind(path: Path) -> None:
    """Refuse all but regular files before opening, which waits for a pipe's other end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise NotScannableError(f"{path}: {kind}")


def _content(path: Path) -> bytes:
    """Read all of it.

    pyelftools asks for a few bytes at a time, each of which may cost a request to another machine.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise NotScannableError(f"{path}: not an ELF file")
        if os.fstat(file.fileno()).st_size > _SIZE_MAX:
            raise NotScannableError(f"{path}: larger than {_SIZE_MAX >> 30} GiB")
        return _MAGIC + file.read()


def _elf(file: _Rationed, path: Path) -> Any:
    elf = ELFFile(file)  # type: ignore[arg-type] # all that is used of IO[bytes]
    machine = elf.get_machine_arch()
    if machine == "x86":
        raise NotScannableError(f"{path}: 32-bit code; only x86-64 is scanned")
    if machine != "x64":
        raise NotScannableError(
            f"{path}: code for {machine}, which has no PKRU and so none of these instructions"
        )
    return elf


def _linking(path: Path, inherited: tuple[Path, ...]) -> _Linking:
    tags: dict[str, list[str]] = {"needed": [], "soname": [], "rpath": [], "runpath": []}
    with opened(path) as elf:
        for segment in elf.iter_segments("PT_DYNAMIC"):
            for tag in segment.iter_tags():
                name = str(tag.entry.d_tag).removeprefix("DT_").lower()
                if name in tags:
                    tags[name].append(getattr(tag, name))
        # An executable names the dynamic loader itself, which is loaded too.
        interpreters = [segment.get_interp_name() for segment in elf.iter_segments("PT_INTERP")]
    rpath = () if tags["runpath"] else _folders(tags["rpath"], path)
    return _Linking(
        soname=(tags["soname"] or [""])[0],
        needed=(*tags["needed"], *interpreters),
        rpath=(*rpath, *inherited),
        runpath=_folders(tags["runpath"], path),
    )


def _folders(paths: list[str], origin: Path) -> tuple[Path, ...]:
    folder = str(origin.resolve().parent)
    return tuple(
        Path(re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: folder, place))
        for listed in paths
        for place in listed.split(":")
    )


def _occurrences(elf: Any, path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, offset in the file, address), by address."""
    for begin, end, shift in _executable(elf, path):
        elf.stream.seek(begin)
        for match in _PATTERN.finditer(elf.stream.read(end - begin)):
            offset = begin + match.start()
            yield "WRPKRU" if match[1] else "XRSTOR", offset, offset + shift


def _executable(elf: Any, path: Path) -> list[tuple[int, int, int]]:
    """List what is mapped executable: (begin, end) in the file, and address minus offset.

    Whole pages are mapped, so that what lies beside the code in the file, data of another segment
    say, can be executed too.
    """
    size = path.stat().st_size
    executable = 1
    mapped: list[tuple[int, int, int]] = []
    for segment in elf.iter_segments("PT_LOAD"):
        if not segment["p_flags"] & executable:
            continue
        begin, end = segment["p_offset"], segment["p_offset"] + segment["p_filesz"]
        shift = segment["p_vaddr"] - begin
        if end > size:
            raise NotScannableError(f"{path}: truncated: its code ends after the file does")
        if shift % _PAGE:
            raise NotScannableError(f"{path}: damaged: code at {begin:#x} that no loader maps")
        mapped.append((begin - begin % _PAGE, min(size, end + -end % _PAGE), shift))
    mapped.sort(key=lambda part: (part[0] + part[2], part[1]))
    joined: list[tuple[int, int, int]] = []
    for begin, end, shift in mapped:
        # An instruction can go over the border of segments that adjoin.
        if joined and joined[-1][2] == shift and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]), shift)
        else:
            joined.append((begin, end, shift))
    return joined


def _functions(elf: Any) -> list[tuple[int, int, str]]:
    """List (address, size, name) of functions by address.

    Assembly often gives its functions neither type nor size. Such a name goes on until the next
    one, unless it is a label within a function that has a size.
    """
    found = {
        (symbol["st_value"], symbol["st_size"], symbol.name)
        for section in elf.iter_sections()
        if isinstance(section, SymbolTableSection)
        for symbol in section.iter_symbols()
        # STT_LOOS is GNU's STT_GNU_IFUNC, a function that chooses the implementation.
        if symbol["st_info"]["type"] in ("STT_FUNC", "STT_LOOS", "STT_NOTYPE")
        and symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")
        and symbol.name
    }
    functions: list[tuple[int, int, str]] = []
    covered = 0
    for address, size, name in sorted(found, key=lambda one: (one[0], -one[1], one[2])):
        if functions and address == functions[-1][0]:
            continue  # another name of the same
        if size or address >= covered:
            functions.append((address, size, name))
            covered = max(covered, address + size)
    return functions


def _symbol(functions: list[tuple[int, int, str]], address: int) -> str:
    place = bisect.bisect_right(functions, address, key=lambda one: one[0]) - 1
    if place < 0:
        return ""
    begin, size, name = functions[place]
    return f"{name}+{address - begin:#x}" if not size or address < begin + size else ""
