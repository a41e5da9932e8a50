"""Made-up runs, for tests of what is downstream of runs; `whole_run` has all of the paper."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SIZES = (1, 64, 4096, 1 << 18, 1 << 21)
EMULATED = {"provenance": "emulated", "unit": "instructions"}


def make_row(backend: str, mean: float, **other: Any) -> dict[str, Any]:
    kinds = {"none": "baseline", "none-default-malloc": "baseline", "pipe-floor": "reference"}
    row = {
        "run": "r1", "host": "h", "backend": backend, "mechanism": backend, "codec": "",
        "kind": kinds.get(backend, "wall"), "workload": "switch", "content": "", "size": 0,
        "level": "native", "provenance": "measured", "unit": "ns", "operations": 1, "n": 60,
        "processes": 20,
        "median": mean, "mean": mean, "std": 0.02 * mean, "low": 0.99 * mean, "high": 1.01 * mean,
    }  # fmt: skip
    return row | other


def single_value(backend: str, mean: float, **other: Any) -> dict[str, Any]:
    unknown = {"std": math.nan, "low": math.nan, "high": math.nan}
    return make_row(backend, mean, n=1, processes=1, **unknown, **other)


def sized_rows(
    backend: str,
    fixed: float,
    sizes: Iterable[int] = SIZES,
    contents: Sequence[str] = ("random",),
    **other: Any,
) -> list[dict[str, Any]]:
    return [
        make_row(
            backend, fixed + 60 + 0.2 * size, workload=work, content=content, size=size, **other
        )
        for work in tables.FIGURE_3
        for content in contents
        for size in sizes
    ]


def make_run(rows: list[dict[str, Any]], **other: Any) -> Any:
    facts = {
        "id": "r1", "host": {"cpu": "Some CPU @ 2 GHz"}, "unavailable": (), "failures": (),
        "warnings": (), "preset": "quick", "finished": True, "inapplicable": (),
    }  # fmt: skip
    return SimpleNamespace(
        table=pd.DataFrame(rows, columns=list(make_row("none", 1))), **(facts | other)
    )


def failures_only() -> Any:
    return make_run(
        [],
        failures=[SimpleNamespace(cell="switch/mpk", error="Traceback\nOSError: no such key")],
        unavailable=[SimpleNamespace(backend="page-table", reason="kernel too old", remedy="")],
    )


# ---- everything that the paper measures ----

PAPER_SIZES = (1, *(1 << power for power in (3, 6, 8, 9, 10, 12, 14, 15, 16, 18, 21)))
PICTURES = {
    "palette-256x256": (5_600, 1.3e6),
    "rgb-701x599": (64_000, 27e6),
    "rgb-454x603": (387_000, 45e6),
    "rgb-816x1088": (894_000, 57e6),
}

#: Instructions of an empty call, and instructions a byte that moving data adds.
WALLS = {
    "none": (18.0, 0.0),
    "mpk": (90.0, 0.08),
    "mpk-view": (90.0, 0.0),
    "mpk-bincode-v1": (160.0, 60.0),
    "mpk-bincode-v2": (150.0, 30.0),
    "mpk-abomonation-v1": (130.0, 0.35),
    "mpk-abomonation-v1-O0": (190.0, 40.0),
    "mpk-abomonation-v1-O1": (140.0, 4.0),
    "mpk-abomonation-v1-O3": (129.0, 0.33),
    "mpk-abomonation-v2": (125.0, 0.25),
    "mpk-abomonation-v2-O0": (180.0, 0.26),
    "mpk-abomonation-v2-O1": (126.0, 0.25),
    "mpk-abomonation-v2-O3": (125.0, 0.25),
    "pkru-safe": (40.0, 0.0),
    "sandcrust-pipe": (12_900.0, 1.5),
}


def _mechanism(backend: str) -> str:
    return "mpk" if backend.startswith("mpk") else backend


def emulated_row(backend: str, mean: float, **other: Any) -> dict[str, Any]:
    row = make_row(backend, mean, mechanism=_mechanism(backend), n=3, processes=1, **EMULATED)
    return row | {"low": mean, "high": mean, "std": 0.0} | other


def sized(backend: str, workload: str, wall: tuple[float, float]) -> list[dict[str, Any]]:
    """Make a row a size of a wall: instructions of an empty call, and a byte."""
    switch, per_byte = wall
    work = 0.2 if workload == "snappy-compress" else 0.09
    return [
        emulated_row(
            backend,
            600 + switch + (work + per_byte) * size,
            workload=workload,
            content="random",
            size=size,
        )
        for size in PAPER_SIZES
    ]


def whole_run(
    *, without: tuple[str, ...] = (), more: Sequence[dict[str, Any]] = (), **other: Any
) -> Any:
    """Make the run, with more rows and without those of some workloads or backends."""
    rows = [
        *more,
        make_row("none", 1.65),
        make_row("sandcrust-pipe", 5200),
        make_row("mpk", 40, provenance="modelled", low=25.0, high=190.0),
    ]
    for backend, wall in WALLS.items():
        rows.append(emulated_row(backend, wall[0]))
        for workload in ("snappy-compress", "snappy-uncompress"):
            rows += sized(backend, workload, wall)
    for backend, factor in (("none", 1.0), ("mpk", 1.008), ("sandcrust-pipe", 1.9)):
        for content, (size, mean) in PICTURES.items():
            facts = {"workload": "png-decode", "content": content, "size": size}
            rows.append(emulated_row(backend, factor * mean, **facts))
    for backend, mean in (("none", 257e3), ("mpk", 300e3)):
        for content in ("pairs", "live-1000"):
            of = {"workload": "malloc", "content": content, "operations": 1000, "size": 2000}
            rows.append(emulated_row(backend, mean, **of))
    for content, mean in (("fault", 4900), ("return", 200)):
        rows.append(emulated_row("mpk", mean, workload="rewind", content=content))
    kept = [row for row in rows if row["workload"] not in without and row["backend"] not in without]
    return make_run(kept, **other)
