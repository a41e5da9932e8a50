from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import gadgets

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="protection keys are x86-64's"
)

SOURCE = """
    .section .note.GNU-stack, "", @progbits
    .text
    .globl lifts, restores, fences, hides
    .type lifts, @function
    .type restores, @function
    .type fences, @function
    .type hides, @function
lifts:    nop
          .byte 0x0f, 0x01, 0xef
          ret
    .size lifts, . - lifts
restores: xrstor64 (%rsp)
          ret
    .size restores, . - restores
fences:   lfence
          ret
    .size fences, . - fences
hides:    mov $0xef010f90, %eax
          ret
    .size hides, . - hides
untyped:  nop
          .byte 0x0f, 0x01, 0xef
          ret
"""

CLEAN = """
    .section .note.GNU-stack, "", @progbits
    .text
    .globl fences
    .type fences, @function
fences: lfence
        ret
    .size fences, . - fences
"""

# Bytes of WRPKRU that are data.
DATA = """
    .data
    .byte 0x0f, 0x01, 0xef
    .fill 64, 1, 0
"""

# A program that prints where bytes of WRPKRU are executable in it: offsets in the file it loads.
LOADS = r"""
import ctypes, json, re, sys
ctypes.CDLL(sys.argv[1])
found = []
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
    for line in maps:
        if "x" in line.split()[1] and line.rstrip().endswith(sys.argv[1]):
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            memory.seek(begin)
            found += [
                int(line.split()[2], 16) + match.start()
                for match in re.finditer(b"\x0f\x01\xef", memory.read(end - begin))
            ]
print(json.dumps(found))
"""


def build(path: Path, source: str, *options: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    code = path.with_suffix(".S")
    code.write_text(source)
    command = ["cc", "-shared", "-nostdlib", f"-Wl,-soname,{path.name}", "-o", str(path), str(code)]
    # --no-as-needed: the sources use nothing of the libraries that they are linked with.
    subprocess.run([*command, "-Wl,--no-as-needed", *options], check=True)
    return path


def changed(library: Path, to: Path, changes: dict[int, bytes]) -> Path:
    content = bytearray(library.read_bytes())
    for offset, new in changes.items():
        content[offset : offset + len(new)] = new
    to.write_bytes(content)
    return to


def code_header(library: Path) -> int:
    """Return where in the file the program header of the executable segment is."""
    content = library.read_bytes()
    first, size, count = (
        struct.unpack_from(form, content, offset)[0]
        for form, offset in (("<Q", 32), ("<H", 54), ("<H", 56))
    )
    headers = range(first, first + size * count, size)
    # PT_LOAD with PF_R | PF_X
    return next(at for at in headers if struct.unpack_from("<II", content, at) == (1, 5))


def isobench(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "gadgets", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("gadgets") / "libcode.so", SOURCE)


def test_gadgets_are_found_also_within_other_instructions(library: Path) -> None:
    found = [(gadget.kind, gadget.symbol) for gadget in gadgets.scan(library)]
    assert found == [
        ("WRPKRU", "lifts+0x1"),
        ("XRSTOR", "restores+0x1"),
        ("WRPKRU", "hides+0x2"),
        ("WRPKRU", "untyped+0x1"),
    ]


def test_the_offset_is_where_the_bytes_are_in_the_file(library: Path) -> None:
    content = library.read_bytes()
    for gadget in gadgets.scan(library):
        bytes_there = content[gadget.offset : gadget.offset + 3]
        assert bytes_there == (b"\x0f\x01\xef" if gadget.kind == "WRPKRU" else b"\x0f\xae\x2c")


def test_xrstor_is_what_has_a_memory_operand_and_5_in_reg(tmp_path: Path) -> None:
    code = "".join(
        f"f{modrm}: .byte 0x48, 0x0f, 0xae, {modrm}, 0, 0, 0, 0, 0\n" for modrm in range(256)
    )
    found = gadgets.scan(build(tmp_path / "libmodrm.so", f".text\n{code}"))
    memory_operand_and_5 = [m for m in range(256) if m >> 6 != 3 and m >> 3 & 7 == 5]
    assert [gadget.symbol for gadget in found] == [f"f{m}+0x1" for m in memory_operand_and_5]


def test_wrpkru_has_a_second_form_with_prefix_rex2(tmp_path: Path) -> None:
    code = "".join(
        f"f{second}: .byte 0xd5, {second}, 0x01, 0xef, 0\n" for second in range(256) if second != 15
    )
    found = gadgets.scan(build(tmp_path / "librex2.so", f".text\n{code}"))
    assert [gadget.symbol for gadget in found] == [f"f{s}+0x0" for s in range(0x80, 0x100)]


@pytest.mark.parametrize(
    "options",
    [(), ("-Wl,-z,noseparate-code",), ("-Wl,-z,noseparate-code,-z,norelro",)],
    ids=["separate", "together", "data beside code"],
)
def test_what_is_found_is_what_a_process_that_loads_the_library_could_execute(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = build(tmp_path / "libdata.so", SOURCE + DATA, *options)
    command = [sys.executable, "-c", LOADS, str(path)]
    executable = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [gadget.offset for gadget in gadgets.scan(path) if gadget.kind == "WRPKRU"]
    assert found == json.loads(executable)
    assert len(found) == (4 if any("norelro" in option for option in options) else 3)


def test_what_is_loaded_with_a_library_is_scanned_too() -> None:
    files = {path.name for path in gadgets.closure("libsnappy.so.1")}
    assert {"libsnappy.so.1", "libc.so.6"} <= files


def test_the_c_library_holds_one() -> None:
    [libc] = [path for path in gadgets.closure("libc.so.6") if path.name == "libc.so.6"]
    assert [gadget.symbol.split("+")[0] for gadget in gadgets.scan(libc)] == ["pkey_set"]


def test_a_library_is_looked_for_where_the_dynamic_loader_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = build(tmp_path / "deep" / "libdeep.so", CLEAN)
    near = build(tmp_path / "near" / "libnear.so", CLEAN, str(deep))
    origin = "-Wl,-rpath,$ORIGIN/near:$ORIGIN/deep"
    for kind, expected in (
        ("--disable-new-dtags", {"libtop.so", "libnear.so", "libdeep.so"}),
        ("--enable-new-dtags", None),  # DT_RUNPATH is not for what a dependency needs
    ):
        top = build(tmp_path / "libtop.so", CLEAN, origin, f"-Wl,{kind}", str(near))
        if expected is None:
            with pytest.raises(
                gadgets.NotScannableError, match=r"libdeep\.so, which .*libnear\.so"
            ):
                gadgets.closure(str(top))
        else:
            assert {path.name for path in gadgets.closure(str(top))} == expected
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:{deep.parent}")
    assert gadgets.closure("libtop.so") == [top, near, deep]


def test_libraries_that_need_each_other_are_listed_once(tmp_path: Path) -> None:
    origin = "-Wl,-rpath,$ORIGIN"
    one = build(tmp_path / "libone.so", CLEAN)
    other = build(tmp_path / "libother.so", CLEAN, origin, str(one))
    build(one, CLEAN, origin, str(other))
    assert gadgets.closure(str(one)) == [one, other]


def test_a_dependency_with_a_runpath_is_not_searched_for_in_the_rpath_of_others(
    tmp_path: Path,
) -> None:
    deep = build(tmp_path / "deep" / "libdeep.so", CLEAN)
    elsewhere = "-Wl,-rpath,/nowhere,--enable-new-dtags"
    near = build(tmp_path / "near" / "libnear.so", CLEAN, elsewhere, str(deep))
    origin = "-Wl,-rpath,$ORIGIN/near:$ORIGIN/deep,--disable-new-dtags"
    top = build(tmp_path / "libtop.so", CLEAN, origin, str(near))
    with pytest.raises(OSError, match=r"libdeep\.so"):
        ctypes.CDLL(str(top))
    with pytest.raises(gadgets.NotScannableError, match=r"libdeep\.so, which .*libnear\.so"):
        gadgets.closure(str(top))


def test_an_executable_is_scanned_with_the_dynamic_loader_that_it_names(tmp_path: Path) -> None:
    # It needs no library that would need the loader.
    loader = "/lib64/ld-linux-x86-64.so.2"
    code = tmp_path / "program.S"
    code.write_text(CLEAN)
    program = tmp_path / "program"
    command = ["cc", "-nostdlib", "-pie", "-Wl,-e,fences", f"-Wl,--dynamic-linker,{loader}"]
    subprocess.run([*command, "-o", str(program), str(code)], check=True)
    assert gadgets.closure(str(program)) == [program, Path(loader)]


def test_another_version_of_a_library_is_not_taken_for_it() -> None:
    with pytest.raises(gadgets.NotScannableError, match=r"libc\.so\.5"):
        gadgets.find("libc.so.5")


def test_a_file_in_this_folder_is_pointed_out(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library.parent)
    with pytest.raises(gadgets.NotScannableError, match=r"is \./libcode\.so"):
        gadgets.closure("libcode.so")
    assert gadgets.closure("./libcode.so") == [Path("libcode.so")]


def test_what_cannot_be_scanned_says_why(library: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no library")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    short = tmp_path / "short.so"
    short.write_bytes(library.read_bytes()[:4000])
    header = code_header(library)
    huge = changed(library, tmp_path / "huge.so", {header + 32: b"\xff" * 8})
    askew = changed(library, tmp_path / "askew.so", {header + 16: b"\x01"})
    endless = changed(library, tmp_path / "endless.so", {})
    os.truncate(endless, 5 << 30)
    # e_machine
    arm = changed(library, tmp_path / "arm.so", {18: struct.pack("<H", 183)})
    old = changed(library, tmp_path / "old.so", {18: struct.pack("<H", 3)})
    for path, why in (
        (text, "not an ELF file"),
        (empty, "not an ELF file"),
        (short, "truncated"),
        (huge, "truncated"),
        (askew, "no loader maps"),
        (endless, "larger than 4 GiB"),
        (arm, "AArch64, which has no PKRU"),
        (old, "32-bit"),
        (tmp_path, "directory"),
        (pipe, "not a regular file"),
        (Path(os.devnull), "not a regular file"),
        (loop, "symbolic links"),
        (tmp_path / "nowhere.so", "No such file"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        for act in (gadgets.scan, lambda path: gadgets.closure(str(path))):
            if path in (short, huge, askew) and act is not gadgets.scan:
                continue  # what they need may still be read
            with pytest.raises(gadgets.NotScannableError, match=why) as error:
                act(path)
            assert path.name in str(error.value)
    with pytest.raises(gadgets.NotScannableError, match=r"libnowhere\.so\.9"):
        gadgets.closure("libnowhere.so.9")
    with pytest.raises(gadgets.NotScannableError, match="finds no such library"):
        gadgets.closure("n" * 300)


def test_an_unreadable_file_says_so(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # root may read what others may not
    with pytest.raises(gadgets.NotScannableError, match=r"libcode\.so: Permission denied"):
        gadgets.scan(library)


def scanned_or_refused(path: Path) -> None:
    for act in (gadgets.scan, lambda path: gadgets.closure(str(path))):
        try:
            act(path)
        except gadgets.NotScannableError as error:
            assert path.name in str(error)  # noqa: PT017 - either is fine


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_scanned_or_refused(data: st.DataObject, library: Path) -> None:
    content = bytearray(library.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = library.with_name("damaged.so")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    scanned_or_refused(damaged)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=600), header=st.integers(0, 64))
def test_arbitrary_bytes_are_scanned_or_refused(content: bytes, header: int, library: Path) -> None:
    # With the beginning of a real one, the reader gets further.
    arbitrary = library.with_name("arbitrary.so")
    arbitrary.write_bytes(library.read_bytes()[:header] + content)
    scanned_or_refused(arbitrary)


@pytest.fixture(scope="session")
def libc(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    content = gadgets.find("libc.so.6").read_bytes()
    return content, tmp_path_factory.mktemp("real") / "libc-damaged.so"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_real_library_with_one_wrong_byte_is_scanned_or_refused(
    data: st.DataObject, libc: tuple[bytes, Path]
) -> None:
    content, path = libc
    # Half of them in the headers, which is where it matters.
    places = st.integers(0, 1023) | st.integers(0, len(content) - 1)
    damaged = bytearray(content)
    damaged[data.draw(places)] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    scanned_or_refused(path)


def test_the_command_lists_them(library: Path) -> None:
    done = isobench("--json", "--no-dependencies", library)
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert [row["kind"] for row in rows] == ["WRPKRU", "XRSTOR", "WRPKRU", "WRPKRU"]
    assert set(rows[0]) == {"library", "kind", "offset", "address", "symbol"}
    shown = isobench("--no-dependencies", library, library)
    assert shown.returncode == 1
    assert "hides+0x2" in shown.stdout
    assert "4 in 1 file" in shown.stdout


def test_the_command_finds_nothing_in_a_clean_library(tmp_path: Path) -> None:
    done = isobench("--json", build(tmp_path / "libclean.so", CLEAN))
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_the_command_takes_a_name_with_and_without_dependencies() -> None:
    alone = isobench("--no-dependencies", "libc.so.6")
    assert alone.returncode == 1
    assert "1 in 1 file" in alone.stdout
    assert "XRSTOR" in isobench("libc.so.6").stdout


def test_names_that_a_library_chose_do_not_reach_the_terminal_as_commands(tmp_path: Path) -> None:
    name = "\x1b]0;x\x07[/b]"
    code = f'.text\n.globl "{name}"\n"{name}": .byte 0x0f, 0x01, 0xef\n'
    done = isobench("--no-dependencies", build(tmp_path / "libnamed.so", code))
    assert done.returncode == 1, done.stderr
    assert "\x1b" not in done.stdout
    assert "?]0;x?[/b]+0x0" in done.stdout


def test_bad_input_is_one_message_and_exit_code_2(library: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (["--no-dependencies", __file__], "not an ELF file"),
        ([tmp_path], "directory"),
        ([library, "libnowhere.so.9"], "libnowhere.so.9"),
        ([tmp_path / "\udcff"], "No such file"),
        ([], "LIBRAR"),
    ):
        bad = isobench(*arguments)
        assert bad.returncode == 2
        assert says in bad.stderr
        assert "Traceback" not in bad.stderr
        assert bad.stdout == ""
