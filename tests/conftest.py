from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from backends import native, registry
from backends.contract import Backend, ForeignFunction

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Functions:
    """Foreign functions by their names: `functions.benign("echo")`."""

    EMPTY = ForeignFunction(native.WORKLOADS, "foreign_empty")
    COMPRESS = ForeignFunction(native.WORKLOADS, "foreign_compress")
    UNCOMPRESS = ForeignFunction(native.WORKLOADS, "foreign_uncompress")

    @staticmethod
    def benign(name: str) -> ForeignFunction:
        return ForeignFunction(native.BENIGN, f"benign_{name}")

    @staticmethod
    def hostile(name: str) -> ForeignFunction:
        return ForeignFunction(native.HOSTILE, f"hostile_{name}")


@pytest.fixture
def functions() -> Functions:
    return Functions()


class Resources(NamedTuple):
    """What this process holds: open descriptors, child processes, resident memory in bytes."""

    descriptors: int
    children: int
    memory: int


@pytest.fixture
def resources() -> Callable[[], Resources]:
    process = psutil.Process()

    def now() -> Resources:
        gc.collect()
        return Resources(
            len(list(Path("/proc/self/fd").iterdir())),
            len(process.children(recursive=True)),
            process.memory_info().rss,
        )

    return now


@pytest.fixture
def project() -> Path:
    return Path(__file__).parent.parent
