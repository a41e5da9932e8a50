"""`isobench gadgets`: instructions that could lift a wall of protection keys."""

from __future__ import annotations

import dataclasses
import json
import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli import bad_input
from harness.wording import number


@click.command(
    "gadgets",
    epilog="""\b
Examples:
  isobench gadgets libsnappy.so.1            it and all that is loaded with it
  isobench gadgets --no-dependencies ./libmine.so
  isobench gadgets --json libpng16.so.16

A wall of protection keys holds against memory corruption. Code that can be made to jump to a
WRPKRU, or to an XRSTOR with registers of its choice, lifts it. The C library holds one WRPKRU
(pkey_set), the dynamic loader two XRSTOR. Addresses are the file's own; some occurrences are meant
by nobody and lie within other instructions. A name without a slash is looked for as the dynamic
loader does. Exit status: 0 none, 1 some, 2 a file cannot be scanned.""",
)
@click.argument("libraries", nargs=-1, required=True)
@click.option("--no-dependencies", is_flag=True, help="Only these files, not what they load.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(libraries: tuple[str, ...], *, no_dependencies: bool, as_json: bool) -> None:
    """Scan LIBRARIES, by path or name, for instructions that write PKRU."""
    from harness import gadgets

    try:
        paths = [
            path
            for name in libraries
            for path in ([gadgets.find(name)] if no_dependencies else gadgets.closure(name))
        ]
        # Two libraries may need the same third by different paths.
        files = list({path.resolve(): path for path in reversed(paths)}.values())[::-1]
        found = [gadget for path in files for gadget in gadgets.scan(path)]
    except gadgets.NotScannableError as error:
        bad_input(_printable(str(error)))
    if as_json:
        rows = [{**dataclasses.asdict(g), "library": str(g.library)} for g in found]
        click.echo(json.dumps(rows, indent=2))
    else:
        table = Table("library", "offset", "address", "instruction", "in")
        for gadget in found:
            table.add_row(
                escape(_printable(str(gadget.library))),
                f"{gadget.offset:#x}",
                f"{gadget.address:#x}",
                gadget.kind,
                escape(_printable(gadget.symbol or "?")),
            )
        console = Console(width=None if sys.stdout.isatty() else 140)
        if found:
            console.print(table)
        console.print(f"{len(found)} in {number(len(files), 'file')}", highlight=False)
    sys.exit(1 if found else 0)


def _printable(text: str) -> str:
    """Names come from files that nobody trusts: no escape sequences to the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
