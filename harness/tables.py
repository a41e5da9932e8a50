"""Tables of a run, as Markdown, LaTeX and CSV, and the notes that go under tables and figures.

The numbers behind Figure 2 are one table; those behind Figure 3 are one for each workload, content
and provenance. Everything here is a function of a run's results; nothing measures.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from tabulate import tabulate

from harness import comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.results import Run

FIGURE_2 = ("switch",)
FIGURE_3 = ("snappy-compress", "snappy-uncompress")

# ---- notes: where the numbers come from, and which are missing ----

_FAILURES_SHOWN = 6
_LONGEST_REASON = 160  # characters: three lines of a narrow figure
_NOISY = 0.2  # standard deviation over mean


def notes(run: Run, rows: pd.DataFrame, workloads: Collection[str]) -> list[str]:
    """Say what a reader must know of the rows of a figure or table, and what they do not show.

    Args:
        run: The run.
        rows: The rows of its table that are shown.
        workloads: Those that the figure or table is about; failures of others are left out.

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
    if len(rows):
        lines.append(_interval(rows))
    if (rows["level"] == "python").any():
        lines.append("Python level: timed from Python, the binding's cost included.")
    lines += _missing(run, rows)
    lines += _failed(run, workloads)
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
    if len(sizes) == of:
        return f"over all {_count(of, of, 'size')}"
    listed = ", ".join(comparison.format_size(size) for size in sizes)
    return f"over the {_count(len(sizes), len(sizes), 'size')} of {of} that all have ({listed})"


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
    plural = noun if high == 1 else f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{low} {plural}" if low == high else f"{low}–{high} {plural}"


def _missing(run: Run, rows: pd.DataFrame) -> Iterator[str]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for missing in run.unavailable:
        by_reason[_one_line(missing.reason)].append(missing.backend)
    for reason, backends in by_reason.items():
        yield f"Not available: {', '.join(backends)}: {reason}."
    # A reference runs only what it is a reference for.
    references = run.table.loc[run.table["kind"] == "reference", "backend"]
    explained = {missing.backend for missing in run.unavailable} | set(references)
    run_here = run.table[run.table["provenance"].isin(comparison.RUN_HERE)]
    known = set(run_here["backend"]) - explained
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


# ---- tables ----


@dataclass(frozen=True)
class Table:
    """A table and what belongs to it.

    Attributes:
        name: The stem of its files.
        title: What it shows.
        parts: Heading and formatted cells, whose first column names the row.
        rows: The tidy rows that it was made from, numbers in each row's `unit`.
        notes: Sentences that go under it.
    """

    name: str
    title: str
    parts: Sequence[tuple[str, pd.DataFrame]]
    rows: pd.DataFrame
    notes: Sequence[str]


def figure2_table(run: Run) -> Table:
    """Tabulate the latency of a call of an empty function: a row a bar of Figure 2."""
    rows = comparison.with_ratios(run.table[run.table["workload"].isin(FIGURE_2)])
    groups = [comparison.by_latency(group) for _, group in comparison.panels(rows)]
    rows = pd.concat(groups) if groups else rows
    cells = {
        "backend": [
            comparison.series_label(*key)
            for key in zip(rows["backend"], rows["level"], strict=True)
        ],
        "kind": rows["kind"].tolist(),
        "provenance": rows["provenance"].tolist(),
        "quantity": ["time" if unit == "ns" else unit for unit in rows["unit"]],
        "mean": _quantities(rows, "mean"),
        "95 % low": _quantities(rows, "low"),
        "95 % high": _quantities(rows, "high"),
        "std, % of mean": [
            comparison.format_percent(value) for value in rows["std_percent_of_mean"]
        ],
        f"{comparison.TIMES} none": [
            comparison.format_ratio(value) for value in rows["ratio_to_none"]
        ],
        "values": [str(count) for count in rows["n"]],
        "processes": [str(count) for count in rows["processes"]],
    }
    return Table(
        name="figure2",
        title="Latency of one call of an empty foreign function (workload switch)",
        parts=[("Mean and 95 % interval", pd.DataFrame(cells))],
        rows=rows,
        notes=[*_explained(rows), *notes(run, rows, FIGURE_2)],
    )


def figure3_tables(run: Run) -> list[Table]:
    """Tabulate time against size: a table for each workload, content, provenance and unit."""
    return [
        _size_table(run, group, workload, str(content), panel)
        for workload in FIGURE_3
        for content, rows in run.table[run.table["workload"] == workload].groupby("content")
        for panel, group in comparison.panels(comparison.with_ratios(rows))
    ]


def _size_table(
    run: Run, rows: pd.DataFrame, workload: str, content: str, panel: comparison.Panel
) -> Table:
    provenance, unit = panel
    means = comparison.geometric_means(rows, comparison.common_sizes(rows))
    bases = {level: mean for (name, level), mean in means.items() if name == comparison.BASELINE}
    ratios = {key: mean / bases.get(key[1], math.nan) for key, mean in means.items()}
    quantity = "execution time" if unit == "ns" else f"{unit} retired"
    parts = [
        (
            f"Mean {quantity} ({'ns, µs, ms, s' if unit == 'ns' else 'k: thousand, M: million'})",
            _matrix(rows, "mean", lambda value: comparison.format_quantity(value, unit), means),
        ),
        (
            f"Standard deviation of {quantity} (% of the mean)",
            _matrix(rows, "std_percent_of_mean", comparison.format_percent),
        ),
        (
            f"Ratio of mean {quantity} to that of none, a factor",
            _matrix(rows, "ratio_to_none", comparison.format_ratio, ratios),
        ),
    ]
    lines = [
        f"Geometric means: {common_sizes_note(rows)}.",
        *_explained(rows),
        *notes(run, rows, (workload,)),
    ]
    return Table(
        name=f"figure3-{workload}-{content or 'no-content'}-{provenance}-{unit}",
        title=f"{workload}, {content or 'unstated'} content: {quantity} against size, {provenance}",
        parts=parts,
        rows=rows,
        notes=lines,
    )


def _explained(rows: pd.DataFrame) -> Iterator[str]:
    for provenance in dict.fromkeys(provenance for (provenance, _), _ in comparison.panels(rows)):
        meaning = comparison.explain(provenance)
        yield f"{meaning[0].upper()}{meaning[1:]}."
    yield f"{comparison.TIMES} none: ratio to none of the same provenance and level, if known."


def _matrix(
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


def _quantities(rows: pd.DataFrame, column: str) -> list[str]:
    pairs = zip(rows[column], rows["unit"], strict=True)
    return [comparison.format_quantity(value, unit) for value, unit in pairs]


# ---- files ----


def write_all(run: Run, folder: Path) -> list[Path]:
    """Write every table that the run's data allow, each as `.md`, `.tex` and `.csv`.

    A run without any result gives the table of Figure 2, empty, with the reasons under it.

    Args:
        run: The run.
        folder: Where to; made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = figure3_tables(run)
    if run.table["workload"].isin(FIGURE_2).any() or not tables:
        tables.insert(0, figure2_table(run))
    paths = []
    for table in tables:
        for suffix, render in ((".md", markdown), (".tex", latex), (".csv", csv)):
            path = folder / f"{table.name}{suffix}"
            path.write_text(render(table), encoding="utf-8")
            paths.append(path)
    return paths


def markdown(table: Table) -> str:
    """Write a table as Markdown."""
    lines = [f"# {table.title}", ""]
    for heading, cells in table.parts:
        body = _tabulate(cells, "pipe") if len(cells) else "No result."
        lines += [f"## {heading}", "", body, ""]
    lines += ["- " + _MARKDOWN_SPECIAL.sub(r"\\\g<0>", note) for note in table.notes]
    return "\n".join([*lines, ""])


def latex(table: Table) -> str:
    r"""Write a table as LaTeX floats, to \input. Needs the packages booktabs and graphicx."""
    lines = [r"% Needs \usepackage{booktabs,graphicx}."]
    for number, (heading, cells) in enumerate(table.parts):
        body = _tabulate(cells, "latex_booktabs") if len(cells) else "No result."
        lines += [
            r"\begin{table*}",
            r"\centering\footnotesize",
            rf"\caption{{{_tex(table.title)}. {_tex(heading)}.}}",
            rf"\label{{tab:{table.name}{'' if number == 0 else f'-{number + 1}'}}}",
            # Shrunk if it is wider than the text, and only then.
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            body.translate(_TEX_SYMBOLS) + "}",
            *(_tex_notes(table) if number == 0 else ()),
            r"\end{table*}",
        ]
    return "\n".join([*lines, ""])


def csv(table: Table) -> str:
    """Write the tidy rows as CSV: numbers in the unit of the row's column `unit`, not rounded."""
    rows = table.rows.rename(columns={"size": "size_bytes"})
    return rows.to_csv(index=False, lineterminator="\n")


def _tabulate(cells: pd.DataFrame, form: str) -> str:
    align = ["left" if name in _TEXT_COLUMNS else "right" for name in cells.columns]
    return tabulate(
        cells.to_dict("list"),
        headers="keys",
        tablefmt=form,
        colalign=align,
        disable_numparse=True,
    )


_TEXT_COLUMNS = {"backend", "kind", "provenance", "quantity"}
_MARKDOWN_SPECIAL = re.compile(r"[\\`*_<>|]")
_TEX_SYMBOLS = str.maketrans(
    {"µ": r"$\mu$", comparison.TIMES: r"$\times$", "–": "--", "—": "---", "…": "..."}
)
_TEX_SPECIAL = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def _tex_notes(table: Table) -> list[str]:
    return [r"\par\smallskip\raggedright", *(_tex(note) for note in table.notes)]


def _tex(text: str) -> str:
    """Escape what LaTeX gives a meaning to; what its default font lacks becomes a question mark."""
    text = text.translate(_TEX_SPECIAL).replace("--", "-{}-").translate(_TEX_SYMBOLS)
    return "".join(c if c.isascii() or "À" <= c <= "ÿ" else "?" for c in text)
