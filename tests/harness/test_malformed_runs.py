"""Files of a run that are not what they should be: one line that says which, and exit code 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness import bounds, host, literature, results, storage
from harness.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).parents[1] / "fuzz/corpus/runs"
GOOD = (CORPUS / "switch").read_bytes()

#: What is changed in the second benchmark, and what the message says of it.
METADATA = {
    "no backend": ({"backend": None}, "missing required field `backend`"),
    "a backend that is a number": ({"backend": 7}, "Expected `str`"),
    "a backend with an escape sequence": ({"backend": "\x1b[2J"}, "regex"),
    "a backend with half a surrogate pair": ({"backend": "\ud800"}, "regex"),
    "a kind with half a surrogate pair": ({"kind": "\ud800"}, "surrogates not allowed"),
    "a kind that there is not": ({"kind": "fence"}, "Invalid enum value 'fence'"),
    "a level that there is not": ({"level": "kernel"}, "Invalid enum value 'kernel'"),
    "a provenance that there is not": ({"provenance": "heard"}, "Invalid enum value 'heard'"),
    "a size that is text": ({"size": "big"}, "Expected `int`"),
    "a size below zero": ({"size": -1}, ">= 0"),
    "a size that no column holds": ({"size": 1 << 63}, r"`\$.size`"),
    "no operations": ({"operations": 0}, ">= 1"),
    "a model without a clock": ({"provenance": "modelled"}, "clock_hz"),
    "a clock that stands still": ({"provenance": "modelled", "clock_hz": 0}, "clock_hz"),
}


def write(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a run; `change` gets the second benchmark as pyperf stores it."""
    record, _, benchmarks = GOOD.partition(b"\0")
    content = json.loads(benchmarks)
    change(content["benchmarks"][1])
    (folder / storage.RUN_FILE).write_bytes(record)
    (folder / storage.BENCHMARKS_FILE).write_text(json.dumps(content))
    return folder


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / storage.RUN_FILE)
    with pytest.raises(storage.StorageError, match="is a pipe"):
        results.load(tmp_path)


@pytest.mark.parametrize("what", METADATA)
def test_metadata_that_no_run_writes_is_an_error_that_says_which(what: str, tmp_path: Path) -> None:
    changes, message = METADATA[what]

    def change(benchmark: dict[str, Any]) -> None:
        benchmark["metadata"].update(changes)
        for name in [name for name, value in changes.items() if value is None]:
            del benchmark["metadata"][name]

    with pytest.raises(storage.StorageError, match=message) as raised:
        results.load(write(tmp_path, change))
    assert "holds 'switch/m'" in str(raised.value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 1e200, 10**400], ids=["NaN", "infinite", "huge", "long"]
)
def test_a_value_that_is_no_time_is_an_error(tmp_path: Path, value: float) -> None:
    write(tmp_path, lambda benchmark: benchmark["runs"][0]["values"].append(value))
    with pytest.raises(storage.StorageError, match=r"one of its values is|values must be"):
        results.load(tmp_path)


def test_a_benchmark_without_values_is_an_error(tmp_path: Path) -> None:
    def calibrations_only(benchmark: dict[str, Any]) -> None:
        benchmark["runs"] = [{"warmups": [[1, 1e-9]]}]

    with pytest.raises(storage.StorageError, match=r"benchmarks\.json"):
        results.load(write(tmp_path, calibrations_only))


def test_the_interval_of_many_processes_takes_little_memory() -> None:
    import tracemalloc

    values = np.random.default_rng(1).random(4000)
    tracemalloc.start()
    try:
        low, high = results._interval([values[at : at + 1] for at in range(len(values))])
        assert tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()
    assert low < values.mean() < high


CONTENTS = {
    "empty": b"",
    "brace": b"{",
    "deep": b"[" * 100_000,
    "no UTF-8": b"\xff",
    "a cell": GOOD.replace(b'"cells":[', b'"cells":[7,'),
    "deep benchmarks": GOOD.partition(b"\0")[0] + b"\0" + b"[" * 100_000,
    "a benchmark": GOOD.replace(b'"benchmarks":[', b'"benchmarks":[7,'),
    "metadata": GOOD.replace(b'"level":"native"', b'"level":7'),
}
COMMANDS = ("figures", "tables", "paper", "compare", "run")


@pytest.mark.parametrize(
    ("what", "command"),
    [
        (what, command)
        for what in CONTENTS
        for command in COMMANDS
        # Metadata are the table's affair: the others compare values, and measure what is missing.
        if what != "metadata" or command in ("figures", "tables", "paper")
    ],
)
def test_every_command_ends_with_exit_code_2_and_a_line(
    what: str, command: str, tmp_path: Path
) -> None:
    content = CONTENTS[what]
    record, _, benchmarks = content.partition(b"\0")
    (tmp_path / storage.RUN_FILE).write_bytes(record)
    (tmp_path / storage.BENCHMARKS_FILE).write_bytes(benchmarks)
    arguments = {
        "compare": ["compare", str(tmp_path), str(tmp_path)],
        "run": ["run", "--resume", str(tmp_path)],
    }.get(command, [command, str(tmp_path)])
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, (done.output, done.exception)
    assert str(tmp_path) in done.output


def test_stored_options_that_pyperf_does_not_take_are_damage_and_change_nothing(
    tmp_path: Path,
) -> None:
    record = json.loads(GOOD.partition(b"\0")[0])
    record["host"] = host.facts()
    record["plan"]["pyperf"] = ["--no-such-option"]
    file = tmp_path / storage.RUN_FILE
    file.write_text(json.dumps(record))
    before = file.read_bytes()
    done = CliRunner().invoke(main, ["run", "--resume", str(tmp_path)])
    assert done.exit_code == 2, done.exception
    assert "is damaged: options of pyperf: unrecognized arguments" in done.output
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"[",
        b"\xff",
        b"a = 1",
        b"[a]\nwhat = 1",
        b"[a]\nwhat = 'x'\nkind = 'guess'\nbound = 1",
        b"[a]\nwhat = 'x'\nkind = 'count'",
        b"a = " + b"[" * 100_000,
    ],
)
def test_bounds_that_are_none_are_an_error(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(bounds.BoundsError, match=r"bounds\.toml is damaged"):
        bounds.parse(content)
    monkeypatch.setattr(bounds, "bounds", lambda: bounds.parse(content))
    done = CliRunner().invoke(main, ["bounds"])
    assert done.exit_code == 2
    assert "Install the project again" in done.output


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "a,b\n1,2\n",
        lambda text: text.replace(",size,", ",bytes,"),
        lambda text: text.replace("sdrad-ffi", "sdrad-fii"),
        lambda text: text + "switch,,0,none,,nan,instructions,nowhere\n",
        lambda text: text + "switch,,0,none,,-1,instructions,nowhere\n",
        lambda text: text + "switch,,0,none,,1,instructions,nowhere,more\n",
        lambda text: text + "switch,,9999999999999999999999,none,,1,instructions,nowhere\n",
        lambda text: text.replace("ratio to none", "ratio"),
    ],
)
def test_quoted_figures_that_are_none_are_an_error(change: Callable[[str], str]) -> None:
    text = (Path(literature.__file__).parent / "literature.csv").read_text()
    assert len(literature.parse(text.encode())) == len(literature.figures())
    with pytest.raises(storage.StorageError, match=r"literature\.csv is damaged"):
        literature.parse(change(text).encode())
