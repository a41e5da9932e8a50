from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from backends import registry
from parts import Functions, Resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.contract import Backend


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        help="run the conformance suite for this backend only (repeatable)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `backend` every installed backend that runs foreign functions, or those asked for."""
    if "backend" not in metafunc.fixturenames:
        return
    asked = metafunc.config.getoption("--backend")
    chosen = [registry.find(name) for name in asked] or [
        backend for backend in registry.all_backends() if backend.kind != "reference"
    ]
    metafunc.parametrize("backend", chosen, ids=lambda backend: backend.name)


@pytest.fixture(autouse=True)
def _available(request: pytest.FixtureRequest) -> None:
    if "backend" not in request.fixturenames:
        return
    backend: Backend = request.getfixturevalue("backend")
    availability = backend.availability()
    if not availability.available:
        pytest.skip(f"{backend.name}: {availability.reason}. {availability.remedy}")


PR_SET_THP_DISABLE = 41


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def resources() -> Callable[[], Resources]:
    process = psutil.Process()
    # Two things that grow by 2 MiB at a time of their choosing: khugepaged fills gaps of the heap,
    # and Python's table of interned strings makes room for those that came and went.
    assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
    for number in range(200_000):
        sys.intern(f"comes and goes {number}")

    def now() -> Resources:
        gc.collect()
        memory = process.memory_info()
        return Resources(
            len(list(Path("/proc/self/fd").iterdir())),
            len(process.children(recursive=True)),
            memory.rss - memory.shared,  # pages of files come and go with what is looked up
        )

    return now


@pytest.fixture
def project() -> Path:
    return Path(__file__).parent.parent


# ---- the tests that need protection keys ----

_REPORT = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def protection_keys_report(pytestconfig: pytest.Config) -> dict[str, str]:
    """Where those tests ran and how they went, for the end of the session's report."""
    return pytestconfig.stash.setdefault(_REPORT, {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many of them ran, or that none did: on most machines they need an emulated one."""
    report = config.stash.get(_REPORT, {})
    if report:
        terminalreporter.section("tests that need protection keys")
    for where, outcome in report.items():
        bad = "DID NOT RUN" in outcome or " 0 failed" not in outcome
        terminalreporter.line(f"{where}: {outcome}", red=bad, green=not bad)
