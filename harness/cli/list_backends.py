"""`isobench list`: which walls there are, which work here, and what each claims."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.console import Console
from rich.table import Table

from backends import registry
from backends.contract import Backend, Guarantees

_CLAIMS = {
    "heap": "heap",
    "stack": "stack",
    "static_data": "static\ndata",
    "confidentiality": "confi-\ndential",
    "recovery": "re-\ncovery",
    "time_limit": "time\nlimit",
    "syscalls": "sys-\ncalls",
    "threads": "threads",
}


@click.command(
    "list",
    epilog="""\b
Examples:
  isobench list            the walls, whether they work here, what they claim
  isobench list --json     the same for programs""",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """List the backends: availability here, and guarantees."""
    backends = registry.all_backends()
    if as_json:
        click.echo(json.dumps([_described(backend) for backend in backends], indent=2))
    else:
        _print(backends)
    for broken in registry.broken():
        click.echo(f"warning: backend {broken.entry_point} cannot be loaded: {broken.error}", err=True)


def _described(backend: Backend) -> dict[str, object]:
    return {
        "name": backend.name,
        "summary": backend.summary,
        "mechanism": backend.mechanism,
        "codec": backend.codec,
        "kind": backend.kind,
        "options": dict(backend.options),
        "guarantees": dataclasses.asdict(backend.guarantees),
        **dataclasses.asdict(backend.availability()),
    }


def _print(backends: list[Backend]) -> None:
    console = Console()
    table = Table(title="Backends", title_justify="left", caption_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("here")
    for claim in dataclasses.fields(Guarantees):
        table.add_column(_CLAIMS.get(claim.name, claim.name), justify="center")
    table.add_column("summary", ratio=1, min_width=20)
    missing = []
    for backend in backends:
        availability = backend.availability()
        claims = dataclasses.astuple(backend.guarantees)
        table.add_row(
            backend.name,
            "yes" if availability.available else "no",
            *("✓" if claim else "–" for claim in claims),
            backend.summary,
        )
        if not availability.available:
            missing.append(f"{backend.name}: {availability.reason}. {availability.remedy}.")
    table.caption = (
        "✓ is a claim about memory-unsafe foreign code: what it cannot write (heap, stack, static "
        "data), cannot read (confidential), what holds (recovery, time limit, threads) and what is "
        "refused (system calls)."
    )
    console.print(table)
    for line in missing:
        console.print(f"Not here: {line}", markup=False)
