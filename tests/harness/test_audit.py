"""What `isobench audit` refuses before it runs anything; tests/mpk has what it finds."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from backends import registry
from backends.contract import Availability
from harness import emulated
from harness.cli import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="protection keys are x86-64's"
)


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Have no protection keys, and note what would run in the emulated machine."""
    commands: list[object] = []
    there = Availability.no("no keys", "emulate them", emulated=True)
    monkeypatch.setattr(type(registry.find("mpk")), "availability", lambda _: there)
    monkeypatch.setattr(emulated, "obstacle", str)
    monkeypatch.setattr(emulated, "kernel", str)
    monkeypatch.setattr(emulated, "run", lambda command, **_: bool(commands.append(command)))
    monkeypatch.delenv("ISOBENCH_EMULATED", raising=False)
    return commands


def audit(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


@pytest.mark.parametrize(
    ("library", "function", "says"),
    [
        ("libsnapy.so.1", "snappy_compress", "libsnapy.so.1: the dynamic loader finds no such"),
        ("./libmine.so", "f", "libmine.so: No such file or directory"),
        ("libsnappy.so.1", "snappy_compres", "no function 'snappy_compres'; did you mean snappy_c"),
        ("libsnappy.so.1", "qqqq", "shows all"),
    ],
)
def test_what_is_misspelt_is_told_before_anything_boots(
    booted: list[object], library: str, function: str, says: str
) -> None:
    done = audit(library, "snappy_uncompress", function)
    assert done.exit_code == 2
    assert says in done.output
    assert booted == []


def test_a_function_that_another_library_offers_to_this_one_is_fine(booted: list[object]) -> None:
    assert audit("libsnappy.so.1", "snappy_compress", "memcpy").exit_code == 0
    assert len(booted) == 1


def test_a_file_that_the_emulated_machine_does_not_see_is_told(
    booted: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libmine.so"
    command = ["cc", "-shared", "-fPIC", "-xc", "-", "-o", library]
    subprocess.run(command, input=b"void mine(void) {}", check=True)
    monkeypatch.chdir("/")
    monkeypatch.setattr(emulated, "_HIDDEN", (str(tmp_path.parent),))
    done = audit(library, "mine")
    assert done.exit_code == 2
    assert f"{library} cannot be seen in the emulated machine" in done.output
    assert booted == []
    monkeypatch.chdir(tmp_path)
    assert audit(f".{os.sep}libmine.so", "mine").exit_code == 0
    assert len(booted) == 1
