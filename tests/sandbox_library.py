"""Compiling the library that tests of `backends.Sandbox` call."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = Path(__file__).parent.parent / "build" / "tests-sandbox" / "libsandbox.so"

#: Types of the library.
SHAPES = """
struct point { double x, y; };
struct shape {
    uint8_t kind;
    bool closed;
    char name[12];
    uint8_t colour[4];
    int32_t numbers[3];
    struct point points[2];
};
struct truth { bool value; };
"""


def build() -> Path:
    """Compile it, if that is not done; the emulated machine could not write it."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        LIBRARY.parent.mkdir(parents=True, exist_ok=True)
        options = ["-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-array-bounds"]
        subprocess.run(["cc", *options, str(SOURCE), "-o", str(LIBRARY)], check=True)  # noqa: S607
    return LIBRARY
