"""The options of `plan` and `run` that say what is measured."""

from __future__ import annotations

import functools
import shlex
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.table import Table

from backends import names
from backends.command import as_typed
from harness import pyperf_options, workloads
from harness.cli import bad_input
from harness.plan import PRESETS, Plan, PlanError, make_plan
from harness.wording import duration, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console


# Parameters of a plan -> what the user calls them.
_PLAN = {
    "preset": "--preset",
    "backends": "--backend",
    "workload_names": "--workload",
    "contents": "--content",
    "sizes": "--size",
    "level": "--level",
    "emulate": "--emulate",
    "modelled": "--no-modelled",
    "pyperf": "options of pyperf",
}


def given() -> list[str]:
    """List the options of the plan that the user gave on the command line."""
    source = click.get_current_context().get_parameter_source
    return [said for name, said in _PLAN.items() if source(name) is ParameterSource.COMMANDLINE]


class Choice(click.Choice[str]):
    """One of some names; a misspelt one is told which was meant."""

    def __init__(self, kind: str, choices: Sequence[str]) -> None:
        """Take the choices, and what they are names of."""
        super().__init__(choices)
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return a choice, or end with the message."""
        if value not in self.choices:
            bad_input(names.unknown(self._kind, value, list(self.choices)))
        return super().convert(value, param, ctx)


class PlanCommand(click.Command):
    """A command with the options of a plan, which knows pyperf's where their `--` is missing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, or end with the command line that was meant."""
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            meant = self._with_pyperfs_apart(ctx, args)
            if meant is None:
                raise
            bad_input(
                f"{error.option_name} is pyperf's, whose options come after --. Type:\n"
                f"  {ctx.command_path} {meant}"
            )

    def _with_pyperfs_apart(self, ctx: click.Context, args: list[str]) -> str | None:
        """Write the arguments with pyperf's after a `--`; None if some are not pyperf's either."""
        end = args.index("--") if "--" in args else len(args)
        ours, theirs = args[:end], args[end + 1 :]
        moved: list[str] = []
        while True:
            try:
                self.make_parser(ctx).parse_args(list(ours))
            except click.NoSuchOption as error:
                words = [word.split("=")[0] for word in ours]
                if error.option_name not in words:
                    return None  # one of several letters after one dash
                place = words.index(error.option_name)
                taken = _taken_by_pyperf(ours[place : place + 2])
                if not taken:
                    return None
                moved += ours[place : place + taken]
                del ours[place : place + taken]
            except click.UsageError:
                return None
            else:
                return shlex.join([*ours, "--", *moved, *theirs])


def _taken_by_pyperf(words: Sequence[str]) -> int:
    """Say how many words are an option of pyperf: 1, 2 if the second is its value, or 0."""
    for count in (1, len(words)):
        try:
            pyperf_options.parse(words[:count])
        except pyperf_options.OptionError:
            continue
        return count
    return 0


def planned(
    *, obstacle: Callable[[], str] = str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a plan, and the plan that they make as its first argument.

    Args:
        obstacle: Tells why the emulated machine cannot run here; asked where it matters.
    """
    return lambda function: _with_plan(function, obstacle)


def _with_plan(function: Callable[..., None], obstacle: Callable[[], str]) -> Callable[..., None]:

    @click.option(
        "--preset",
        type=Choice("preset", list(PRESETS)),
        default="quick",
        show_default=True,
        help="; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items()),
    )
    @click.option("--backend", "backends", multiple=True, help="Only this one. Repeatable.")
    @click.option(
        "--workload",
        "workload_names",
        multiple=True,
        type=Choice("workload", [workload.name for workload in workloads.WORKLOADS]),
        help="Only this one. Repeatable.",
    )
    @click.option(
        "--content",
        "contents",
        multiple=True,
        type=Choice("content", workloads.CONTENTS),
        help="Instead of the preset's. Repeatable.",
    )
    @click.option(
        "--size",
        "sizes",
        multiple=True,
        type=click.IntRange(1, 1 << 30),
        help="Bytes, instead of the preset's. Repeatable.",
    )
    @click.option(
        "--level",
        type=click.Choice(["native", "python"]),
        help="Where the timed loop runs; by default in C where the backend can.",
    )
    @click.option(
        "--emulate/--no-emulate",
        default=None,
        help="Count instructions in the emulated machine: of every backend that can, or of none. "
        "By default of those that do not work here, and of what they are compared with.",
    )
    @click.option(
        "--modelled/--no-modelled",
        default=True,
        show_default=True,
        help="Where the CPU has no protection keys, time their walls without WRPKRU and add what "
        "it costs elsewhere.",
    )
    @click.argument("pyperf", nargs=-1, type=click.UNPROCESSED)
    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        chosen = {name: arguments.pop(name) for name in _PLAN}
        try:
            plan = make_plan(chosen.pop("preset"), **chosen, obstacle=obstacle)
        except PlanError as error:
            bad_input(error)
        function(plan, **arguments)

    return command


def show(plan: Plan, console: Console) -> None:
    """Print what a plan measures and how long that takes."""
    table = Table(title=f"Plan: {plan.preset}", title_justify="left")
    for column in ("workload", "", "content", "sizes (bytes)", "backends"):
        table.add_column(column, overflow="fold")
    table.add_column("cells", justify="right", no_wrap=True)
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.workload, cell.provenance, cell.content), []).append(cell)
    for (workload, provenance, content), cells in groups.items():
        sizes = ", ".join(str(size) for size in dict.fromkeys(cell.size for cell in cells) if size)
        names = ", ".join(
            dict.fromkeys(c.backend + ("" if c.level == "native" else f"@{c.level}") for c in cells)
        )
        table.add_row(workload, provenance, content or "–", sizes or "–", names, str(len(cells)))
    console.print(table)
    absent: dict[tuple[str, str, str], list[str]] = {}
    for missing in plan.unavailable:
        key = (missing.workload, missing.reason, missing.remedy)
        absent.setdefault(key, []).append(missing.backend)
    for (workload, reason, remedy), backends in absent.items():
        where = f"Not on {workload}" if workload else "Not here"
        why = as_typed(f"{reason}. {remedy}.")
        console.print(f"{where}: {', '.join(backends)}: {why}", markup=False)
    console.print(
        f"{number(len(plan.cells), 'cell')}, about {duration(plan.total_seconds())}; pyperf "
        f"{' '.join(plan.pyperf)}",
        markup=False,
        highlight=False,
    )
