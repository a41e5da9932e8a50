"""Compiling the library that tests of `backends.Sandbox` call."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from backends import In, Out, Status

if TYPE_CHECKING:
    from backends import Function, Sandbox

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


def declare_reverse(sandbox: Sandbox, capacity: int | None = None) -> Function:
    """Declare its `reverse`, with room for as much or for ten bytes more than is passed."""
    return sandbox.function(
        "int reverse(const char *input, size_t input_length, char *output, size_t *output_length)",
        input=In(length="input_length"),
        output=Out(
            capacity=capacity if capacity is not None else lambda input: len(input) + 10,  # noqa: A006
            length="output_length",
        ),
        returns=Status(ok=0),
    )
