"""`isobench list`: which walls there are, which work here, and what each claims."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from backends import registry
from backends.command import as_typed

if TYPE_CHECKING:
    from backends.contract import Backend

_CLAIMS = {
    "heap": "heap",
    "stack": "stack",
    "static_data": "static data",
    "machine_state": "machine state",
    "shared_memory": "shared memory",
    "secrets": "secrets",
    "confidentiality": "confidentiality",
    "recovery": "recovery",
    "time_limit": "time limit",
    "syscalls": "no system calls",
    "strict": "strict",
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
        click.echo(
            f"warning: backend {broken.entry_point} cannot be loaded: {broken.error}", err=True
        )


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
    table = Table(show_lines=True, caption_justify="left")
    table.add_column("backend", no_wrap=True)
    table.add_column("here")
    table.add_column("what it is, and what it claims")
    missing: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for backend in backends:
        availability = backend.availability()
        if availability.note:
            notes.setdefault(availability.note, []).append(backend.name)
        claims = [
            _CLAIMS.get(name, name)
            for name, claimed in dataclasses.asdict(backend.guarantees).items()
            if claimed
        ]
        table.add_row(
            backend.name,
            "yes"
            if availability.available
            else ("[yellow]emulated[/]" if availability.emulated else "[red]no[/]"),
            f"{backend.summary}\n[dim]claims: {', '.join(claims) or 'nothing'}[/]",
        )
        if not availability.available:
            why = f"{availability.reason}. {availability.remedy}."
            missing.setdefault(why, []).append(backend.name)
    table.caption = (
        "Claims are about memory-unsafe foreign code. It cannot write the caller's heap, stack or "
        "static data; leaves its registers and modes as they were (machine state); cannot "
        "write what the caller shares with other processes (shared memory); can neither read nor "
        "write what is in a data domain or trusted heap (secrets); cannot read its memory "
        "(confidentiality); a violation is an error and the next call works (recovery); a call can "
        "be limited in time; it can make no system calls that reach outside; libraries that could "
        "open the wall are not loaded (strict); a sandbox may be called from several threads."
    )
    console.print(table)
    for note, names in notes.items():
        console.print(f"Here, but: {', '.join(names)}: {note}.", markup=False)
    for why, names in missing.items():
        console.print(f"Not here: {', '.join(names)}: {as_typed(why)}", markup=False)
