"""Strict domains load no code that could lift their wall from within."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from elftools.elf.elffile import ELFFile

from backends import native, registry
from backends.contract import ForeignFunction, ViolationError
from harness import gadgets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backends.mpk import ProtectionKeys
    from parts import Functions, Resources

WRPKRU = b"\x0f\x01\xef"
PAGE = 4096
PF_X, PF_W, PF_R = 1, 2, 4
ATTACKS = ("attack_wrpkru", "attack_xrstor")


@pytest.fixture
def strict() -> ProtectionKeys:
    return registry.find("mpk-strict")


class Code(NamedTuple):
    """A library's executable segment: index of its header, and where it lies in file and memory."""

    index: int
    offset: int
    address: int
    length: int


def code_of(library: Path) -> Code:
    with library.open("rb") as file:
        for index, segment in enumerate(ELFFile(file).iter_segments()):
            if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & PF_X:
                return Code(index, segment["p_offset"], segment["p_vaddr"], segment["p_filesz"])
    raise AssertionError(f"{library} has no code")


def header(image: bytearray, index: int) -> slice:
    """Where a program header lies: type, flags, offset, addresses, sizes, alignment."""
    begin = struct.unpack_from("<Q", image, 32)[0] + 56 * index
    return slice(begin, begin + 56)


def set_flags(image: bytearray, index: int, flags: int) -> None:
    struct.pack_into("<I", image, header(image, index).start + 4, flags)


def index_of(image: bytearray, kind: int, flags: int) -> int:
    count = struct.unpack_from("<H", image, 56)[0]
    kinds = [struct.unpack_from("<II", image, header(image, i).start) for i in range(count)]
    return kinds.index((kind, flags))


def store(folder: Path, name: str, image: bytearray) -> Path:
    library = folder / f"lib{name}.so"
    library.write_bytes(image)
    return library


def refusal(strict: ProtectionKeys, library: Path, symbol: str) -> str:
    with pytest.raises(PermissionError) as raised:
        strict.open([ForeignFunction(library, symbol)])
    return str(raised.value)


# ---- what is refused ----


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_that_writes_pkru_lifts_mpk_and_is_not_loaded_by_strict(
    attack: str, strict: ProtectionKeys
) -> None:
    function = ForeignFunction(native.ATTACK_GADGETS, attack)
    canary = ctypes.create_string_buffer(b"c" * 64, 64)
    with registry.find("mpk").open([function]) as sandbox:
        sandbox.call(function, struct.pack("Q", ctypes.addressof(canary)))
    assert canary.raw == b"\x66" * 64  # which is why it is refused
    said = refusal(strict, native.ATTACK_GADGETS, attack)
    assert "libattack_gadgets.so: WRPKRU at 0x" in said
    assert "(attack_wrpkru+0x" in said


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("WRPKRU", WRPKRU),
        ("WRPKRU", b"\xb8" + WRPKRU + b"\0"),  # mov $0xef010f, %eax
        ("WRPKRU", b"\xd5\x80\x01\xef"),
        ("XRSTOR", b"\x0f\xae\x28"),
        ("XRSTOR", b"\x48\x0f\xae\xad\0\0\0\0"),  # xrstor64 0(%rbp)
    ],
)
def test_it_is_found_in_a_function_and_told_with_its_place(
    name: str, code: bytes, strict: ProtectionKeys, tmp_path: Path
) -> None:
    image = bytearray(native.BENIGN.read_bytes())
    with native.BENIGN.open("rb") as file:
        (count,) = ELFFile(file).get_section_by_name(".dynsym").get_symbol_by_name("benign_count")
    at = count["st_value"]
    image[at + 3 : at + 3 + len(code)] = code
    library = store(tmp_path, "patched", image)
    [gadget] = gadgets.scan(library)
    assert gadget.kind == name
    said = refusal(strict, library, "benign_echo")
    assert f"{library}: {name} at {gadget.address:#x} ({gadget.symbol}): " in said


def test_it_is_found_beside_the_code_and_at_the_end_of_its_pages(
    strict: ProtectionKeys, tmp_path: Path
) -> None:
    code = code_of(native.BENIGN)
    end = -(-(code.offset + code.length) // PAGE) * PAGE
    for place in (code.offset + code.length, end - 3):
        image = bytearray(native.BENIGN.read_bytes())
        image[place : place + 3] = WRPKRU
        said = refusal(strict, store(tmp_path, f"at{place}", image), "benign_echo")
        assert f"WRPKRU at {place - code.offset + code.address:#x}" in said
    image = bytearray(native.BENIGN.read_bytes())
    image[end - 2 : end + 1] = WRPKRU  # its end is in the next segment, which is not code
    with strict.open([ForeignFunction(store(tmp_path, "cut", image), "benign_echo")]):
        pass


def test_it_is_found_across_the_border_of_two_segments(
    strict: ProtectionKeys, tmp_path: Path
) -> None:
    code = code_of(native.HOSTILE)
    border = PAGE
    assert code.length > border, "its code lies on one page"
    image = bytearray(native.HOSTILE.read_bytes())
    place = code.offset + border - 1
    image[place : place + 3] = WRPKRU
    # Two headers for what was one; the note has to go for it.
    first, second = bytearray(image[header(image, code.index)]), bytearray()
    second = bytearray(first)
    struct.pack_into("<QQQ", second, 8, *(code.offset + border, *2 * (code.address + border,)))
    struct.pack_into("<QQ", second, 32, *2 * (code.length - border,))
    struct.pack_into("<QQ", first, 32, border, border)
    note = index_of(image, 4, PF_R)
    headers = [image[header(image, i)] for i in range(note + 1)]
    headers[code.index : code.index + 1] = [first, second]
    del headers[note + 1]
    image[header(image, 0).start : header(image, note).stop] = b"".join(headers)
    said = refusal(strict, store(tmp_path, "split", image), "hostile_abort")
    assert f"WRPKRU at {code.address + border - 1:#x}" in said


def test_it_is_found_in_what_a_library_needs(strict: ProtectionKeys, tmp_path: Path) -> None:
    """The dependency is named, not who needs it."""
    source = tmp_path / "needs.c"
    attack = native.ATTACK_GADGETS
    source.write_text("int needs(void); int needs(void) { return 0; }")
    library = tmp_path / "libneeds.so"
    link = ["-shared", "-fPIC", "-Wl,--no-as-needed", str(attack), f"-Wl,-rpath,{attack.parent}"]
    subprocess.run(["cc", str(source), "-o", str(library), *link], check=True)  # noqa: S607
    said = refusal(strict, library, "needs")
    assert "libattack_gadgets.so: WRPKRU" in said


# Loading such a library changes the process for good.
LOADS = """
import sys
from pathlib import Path
from backends import registry
from backends.contract import ForeignFunction

try:
    registry.find("mpk-strict").open([ForeignFunction(Path(sys.argv[1]), "benign_echo")])
except PermissionError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("kind", "flags", "wanted", "reason"),
    [
        (1, PF_R | PF_X, PF_X, "code that cannot be read"),
        (0x6474E551, PF_R | PF_W, PF_R | PF_W | PF_X, "wants an executable stack"),
    ],
)
def test_code_that_cannot_be_searched_is_refused(
    kind: int, flags: int, wanted: int, reason: str, tmp_path: Path
) -> None:
    image = bytearray(native.BENIGN.read_bytes())
    set_flags(image, index_of(image, kind, flags), wanted)
    library = store(tmp_path, "unsearchable", image)
    done = subprocess.run(
        [sys.executable, "-c", LOADS, library], capture_output=True, text=True, check=False
    )
    assert reason in done.stdout, done.stderr


# ---- what is not ----


def test_libraries_without_it_work(strict: ProtectionKeys, functions: Functions) -> None:
    decode = ForeignFunction(native.PNG, "foreign_decode_png")
    with strict.open([functions.COMPRESS, functions.UNCOMPRESS, decode]) as sandbox:
        data = b"the wall must not change it " * 1000
        assert sandbox.call(functions.UNCOMPRESS, sandbox.call(functions.COMPRESS, data)) == data


def test_refusing_leaves_nothing_behind(
    strict: ProtectionKeys, functions: Functions, resources: Callable[[], Resources]
) -> None:
    attack = ForeignFunction(native.ATTACK_GADGETS, "attack_wrpkru")
    echo = functions.benign("echo")

    def refuse(times: int) -> None:
        for _ in range(times):
            with pytest.raises(PermissionError):
                strict.open([attack, echo])

    refuse(20)
    before = resources()
    refuse(100)
    after = resources()
    assert after.descriptors == before.descriptors
    assert after.memory - before.memory < 256 << 10
    with strict.open([echo]) as sandbox:  # the keys are back, and the namespaces
        assert sandbox.call(echo, b"x") == b"x"


# ---- the C library's own ----

SETS_RIGHTS = """
import ctypes, struct, sys
from backends import native, registry
from backends.contract import ForeignFunction, ViolationError

call = ForeignFunction(native.HOSTILE, "hostile_call_with")
pkey_set = ForeignFunction("libc.so.6", "pkey_set")
attack = ForeignFunction(native.ATTACK_GADGETS, "attack_wrpkru")
for name in sys.argv[1:]:
    for _ in range(5):  # so that namespaces are used again
        try:
            registry.find("mpk-strict").open([attack])
        except PermissionError:
            pass
    with registry.find(name).open([call, pkey_set]) as sandbox:
        process = ctypes.cast(ctypes.CDLL(None).pkey_set, ctypes.c_void_p).value
        for address in (sandbox.address_of(pkey_set), process):
            try:
                sandbox.call(call, struct.pack("QQQ", address, 1, 0))
                print(name, "set")
            except ViolationError as error:
                print(name, error.fault.symbol)
"""


def test_a_strict_domains_own_pkey_set_is_a_trap_and_the_process_s_is_as_it_was() -> None:
    """The latter is what strict cannot close. What is not strict is as if strict had never been."""
    done = subprocess.run(
        [sys.executable, "-c", SETS_RIGHTS, "mpk", "mpk-strict", "mpk", "mpk-strict"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 8, done.stderr
    plain = ["mpk set", "mpk set"]
    assert lines[0:2] == lines[4:6] == plain
    for trapped, of_process in (lines[2:4], lines[6:8]):
        assert trapped.startswith("mpk-strict pkey_set+0x")
        assert of_process == "mpk-strict set"


# ---- code of its own making ----


def test_a_domain_has_no_memory_that_it_can_write_and_execute(
    strict: ProtectionKeys, tmp_path: Path
) -> None:
    """System calls that would make some are refused: tests/native/domain_reach.c."""
    image = bytearray(native.HOSTILE.read_bytes())
    writable = index_of(image, 1, PF_R | PF_W)
    set_flags(image, writable, PF_R | PF_W | PF_X)
    data, length = struct.unpack_from("<QQQQ", image, header(image, writable).start + 16)[::3]
    library = store(tmp_path, "writable", image)
    jump = ForeignFunction(library, "hostile_jump")
    write = ForeignFunction(library, "hostile_write")
    with library.open("rb") as file:
        (symbol,) = ELFFile(file).get_section_by_name(".dynsym").get_symbol_by_name("hostile_jump")
    with strict.open([jump, write]) as sandbox:
        last = sandbox.address_of(jump) - symbol["st_value"] + data + length - 1
        sandbox.call(write, struct.pack("Q", last))
        with pytest.raises(ViolationError) as raised:
            sandbox.call(jump, struct.pack("Q", last))
        assert (raised.value.fault.access, raised.value.address) == ("execute", last)
