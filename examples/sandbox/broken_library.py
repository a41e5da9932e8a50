"""Call a library that crashes, hangs and lies; the program goes on. Needs a C compiler.

Under `none`, which is no wall, the first of its bugs ends the program.

python examples/sandbox/broken_library.py --backend sandcrust-pipe
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from backends import DomainViolation, Out, Sandbox, registry

BROKEN = r"""
#include <stddef.h>

int add(int a, int b)
{
    return a + b;
}

void scribble(int value)
{
    *(volatile int *)0x40 = value;
}

void hang(void)
{
    for (volatile int turn = 0;; turn = turn + 1) {
    }
}

void lie(char *output, size_t *length) /* about how much it wrote */
{
    output[0] = 'x';
    *length = 1000000;
}
"""


def compile_library(folder: Path) -> Path:
    """Make a library of the C above."""
    library = folder / "libbroken.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-xc", "-", "-o", str(library)]
    subprocess.run(command, input=BROKEN, text=True, check=True)
    return library


def main() -> None:
    """Call each of them, and something sound after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="sandcrust-pipe", help="see `isobench list`")
    wall = registry.find(parser.parse_args().backend)
    timeout = 0.2 if wall.guarantees.time_limit else None
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(compile_library(Path(folder)), backend=wall, timeout=timeout) as broken,
    ):
        add = broken.function("int add(int a, int b)")
        scribble = broken.function("void scribble(int value)")
        hang = broken.function("void hang(void)")
        lie = broken.function(
            "void lie(char *output, size_t *length)", output=Out(capacity=10, length="length")
        )
        harmless = broken.function("void scribble(int value)", on_violation="it misbehaved")

        try:
            scribble(7)
        except DomainViolation as violation:
            print(f"{violation}")
            print(f"  kind {violation.kind.value}, address {violation.address}")
        print(f"1 + 2 = {add(1, 2)}")

        print(f"instead of an exception: {harmless(7)!r}")

        for function in (hang, lie):
            if function is hang and timeout is None:
                continue  # it would
            try:
                function()
            except DomainViolation as violation:
                print(f"{violation}")
        print(f"3 + 4 = {add(3, 4)}")


if __name__ == "__main__":
    main()
