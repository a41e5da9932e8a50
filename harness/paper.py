"""What the paper shows, by its numbering, and where a run has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import tables
from harness.figures import figure3, figure4

if TYPE_CHECKING:
    import pandas as pd

    from harness.results import Run


@dataclass(frozen=True, slots=True)
class Part:
    """A figure or table of the paper, and what a run has of it.

    Attributes:
        number: As the paper numbers it.
        title: What it shows.
        files: Those that show it, without suffix, relative to the run's folder; a figure is PNG,
            SVG and PDF, a table Markdown, LaTeX and CSV. Empty where the run lacks the data.
        data: What the run has of it; where it has none, what to measure.
        there: Whether it has any; of the findings, whether each is decided.
    """

    number: str
    title: str
    files: tuple[str, ...]
    data: str
    there: bool


def parts(run: Run) -> list[Part]:
    """List the figures and tables of the paper, in its order, and what a run has of them."""
    table = run.table
    three, four = tables.figure3_rows(run), tables.figure4_rows(run)
    made = [made.name for made in tables.all_tables(run)]

    def named(start: str) -> tuple[str, ...]:
        return tuple(f"tables/{name}" for name in made if name.startswith(start))

    def drawn(name: str, contents: list[str]) -> tuple[str, ...]:
        return tuple(f"figures/{name}-{content or 'no-content'}" for content in contents)

    switch = table[table["workload"].isin(tables.FIGURE_2)]
    found = [] if table.empty else tables.findings_table(run).rows["verdict"].tolist()
    listed = [
        Part("Figure 1", "what a sandboxed call expands to", ("figures/figure1",), "none needed",
             there=True),
        _part("Figure 2", "latency of an empty call",
              (*(("figures/figure2",) if len(switch) else ()), *named("figure2")), switch,
              _wants(tables.FIGURE_2)),
    ]  # fmt: skip
    for letter, workload in zip("ab", tables.FIGURE_3, strict=True):
        mine = three[three["workload"] == workload]
        files = drawn("figure3", figure3.contents(run)) if len(mine) else ()
        listed.append(_part(f"Figure 3 ({letter})", workload, files, mine, _wants((workload,))))
    for letter, workload in zip("ab", tables.FIGURE_3, strict=True):
        mine = four[four["workload"] == workload]
        files = drawn("figure4", figure4.contents(run)) if len(mine) else ()
        title = f"{workload}, codecs by level of optimisation"
        listed.append(_part(f"Figure 4 ({letter})", title, files, mine, _ABOMONATION))
    listed += [
        _part("Table I", "decoding PNG with libpng", named("table1"), _of(table, tables.TABLE_1),
              _wants(tables.TABLE_1)),
        _part("Section V-A", "malloc and free", named("section-5a"), _of(table, tables.SECTION_5A),
              _wants(tables.SECTION_5A)),
        _part("Recovery", "from fault to error", named("rewind"), _of(table, tables.REWIND),
              _wants(tables.REWIND)),
        _part("Detailed tables, Figure 3", "time and deviation by size", named("figure3"), three,
              _wants(tables.FIGURE_3)),
        _part("Detailed tables, Figure 4", "time and deviation by size", named("figure4"), four,
              _ABOMONATION),
        Part("Findings", "the paper's four", named("findings"), _verdicts(found),
             there=bool(found) and "not decidable here" not in found),
    ]  # fmt: skip
    return listed


def files(part: Part) -> list[tuple[str, tuple[str, ...]]]:
    """List the stems of a part's files, relative to the run's folder, each with its suffixes."""
    return [(name, _SUFFIXES[name.split("/", 1)[0]]) for name in part.files]


_SUFFIXES = {"figures": (".png", ".svg", ".pdf"), "tables": (".md", ".tex", ".csv")}
_ABOMONATION = "measure snappy under mpk-abomonation-v1-O0 and its like"


def _of(table: pd.DataFrame, workloads: tuple[str, ...]) -> pd.DataFrame:
    return table[table["workload"].isin(workloads)]


def _wants(workloads: tuple[str, ...]) -> str:
    return f"measure {' and '.join(workloads)}"


def _part(
    number: str, title: str, files: tuple[str, ...], rows: pd.DataFrame, lacking: str
) -> Part:
    if rows.empty:
        return Part(number, title, (), f"none; {lacking}", there=False)
    by_provenance = rows.groupby("provenance")["backend"].nunique()
    data = ", ".join(f"{count} {provenance}" for provenance, count in by_provenance.items())
    return Part(number, title, files, f"backends: {data}", there=True)


def _verdicts(found: list[str]) -> str:
    counts = {verdict: found.count(verdict) for verdict in dict.fromkeys(found)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "none"
