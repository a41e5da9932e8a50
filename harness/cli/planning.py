"""The options of `plan` and `run` that say what is measured."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.table import Table

from harness import workloads
from harness.cli import bad_input
from harness.plan import PRESETS, Plan, PlanError, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

PYPERF_HELP = """What comes after -- goes to pyperf: --rigorous, --fast, --affinity=1,
--processes=10, … (`python -m pyperf timeit --help` lists them)."""


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
        type=click.Choice(list(PRESETS)),
        default="quick",
        show_default=True,
        help="; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items()),
    )
    @click.option("--backend", "backends", multiple=True, help="Only this one. Repeatable.")
    @click.option(
        "--workload",
        "workload_names",
        multiple=True,
        type=click.Choice([workload.name for workload in workloads.WORKLOADS]),
        help="Only this one. Repeatable.",
    )
    @click.option(
        "--content",
        "contents",
        multiple=True,
        type=click.Choice(workloads.CONTENTS),
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
        table.add_column(column)
    table.add_column("cells", justify="right")
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
    for missing in plan.unavailable:
        whose = f" on {missing.workload}" if missing.workload else ""
        console.print(
            f"Not here: {missing.backend}{whose}: {missing.reason}. {missing.remedy}.", markup=False
        )
    console.print(
        f"{len(plan.cells)} cells, about {duration(plan.total_seconds())}; pyperf "
        f"{' '.join(plan.pyperf)}",
        markup=False,
        highlight=False,
    )


def duration(seconds: float) -> str:
    """Say a duration as a person would."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
