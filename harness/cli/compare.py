"""`isobench compare`: two runs, cell by cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from harness import storage
from harness.cli import bad_input


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
    significant. A row gives the geometric mean of the ratios over all cells that both runs have.
    """
    from harness.run import load_benchmarks

    names = []
    for folder in (reference, changed):
        try:
            storage.read_record(folder)
            names.append({benchmark.get_name() for benchmark in load_benchmarks(folder)})
        except storage.StorageError as error:
            bad_input(error)
        if not names[-1]:
            bad_input(f"{folder} has no results yet; go on with: isobench run --resume {folder}")
    common = names[0] & names[1]
    if not common:
        bad_input(f"{reference} and {changed} have no cell in common")
    for folder, mine in zip((reference, changed), names, strict=True):
        if mine - common:
            click.echo(f"Only in {folder}: {len(mine - common)} cells, left out.")
    files = [str(folder / storage.BENCHMARKS_FILE) for folder in (reference, changed)]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pyperf", "compare_to", "--table", *files, *pyperf], check=False
    )
    sys.exit(done.returncode)
