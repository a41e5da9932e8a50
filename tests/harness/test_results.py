from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd
import pyperf
import pytest

from harness import results, storage
from harness.plan import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_table_has_a_row_a_cell_and_its_documented_columns(finished: Path) -> None:
    run = results.load(finished)
    assert list(run.table.columns) == list(results.COLUMNS)
    assert len(run.table) == len(storage.read_record(finished).plan.cells)
    assert set(run.table["unit"]) == {"ns"}
    assert set(run.table["provenance"]) == {"measured"}
    assert set(run.table["level"]) == {"native"}
    assert run.finished


def test_statistics_are_those_of_pyperfs_values(finished: Path) -> None:
    run = results.load(finished)
    suite = pyperf.BenchmarkSuite.load(str(finished / storage.BENCHMARKS_FILE))
    for row, benchmark in zip(run.table.itertuples(), suite.get_benchmarks(), strict=True):
        assert row.mean == pytest.approx(benchmark.mean() * 1e9)
        assert row.median == pytest.approx(benchmark.median() * 1e9)
        assert row.std == pytest.approx(benchmark.stdev() * 1e9)
        assert row.n == benchmark.get_nvalue()
        assert row.low <= row.mean <= row.high


def test_operations_of_a_call_are_in_the_table_and_older_runs_had_one(finished: Path) -> None:
    path = finished / storage.BENCHMARKS_FILE
    benchmarks = []
    for operations, benchmark in enumerate(pyperf.BenchmarkSuite.load(str(path)).get_benchmarks()):
        runs = []
        for process in benchmark.get_runs():
            metadata = {k: v for k, v in process.get_metadata().items() if k != "operations"}
            if operations:
                metadata["operations"] = 1000 * operations
            runs.append(
                pyperf.Run(
                    process.values,
                    warmups=process.warmups,
                    metadata=metadata,
                    collect_metadata=False,
                )
            )
        benchmarks.append(pyperf.Benchmark(runs))
    pyperf.BenchmarkSuite(benchmarks).dump(str(path), replace=True)
    operations = results.load(finished).table["operations"].to_list()
    assert operations == [1, *(1000 * number for number in range(1, len(benchmarks)))]


def test_backends_that_one_workload_cannot_run_on_are_not_unavailable(
    finished: Path, rewrite: Callable[[Path, Callable[[storage.RunRecord], None]], None]
) -> None:
    nowhere = Unavailable("a", "no CPU", "buy one")
    here = Unavailable("b", "it would die", "leave it out", "rewind")

    def add(record: storage.RunRecord) -> None:
        record.plan = msgspec.structs.replace(record.plan, unavailable=(nowhere, here))

    rewrite(finished, add)
    run = results.load(finished)
    assert run.unavailable == (nowhere,)
    assert run.inapplicable == (here,)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        # Processes differ more than the values in them: resampling values would be too sure.
        processes = rng.normal(100, 5, size=20)
        low, high = results._interval([rng.normal(p, 1, size=5) for p in processes])
        covered += low <= 100 <= high
    assert 0.85 < covered / 200 <= 1


def test_one_value_has_no_interval() -> None:
    assert all(np.isnan(results._interval([np.array([1.0])])))


def test_csv_and_parquet_hold_the_table(finished: Path, tmp_path: Path) -> None:
    run = results.load(finished)
    csv, parquet = results.write_table(run, tmp_path)
    for again in (
        pd.read_csv(csv, keep_default_na=False, dtype={"codec": "str", "content": "str"}),
        pd.read_parquet(parquet),
    ):
        pd.testing.assert_frame_equal(again, run.table, check_dtype=False)


@pytest.mark.parametrize("file", [storage.RUN_FILE, storage.BENCHMARKS_FILE])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"version": "1.0"}', b"[" * 100_000],
)
def test_a_foreign_file_is_a_clear_error(finished: Path, file: str, content: bytes) -> None:
    (finished / file).write_bytes(content)
    with pytest.raises(storage.StorageError, match=file):
        results.load(finished)


@pytest.mark.parametrize("file", [storage.RUN_FILE, storage.BENCHMARKS_FILE])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_a_clear_error(finished: Path, file: str, share: float) -> None:
    content = (finished / file).read_bytes()
    (finished / file).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(storage.StorageError, match="truncated"):
        results.load(finished)


def test_a_pyperf_file_of_another_project_is_a_clear_error(finished: Path) -> None:
    run = pyperf.Run([1.0], metadata={"name": "telco"}, collect_metadata=False)
    foreign = pyperf.BenchmarkSuite([pyperf.Benchmark([run])])
    foreign.dump(str(finished / storage.BENCHMARKS_FILE), replace=True)
    with pytest.raises(storage.StorageError, match="telco"):
        results.load(finished)


def test_a_record_of_another_version_is_a_clear_error(finished: Path) -> None:
    path = finished / storage.RUN_FILE
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(storage.StorageError, match="format 99"):
        results.load(finished)


def test_a_folder_that_is_no_run_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(storage.StorageError, match="is not a run"):
        results.load(tmp_path)
    with pytest.raises(storage.StorageError, match="is not a run"):
        results.load(tmp_path / "nowhere")


def test_a_run_without_a_finished_cell_is_an_empty_table(finished: Path) -> None:
    (finished / storage.BENCHMARKS_FILE).unlink()
    run = results.load(finished)
    assert list(run.table.columns) == list(results.COLUMNS)
    assert run.table.empty
