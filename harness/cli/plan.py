"""`isobench plan`: what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console

from harness.cli import planning

if TYPE_CHECKING:
    from harness.plan import Plan


@click.command(
    "plan",
    cls=planning.PlanCommand,
    epilog="""\b
Examples:
  isobench plan                                   what `isobench run` would measure
  isobench plan --preset paper                    all sizes of the paper
  isobench plan --backend none --size 4096 -- --rigorous
  isobench plan --json                            the cells, for programs""",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@planning.planned()
def command(plan: Plan, *, as_json: bool) -> None:
    """Show which cells a run would measure and how long it would take.

    What comes after -- goes to pyperf (--rigorous, --fast, --affinity=1, …).
    """
    if as_json:
        click.echo(msgspec.json.encode(plan))
    else:
        planning.show(plan, Console())
