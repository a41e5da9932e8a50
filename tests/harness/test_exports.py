from __future__ import annotations

import ctypes
import platform
import subprocess
from typing import TYPE_CHECKING

import pytest

from harness import exports, gadgets

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the files that are read are x86-64's"
)

SOURCE = """
int variable = 1;
static int hidden(void) { return variable; }
__attribute__((visibility("hidden"))) int inner(void) { return hidden(); }
int offered(void) { return inner(); }
__attribute__((weak)) int weak(void) { return 0; }
static int (*choose(void))(void) { return hidden; }
int chosen(void) __attribute__((ifunc("choose")));
__attribute__((constructor)) static void loaded(void) { __builtin_trap(); }
int puts(const char *);
int says(void) { return puts(""); }
"""


def build(folder: Path, *options: str) -> Path:
    (folder / "offers.c").write_text(SOURCE)
    library = folder / "liboffers.so"
    command = ["cc", "-shared", "-fPIC", *options, "-o", library, folder / "offers.c"]
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("option", ["-g", "-s", "-Wl,--hash-style=sysv"])
def test_functions_are_those_that_another_can_call_and_nothing_is_loaded(
    tmp_path: Path, option: str
) -> None:
    # Were it loaded, its constructor would end this process.
    mine = exports.functions(build(tmp_path, option)) - {"_init", "_fini"}
    assert mine == {"offered", "weak", "chosen", "says"}


def test_all_that_is_listed_of_a_library_the_dynamic_loader_finds() -> None:
    path = gadgets.find("libsnappy.so.1")
    library = ctypes.CDLL(str(path))
    listed = exports.functions(path)
    assert "snappy_compress" in listed
    assert all(hasattr(library, name) for name in listed)


def test_a_file_without_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.so"
    path.write_text("no code")
    with pytest.raises(gadgets.NotScannableError, match="not an ELF file"):
        exports.functions(path)
