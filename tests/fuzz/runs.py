"""A fuzz target for the folder of a run.

The input is run.json and, behind a zero byte, benchmarks.json.

What is read is a table of finite numbers that the figures and tables can use; what is not is a
`StorageError` that names the file.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import comparison, results, storage

if TYPE_CHECKING:
    from random import Random

_FOLDER = tempfile.TemporaryDirectory(prefix="isobench-fuzz-")


def check(data: bytes) -> None:
    """Read the folder that the input describes."""
    folder = Path(_FOLDER.name)
    record, _, benchmarks = data.partition(b"\0")
    (folder / storage.RUN_FILE).write_bytes(record)
    (folder / storage.BENCHMARKS_FILE).write_bytes(benchmarks)
    try:
        run = results.load(folder)
    except storage.StorageError as error:
        assert str(folder) in str(error)
        return
    table = run.table
    assert np.isfinite(table[["median", "mean"]].to_numpy()).all()
    assert (table["low"].isna() | (table["low"] <= table["high"])).all()
    assert (table["mean"] > 0).all()
    comparison.with_ratios(comparison.by_latency(table))


# ---- changes that leave it JSON, without which few inputs would get further than that ----

KEYS = [
    "name", "unit", "backend", "workload", "level", "kind", "size", "operations", "provenance",
    "wrpkru_per_call", "clock_hz", "codec", "content", "loops", "inner_loops", "format", "warmups",
    "values", "metadata", "plan", "host", "cells",
]  # fmt: skip
ODD = [
    None, True, -1, 0, 1, 2**63, 10**400, -0.5, 1e-320, 1e308, math.inf, math.nan, "", "none",
    "mpk", "modelled", "emulated", "python", "reference", "integer", "second", "\x1b[0m", "\ud800",
    [], {}, [[]], [0], ["a"], {"name": "a"}, {"values": [1e-9]},
]  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """List each container with each of its keys."""
    keys: Any = ()
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


def mutate(data: bytes, random: Random) -> bytes | None:
    """Change one value of either file; None where it is no JSON."""
    parts = data.split(b"\0", 1)
    which = random.randrange(len(parts))
    try:
        content = [json.loads(parts[which])]
    except (ValueError, RecursionError):
        return None
    container, key = random.choice(_places(content))
    change = random.randrange(4)
    if change == 0 and container is not content:
        del container[key]
    elif change == 1 and isinstance(container, list) and container is not content:
        container.insert(key, container[key])
    elif change == 2 and isinstance(container, dict):
        container[random.choice(KEYS)] = random.choice(ODD)
    else:
        container[key] = random.choice(ODD)
    parts[which] = json.dumps(content[0], separators=(",", ":")).encode()
    return b"\0".join(parts)
