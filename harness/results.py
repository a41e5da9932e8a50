"""A run as one tidy table: a row a cell.

| column | meaning |
|---|---|
| run, host | which run, on which machine |
| backend, mechanism, codec, kind | what was measured; kind is wall, baseline or reference |
| workload, content, size | on what; size in bytes of content, 0 where there is no input |
| operations | how many a call makes (pairs of malloc and free), else 1; values are a call's |
| level | `native`: the timed loop is C; `python`: it is Python and includes the binding |
| provenance | where the number comes from: measured, emulated, modelled, literature |
| unit | of median, mean, std, low and high |
| n, processes | how many values, from how many processes |
| median, mean, std | of the values; std is the sample's, NaN for one value |
| low, high | 95 % confidence interval of the mean, NaN where it cannot be known |

Of modelled rows mean and median have the typical cost of WRPKRU added to what was measured, and low
and high, which widen the interval, its published range: see `harness.wrpkru`.

The interval is a percentile bootstrap over processes, not over values: the values of one process
share its memory layout and are not independent (Kalibera and Jones, "Rigorous Benchmarking in
Reasonable Time", ISMM 2013). With values from one process they are all there is to resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
from scipy import stats

from backends.contract import Kind
from harness import storage, wrpkru
from harness.plan import Level, Provenance
from harness.run import load_benchmarks

if TYPE_CHECKING:
    from pathlib import Path

    from harness.plan import Unavailable
    from harness.storage import Failure

COLUMNS = {
    "run": "str",
    "host": "str",
    "backend": "str",
    "mechanism": "str",
    "codec": "str",
    "kind": "str",
    "workload": "str",
    "content": "str",
    "size": "int64",
    "operations": "int64",
    "level": "str",
    "provenance": "str",
    "unit": "str",
    "n": "int64",
    "processes": "int64",
    "median": "float64",
    "mean": "float64",
    "std": "float64",
    "low": "float64",
    "high": "float64",
}

_NS = 1e9  # nanoseconds in pyperf's unit
_VALUE_MAX = 1e15  # seconds or instructions; sums and squares of more would overflow
_CONFIDENCE = 0.95
_RESAMPLES = 9999
_RESAMPLED_MAX = 10_000_000  # values at a time, of 8 bytes; only runs of more than 1000 processes

_INT64_MAX = (1 << 63) - 1  # what a column of the table holds


# Printable ASCII: what Parquet, LaTeX and terminals take.
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]*\Z", max_length=200)]


class _Metadata(msgspec.Struct):
    """What a benchmark says of itself; what is not here, the table leaves out."""

    backend: _Name
    mechanism: _Name
    workload: _Name
    level: Level
    codec: _Name = ""
    kind: Kind = "wall"
    content: _Name = ""
    size: Annotated[int, msgspec.Meta(ge=0, le=_INT64_MAX)] = 0
    operations: Annotated[int, msgspec.Meta(ge=1, le=_INT64_MAX)] = 1
    provenance: Provenance = "measured"
    wrpkru_per_call: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    clock_hz: Annotated[float, msgspec.Meta(ge=1e6)] | None = None


@dataclass(frozen=True)
class Run:
    """A run's numbers and what is known of it.

    Attributes:
        id: Its name.
        folder: Where it is.
        table: The tidy table.
        host: Facts about the machine.
        unavailable: Backends that could not be measured, with reasons.
        failures: Cells that gave no number, with errors.
        warnings: What made the machine noisy.
        preset: Name of the plan.
        finished: Whether no cell is missing.
        inapplicable: Backends that one workload could not be measured on, with reasons.
    """

    id: str
    folder: Path
    table: pd.DataFrame
    host: dict[str, Any]
    unavailable: tuple[Unavailable, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    preset: str
    finished: bool
    inapplicable: tuple[Unavailable, ...] = ()


def load(folder: Path) -> Run:
    """Read a run.

    Raises:
        StorageError: A file is missing, truncated or not this project's.
    """
    record = storage.read_record(folder)
    rows = [
        {"run": record.id, "host": str(record.host.get("host", "")), **_row(folder, benchmark)}
        for benchmark in load_benchmarks(folder)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Run(
        id=record.id,
        folder=folder,
        table=table,
        host=record.host,
        unavailable=tuple(u for u in record.plan.unavailable if not u.workload),
        failures=tuple(record.failures),
        warnings=tuple(record.warnings),
        preset=record.plan.preset,
        finished=bool(record.finished),
        inapplicable=tuple(u for u in record.plan.unavailable if u.workload),
    )


def write_table(run: Run, folder: Path) -> list[Path]:
    """Write the tidy table as CSV and Parquet; return the files."""
    csv, parquet = folder / "results.csv", folder / "results.parquet"
    with storage.replacing(csv) as temporary:
        run.table.to_csv(temporary, index=False)
    with storage.replacing(parquet) as temporary:
        run.table.to_parquet(temporary, index=False)
    return [csv, parquet]


def _row(folder: Path, benchmark: Any) -> dict[str, object]:
    try:
        metadata = msgspec.convert(benchmark.get_metadata(), _Metadata)
        added = _model(metadata)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise _not_ours(folder, benchmark, f"its metadata: {error}") from error
    counted = metadata.provenance == "emulated"
    scale = 1.0 if counted else _NS
    by_process = [np.array(values, dtype=float) * scale for values in _values(folder, benchmark)]
    values = np.concatenate(by_process)
    low, high = _interval(by_process)
    return {
        "backend": metadata.backend,
        "mechanism": metadata.mechanism,
        "codec": metadata.codec,
        "kind": metadata.kind,
        "workload": metadata.workload,
        "content": metadata.content,
        "size": metadata.size,
        "operations": metadata.operations,
        "level": metadata.level,
        "provenance": metadata.provenance,
        "unit": "instructions" if counted else "ns",
        "n": len(values),
        "processes": len(by_process),
        "median": float(np.median(values)) + added.typical,
        "mean": float(np.mean(values)) + added.typical,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
        "low": _or_mean(low, values, added) + added.low,
        "high": _or_mean(high, values, added) + added.high,
    }


def _not_ours(folder: Path, benchmark: Any, why: str) -> storage.StorageError:
    return storage.StorageError(
        f"{folder / storage.BENCHMARKS_FILE} holds {benchmark.get_name()!r}, which is not a "
        f"benchmark of this project: {why}"
    )


class _Added(NamedTuple):
    """Nanoseconds that a model adds to a measured call: none to others."""

    typical: float = 0.0
    low: float = 0.0
    high: float = 0.0


def _model(metadata: _Metadata) -> _Added:
    """Return what is added to a cell.

    Raises:
        ValidationError: It does not say what the model needs.
    """
    if metadata.provenance != "modelled":
        return _Added()
    if metadata.clock_hz is None:
        raise msgspec.ValidationError("a modelled cell without `clock_hz`")
    times, hz = metadata.wrpkru_per_call, metadata.clock_hz
    cycles = (wrpkru.CYCLES_TYPICAL, wrpkru.CYCLES_LOW, wrpkru.CYCLES_HIGH)
    return _Added(*(wrpkru.nanoseconds(times * number, hz) for number in cycles))


def _or_mean(limit: float, values: np.ndarray[Any, Any], added: _Added) -> float:
    """Give a limit of the interval; of a model whose is unknown, where the range starts from."""
    return float(np.mean(values)) if np.isnan(limit) and added.high else limit


def _values(folder: Path, benchmark: Any) -> list[tuple[float, ...]]:
    """List the values of each process that has any, in pyperf's unit.

    Raises:
        StorageError: There are none, or one is no time or count: infinite, or not a number.
    """
    found = [run.values for run in benchmark.get_runs() if run.values]  # noqa: PD011 - not pandas'
    if not found:
        raise _not_ours(folder, benchmark, "it has no values")
    for value in (value for values in found for value in values):
        if not 0 < value <= _VALUE_MAX:  # false for NaN, too
            raise _not_ours(folder, benchmark, f"one of its values is {str(value)[:20]}")
    return found


def _interval(by_process: list[np.ndarray[Any, Any]]) -> tuple[float, float]:
    """Bootstrap the mean's 95 % confidence interval."""
    sample = (
        np.array([values.mean() for values in by_process]) if len(by_process) > 1 else by_process[0]
    )
    if len(sample) < 2:  # noqa: PLR2004 - one value has no spread
        return float("nan"), float("nan")
    result = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, min(_RESAMPLES, _RESAMPLED_MAX // len(sample))),
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),  # the same file gives the same table
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
