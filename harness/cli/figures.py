"""`isobench figures`: draw a run again."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import bad_input, cannot_write
from harness.storage import StorageError


@click.command(
    "figures",
    epilog="""\b
Examples:
  isobench figures results/reference
  isobench figures results/reference --to /tmp/figures""",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files; by default `figures` in the run's own.",
)
def command(run: Path, to: Path | None) -> None:
    """Draw the figures of RUN (a folder) as PNG, SVG and PDF. Nothing is measured."""
    from harness import figures, results

    try:
        files = figures.draw_all(results.load(run), to or run / "figures")
    except StorageError as error:
        bad_input(error)
    except OSError as error:
        cannot_write(error, to or run, "--to")
    for file in files:
        click.echo(file)
