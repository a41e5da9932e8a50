"""Building the C tests of native/."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
CONFIGURATIONS = {"plain": "OFF", "sanitized": "ON"}  # NATIVE_SANITIZE


def build_folder(configuration: str) -> Path:
    return PROJECT / "build" / f"tests-native-{configuration}"


@functools.cache  # once a session
def build(configuration: str) -> Path:
    """Build one configuration; return its folder."""
    folder = build_folder(configuration)
    source = PROJECT / "native"
    cache = folder / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={source}\n" not in cache.read_text():
        shutil.rmtree(folder)  # the project was moved or copied
    configure: list[str | Path] = ["-S", source, "-B", folder]
    if not cache.exists() and shutil.which("ninja"):
        configure += ["-G", "Ninja"]
    _succeed(
        *tool("cmake"),
        *configure,
        "-DNATIVE_EXTENSION=OFF",
        "-DNATIVE_TESTS=ON",
        f"-DNATIVE_SANITIZE={CONFIGURATIONS[configuration]}",
    )
    _succeed(*tool("cmake"), "--build", folder, "--parallel", str(cpus()))
    return folder


def names_in(source: Path) -> list[str]:
    """Name the tests of a C program, by its `TEST(...)` lines."""
    return re.findall(r"^TEST\((\w+)\)$", source.read_text(), re.MULTILINE)


def tool(name: str) -> list[str | Path]:
    """Find cmake or ctest: in the path, or as the wheel `cmake` installs it."""
    found = shutil.which(name)
    if found:
        return [found]
    if importlib.util.find_spec("cmake") is None:
        pytest.skip(f"needs {name}; on Debian and Ubuntu: sudo apt-get install cmake")
    return [sys.executable, "-c", f"import cmake; cmake.{name}()"]


def cpus() -> int:
    return len(os.sched_getaffinity(0))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def _succeed(*command: str | Path) -> None:
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
