"""What goes under tables and figures: where numbers come from, and which are missing and why."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from harness import comparison
from harness.wording import number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pandas as pd

    from harness.results import Run

_FAILURES_SHOWN = 6
_LONGEST_REASON = 160  # characters: three lines of a narrow figure
_NOISY = 0.2  # standard deviation over mean


def notes(
    run: Run,
    rows: pd.DataFrame,
    workloads: Collection[str],
    *,
    expected: Collection[str] | None = None,
) -> list[str]:
    """Say what a reader must know of the rows of a figure or table, and what they do not show.

    Args:
        run: The run.
        rows: The rows of its table that are shown.
        workloads: Those that the figure or table is about; failures of others are left out.
        expected: Backends whose absence is worth a word; by default all of the run, a codec at
            the usual level of optimisation only.

    Returns:
        Sentences: the host; each provenance with its number of values and its interval; then the
        backends that are missing and the cells that failed, with reasons.
    """
    state = [f"preset {run.preset}"] if run.preset else []
    state += [] if run.finished else ["not finished"]
    cpu = run.host.get("cpu") or "CPU not recorded"
    lines = [f"Host: {cpu}. Run: {run.id}" + (f" ({', '.join(state)})" if state else "") + "."]
    panels = comparison.panels(rows)
    lines += [_counts(panel, group) for panel, group in panels if panel[0] != "literature"]
    run_here = rows[rows["provenance"].isin(comparison.RUN_HERE)]
    if len(run_here):
        lines.append(_interval(run_here))
    if (rows["provenance"] == "modelled").any():
        lines.append("Modelled: the interval spans the range of the published cost as well.")
    if (rows["level"] == "python").any():
        lines.append("Python level: timed from Python, the binding's cost included.")
    lines += _missing(run, rows, workloads, expected)
    lines += _failed(run, workloads)
    return lines + noise(run, rows)


def noise(run: Run, rows: pd.DataFrame) -> list[str]:
    """Say how many of the rows are noisy, and what warned of it."""
    lines = []
    noisy = rows[rows["std"] > _NOISY * rows["mean"]]
    if len(noisy):
        lines.append(
            f"Noisy, with a standard deviation over {_NOISY:.0%} of the mean: {len(noisy)} of "
            f"{len(rows)} means; see the tables."
        )
    if run.warnings:
        lines.append(f"Warnings about noise: {len(run.warnings)}; they are in run.json.")
    return lines


def common_sizes_note(rows: pd.DataFrame) -> str:
    """Say over which sizes the geometric means of these rows are taken."""
    sizes = comparison.common_sizes(rows)
    if not sizes:
        return "none, for no size is common to all"
    of = rows["size"].nunique()
    if of == 1:
        return "over the one size"
    if len(sizes) == of:
        return f"over all {number(of, 'size')}"
    listed = ", ".join(comparison.format_size(size) for size in sizes)
    return f"over the {number(len(sizes), 'size')} of {of} that all have ({listed})"


def _counts(panel: comparison.Panel, rows: pd.DataFrame) -> str:
    provenance, unit = panel
    values = _count(rows["n"].min(), rows["n"].max(), "value")
    processes = _count(rows["processes"].min(), rows["processes"].max(), "process")
    return f"{provenance.capitalize()} ({unit}): means of {values} from {processes} each."


def _interval(rows: pd.DataFrame) -> str:
    bounded = rows["low"].notna() & rows["high"].notna()
    if not bounded.any():
        return "No intervals: they take more than one value."
    text = "Intervals: 95 % bootstrap of the mean, resampling processes"
    if (rows.loc[bounded, "processes"] == 1).any():
        text += " (values, where there is one process)"
    return f"{text}." if bounded.all() else f"{text}; none where there is one value."


def _count(low: int, high: int, noun: str) -> str:
    return number(high, noun) if low == high else f"{low}–{number(high, noun)}"


def _missing(
    run: Run, rows: pd.DataFrame, workloads: Collection[str], expected: Collection[str] | None
) -> Iterator[str]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for missing in run.unavailable:
        by_reason[_one_line(missing.reason)].append(missing.backend)
    for reason, backends in by_reason.items():
        yield f"Not available: {', '.join(backends)}: {reason}."
    inapplicable = [missing for missing in run.inapplicable if missing.workload in workloads]
    by_work: dict[tuple[str, str], list[str]] = defaultdict(list)
    for missing in inapplicable:
        by_work[missing.workload, _one_line(missing.reason)].append(missing.backend)
    for (workload, reason), backends in by_work.items():
        yield f"Not on {workload}: {', '.join(backends)}: {reason}."
    # A reference runs only what it is a reference for.
    references = run.table.loc[run.table["kind"] == "reference", "backend"]
    explained = {missing.backend for missing in (*run.unavailable, *inapplicable)}
    explained |= set(references)
    run_here = run.table[run.table["provenance"].isin(comparison.RUN_HERE)]
    usual = set(comparison.usual_optimisation(run_here)["backend"])
    known = (usual if expected is None else set(expected)) - explained
    for (provenance, _), group in comparison.panels(rows):
        absent = sorted(known - set(group["backend"]))
        if absent and provenance in comparison.RUN_HERE:
            yield f"No {provenance} result here: {', '.join(absent)}."


def _failed(run: Run, workloads: Collection[str]) -> Iterator[str]:
    by_error: dict[str, list[str]] = defaultdict(list)
    for failure in run.failures:
        if failure.cell.split("/", 1)[0] in workloads:
            by_error[_one_line(failure.error)].append(failure.cell)
    for error, cells in by_error.items():
        more = len(cells) - _FAILURES_SHOWN
        shown = ", ".join(cells[:_FAILURES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield f"Failed: {shown}: {error}."


def _one_line(text: str) -> str:
    # The last line of a traceback is the one that says what happened.
    lines = text.strip().splitlines() or ["no reason given"]
    line = " ".join(lines[-1].split()).rstrip(".")
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
