"""`isobench compare`: two runs, cell by cell."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from harness import storage
from harness.cli import bad_input
from harness.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = {"second": "time", "integer": "instructions"}  # pyperf's word -> ours
_HIDDEN = re.compile(r"^Benchmark hidden because not significant \(\d+\): (.*)$", re.MULTILINE)


class _Pair(NamedTuple):
    """A cell's benchmark in both runs."""

    reference: Any
    changed: Any

    @property
    def values(self) -> tuple[int, int]:
        return self.reference.get_nvalue(), self.changed.get_nvalue()

    @property
    def tested(self) -> bool:
        """Whether pyperf tests it: what it does not, it calls significant."""
        mine, other = self.values
        return mine == other > 1


@click.command(
    "compare",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  isobench compare results/reference results/20260101-120000-quick
  isobench compare A B -- --min-speed=5        hide differences under 5 %""",
)
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("changed", type=click.Path(path_type=Path))
@click.argument("pyperf", nargs=-1, type=click.UNPROCESSED)
def command(reference: Path, changed: Path, pyperf: tuple[str, ...]) -> None:
    """Compare the runs REFERENCE and CHANGED cell by cell, with pyperf's test of significance.

    A difference is called significant by Student's two-sample t-test at 95 %. Its values are
    taken as independent, which those of one process are not: with few processes it calls noise
    significant. Times and counts have a table each, and each provenance; its last row is the
    geometric mean of the ratios over all of its cells that both runs have.
    """
    folders = (reference, changed)
    provenances, runs = {}, []
    for folder in folders:
        cells, benchmarks = _loaded(folder)
        provenances.update(cells)
        runs.append(benchmarks)
    common = [name for name in runs[0] if name in runs[1]]
    if not common:
        bad_input(f"{reference} and {changed} have no cell in common")
    for folder, mine in zip(folders, runs, strict=True):
        rest = mine.keys() - set(common)
        if rest:
            click.echo(f"Only in {folder}, left out: {number(len(rest), 'cell')}: {_tally(rest)}.")
    groups: dict[tuple[str, str], list[_Pair]] = {}
    for name in common:
        pair = _Pair(runs[0][name], runs[1][name])
        key = (provenances.get(name, "measured"), pair.reference.get_unit())
        groups.setdefault(key, []).append(pair)
    status = 0
    for (provenance, unit), pairs in groups.items():
        click.echo(f"\n{_UNITS.get(unit, unit)}, {provenance}: {number(len(pairs), 'cell')}")
        _explain_untested(pairs)
        status = max(status, _compare(pairs, folders, pyperf))
    sys.exit(status)


def _loaded(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Load the provenance of each cell of a run, and the benchmarks that it has, by name."""
    from harness.run import load_benchmarks

    try:
        record = storage.read_record(folder)
        benchmarks = {benchmark.get_name(): benchmark for benchmark in load_benchmarks(folder)}
    except storage.StorageError as error:
        bad_input(error)
    if not benchmarks:
        bad_input(f"{folder} has no results yet; go on with: isobench run --resume {folder}")
    return {cell.name: cell.provenance for cell in record.plan.cells}, benchmarks


def _explain_untested(pairs: Sequence[_Pair]) -> None:
    untested = Counter(pair.values for pair in pairs if not pair.tested)
    if untested:
        listed = ", ".join(f"{mine} and {other}" for mine, other in sorted(untested))
        click.echo(
            f"Not tested for significance, and shown all the same: "
            f"{number(untested.total(), 'cell')}. The test takes as many values of both runs, two "
            f"at least; here there are {listed}. Measure both with the same options of pyperf."
        )


def _compare(pairs: Sequence[_Pair], folders: tuple[Path, Path], options: Sequence[str]) -> int:
    """Have pyperf compare what is of one kind, for it averages over all that it is given."""
    import pyperf

    names = [folder.resolve().name for folder in folders]
    if names[0] == names[1]:
        names = [f"{name} ({n})" for n, name in enumerate(names, 1)]
    with tempfile.TemporaryDirectory(prefix="isobench-compare-") as scratch:
        for name, benchmarks in zip(names, zip(*pairs, strict=True), strict=True):
            pyperf.BenchmarkSuite(benchmarks).dump(str(Path(scratch) / name))
        # The files' names are the headings of its table.
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "pyperf", "compare_to", "--table", *names, *options],
            cwd=scratch,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    click.echo(_HIDDEN.sub(_short, done.stdout), nl=False)
    return done.returncode


def _short(hidden: re.Match[str]) -> str:
    names = hidden[1].split(", ")
    return f"Not significant, hidden: {number(len(names), 'cell')}: {_tally(names)}."


def _tally(names: Iterable[str]) -> str:
    """Count cells by workload, and by what follows the `@` of their names."""
    kinds = Counter("@".join([name.split("/")[0], *name.split("@")[1:]]) for name in names)
    return ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
