"""The C tests of protection keys, which tests/native/test_c_programs.py builds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from c_programs import names_in

PROJECT = Path(__file__).parents[2]
PROGRAMS = PROJECT / "build" / "tests-native-plain" / "tests"
SUBJECTS = ("domain_", "pkru_safe")
NAMES = sorted(
    (source.stem, name)
    for source in (PROJECT / "tests" / "native").glob("*.c")
    if source.stem.startswith(SUBJECTS)
    for name in names_in(source)
)
SKIPPED = 77


def test_a_program_may_be_started_by_calling_the_dynamic_loader() -> None:
    program = PROGRAMS / "test_domain_state"
    with program.open("rb") as file:
        (interpreter,) = ELFFile(file).iter_segments("PT_INTERP")
        loader = interpreter.get_interp_name()
    name = names_in(PROJECT / "tests" / "native" / "domain_state.c")[0]
    done = subprocess.run([loader, program, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("program", "name"), NAMES)
@pytest.mark.timeout(300)
def test_in_c(program: str, name: str) -> None:
    done = subprocess.run(
        [PROGRAMS / f"test_{program}", name], capture_output=True, text=True, check=False
    )
    # Here nothing is missing that a test could need.
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
