from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyperf
import pytest

from harness import run, storage
from small_runs import FAST, Silent, broken_plan, tiny_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.plan import Cell


def names(folder: Path) -> list[str]:
    return [benchmark.get_name() for benchmark in run.load_benchmarks(folder)]


def test_a_run_has_every_cell_of_its_plan_in_order(finished: Path) -> None:
    record = storage.read_record(finished)
    assert names(finished) == [cell.name for cell in record.plan.cells]
    assert record.finished
    assert record.failures == []


@pytest.mark.parametrize("command", ["stats", "hist", "show", "metadata", "dump"])
def test_pyperf_reads_the_stored_file(finished: Path, command: str) -> None:
    file = finished / storage.BENCHMARKS_FILE
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", command, file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "switch/none" in done.stdout


def test_pyperf_compares_stored_files(finished: Path) -> None:
    file = finished / storage.BENCHMARKS_FILE
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", file, file, "--table"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_number_says_what_it_is_of_and_not_where_the_user_keeps_things(
    finished: Path,
) -> None:
    for benchmark in run.load_benchmarks(finished):
        metadata = benchmark.get_metadata()
        assert {"backend", "mechanism", "workload", "level", "provenance"} <= metadata.keys()
        if metadata["backend"] == "sandcrust-pipe":
            assert metadata["option_placement"] == "same-core"
            assert metadata["caller_cpu"] == metadata["sandbox_cpu"]
    assert sys.prefix not in (finished / storage.BENCHMARKS_FILE).read_text()


def test_resuming_measures_only_what_is_missing(finished: Path, silent: Silent) -> None:
    suite = pyperf.BenchmarkSuite.load(str(finished / storage.BENCHMARKS_FILE))
    kept = suite.get_benchmarks()[:2]
    pyperf.BenchmarkSuite(kept).dump(str(finished / storage.BENCHMARKS_FILE), replace=True)
    before = {benchmark.get_name(): benchmark.get_values() for benchmark in kept}
    record = run.run(finished, silent)
    assert silent.begun == [cell.name for cell in record.plan.cells[2:]]
    assert names(finished) == [cell.name for cell in record.plan.cells]
    after = {b.get_name(): b.get_values() for b in run.load_benchmarks(finished)}
    assert {name: after[name] for name in before} == before


def test_a_finished_run_resumed_does_nothing(finished: Path, silent: Silent) -> None:
    run.run(finished, silent)
    assert silent.begun == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_half_way_goes_on_to_the_same_cells(
    tmp_path: Path, how: signal.Signals, silent: Silent
) -> None:
    command = [sys.executable, "-m", "harness", "run", "--preset", "smoke", "--no-figures"]
    command += ["--results", str(tmp_path), "--backend", "none", "--backend", "sandcrust-pipe"]
    command += ["--size", "64", "--", *FAST]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("[2/"):
            process.send_signal(how)
            break
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    if how != signal.SIGKILL:
        assert process.returncode == 130, rest
        assert "--resume" in rest
    [folder] = tmp_path.iterdir()
    record = storage.read_record(folder)
    assert not record.finished
    assert 2 <= len(names(folder)) < len(record.plan.cells)
    assert storage.latest_unfinished(tmp_path) == folder
    record = run.run(folder, silent)
    assert names(folder) == [cell.name for cell in record.plan.cells]
    assert record.finished


def test_killing_a_run_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "run", "--preset", "smoke", "--no-figures"]
    command += ["--results", str(tmp_path), "--backend", "sandcrust-pipe", "--workload", "switch"]
    command += ["--", "--processes=1", "--values=100", "--min-time=1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    descendants: list[psutil.Process] = []
    while len(descendants) < 3 and time.monotonic() < deadline:  # manager, worker, sandbox
        time.sleep(0.05)
        descendants = psutil.Process(process.pid).children(recursive=True)
    assert len(descendants) >= 3
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(descendants, timeout=5)
    assert alive == []


def test_a_cell_that_fails_is_reported_and_the_rest_goes_on(tmp_path: Path, silent: Silent) -> None:
    folder = run.new_run(broken_plan(), tmp_path)
    record = run.run(folder, silent)
    [failure] = record.failures
    assert failure.cell == "switch/no-such-backend"
    assert "no backend 'no-such-backend'" in failure.error
    assert len(names(folder)) == 2
    assert storage.read_record(folder).failures == record.failures


def test_two_processes_do_not_measure_in_one_folder(finished: Path, silent: Silent) -> None:
    with (
        storage.locked(finished),
        pytest.raises(storage.StorageError, match="another process"),
    ):
        run.run(finished, silent)


def test_a_run_of_another_machine_is_not_gone_on_with(
    finished: Path,
    silent: Silent,
    rewrite: Callable[[Path, Callable[[storage.RunRecord], None]], None],
) -> None:
    rewrite(finished, lambda record: record.host.update(kernel="2.4.18"))
    with pytest.raises(storage.StorageError, match=r"another machine.*kernel.*2\.4\.18"):
        run.run(finished, silent)


def test_a_full_disk_keeps_the_finished_cells(
    tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.new_run(tiny_plan(), tmp_path)
    dump = pyperf.BenchmarkSuite.dump

    def full(self: pyperf.BenchmarkSuite, file: str, **options: object) -> None:
        if len(self.get_benchmarks()) < 2:
            dump(self, file, **options)
            return
        Path(file).write_text("half a fi")
        raise OSError(28, os.strerror(28), file)

    monkeypatch.setattr(pyperf.BenchmarkSuite, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        run.run(folder, silent)
    monkeypatch.undo()
    assert len(names(folder)) == 1
    assert [p.name for p in folder.iterdir()] == [
        p.name for p in folder.iterdir() if p.name[0] != "."
    ]
    assert run.run(folder, silent).finished


def test_two_runs_started_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {run.new_run(tiny_plan(), tmp_path) for _ in range(3)}
    assert len(folders) == 3


def test_a_worker_that_says_nothing_is_reported_by_its_status() -> None:
    assert "SIGKILL" in run._reason("", -9)
    assert "status 3" in run._reason("", 3)
    assert run._reason("noise\ncell failed: OSError: no\nmore", 1) == "OSError: no"


def test_what_a_run_is_stored_as_is_plain_json(finished: Path) -> None:
    record = json.loads((finished / storage.RUN_FILE).read_text())
    assert record["host"]["cpu_flags"]["pku"] in (True, False)
    assert record["plan"]["preset"] == "smoke"


def test_a_folder_that_is_removed_during_a_run_is_an_error_that_says_so(
    tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.new_run(tiny_plan(), tmp_path)
    begins = silent.cell_begins

    def removed(cell: Cell) -> None:
        shutil.rmtree(folder)
        begins(cell)

    monkeypatch.setattr(silent, "cell_begins", removed)
    with pytest.raises(OSError, match="No such file") as raised:
        run.run(folder, silent)
    assert str(folder) in str(raised.value.filename)
