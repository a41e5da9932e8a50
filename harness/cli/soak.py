"""`isobench soak`: good and hostile calls, a million of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from backends import registry
from harness.cli import bad_input, cannot_write, failed
from harness.wording import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.contract import Backend
    from harness.attacks.soak import Report

_LINE_EVERY = 10.0  # seconds, where lines stay


@click.command(
    "soak",
    epilog="""\b
Examples:
  isobench soak --backend sandcrust-pipe
  isobench soak --backend mpk --calls 100000          emulated, where there are no keys
  isobench soak --backend mpk --seed 7 --hostile 0.5 --report soak.json""",
)
@click.option("--backend", "name", required=True, metavar="NAME", help="A wall.")
@click.option("--calls", type=click.IntRange(10), default=1_000_000, show_default=True)
@click.option(
    "--hostile",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Which part of the calls is hostile.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the calls' order.")
@click.option(
    "--kernel",
    "series",
    type=click.Choice(["6.12", "6.1"]),
    default="6.12",
    show_default=True,
    help="Of the emulated machine, where the wall needs it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as a line of JSON.")
@click.option(
    "--report", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write JSON to it."
)
def command(  # noqa: PLR0913 - a command's options
    *,
    name: str,
    calls: int,
    hostile: float,
    seed: int,
    series: str,
    path: Path | None,
    as_json: bool,
) -> None:
    """Make calls in one sandbox, good and hostile ones mixed at random, and check each answer.

    Hostile ones corrupt memory, overflow, abort, return wild pointers. In the end nothing may have
    been answered wrongly, no canary harmed, and the process have no more descriptors, threads,
    child processes, mappings or memory than when everything was there once.

    Exit code: 0, 1 when something was wrong, 2 for bad input, 130 after Ctrl-C (the report is of
    what was done).
    """
    try:
        backend = registry.find(name)
    except LookupError as error:
        bad_input(error)
    if not backend.guarantees.recovery:
        bad_input(f"{name} does not claim recovery: its first hostile call may end the process")
    availability = backend.availability()
    if not availability.available and not availability.emulated:
        bad_input(f"{name} is not available: {availability.reason}. {availability.remedy}")
    if path is not None:
        try:
            path.touch()
        except OSError as error:
            cannot_write(error, path, "--report")
    if availability.available:
        report = _soak(backend, calls, hostile, seed)
    else:
        report = _emulated(name, calls, hostile, seed, series)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(report, Console())
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if report.calls < calls:
        sys.exit(130)
    sys.exit(0 if report.passed else 1)


def _soak(backend: Backend, calls: int, hostile: float, seed: int) -> Report:
    from harness.attacks.soak import Soak

    begin = time.monotonic()
    with _quiet_children() as stderr:
        shown = begin

        def progress(done: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if done and (stderr.isatty() or now >= shown + _LINE_EVERY):
                shown = now
                left = (now - begin) * (calls / done - 1)
                end = "\r" if stderr.isatty() else "\n"
                stderr.write(f"{done:,} of {calls:,} calls ({duration(left)} left) {end}")
                stderr.flush()

        try:
            return Soak(backend, calls, hostile, seed).run(progress)
        except OSError as error:
            failed(error)


@contextlib.contextmanager
def _quiet_children() -> Iterator[IO[str]]:
    """Give standard error away: what libc says of each corrupted block is no news here."""
    with os.fdopen(os.dup(2), "w") as stderr:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        try:
            yield stderr
        finally:
            os.dup2(stderr.fileno(), 2)


def _emulated(name: str, calls: int, hostile: float, seed: int, series: str) -> Report:
    """Do it there; the last line of its output is the report."""
    from harness import emulated
    from harness.attacks.soak import Report

    obstacle = emulated.obstacle()
    if obstacle:
        bad_input(obstacle)
    inner = [sys.executable, "-m", "harness", "soak", "--backend", name, "--calls", str(calls)]
    inner += ["--hostile", str(hostile), "--seed", str(seed), "--json"]
    outer = [sys.executable, "-m", "harness", "emulate", "--kernel", series, "--timeout", "86400"]
    click.echo(f"{name} runs in the emulated machine, kernel {series}", err=True)
    done = subprocess.run([*outer, "--", *inner], stdout=subprocess.PIPE, check=False)  # noqa: S603
    lines = done.stdout.splitlines()
    if done.returncode not in (0, 1) or not lines:
        sys.exit(done.returncode or 1)
    return msgspec.json.decode(lines[-1], type=Report)


def _show(report: Report, console: Console) -> None:
    table = Table("hostile function", "violation", "error", "returned", title=None)
    for function, outcomes in report.hostile.items():
        counts = [f"{outcomes.get(kind, 0):,}" for kind in ("violation", "error", "returned")]
        table.add_row(function, *counts)
    console.print(table)
    for growth in report.growth:
        mark = "  GROWS" if growth.grows else ""
        console.print(
            f"{growth.what}: {growth.before:,} -> {growth.after:,}{mark}", highlight=False
        )
    hostile = sum(sum(outcomes.values()) for outcomes in report.hostile.values())
    console.print(
        f"{report.backend}: {report.calls:,} calls in {duration(report.seconds)}: {report.good:,} "
        f"good, {report.wrong:,} of them answered wrongly, {report.failed:,} failed, "
        f"{report.spoilt:,} an error because a hostile one had corrupted the sandbox and returned; "
        f"{hostile:,} hostile, harmed: {', '.join(report.harmed) or 'nothing'} "
        f"(seed {report.seed})",
        highlight=False,
        markup=False,
    )
    if report.first_wrong:
        console.print(f"The first that was not right: {report.first_wrong}", markup=False)
