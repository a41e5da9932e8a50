"""`isobench paper`: the paper's figures and tables, and what a run has of them."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import bad_input
from harness.storage import StorageError


@click.command(
    "paper",
    epilog="""\b
Examples:
  isobench paper results/reference
  isobench paper results/reference | grep none""",
)
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """List the paper's figures and tables by its numbering: what RUN (a folder) has of each.

    Under each are its files. What the run lacks says what to measure for it.
    """
    from harness import paper, results

    try:
        parts = paper.parts(results.load(run))
    except StorageError as error:
        bad_input(error)
    for part in parts:
        click.echo(f"{part.number}: {part.title}; {part.data}")
        for name, suffixes in paper.files(part):
            lost = [suffix for suffix in suffixes if not (run / f"{name}{suffix}").is_file()]
            note = f"  (not written yet: {', '.join(lost)})" if lost else ""
            click.echo(f"  {name}{{{','.join(suffixes)}}}{note}")
