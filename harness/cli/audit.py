"""`isobench audit`: what a foreign function writes outside of its domain."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from backends import names, registry
from backends.contract import ForeignFunction
from harness.cli import bad_input
from harness.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backends.audit import Report


@click.command(
    "audit",
    epilog="""\b
Examples:
  isobench audit ./libmine.so my_function
  isobench audit ./libmine.so my_function other_function --input request.bin

A library that writes outside - to a global of another library, to memory that its constructor
allocated - is stopped by a domain. The list says what it would need. A function has the C type of
`backends.contract.ForeignFunction`. Where the CPU has no protection keys, this runs in the emulated
machine. Exit status: 0 no outside writes, 1 some, 2 it could not be found out.""",
)
@click.argument("library")
@click.argument("functions", nargs=-1, required=True)
@click.option(
    "--input",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file whose content is passed to each function; nothing by default.",
)
def command(library: str, functions: tuple[str, ...], file: Path | None) -> None:
    """Call FUNCTIONS of LIBRARY in a domain, and list the writes outside of it.

    Each write is let through: do not audit what you know to be hostile.
    """
    availability = registry.find("mpk").availability()
    if not availability.available:
        if not availability.emulated or os.environ.get("ISOBENCH_EMULATED"):
            bad_input(f"{availability.reason}. {availability.remedy}")
        files = [_offering(library, functions), *([file] if file else [])]
        sys.exit(_in_the_emulated_machine(files))
    _offering(library, functions)
    from backends import audit

    data = b"" if file is None else file.read_bytes()
    path = Path(library).resolve() if os.sep in library else Path(library)
    outside = cut_short = False
    for name in functions:
        try:
            report = audit.outside_writes(ForeignFunction(path, name), data)
        except OSError as error:
            bad_input(error.strerror or error)
        outside = outside or bool(report.writes)
        cut_short = cut_short or report.cut_short
        _print(name, report)
    sys.exit(1 if outside else 2 if cut_short else 0)


def _offering(library: str, functions: Iterable[str]) -> Path:
    """Find the library's file, and see that the functions are in it or in what it loads."""
    from harness import exports, gadgets

    try:
        files = gadgets.closure(library)
        offered = [exports.functions(path) for path in files]
    except gadgets.NotScannableError as error:
        bad_input(error)
    for name in functions:
        if not any(name in mine for mine in offered):
            listing = f"nm -D --defined-only {shlex.quote(str(files[0]))}"
            unknown = names.unknown("function", name, sorted(offered[0]), listed_by=listing)
            bad_input(f"{library}: {unknown}")
    return files[0]


def _in_the_emulated_machine(files: Iterable[Path]) -> int:
    from harness import emulated

    for file in files:
        if not emulated.shows(file):
            bad_input(
                f"{file} cannot be seen in the emulated machine, which has temporary folders of "
                f"its own; copy it into this folder, {Path.cwd()}"
            )
    obstacle = emulated.obstacle()
    if obstacle:
        bad_input(obstacle)
    arguments = [sys.executable, "-m", "harness", *sys.argv[1:]]
    try:
        return emulated.run(arguments, kernel=emulated.kernel(emulated.KERNELS[0]))
    except (emulated.EmulationError, emulated.TimeLimitError) as error:
        bad_input(error)


def _print(name: str, report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    ending = report.ending or f"returned {number(report.output, 'byte')}"
    until = " until then" if report.cut_short else ""
    writes = f"{number(len(report.writes), 'outside write')}{until}"
    console.print(f"{name}: {ending}; {writes}", markup=False)
    if report.writes:
        table = Table("times", "by", "to", "address")
        for write in report.writes:
            table.add_row(str(write.times), write.instruction, write.target, f"{write.address:#x}")
        console.print(table)
    if report.lost:
        console.print(f"and {report.lost} more that are not listed")
