"""`isobench doctor`: what this machine can measure."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from backends.command import as_typed


@click.command(
    "doctor",
    epilog="""\b
Examples:
  isobench doctor      what this machine can measure, what would make it quieter""",
)
def command() -> None:
    """Say what this machine can measure and what would make it quieter."""
    from harness import doctor

    styles = {"ok": "green", "warn": "yellow", "bad": "red"}
    table = Table(show_lines=False)
    for column in ("", "what", "finding", "what to do"):
        table.add_column(column, overflow="fold")
    for check in doctor.diagnose().checks:
        style = styles[check.verdict]
        name, remedy = as_typed(check.name), as_typed(check.remedy)
        table.add_row(f"[{style}]{check.verdict}[/]", name, check.finding, remedy)
    Console().print(table)
