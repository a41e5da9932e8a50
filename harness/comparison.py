"""Numbers of the tidy table: which may be compared, ratios, geometric means, how they are written.

Wall-clock time and instruction counts are never put side by side without a mark: a *panel* is the
rows of one provenance and one unit. A *series* is a backend timed at one level: a line in a figure,
a row in a table.
"""

from __future__ import annotations

import math
import re
from functools import reduce
from typing import TYPE_CHECKING

from scipy import stats

from harness import wrpkru

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

#: The backend that others are compared with.
BASELINE = "none"

#: What each provenance means, in the order in which figures and tables show them.
PROVENANCE = {
    "measured": "wall clock on this host",
    "modelled": "timed without WRPKRU, plus its published cost as a range",
    "literature": "cited figure, from elsewhere",
    "emulated": "instructions retired on the emulated machine",
}

#: Provenances whose numbers this project obtains by running; others are as many as they are.
RUN_HERE = ("measured", "emulated")

Panel = tuple[str, str]  # provenance, unit
Series = tuple[str, str]  # backend, level

#: The optimisation level of a codec whose backend names none.
OPTIMISATION = 2

_SERIES = ["backend", "level"]
_CELL = ["unit", "provenance", "workload", "content", "size", "level"]
_KINDS = ["baseline", "wall", "reference"]


def explain(provenance: str) -> str:
    """Say what a provenance is, in a line."""
    meaning = PROVENANCE.get(provenance)
    return f"{provenance}: {meaning}" if meaning else provenance


def model(rows: pd.DataFrame) -> list[str]:
    """Say what modelled rows are made of and the sources, if there are any such rows."""
    modelled = (rows["provenance"] == "modelled").any()
    return [f"Modelled: {wrpkru.EXPLANATION}."] if modelled else []


def panels(rows: pd.DataFrame) -> list[tuple[Panel, pd.DataFrame]]:
    """Split rows into what may share an axis or a column: times before counts, cited ones last."""
    known = list(PROVENANCE)

    def order(panel: Panel) -> tuple[bool, bool, int, Panel]:
        provenance, unit = panel
        rank = known.index(provenance) if provenance in known else len(known)
        return unit != "ns", provenance == "literature", rank, panel

    groups = {(str(p), str(u)): group for (p, u), group in rows.groupby(["provenance", "unit"])}
    return [(panel, groups[panel]) for panel in sorted(groups, key=order)]


def series(rows: pd.DataFrame) -> dict[Series, pd.DataFrame]:
    """Split rows by backend and level: baselines first, walls, references; each by mechanism."""

    def order(
        item: tuple[Series, pd.DataFrame],
    ) -> tuple[int, bool, str, tuple[str, int], Series]:
        key, group = item
        kind, mechanism = str(group["kind"].iloc[0]), str(group["mechanism"].iloc[0])
        rank = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
        return rank, key[0] != BASELINE, mechanism, optimisation(key[0]), key

    groups = {(str(b), str(level)): group for (b, level), group in rows.groupby(_SERIES)}
    return dict(sorted(groups.items(), key=order))


def by_latency(rows: pd.DataFrame) -> pd.DataFrame:
    """Put baselines first, `none` before its variants, then the rest from fast to slow."""
    other = rows["kind"] != "baseline"
    variant = (rows["backend"] != BASELINE) & ~other
    keyed = rows.assign(_other=other, _variant=variant)
    keyed = keyed.sort_values(["_other", "_variant", "mean", "backend", "level"])
    return keyed.drop(columns=["_other", "_variant"])


def optimisation(backend: str) -> tuple[str, int]:
    """Split a codec's backend into its name at the usual level of optimisation, and its level.

    `mpk-abomonation-v1-O0` is `mpk-abomonation-v1` at 0, and that by itself is at 2.
    """
    found = re.fullmatch(r"(.*-v\d)-O(\d)", backend)
    return (found[1], int(found[2])) if found else (backend, OPTIMISATION)


def usual_optimisation(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out codecs at other levels than the usual: Figure 4 is about those."""
    return rows[rows["backend"].map(lambda backend: optimisation(backend)[0]) == rows["backend"]]


def with_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Add two columns: the standard deviation in % of the mean, and the ratio to the baseline.

    Args:
        rows: Of the tidy table.

    Returns:
        A copy with `std_percent_of_mean` and `ratio_to_none`. The ratio is a factor; a mean is
        divided by that of `none` of the same unit, provenance, work and level, and by no other: it
        is NaN where there is none.
    """
    baseline = rows.loc[rows["backend"] == BASELINE, [*_CELL, "mean"]].drop_duplicates(_CELL)
    baseline = baseline.rename(columns={"mean": "mean_of_none"})
    merged = rows.merge(baseline, on=_CELL, how="left", validate="many_to_one")
    merged["std_percent_of_mean"] = 100 * merged["std"] / merged["mean"]
    merged["ratio_to_none"] = merged["mean"] / merged["mean_of_none"]
    return merged.drop(columns="mean_of_none")


def common_sizes(rows: pd.DataFrame) -> list[int]:
    """List the sizes, in bytes and ascending, that every series among the rows has."""
    sizes = [set(group["size"]) for group in series(rows).values()]
    return sorted(int(size) for size in reduce(set.intersection, sizes)) if sizes else []


def geometric_means(
    rows: pd.DataFrame, sizes: Sequence[int], column: str = "mean"
) -> dict[Series, float]:
    """Average a column of each series over these sizes.

    Args:
        rows: Of the tidy table: one workload, content, unit and provenance.
        sizes: Bytes; see `common_sizes`. Means over different sizes cannot be compared.
        column: Of positive numbers.

    Returns:
        Geometric means, in the column's unit. Empty if there are no sizes.
    """
    shared = rows[rows["size"].isin(list(sizes))]
    return {key: float(stats.gmean(group[column])) for key, group in series(shared).items()}


# ---- numbers as text ----

#: Where there is no number.
NOTHING = "—"
_NO_DEVIATION = 1e-9  # percent
TIMES = "\N{MULTIPLICATION SIGN}"
_SCALES = {
    "ns": ((1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")),
    "instructions": ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")),
}


def format_quantity(value: float, unit: str, digits: int = 3) -> str:
    """Write a number to some significant digits: `4.12 µs` for 4123 `ns`.

    Counts of instructions get k, M and G for powers of a thousand, and no unit.
    """
    if not math.isfinite(value):
        return NOTHING
    rounded = _round(value, digits)
    scales = _SCALES.get(unit, ((1.0, f" {unit}"),))
    scale, suffix = next((s for s in scales if abs(rounded) >= s[0]), scales[-1])
    return _significant(rounded / scale, digits) + suffix


def format_ratio(value: float, digits: int = 3) -> str:
    """Write a factor, with a multiplication sign: 1,720 times."""
    return f"{_significant(value, digits)}{TIMES}" if math.isfinite(value) else NOTHING


def format_percent(value: float) -> str:
    """Write a percentage to two significant digits: `1.3 %`."""
    # The mean of equal floats may differ from them in the last bit: that is no deviation.
    value = 0.0 if abs(value) < _NO_DEVIATION else value
    return f"{_significant(value, 2)} %" if math.isfinite(value) else NOTHING


def format_size(size: int) -> str:
    """Write a number of bytes: `32 KiB` where that is exact to a quarter, else `1,000 B`."""
    for scale, suffix in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= scale and size * 4 % scale == 0:
            return f"{size / scale:g} {suffix}"
    return f"{size:,} B"


def series_label(backend: str, level: str) -> str:
    """Name a backend, saying so if the binding's cost is in its numbers."""
    return backend if level == "native" else f"{backend} ({level} level)"


def _round(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


def _significant(value: float, digits: int) -> str:
    rounded = _round(value, digits)
    if rounded == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(digits - 1 - magnitude, 0)}f}"
