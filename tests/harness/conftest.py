from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import run, storage
from small_runs import Silent, tiny_plan

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run.new_run(tiny_plan(), tmp_path_factory.mktemp("results"))
    record = run.run(folder, Silent())
    assert record.failures == []
    return folder


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A small run that is all there; a copy of its own for each test."""
    return Path(shutil.copytree(_finished, tmp_path / _finished.name))


@pytest.fixture
def rewrite() -> Callable[[Path, Callable[[storage.RunRecord], None]], None]:
    def change(folder: Path, how: Callable[[storage.RunRecord], None]) -> None:
        record = storage.read_record(folder)
        how(record)
        storage.write_record(folder, record)

    return change
