from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import gadgets

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="protection keys are x86-64's"
)

SOURCE = """
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
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gadgets")
    (folder / "code.S").write_text(SOURCE)
    path = folder / "libcode.so"
    subprocess.run(
        ["cc", "-shared", "-nostdlib", "-o", str(path), str(folder / "code.S")],  # noqa: S607
        check=True,
    )
    return path


def test_gadgets_are_found_also_within_other_instructions(library: Path) -> None:
    found = [(gadget.kind, gadget.symbol) for gadget in gadgets.scan(library)]
    assert found == [("WRPKRU", "lifts+0x1"), ("XRSTOR", "restores+0x1"), ("WRPKRU", "hides+0x2")]


def test_what_is_loaded_with_a_library_is_scanned_too() -> None:
    files = {path.name for path in gadgets.closure("libsnappy.so.1")}
    assert {"libsnappy.so.1", "libc.so.6"} <= files


def test_the_c_library_holds_one() -> None:
    [libc] = [path for path in gadgets.closure("libc.so.6") if path.name == "libc.so.6"]
    assert [gadget.symbol.split("+")[0] for gadget in gadgets.scan(libc)] == ["pkey_set"]


def test_what_cannot_be_scanned_says_why(library: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no library")
    short = tmp_path / "short.so"
    short.write_bytes(library.read_bytes()[:4000])
    for path, why in (
        (text, "not an ELF file"),
        (short, "truncated|damaged"),
        (tmp_path, "directory"),
        (tmp_path / "nowhere.so", "No such file"),
    ):
        with pytest.raises(gadgets.NotScannableError, match=why):
            gadgets.scan(path)
    with pytest.raises(gadgets.NotScannableError, match=r"libnowhere\.so\.9"):
        gadgets.closure("libnowhere.so.9")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_scanned_or_refused(data: st.DataObject, library: Path) -> None:
    content = bytearray(library.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = library.with_name("damaged.so")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        gadgets.scan(damaged)
    except gadgets.NotScannableError as error:
        assert "damaged.so" in str(error)  # noqa: PT017 - either is fine


def test_the_command_lists_them(library: Path) -> None:
    def isobench(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", "gadgets", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = isobench("--json", "--no-dependencies", library)
    assert done.returncode == 1
    assert [row["kind"] for row in json.loads(done.stdout)] == ["WRPKRU", "XRSTOR", "WRPKRU"]
    bad = isobench("--no-dependencies", __file__)
    assert bad.returncode == 2
    assert "not an ELF file" in bad.stderr
    assert "Traceback" not in bad.stderr
