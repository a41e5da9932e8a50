"""The tests that need protection keys, in the emulated machine, on both kernels.

Kernels differ in what protection keys do when a signal is delivered. Where the CPU has keys, the
tests of tests/mpk and of tests/conformance run natively as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

import c_programs
import sandbox_library
from harness import emulated

PROJECT = Path(__file__).parent.parent
BUILD = PROJECT / "build" / "tests-mpk"
BACKENDS = ("mpk", "mpk-view", "mpk-nosud", "pkru-safe")
# Kernels make no difference to codecs, of which two stand for all here: those that borrow and copy.
ON_ONE_KERNEL = {"6.12": "mpk-abomonation-v2", "6.1": "mpk-bincode-v1"}
# Nor to what is loaded.
NOT_ON = {"6.12": ["--ignore=tests/mpk/test_strict.py"], "6.1": []}

# The first of them may have to install QEMU and download kernels.
pytestmark = pytest.mark.timeout(1800)


class Run(NamedTuple):
    """What one kernel's run reported: outcomes by test, or an obstacle."""

    passed: list[str]
    failed: dict[str, str]
    said: str


def compile_libraries() -> None:
    """Compile the foreign functions of tests/mpk; without the headers, its tests say so."""
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / "liblibraries.so"
    command = [
        *("cc", "-O2", "-shared", "-fPIC", "-I", str(PROJECT / "native" / "include")),
        *(str(PROJECT / "tests" / "mpk" / "libraries.c"), "-o", str(library)),
        *("-lz", "-lbz2"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        library.unlink(missing_ok=True)


def run_on(series: str) -> Run:
    folder = BUILD / series
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report = folder / "report.xml"
    names = (*BACKENDS, ON_ONE_KERNEL[series])
    asked = [part for name in names for part in ("--backend", name)]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"),
        *(f"--junitxml={report}", f"--basetemp={folder / 'tmp'}"),
        *("tests/mpk", "tests/conformance", *NOT_ON[series], *asked),
    ]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        emulated.run(
            command,
            kernel=emulated.kernel(series),
            timeout=1200,
            writable=[folder],
            stdout=out,
            stderr=err,
        )
    said = (folder / "stdout").read_text(errors="replace")
    said += (folder / "stderr").read_text(errors="replace")
    passed: list[str] = []
    failed: dict[str, str] = {}
    if report.exists():
        for case in ET.parse(report).getroot().iter("testcase"):
            name = f"{case.attrib['classname']}::{case.attrib['name']}"
            problem = case.find("failure")
            if problem is None:
                problem = case.find("error")
            if problem is not None:
                failed[name] = problem.text or problem.attrib.get("message", "")
            elif case.find("skipped") is None:
                passed.append(name)
    return Run(passed, failed, said)


@pytest.fixture(scope="session")
def runs(protection_keys_report: dict[str, str]) -> dict[str, Run]:
    """Run them on all kernels at once."""
    obstacle = emulated.obstacle()
    if obstacle:
        protection_keys_report["in the emulated machine"] = f"DID NOT RUN: {obstacle}"
        # Where the project itself is tested, nothing may be left out.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
    compile_libraries()
    sandbox_library.build()
    c_programs.build("plain")
    os.chdir(PROJECT)
    for series in emulated.KERNELS:
        emulated.kernel(series)
    with ThreadPoolExecutor() as pool:
        return dict(zip(emulated.KERNELS, pool.map(run_on, emulated.KERNELS), strict=True))


@pytest.mark.parametrize("series", emulated.KERNELS)
def test_protection_keys_hold_on_kernel(
    series: str, runs: dict[str, Run], protection_keys_report: dict[str, str]
) -> None:
    run = runs[series]
    protection_keys_report[f"emulated, kernel {series}"] = (
        f"{len(run.passed)} passed, {len(run.failed)} failed"
    )
    failures = "\n".join(f"---- {name}\n{text}" for name, text in run.failed.items())
    assert not run.failed, failures
    # It ended on its own, after all of them.
    assert len(run.passed) > 100, run.said[-8000:]
