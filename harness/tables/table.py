"""A table, and how its columns are made out of tidy rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Table:
    """A table and what belongs to it.

    Attributes:
        name: The stem of its files.
        title: What it shows.
        parts: Heading and formatted cells, whose first column names the row.
        rows: The tidy rows that it was made from, numbers in each row's `unit`.
        notes: Sentences that go under it.
        prose: Columns of sentences, and the share of the page's width that each takes.
        markdown_parts: What Markdown shows instead of `parts`, where those are too wide for it.
        markdown_notes: What Markdown says before `notes`, for what those parts leave out.
    """

    name: str
    title: str
    parts: Sequence[tuple[str, pd.DataFrame]]
    rows: pd.DataFrame
    notes: Sequence[str]
    prose: Mapping[str, float] = field(default_factory=dict)
    markdown_parts: Sequence[tuple[str, pd.DataFrame]] | None = None
    markdown_notes: Sequence[str] = ()


def provenances(rows: pd.DataFrame) -> Iterator[str]:
    """Say what the provenances of rows mean."""
    for provenance in dict.fromkeys(provenance for (provenance, _), _ in comparison.panels(rows)):
        if provenance == "modelled":
            yield from comparison.model(rows)
        else:
            meaning = comparison.explain(provenance)
            yield f"{meaning[0].upper()}{meaning[1:]}."


def explained(rows: pd.DataFrame) -> Iterator[str]:
    """Say what the provenances of rows mean, and the column of ratios."""
    yield from provenances(rows)
    yield f"{comparison.TIMES} none: ratio to none of the same provenance and level, if known."


def matrix(
    rows: pd.DataFrame,
    column: str,
    form: Callable[[float], str],
    means: Mapping[comparison.Series, float] | None = None,
) -> pd.DataFrame:
    """Lay a column out with a row a backend, a column a size, and one for geometric means."""
    sizes = sorted(set(rows["size"]))
    lines = []
    for key, group in comparison.series(rows).items():
        values = dict(zip(group["size"], group[column], strict=True))
        line = {"backend": comparison.series_label(*key)}
        line |= {
            comparison.format_size(int(size)): form(values.get(size, math.nan)) for size in sizes
        }
        if means is not None:
            line["geo. mean"] = form(means.get(key, math.nan))
        lines.append(line)
    return pd.DataFrame(lines)


def percents(rows: pd.DataFrame) -> list[str]:
    """Write the standard deviations of rows that have their ratios, in % of the mean."""
    return [comparison.format_percent(value) for value in rows["std_percent_of_mean"]]


def ratios(values: Iterable[float]) -> list[str]:
    """Write factors."""
    return [comparison.format_ratio(value) for value in values]


def labels(rows: pd.DataFrame) -> list[str]:
    """Name the backend of each row."""
    return list(map(comparison.series_label, rows["backend"], rows["level"]))


def quantities(rows: pd.DataFrame, column: str) -> list[str]:
    """Write a column of quantities, each in its row's unit."""
    pairs = zip(rows[column], rows["unit"], strict=True)
    return [comparison.format_quantity(value, unit) for value, unit in pairs]
