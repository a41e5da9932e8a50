"""`isobench emulate`: run a command on the emulated machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli import bad_input


@click.command(
    "emulate",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  isobench emulate -- grep -wo ospke /proc/cpuinfo     it has protection keys
  isobench emulate --kernel 6.1 -- uname -r
  isobench emulate --icount -- python -c "import time; print(time.monotonic_ns())"
  isobench emulate --writable results -- make figures RUN=results/NAME""",
)
@click.option(
    "--kernel",
    "series",
    type=click.Choice(["6.12", "6.1"]),
    default="6.12",
    show_default=True,
    help="Debian's kernel of this series; downloaded once, never installed.",
)
@click.option("--icount", is_flag=True, help="One instruction retired takes one nanosecond there.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=600,
    show_default=True,
    help="Seconds for booting and running.",
)
@click.option(
    "--writable",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="A folder that the command may write; the others are read-only. Repeatable.",
)
@click.argument("arguments", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    series: str,
    *,
    icount: bool,
    timeout: float,
    writable: tuple[Path, ...],
    arguments: tuple[str, ...],
) -> None:
    """Run COMMAND on a machine with protection keys, whatever this one has.

    It is QEMU's emulator with Debian's kernel on this host's file system, in the current folder,
    with one CPU and no network. It boots in about 20 seconds. Exit code: the command's; 2 when the
    machine cannot run here; 124 when the command did not end in time.
    """
    from harness import emulated

    obstacle = emulated.obstacle()
    if obstacle:
        bad_input(obstacle)
    try:
        kernel = emulated.kernel(series)
        status = emulated.run(
            arguments, kernel=kernel, icount=icount, timeout=timeout, writable=writable
        )
    except emulated.EmulationError as error:
        bad_input(error)
    except emulated.TimeLimitError as error:
        click.echo(f"Error: {error} ({timeout:g} s); --timeout gives it longer", err=True)
        sys.exit(124)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)
