"""Each notebook is executed on the reference run and on one that has nearly nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jupytext
import pyperf
import pytest

from harness import notebooks, storage
from small_runs import tiny_plan

FOLDER = Path(__file__).parent.parent / "notebooks"
TEXTS = sorted(FOLDER.glob("*.py"))
MEGABYTE = 1 << 20


@pytest.fixture(params=TEXTS, ids=lambda path: path.stem)
def text(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def poor_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of one cell, an empty call of the baseline."""
    plan = tiny_plan()
    record = storage.RunRecord(
        id="poor", plan=plan, host={"cpu": "Some CPU"}, warnings=[], started="2026-01-01"
    )
    storage.write_record(tmp_path, record)
    metadata = {
        "name": "switch/none", "backend": "none", "mechanism": "none", "kind": "baseline",
        "workload": "switch", "level": "native", "provenance": "measured",
    }  # fmt: skip
    run = pyperf.Run([2e-9, 3e-9], metadata=metadata, collect_metadata=False)
    suite = pyperf.BenchmarkSuite([pyperf.Benchmark([run])])
    suite.dump(str(tmp_path / storage.BENCHMARKS_FILE))
    monkeypatch.setenv(notebooks.VARIABLE, str(tmp_path))


def outputs(notebook: Any) -> list[Any]:
    return [
        output
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]


def shown(notebook: Any) -> str:
    """All the text that outputs show."""
    return "\n".join(
        "".join(output.get("data", {}).get(kind, ""))
        for output in outputs(notebook)
        for kind in ("text/markdown", "text/plain")
    )


def test_there_is_a_notebook_for_each_part_of_the_paper() -> None:
    assert [path.stem for path in TEXTS] == [
        "1-context-switch",
        "2-snappy-and-codecs",
        "3-libpng-and-malloc",
        "4-findings",
    ]


def test_it_executes_on_the_reference_run(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notebooks.VARIABLE, raising=False)
    executed = notebooks.execute(text)
    assert shown(executed)
    assert not any(output["output_type"] == "error" for output in outputs(executed))
    assert len(json.dumps(executed)) < MEGABYTE


@pytest.mark.usefixtures("poor_run")
def test_on_a_run_of_one_cell_it_says_what_is_missing(text: Path) -> None:
    said = shown(notebooks.execute(text))
    assert "Not in this run" in said or "not decidable here" in said


def test_the_pair_agrees_and_its_outputs_are_small_and_of_no_machine(text: Path) -> None:
    path = text.with_suffix(".ipynb")
    kept, source = jupytext.read(path), jupytext.read(text)
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ], "make notebooks"
    assert outputs(kept), "make notebooks"
    assert not any(output.output_type in ("error", "stream") for output in outputs(kept))
    raw = path.read_text()
    assert len(raw) < MEGABYTE
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/", shown(kept))
