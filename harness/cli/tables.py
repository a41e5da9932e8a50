"""`isobench tables`: write a run's tables again."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import bad_input, cannot_write
from harness.storage import StorageError


@click.command(
    "tables",
    epilog="""\b
Examples:
  isobench tables results/reference
  isobench tables results/reference --to /tmp/tables""",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files; by default the run's own.",
)
def command(run: Path, to: Path | None) -> None:
    """Write the tables of RUN (a folder): Markdown, LaTeX, CSV; all cells as CSV and Parquet."""
    from harness import results, tables

    try:
        loaded = results.load(run)
        folder = to or run
        folder.mkdir(parents=True, exist_ok=True)
        files = tables.write_all(loaded, folder / "tables") + results.write_table(loaded, folder)
    except StorageError as error:
        bad_input(error)
    except OSError as error:
        cannot_write(error, to or run, "--to")
    for file in files:
        click.echo(file)
