"""A wall in a package of its own, installed beside the project and without a change to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from small_runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def with_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Install the example where only these tests see it; return what runs a module with it."""
    site = tmp_path_factory.mktemp("site")
    example = Path(__file__).parent.parent / "examples" / "backend-in-python"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--target", str(site), str(example)]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_is_listed(with_example: Callable[..., str]) -> None:
    assert "python-fork" in with_example("harness", "list")


def test_it_passes_the_conformance_suite(with_example: Callable[..., str]) -> None:
    said = with_example("pytest", "tests/conformance", "--backend", "python-fork", "-q")
    assert "passed" in said
    assert "failed" not in said


def test_it_is_measured_and_drawn(with_example: Callable[..., str], tmp_path: Path) -> None:
    said = with_example(
        "harness", "run", "--preset", "smoke", "--results", tmp_path, "--backend", "none",
        "--backend", "python-fork", "--size", 64, "--", *FAST,
    )  # fmt: skip
    [folder] = tmp_path.iterdir()
    for figure in ("figure2", "figure3"):
        drawn = [path for path in (folder / "figures").glob("*.svg") if figure in path.name]
        assert drawn, said
        assert any("python-fork" in path.read_text() for path in drawn)
    assert "python-fork" in (folder / "results.csv").read_text()
    assert ",python," in (folder / "results.csv").read_text()
