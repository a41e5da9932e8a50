"""Figures from elsewhere, each with its source, as rows that never pass for this project's.

`literature.csv` holds them. Most are of the paper's published artifact, run on the same kind of
emulated machine: instruction counts, so that they compare with ours, but not obtained by this
project's run. Their provenance here is `literature`; the source says how they came about.

A quoted backend's name ends in `(quoted)`; none is the baseline, so no ratio is taken to it unseen.
"""

from __future__ import annotations

import functools
import io
from importlib import resources
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison
from harness.storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from typing import Any

#: The artifact's mechanisms, and the family of ours whose colour they share.
_FAMILIES = {
    "none": "none",
    "sdrad-ffi": "mpk",
    "sdrad": "mpk",
    "sandcrust": "sandcrust-pipe",
    "sandcrust-oneshot": "sandcrust-fork",
    "pkru-safe": "pkru-safe",
}
_NAMES = {
    "none": "none",
    "sdrad-ffi": "SDRaD-FFI",
    "sdrad": "SDRaD",
    "sandcrust": "Sandcrust",
    "sandcrust-oneshot": "Sandcrust, fork a call",
    "pkru-safe": "PKRU-Safe",
}
_COLUMNS = {
    "workload": "str",
    "content": "str",
    "size": "int64",
    "system": "str",
    "codec": "str",
    "value": "float64",
    "unit": "str",
    "source": "str",
}
_VALUE_MAX = 1e15
_RATIO = "ratio to none"
_NOT_OURS = float("nan")


@functools.cache
def figures() -> pd.DataFrame:
    """Read the quoted figures.

    Returns:
        A row a figure: workload, content, size (bytes), system, codec, value, unit, source. Text
        that does not apply is empty.

    Raises:
        StorageError: The file is damaged.
    """
    return parse(resources.files("harness").joinpath("literature.csv").read_bytes())


def parse(content: bytes) -> pd.DataFrame:
    """Read quoted figures from CSV, as `figures` returns them.

    Raises:
        StorageError: They are none.
    """
    try:
        rows = pd.read_csv(
            io.BytesIO(content), keep_default_na=False, dtype=_COLUMNS, on_bad_lines="error"
        )
        if list(rows) != list(_COLUMNS):
            raise ValueError(f"its columns are {', '.join(map(str, rows))}")  # noqa: TRY301 - told below
        unknown = set(rows["system"]) - set(_NAMES)
        if unknown or not rows["value"].between(0, _VALUE_MAX, inclusive="right").all():
            raise ValueError(f"a value or a system is none: {unknown or 'a value'}")  # noqa: TRY301
        if _RATIO not in set(rows["unit"]):
            raise ValueError(f"no figure has the unit {_RATIO!r}")  # noqa: TRY301
    except (ValueError, OverflowError) as error:
        what = f"literature.csv is damaged ({error}). Install the project again"
        raise StorageError(what) from error
    return rows


def value(
    workload: str, system: str, *, content: str = "", size: int = 0, codec: str = ""
) -> float:
    """Look a figure up, in its unit; NaN where nothing is quoted."""
    rows = figures()
    mine = rows[
        (rows["workload"] == workload)
        & (rows["system"] == system)
        & (rows["content"] == content)
        & (rows["size"] == size)
    ]
    if codec:
        mine = mine[mine["codec"] == codec]
    return float(mine["value"].iloc[0]) if len(mine) else _NOT_OURS


def counts(workloads: Sequence[str]) -> pd.DataFrame:
    """Return quoted instruction counts of workloads as rows like those of the tidy table.

    Returns:
        The tidy table's columns and `source`; provenance `literature`, no spread, no interval.
    """
    rows = figures()
    mine = rows[rows["workload"].isin(list(workloads)) & (rows["unit"] == "instructions")]
    return _tidy([_row(figure, figure["value"]) for figure in mine.to_dict("records")])


def pkru_safe(table: pd.DataFrame) -> pd.DataFrame:
    """Extrapolate PKRU-Safe's empty call as the paper does: a factor times the baseline.

    Args:
        table: A run's. The paper multiplies a baseline that contains two reads of the clock; ours,
            read around a batch, does not.

    Returns:
        A row in nanoseconds, provenance `literature`; none if the run has no baseline in time.
    """
    base = table[
        (table["workload"] == "switch")
        & (table["backend"] == comparison.BASELINE)
        & (table["provenance"] == "measured")
        & (table["level"] == "native")
    ]
    rows = figures()
    figure = rows[rows["unit"] == _RATIO].iloc[0].to_dict()
    if base.empty:
        return _tidy([])
    factor = float(figure["value"])
    name = f"PKRU-Safe, {factor:g} {comparison.TIMES} none (quoted)"
    mean = factor * float(base["mean"].iloc[0])
    return _tidy([_row(figure, mean) | {"backend": name, "unit": "ns"}])


def counterpart(row: Mapping[Hashable, Any]) -> float:
    """Find what upstream's artifact takes for the work of a row of instruction counts.

    Args:
        row: Of the tidy table.

    Returns:
        Instructions, or NaN: nothing is quoted, or the row is not of emulated instructions.
    """
    system, codec = _counterpart(str(row["backend"]), str(row["mechanism"]), str(row["workload"]))
    if row["unit"] != "instructions" or row["provenance"] == "literature" or not system:
        return _NOT_OURS
    return value(
        str(row["workload"]), system, content=str(row["content"]), size=_size(row), codec=codec
    )


def counterpart_ratio(row: Mapping[Hashable, Any]) -> float:
    """Find the ratio to no wall that upstream's artifact has for the work of a row, in any unit."""
    system, codec = _counterpart(str(row["backend"]), str(row["mechanism"]), str(row["workload"]))
    if not system or row["provenance"] == "literature":
        return _NOT_OURS
    workload, content, size = str(row["workload"]), str(row["content"]), _size(row)
    mine = value(workload, system, content=content, size=size, codec=codec)
    return mine / value(workload, "none", content=content, size=size)


def _counterpart(backend: str, mechanism: str, workload: str) -> tuple[str, str]:
    """Name the system and codec that a backend stands for; empty where there is none."""
    if backend in ("none", "sandcrust-pipe", "sandcrust-fork"):
        mine = {"sandcrust-pipe": "sandcrust", "sandcrust-fork": "sandcrust-oneshot"}
        return mine.get(backend, backend), ""
    if mechanism != "mpk":
        return "", ""
    if workload in ("malloc", "rewind"):
        return ("sdrad", "") if backend == "mpk" else ("", "")
    if workload in ("switch", "png-decode"):  # the artifact's codec, and what takes its place here
        return ("sdrad-ffi", "") if backend in ("mpk", "mpk-abomonation-v1") else ("", "")
    codec = backend.removeprefix("mpk-")
    return ("sdrad-ffi", codec) if "-v" in codec else ("", "")


def _size(row: Mapping[Hashable, Any]) -> int:
    # Others are told apart by content alone: pictures of a name have other bytes elsewhere.
    return int(row["size"]) if str(row["workload"]).startswith("snappy-") else 0


def _row(figure: Mapping[Hashable, Any], mean: Any) -> dict[str, Any]:
    system, codec = str(figure["system"]), str(figure["codec"])
    shown = f" {codec}" if system == "sdrad-ffi" and codec else ""
    return {
        "run": "literature",
        "host": "",
        "backend": f"{_NAMES[system]}{shown} (quoted)",
        "mechanism": _FAMILIES[system],
        "codec": codec,
        "kind": "wall" if system != "none" else "baseline",
        "workload": figure["workload"],
        "content": figure["content"],
        "size": int(figure["size"]),
        "level": "native",
        "provenance": "literature",
        "unit": figure["unit"],
        "operations": 1,
        "n": 0,
        "processes": 0,
        "median": float("nan"),
        "mean": float(mean),
        "std": float("nan"),
        "low": float("nan"),
        "high": float("nan"),
        "source": figure["source"],
    }


def _tidy(rows: list[dict[str, Any]]) -> pd.DataFrame:
    from harness.results import COLUMNS

    types = {**COLUMNS, "source": "str"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def sources(rows: pd.DataFrame) -> list[str]:
    """Say where the quoted ones among rows are from: a sentence for notes, or none."""
    quoted = rows[rows["provenance"] == "literature"]
    listed = dict.fromkeys(quoted["source"].dropna()) if "source" in quoted else {}
    return [f"Quoted: {'; '.join(listed)}."] if listed else []
