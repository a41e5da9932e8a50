"""`isobench bounds`: key figures against their bounds."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from backends.names import unknown
from harness.cli import bad_input

if TYPE_CHECKING:
    from harness import bounds


@click.command(
    "bounds",
    epilog="""\b
Examples:
  isobench bounds                  all figures
  isobench bounds native-loop      one: the harness against a C program with the same loop
  isobench bounds --counts         only those that are exact on any machine
  isobench bounds --json           for programs""",
)
@click.argument("names", nargs=-1)
@click.option("--counts", is_flag=True, help="Only counts, which are exact; no wall clock.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(names: tuple[str, ...], *, counts: bool, as_json: bool) -> None:
    """Measure key figures and compare each with its stored bound.

    Exit code: 0, or 1 when a figure is above its bound or cannot be measured here.
    """
    from harness import bounds

    try:
        known = bounds.bounds()
    except bounds.BoundsError as error:
        bad_input(error)
    kinds = {bound.name: bound.kind for bound in known}
    for name in names:
        if name not in kinds:
            bad_input(unknown("figure", name, list(kinds)))
        if counts and kinds[name] != "count":
            bad_input(f"--counts: {name} is a {kinds[name]}, not a count; leave out one of the two")
    chosen = [
        bound
        for bound in known
        if (not names or bound.name in names) and (not counts or bound.kind == "count")
    ]
    outcomes = []
    for bound in chosen:
        if not as_json:
            click.echo(f"measuring {bound.name} …", err=True)
        outcomes.append(bounds.measure(bound))
    (_print_json if as_json else _print)(outcomes)
    short = [outcome.bound.name for outcome in outcomes if not outcome.ok]
    if short:
        click.echo(f"fell short: {', '.join(short)}", err=True)
        sys.exit(1)


def _print_json(outcomes: list[bounds.Outcome]) -> None:
    rows = [
        {
            "name": outcome.bound.name,
            "what": outcome.bound.what,
            "kind": outcome.bound.kind,
            "value": outcome.value,
            "bound": outcome.bound.bound,
            "least": outcome.bound.least,
            "ok": outcome.ok,
            "problem": outcome.problem,
        }
        for outcome in outcomes
    ]
    click.echo(json.dumps(rows, indent=2))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - digits


def _range(bound: bounds.Bound) -> str:
    most = _figure(bound.bound)
    return f"{_figure(bound.least)} to {most}" if bound.least else most


def _print(outcomes: list[bounds.Outcome]) -> None:
    table = Table()
    table.add_column("figure", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("bound", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("what")
    for outcome in outcomes:
        value = "–" if outcome.value is None else _figure(outcome.value)
        verdict = "[green]ok[/]" if outcome.ok else "[red]no[/]"
        what = f"{outcome.bound.what} ({outcome.bound.kind})"
        if outcome.problem:
            what += f"\nnot measured: {outcome.problem}"
        table.add_row(outcome.bound.name, value, _range(outcome.bound), verdict, what)
    Console().print(table)
