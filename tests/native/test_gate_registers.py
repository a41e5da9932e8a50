"""What the compiler is told of a call through a domain's gate: all registers that it may change."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

DOMAIN = Path(__file__).parents[2] / "native" / "domain"

# A vector, a mask: values that an optimising compiler keeps in registers if it may.
CALLER = r"""
#include "gate.h"
#include <immintrin.h>

__m128 across_call(const char *code, __m128 kept);
__m128 across_call(const char *code, __m128 kept)
{
    gate_call(code, 0, 0, 0, 0, 0);
    return kept;
}

__mmask16 mask_across_call(const char *code, __mmask16 kept);
__mmask16 mask_across_call(const char *code, __mmask16 kept)
{
    __asm__("" : "+Yk"(kept));
    gate_call(code, 0, 0, 0, 0, 0);
    __asm__("" : "+Yk"(kept));
    return kept;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="gates are x86-64's")
@pytest.mark.parametrize("option", ["-msse2", "-mavx2", "-mavx512vl"])
def test_nothing_stays_in_a_vector_or_mask_register_across_a_gate(option: str) -> None:
    source = CALLER if "512" in option else CALLER.partition("__mmask16")[0]
    command = ["cc", "-std=gnu11", "-O3", option, "-I", DOMAIN, "-x", "c", "-", "-S", "-o", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    functions = re.split(r"call\s+\*%rax", done.stdout)
    assert len(functions) - 1 == source.count("gate_call(")
    # The last instruction before each call that has to do with such a register is out of it.
    for before in functions[:-1]:
        uses = [line for line in before.splitlines() if re.search(r"%([xyz]mm|k)\d", line)]
        assert not re.search(r"%([xyz]mm|k)\d+$", uses[-1]), before
